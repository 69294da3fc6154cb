"""The status of a plan, and its end: the record becomes complete only after what is stored has been counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bigin.core.errors import DamagedError, FillError
from bigin.core.floats import default_modes
from bigin.core.html import card
from bigin.core.limits import Limits
from bigin.core.regions import Grid, Region
from bigin.core.text import agree, counted, duration_text, rate_text, size_text
from bigin.core.threads import apart, map_threads
from bigin.jobs.compare import Verification
from bigin.jobs.plans.begin import sizes_for
from bigin.jobs.plans.growing import finish_growing, growing, number_of, opened_table, planned_growing
from bigin.jobs.plans.measuring import Measured, statistics_of_parts
from bigin.jobs.plans.numbers import as_text
from bigin.jobs.plans.opening import begun, check_grid, opened_plan
from bigin.jobs.plans.plan import FILL, WorkPlan
from bigin.jobs.plans.reading import difference_of, sample_of
from bigin.jobs.plans.work import is_finished, marked, marker, read_marker
from bigin.jobs.report import Report
from bigin.jobs.retries import Retries
from bigin.jobs.where import as_fill_error
from bigin.spec.record import spec_of
from bigin.targets.files import FileTarget
from bigin.targets.paths import local_path
from bigin.targets.safetensors.checkpoint import CheckpointTarget
from bigin.targets.target import Target

READERS = 16  # markers that are read concurrently, as a store on a network is slow to answer


@dataclass(frozen=True)
class Status:
    """How far a plan has come.

    Attributes:
        target: the target's path or URL.
        task: fill, verify, show or grow.
        complete: whether the plan was finished, or nothing is left to do but to finish it.
        finished: whether the plan was finished.
        parts: the number of parts, of each round in the order in which they are done.
        done: the number of parts that are done, of each round.
        missing: the parts of the first round that is not done.
        round: that round.
        nbytes: bytes of values in the parts that are done.
        total: bytes of values in all parts.
        seconds: from the first attempt's begin to the last one's end.
        rate: bytes per second over that time.
        left: estimated seconds until the last part is done, or None where nothing is done yet.
    """

    target: str
    task: str
    finished: bool
    parts: dict[str, int]
    done: dict[str, int]
    round: str
    missing: list[int] = field(repr=False)
    nbytes: int
    total: int
    seconds: float
    rate: float
    left: float | None

    @property
    def complete(self) -> bool:
        """Whether all parts are done."""
        return self.finished or not self.missing

    def as_dict(self) -> dict[str, Any]:
        """The status as `bigin status --json` prints it.

        Returns:
            A dict of what JSON can hold.
        """
        return vars(self) | {"complete": self.complete, "missing": as_text(self.missing, shown=1 << 30)}

    def _repr_html_(self) -> str:
        left = None if self.left is None or self.complete else f"about {duration_text(self.left)}"
        facts = {
            "task": self.task,
            **{f"parts of {which}": f"{self.done[which]:,} of {self.parts[which]:,}" for which in self.parts},
            "written" if self.task == "fill" else "values": f"{size_text(self.nbytes)} of {size_text(self.total)}",
            "rate": rate_text(self.rate) if self.rate else None,
            "left": left,
            "missing": None if self.complete else f"parts {as_text(self.missing)} of {self.round}",
            "finished": "yes" if self.finished else "no: call finish" if self.complete else "no",
        }
        return card(self.target, facts)


def retries_of(plan: WorkPlan) -> Retries:
    """What retries the operations of a plan's store."""
    return Retries(remote=local_path(plan.ledger) is None)


def status_of(plan: WorkPlan) -> Status:
    """How far a plan has come, by the markers of its parts."""
    retries = retries_of(plan)
    with default_modes(), as_fill_error(plan.target):
        finished, total = is_finished(plan, retries), total_bytes(plan, retries)
        parts = {which: plan.count(which) for which in (*plan.rounds, FILL)}
        told = partial(Status, plan.target, plan.task, finished=finished, parts=parts, total=total)
        if finished:
            return told(done=parts, round=FILL, missing=[], nbytes=total, seconds=0.0, rate=0.0, left=0.0)
        held = {which: retries.attempt(lambda: marked(plan, which)) for which in parts}  # noqa: B023
        rounds = [which for which in parts if len(held[which]) < parts[which]]
        first = rounds[0] if rounds else FILL
        missing = sorted(set(range(parts[first])) - held[first])
        said = markers(plan, sorted(held[FILL]), retries)
    nbytes = sum(each["bytes"] for each in said)
    seconds = span(said)
    rate = nbytes / seconds if seconds else 0.0
    left = (total - nbytes) / rate if rate else None
    done = {which: len(held[which]) for which in parts}
    return told(done=done, round=first, missing=missing, nbytes=nbytes, seconds=seconds, rate=rate, left=left)


