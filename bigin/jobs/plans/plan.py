"""A plan: what is to be done, cut into parts, as data that every machine can read.

Nothing in it is a list of chunks: a part is a range of the numbers of the target's chunks or shards, computed when it
is asked for, so that a plan of a petabyte is as small as one of a megabyte.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import bigin
from bigin.core.disk import read_small, replace_file
from bigin.core.errors import InputError, NotFoundError
from bigin.core.outputs import check_document
from bigin.core.record import Record
from bigin.core.regions import Grid
from bigin.core.text import agree, counted
from bigin.jobs.where import Where
from bigin.spec.spec import STREAM
from bigin.targets.part_ledger import PartLedger
from bigin.targets.part_ledgers import part_ledger

FORMAT = 1  # of plan.json
TASKS = ("fill", "verify", "show", "grow")
FILL = "fill"  # the round in which the values are written, or read
KEY = "plan.json"  # of the plan in its own ledger


@dataclass(frozen=True)
class WorkPlan:
    """What is to be done, and how it is cut into parts.

    task: fill, verify, show or grow. target: a path or URL. layout: what Where needs beside it. record: what decides
    the values. grid: shape, block and number of the regions. parts: how many there are. rounds: how many parts each
    round of preparation has, in the order in which they are done; the parts of the last round, "fill", are not listed.
    ledger: where the markers of the parts lie. model: the tensors of a model that is made. given: what the task needs
    beside that.
    """

    task: str
    target: str
    layout: Mapping[str, Any]
    record: Record
    grid: Mapping[str, Any]
    parts: int
    rounds: Mapping[str, int] = field(default_factory=dict)
    model: Mapping[str, Any] | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    ledger: str = ""
    bigin: str = bigin.__version__
    stream: int = STREAM
    format: int = FORMAT
    fingerprint: str = ""

    @classmethod
    def of(cls, place: Any, **fields: Any) -> WorkPlan:
        """A plan with its fingerprint, and with its ledger where `place` says for a fingerprint."""
        plan = cls(**fields)
        text = json.dumps(asdict(plan), sort_keys=True, default=str)
        fingerprint = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        return replace(plan, fingerprint=fingerprint, ledger=place(fingerprint))

    @property
    def regions(self) -> int:
        """How many regions all parts have together."""
        return int(self.grid["regions"])

    def count(self, which: str = FILL) -> int:
        """How many parts a round has."""
        return self.parts if which == FILL else self.rounds[which]

    def tasks(self, part: int) -> range:
        """The numbers of a part's regions: whole chunks or shards that follow each other."""
        return range(self.regions * part // self.parts, self.regions * (part + 1) // self.parts)

    def part_of(self, region: int) -> int:
        """The part that a region is in."""
        return ((region + 1) * self.parts - 1) // self.regions

    def fits(self, grid: Grid, regions: int) -> bool:
        """Whether a target's grid is the one that was planned."""
        return self.grid == grid_of(grid, regions)

    def where(self, **options: Any) -> Where:
        """Where the target lies."""
        given: dict[str, Any] = {
            key: tuple(value) if key == "shape" and value is not None else value for key, value in self.layout.items()
        }
        return Where(self.target, **given, **options)

    @cached_property
    def notes(self) -> PartLedger:
        """The ledger of the parts."""
        return part_ledger(self.ledger)

    def text(self) -> bytes:
        """The plan as plan.json holds it."""
        return json.dumps(asdict(self), indent=1, default=str).encode() + b"\n"

    def write(self, path: Path) -> None:
        """Writes plan.json."""
        replace_file(check_document(path, "plan"), self.text())

    @classmethod
    def parse(cls, data: bytes, label: str) -> WorkPlan:
        """A plan from its text; raises InputError for anything else, or a plan of other versions."""
        try:
            held = json.loads(data)
            versions = {key: held[key] for key in ("format", "bigin", "stream")}
            held["task"], held["parts"]
        except (ValueError, RecursionError, TypeError, KeyError):
            raise InputError(f"{label}: expected a plan that `bigin plan` has written, got another file") from None
        mine = {"format": FORMAT, "bigin": bigin.__version__, "stream": STREAM}
        for what, version in mine.items():
            if versions[what] != version:
                kind = {"bigin": "bigin", "stream": "stream version", "format": "plan format"}[what]
                raise InputError(
                    f"{label}: expected {kind} {versions[what]}, which the plan was made with, got {version} here; "
                    f"install bigin {versions['bigin']} on every worker, or make the plan again"
                )
        try:
            plan = cls(**held)
            valid = plan.task in TASKS and plan.parts >= 0 and isinstance(plan.record, dict) and plan.regions >= 0
        except (TypeError, KeyError, ValueError, AttributeError):
            valid = False
        if not valid:
            raise InputError(f"{label}: expected a plan that `bigin plan` has written, got one that was changed")
        return plan


def read_plan(path: Any) -> WorkPlan:
    """The plan in a file; raises InputError where there is none."""
    file = Path(path)
    try:
        return WorkPlan.parse(read_small(file), str(file))
    except FileNotFoundError:
        raise NotFoundError(
            f"{file}: expected a plan, got nothing; make it with `bigin plan`, where every worker sees it"
        ) from None
    except OSError as error:
        raise InputError(f"{file}: expected a plan, got a file that cannot be read: {error.strerror}") from None


def grid_of(grid: Grid, regions: int) -> dict[str, Any]:
    """A grid as a plan keeps it."""
    return {"shape": list(grid.shape), "block": list(grid.block), "regions": regions}


def check_parts(parts: Any, regions: int, label: str) -> int:
    """A number of parts; raises InputError where it is none or there are fewer chunks."""
    if isinstance(parts, bool) or not hasattr(parts, "__index__") or parts.__index__() < 1:
        raise InputError(f"expected at least 1 part, got {parts!r}")
    count = int(parts.__index__())
    if count > max(1, regions):
        raise InputError(
            f"{label}: expected at most {counted(regions, 'part')}, as a part is whole chunks or shards and there "
            f"{agree(regions, 'is', 'are')} {regions}, got {count}; plan fewer parts, or smaller chunks"
        )
    return count
