"""What a worker does: one part of a plan, from its number alone."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from bigin.core.errors import DamagedError, FillError, InputError, NotFoundError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits, check_flags
from bigin.jobs.plans.aligned import regions_of
from bigin.jobs.plans.growing import grow_part, growing, opened_table
from bigin.jobs.plans.measuring import measure_part
from bigin.jobs.plans.opening import begun, check_grid, opened_plan
from bigin.jobs.plans.plan import FILL, KEY, WorkPlan
from bigin.jobs.plans.preparation import filler_of, prepare_part, prepared
from bigin.jobs.plans.reading import compare_part
from bigin.jobs.retries import Retries
from bigin.jobs.run import Progress, fill_regions
from bigin.jobs.where import as_fill_error
from bigin.jobs.workers import tell_sizes, workers_within
from bigin.targets.files import FileTarget
from bigin.targets.part_ledgers import part_ledger
from bigin.targets.paths import local_path
from bigin.targets.safetensors.checkpoint import CheckpointTarget
from bigin.targets.target import Target

LOOK = 2.0  # seconds between two looks for a marker that another attempt has left


@dataclass(frozen=True)
class Options:
    """How a worker does its parts. again: also those that have a marker. sync: bring a part to the disk first."""

    limits: Limits = field(default_factory=Limits)
    again: bool = False
    sync: bool = True

    def __post_init__(self) -> None:
        check_flags(again=self.again, sync=self.sync)


@dataclass(frozen=True)
class Done:
    """A part that is done: bytes of values and seconds. stored: another attempt had done it before."""

    round: str
    part: int
    nbytes: int
    seconds: float
    stored: bool = False


class DoneElsewhere(FillError):  # noqa: N818 (good news)
    """Another attempt has finished the part that this one is doing."""


class Finished(FillError):  # noqa: N818 (good news, too)
    """The plan was finished, and so every part is done."""


def marker(which: str, part: int) -> str:
    """The key of a part's marker."""
    return f"{which}/{part // 1000:06d}/{part}"


def do_part(place: str, fingerprint: str, which: str, part: int, options: Options) -> Done:
    """Does one part of the plan in a ledger: what an executor runs on another machine.

    Everything is told by name, so that a task is a few hundred bytes; the plan is read once by every process.
    """
    return work(_loaded(place, fingerprint), part, which, options)


@lru_cache(4)
def _loaded(place: str, fingerprint: str) -> WorkPlan:
    data = Retries(remote=local_path(place) is None).attempt(lambda: part_ledger(place).get(KEY))
    if data is None:
        raise NotFoundError(
            f"{place}: expected a plan there, got nothing on {socket.gethostname()}; put the target on a file system "
            "that every worker sees under the same path, or make the plan again if it was finished"
        )
    plan = WorkPlan.parse(data, place)
    if plan.fingerprint != fingerprint:
        raise InputError(f"{place}: expected plan {fingerprint}, got plan {plan.fingerprint}; make the plan again")
    return plan


def work(
    plan: WorkPlan, part: int, which: str = FILL, options: Options | None = None, progress: Progress | None = None
) -> Done:
    """Does a part, unless its marker says that it is done; any two attempts write the same bytes.

    Raises InputError where the plan and the target do not belong together, FillError where a part cannot be done.
    """
    options = options or Options()
    if not 0 <= part < plan.count(which):
        raise InputError(f"expected a part from 0 to {plan.count(which) - 1}, got {part}")
    retries, start = Retries(remote=local_path(plan.ledger) is None), time.time()
    with default_modes(), as_fill_error(plan.target):
        if not options.again and (held := done_before(plan, which, part, retries)) is not None:
            return held
        try:
            _check_rounds(plan, which, retries)
            nbytes, result = _do(plan, which, part, options, _watched(plan, which, part, options, progress))
        except Exception as error:
            if isinstance(error, Finished):
                return Done(which, part, 0, 0.0, stored=True)
            with suppress(Exception):  # the first error is the one to report
                if (held := done_before(plan, which, part, retries)) is not None:
                    return held
            raise
        done = Done(which, part, nbytes, time.time() - start)
        said = {"part": part, "bytes": nbytes, "began": start, "ended": time.time(), "host": socket.gethostname()}
        data = json.dumps(said | {"pid": os.getpid(), "result": result}).encode()
        try:
            retries.attempt(lambda: plan.notes.put(marker(which, part), data))
        except NotFoundError:  # finished meanwhile, as another attempt had done the part
            return _finished(plan, done)
    return done


def done_before(plan: WorkPlan, which: str, part: int, retries: Retries) -> Done | None:
    """What the marker of a part says, if it has one."""
    held = retries.attempt(lambda: plan.notes.get(marker(which, part)))
    if held is None:
        return None
    said = read_marker(held)
    return Done(which, part, said["bytes"], 0.0, stored=True)