def total_bytes(plan: WorkPlan, retries: Retries) -> int:
    """Bytes of values in all parts of a plan; of a sample about so many."""
    if plan.task == "grow":
        with opened_table(plan, retries) as (rows, _):
            added = number_of(plan) - int(plan.given["rows"])
            return added * rows.target.shape[1] * rows.target.dtype.itemsize
    with opened_plan(plan, retries) as target:
        share = 1.0 if plan.task == "fill" else len(sample_of(plan)) / max(1, plan.regions)
        return int(share * target.nbytes)


def markers(plan: WorkPlan, parts: Sequence[int], retries: Retries) -> list[dict[str, Any]]:
    """What the markers of some parts say."""

    def read(part: int) -> dict[str, Any]:
        data = retries.attempt(lambda: plan.notes.get(marker(FILL, part)))
        return read_marker(data or b"")

    return map_threads(read, parts, READERS)


def span(said: Sequence[Mapping[str, Any]]) -> float:
    """Seconds from the first attempt's begin to the last one's end, as far as markers say."""
    timed = [each for each in said if "began" in each and "ended" in each]
    return max(each["ended"] for each in timed) - min(each["began"] for each in timed) if timed else 0.0


@dataclass(frozen=True)
class Lacking:
    """What a plan lacks: parts without a marker, and parts of which something is missing or short."""

    unmarked: list[int]
    short: dict[int, str]  # what of the part is the first

    def __bool__(self) -> bool:
        return bool(self.unmarked or self.short)

    def __str__(self) -> str:
        texts = []
        if self.unmarked:
            texts.append(f"{numbered(self.unmarked)} not done: `bigin work` with --part {as_text(self.unmarked)}")
        if self.short:
            first, what = next(iter(sorted(self.short.items())))
            parts = as_text(sorted(self.short))
            texts.append(
                f"{numbered(sorted(self.short))} marked, but missing or short ({what} of part {first}): `bigin work` "
                f"with --again --part {parts}"
            )
        return "; ".join(texts)


def numbered(parts: list[int]) -> str:
    """Some parts and their verb, in words: part 3 is, parts 3-7 are."""
    return f"{agree(len(parts), 'part', 'parts')} {as_text(parts)} {agree(len(parts), 'is', 'are')}"


def lacking(plan: WorkPlan, target: Target, regions: Sequence[Region], retries: Retries) -> Lacking:
    """What is not there of the regions of all parts: every part's marker is looked for, and every chunk's size."""
    unmarked = sorted(set(range(plan.parts)) - retries.attempt(lambda: marked(plan, FILL)))
    without = set(unmarked)
    short: dict[int, str] = {}
    if isinstance(target, FileTarget | CheckpointTarget) and not target.whole():
        return Lacking(unmarked, dict.fromkeys(sorted(set(range(plan.parts)) - without), "the end of a file"))
    for number in retries.attempt(lambda: target.lost(regions)):
        part = plan.part_of(number)
        if part not in without:
            short.setdefault(part, target.where(regions[number]))
    return Lacking(unmarked, short)


def lacking_now(plan: WorkPlan, retries: Retries) -> Lacking:
    """What is not there of a plan that writes."""
    if plan.task == "grow":
        with opened_table(plan, retries) as (rows, _):
            grow = planned_growing(plan, rows)
            return lacking(plan, grow.target, grow.new, retries)
    with opened_plan(plan, retries) as target:
        return lacking(plan, target, planned_grid(plan, target), retries)


def check_all_there(plan: WorkPlan, target: Target, regions: Sequence[Region], retries: Retries) -> None:
    """Raises FillError, which lists it, where anything is not there."""
    if missing := lacking(plan, target, regions, retries):
        raise FillError(f"{target.label}: expected {counted(plan.parts, 'part')} to be stored; {missing}")


Found = Report | Verification | Measured


def finish(plan: WorkPlan, limits: Limits) -> Found:
    """Ends a plan whose parts are all done; raises FillError, and changes nothing, where something is not there."""
    retries = retries_of(plan)
    with default_modes(), as_fill_error(plan.target):
        if plan.task == "grow":
            return finish_grow(plan, limits, retries)
        with opened_plan(plan, retries) as target, as_fill_error(target.label):
            do: dict[str, Callable[[WorkPlan, Target, Retries], Found]] = {
                "fill": finish_fill,
                "verify": finish_verify,
                "show": finish_show,
            }
            return do[plan.task](plan, target, retries)


