"""Dumps of keyed tables: files of keys and of values for each rank, as dynamic embedding tables exchange them.

The names and the layout are those of NVIDIA's dynamicemb: NAME_emb_keys.rank_R.world_size_W holds int64 keys,
NAME_emb_values.rank_R.world_size_W their rows one after the other, and NAME_emb_scores.rank_R.world_size_W int64
scores, if there are any. NAME_opt_args.json tells of an optimizer, and dynamicemb loads nothing without it; it is empty
here, as there is none. Beside them lies bigin's record, NAME_bigin.json.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bigin.core.disk import allow_open_files, partial, read_small, replace_file, sync_folder
from bigin.core.errors import ExistsError, InputError
from bigin.core.names import dotted
from bigin.core.paths import parse_path
from bigin.core.record import Record
from bigin.targets.records import parse_record

RECORD = "_bigin.json"
OPTIMIZER = "_opt_args.json"
KEY = SCORE = np.dtype("<i8")
KINDS = ("keys", "values", "scores")
UNNAMED = "table"


@dataclass(frozen=True)
class Dump:
    """Where a dump of a table lies: the folder, the table's name there, the number of ranks, whether it has scores."""

    folder: Path
    stem: str
    world_size: int
    scored: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each rank has a file of."""
        return KINDS if self.scored else KINDS[:2]

    def path(self, kind: str, rank: int) -> Path:
        """The file of a rank's "keys", "values" or "scores"."""
        return self.folder / f"{self.stem}_emb_{kind}.rank_{rank}.world_size_{self.world_size}"

    @property
    def record_path(self) -> Path:
        """The file of the record."""
        return self.folder / f"{self.stem}{RECORD}"

    def older(self) -> list[Path]:
        """The files of a dump of a table of that name, of any number of ranks; the record first."""
        of_it = re.compile(rf"{re.escape(self.stem)}_emb_(keys|values|scores|opt_values)\.rank_\d+\.world_size_\d+")
        found = [path for path in self.folder.iterdir() if of_it.fullmatch(path.name)]
        return [*([self.record_path] if self.record_path.exists() else []), *sorted(found)]

    @contextmanager
    def writing(self) -> Iterator[list[Sequence[BinaryIO]]]:
        """New files for each rank, in the order of the kinds: they replace what is there once all are on the disk."""
        paths = [self.path(kind, rank) for rank in range(self.world_size) for kind in self.kinds]
        allow_open_files(len(paths), str(self.folder))
        try:
            with ExitStack() as stack:
                files = [stack.enter_context(partial(path).open("wb")) for path in paths]
                each = len(self.kinds)
                yield [files[first : first + each] for first in range(0, len(files), each)]
                for file in files:
                    file.flush()
                    os.fsync(file.fileno())
            for path in self.older():  # the record first: what a killed process leaves is no dump
                path.unlink(missing_ok=True)
            for path in paths:
                partial(path).replace(path)
            replace_file(self.folder / f"{self.stem}{OPTIMIZER}", b"{}\n")
        except BaseException:
            for path in paths:
                with suppress(OSError):
                    partial(path).unlink()
            raise
        sync_folder(self.folder)


def new_dump(folder: Any, name: str, world_size: Any, *, scored: bool, overwrite: bool) -> Dump:
    """A place for a dump; raises ExistsError where there is one of that table, unless it may be replaced."""
    if (
        isinstance(world_size, bool)
        or not hasattr(world_size, "__index__")
        or not 1 <= world_size.__index__() < 1 << 31
    ):
        raise InputError(f"expected world_size to be an integer of 1 or more, got {world_size!r}")
    if "://" in str(folder):
        raise InputError(f"expected a local folder for a dump, got {folder}; copy the files there")
    dump = Dump(parse_path(folder, "a folder"), dotted(name) or UNNAMED, int(world_size.__index__()), scored=scored)
    try:
        dump.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{dump.folder}: expected a folder for the dump, got: {error.strerror}") from None
    older = dump.older()
    if older and not overwrite:
        raise ExistsError(
            f"{older[0]}: expected nothing there, got a dump of {dump.stem}; choose another folder, or overwrite it"
        )
    return dump


def keep_record(dump: Dump, record: Record) -> None:
    """The record of a finished dump."""
    replace_file(dump.record_path, json.dumps(record, indent=2).encode() + b"\n")


def dump_at(place: Any) -> tuple[Dump, Record] | None:
    """The dump and its record that a folder, or a record in it, names; None where there is none.

    Raises InputError where there are several, or the record does not tell how many rows each rank has.
    """
    if not isinstance(place, str | os.PathLike):
        return None
    path = Path(place)
    found = (
        [path]
        if path.name.endswith(RECORD) and path.is_file()
        else sorted(path.glob(f"*{RECORD}"))
        if path.is_dir()
        else []
    )
    if len(found) > 1:
        names = ", ".join(each.name for each in found)
        raise InputError(f"{path}: expected a dump of one table, got {len(found)}; name one of {names}")
    record = parse_record(read_small(found[0])) if found else None
    if record is None or record.get("keys") != "uint64":
        return None
    rows = record.get("rows")
    if not isinstance(rows, list) or not rows or not all(isinstance(n, int) and n >= 0 for n in rows):
        raise InputError(f"{found[0]}: expected the record of a dump, got rows {rows!r:.50}; write the dump again")
    scored = record.get("scores") is not None
    return Dump(found[0].parent, found[0].name.removesuffix(RECORD), len(rows), scored=scored), record