def read_marker(data: bytes) -> dict[str, Any]:
    """What a marker says; nothing where it is damaged."""
    try:
        said = json.loads(data)
        return {"bytes": int(said["bytes"]), **said}
    except (ValueError, TypeError, KeyError):
        return {"bytes": 0}


def _finished(plan: WorkPlan, done: Done) -> Done:
    """A part whose plan was finished while it was done; raises NotFoundError where it was not finished."""
    if is_finished(plan, Retries(remote=False)):
        return replace(done, stored=True)
    raise NotFoundError(f"{plan.ledger}: expected the folder of a plan, got nothing; make the plan again")


def is_finished(plan: WorkPlan, retries: Retries) -> bool:
    """Whether a plan was finished: what it writes says that it is complete. Plans that read have no such end."""
    if plan.task == "grow":
        with opened_table(plan, retries) as (rows, record):
            return not growing(plan, rows, record)
    with opened_plan(plan, retries) as target:
        return plan.task == "fill" and not begun(plan, target)


def _check_rounds(plan: WorkPlan, which: str, retries: Retries) -> None:
    """Raises InputError where a round that comes before is not done."""
    from bigin.jobs.plans.numbers import as_text

    for before in plan.rounds:
        if before == which or retries.attempt(lambda: plan.notes.get(KEY)) is None:  # or it was finished
            return
        if retries.attempt(lambda: plan.notes.get(f"{before}/done")) is not None:  # noqa: B023 (called at once)
            continue
        missing = sorted(set(range(plan.rounds[before])) - marked(plan, before))
        if missing:
            raise InputError(
                f"{plan.target}: expected round {before} to be done before {which}, got no parts {as_text(missing)}; "
                f"run `bigin work` with --round {before} --part {as_text(missing)}"
            )
        retries.attempt(lambda: plan.notes.put(f"{before}/done", b"1"))  # noqa: B023


def marked(plan: WorkPlan, which: str) -> set[int]:
    """The parts of a round that have a marker."""
    names = (key.rpartition("/")[2] for key in plan.notes.keys(f"{which}/"))
    return {int(name) for name in names if name.isdigit()}


def _watched(
    plan: WorkPlan, which: str, part: int, options: Options, progress: Progress | None
) -> Callable[[int, int], None]:
    """Progress that stops the part once another attempt has finished it."""
    last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        if progress is not None:
            progress(done, total)
        if not options.again and time.monotonic() - last > LOOK:
            last = time.monotonic()
            if plan.notes.get(marker(which, part)) is not None:
                raise DoneElsewhere

    return report


def _do(plan: WorkPlan, which: str, part: int, options: Options, progress: Progress) -> tuple[int, Any]:
    """Does a part; returns the bytes of values, and what the marker is to say beside."""
    if which != FILL:
        with opened_plan(plan, Retries(remote=False)) as target:
            if not begun(plan, target):
                raise Finished
        prepare_part(plan, which, part, options.limits, lambda share: progress(int(1000 * share), 1000))
        return 0, None
    retries = Retries(remote=False)
    if plan.task == "grow":
        return _grow(plan, part, options, retries, progress), None
    with opened_plan(plan, retries) as target, as_fill_error(target.label):
        if plan.task == "fill":
            return _fill(plan, target, part, options, (retries, progress)), None
        if plan.task == "show":
            return measure_part(plan, target, part, options.limits, retries, progress), None
        return compare_part(plan, target, part, options.limits, retries, progress)


def _grow(plan: WorkPlan, part: int, options: Options, retries: Retries, progress: Progress) -> int:
    """Writes new rows of a table."""
    made = grow_part(plan, part, options, retries, progress)
    if made is None:
        raise Finished
    return made


def _fill(plan: WorkPlan, target: Target, part: int, options: Options, how: tuple[Retries, Progress]) -> int:
    """Fills the regions of a part, and brings them to the disk."""
    retries, progress = how
    if not begun(plan, target):
        raise Finished
    target.sync = options.sync
    filler = filler_of(plan)
    tell_sizes(target, filler)
    grid = check_grid(plan, target, filler.region_bytes)
    workers = workers_within(target, filler, options.limits)
    if isinstance(target, FileTarget | CheckpointTarget) and not target.whole():
        raise DamagedError(  # reserving its space again would hide what was lost
            f"{target.label}: was truncated while it was filled; make the plan again with --overwrite (overwrite=True)"
        )
    target.start()
    filler = prepared(plan, target, filler, workers, options.limits)
    regions = regions_of(target, grid, plan.tasks(part))
    fill_regions(target, filler, regions, workers, retries, progress)
    if options.sync:
        target.settle(regions)
    return sum(map(target.bytes_of, regions))