def finish_fill(plan: WorkPlan, target: Target, retries: Retries) -> Report:
    """Counts what is stored; then brings it to the disk and keeps the complete record. May be repeated."""
    record = {**plan.record, "complete": True}
    if not begun(plan, target):
        retries.attempt(plan.notes.clear)
        return Report(target.label, 0, 0.0, record, target.nbytes)
    ledger = target.ledger
    assert ledger is not None
    check_all_there(plan, target, planned_grid(plan, target), retries)
    said = markers(plan, range(plan.parts), retries)
    ledger.lock()
    if not begun(plan, target):  # finished by another process before the lock
        return Report(target.label, 0, 0.0, record, target.nbytes)
    target.start()
    ledger.clean()
    retries.attempt(lambda: apart(lambda: ledger.finish(record)))
    retries.attempt(plan.notes.clear)
    return Report(target.label, sum(each["bytes"] for each in said), max(0.0, span(said)), record)


def finish_grow(plan: WorkPlan, limits: Limits, retries: Retries) -> Report:
    """Counts the new chunks; then writes those that hold old rows, too, and the new shape. May be repeated."""
    with opened_table(plan, retries) as (held, _):
        assert held.target.ledger is not None
        held.target.ledger.lock()
        with opened_table(plan, retries) as (rows, record):
            label, total = rows.target.label, total_bytes(plan, retries)
            if not growing(plan, rows, record):
                retries.attempt(plan.notes.clear)
                return Report(label, 0, 0.0, dict(record), total)
            said: list[dict[str, Any]] = []
            if rows.target.shape[0] < number_of(plan):
                grow = planned_growing(plan, rows)
                check_all_there(plan, grow.target, grow.new, retries)
                said = markers(plan, range(plan.parts), retries)
            final = finish_growing(plan, rows, record, limits, retries)
        retries.attempt(plan.notes.clear)
    return Report(label, total, max(0.0, span(said)), final)


def planned_grid(plan: WorkPlan, target: Target) -> Grid:
    """The grid of a plan's target, as it was planned."""
    grid: Grid = check_grid(plan, target, sizes_for(spec_of(plan.record), target))
    return grid


def finish_verify(plan: WorkPlan, target: Target, retries: Retries) -> Verification:
    """What the parts say together."""
    said = all_said(plan, target, retries)
    differences = [difference_of(held) for each in said for held in each["result"]]
    nbytes = sum(each["bytes"] for each in said)
    seconds = span(said)
    record, regions = dict(plan.record), len(sample_of(plan))
    return Verification(target.label, record, regions, plan.regions, nbytes, seconds, differences)


def finish_show(plan: WorkPlan, target: Target, retries: Retries) -> Measured:
    """What the parts have measured together."""
    said = all_said(plan, target, retries)
    return Measured(statistics_of_parts(plan, target, retries), span(said), len(sample_of(plan)))


def all_said(plan: WorkPlan, target: Target, retries: Retries) -> list[dict[str, Any]]:
    """What every part's marker says; raises FillError where one is not done, DamagedError where one is damaged."""
    missing = sorted(set(range(plan.parts)) - retries.attempt(lambda: marked(plan, FILL)))
    if missing:
        raise FillError(f"{target.label}: expected {counted(plan.parts, 'part')} to be done; {Lacking(missing, {})}")
    said = markers(plan, range(plan.parts), retries)
    damaged = [part for part, each in enumerate(said) if "result" not in each]
    if damaged:
        raise DamagedError(
            f"{plan.ledger}: expected the results of all parts, got damaged ones; run `bigin work` with --again --part "
            f"{as_text(damaged)}"
        )
    return said


def done_text(status: Status) -> str:
    """A status in words."""
    lines = []
    for which, count in status.parts.items():
        name = "" if which == FILL else f"round {which}: "
        lines.append(f"{name}{status.done[which]} of {counted(count, 'part')} done")
    text = f"{status.target}: {status.task}: {'; '.join(lines)}"
    if status.finished:
        return f"{text}; finished"
    text += f"; {size_text(status.nbytes)} of {size_text(status.total)}"
    if status.rate:
        text += f", {rate_text(status.rate)}"
    if not status.missing:
        return f"{text}; `bigin finish` ends it"
    if status.left is not None:
        text += f", about {duration_text(status.left)} left at that rate"
    where = "" if status.round == FILL else f" of round {status.round}"
    return f"{text}\nmissing{where}: {as_text(status.missing)}"
