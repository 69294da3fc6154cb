"""Growing a table in parts: whole new chunks by the parts, what old and new rows share at the end, under the lock.

No part touches an old row. Readers see the old table until the end, which replaces the shape in one write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from bigin.core.errors import InputError, RecordError
from bigin.core.limits import Limits
from bigin.core.record import Record
from bigin.core.regions import Region, Tail
from bigin.core.threads import after_stragglers
from bigin.fillers.rows import KeptFiller
from bigin.jobs.grow import GROWING, PLAN, larger, open_table, planned_growth, settled_record
from bigin.jobs.plans.aligned import regions_of
from bigin.jobs.plans.opening import check_fits, check_seen
from bigin.jobs.plans.plan import KEY, WorkPlan, check_parts, grid_of
from bigin.jobs.plans.preparation import filler_of
from bigin.jobs.retries import Retries
from bigin.jobs.run import Progress, fill_regions
from bigin.jobs.workers import workers_within
from bigin.spec.tensor import TensorSpec
from bigin.targets.rows import Rows
from bigin.targets.target import Target, record_of


@dataclass(frozen=True)
class Growing:
    """A table, the larger one that it becomes, and the regions that hold new rows: first those with old ones, too."""

    rows: Rows
    target: Target  # of the new shape
    tail: Tail
    shared: int  # regions that also hold old rows

    @classmethod
    def of(cls, rows: Rows, number: int, *, begun: bool) -> Growing:
        """The table with so many rows; raises InputError where it cannot have them."""
        target, tail = rows.grown(number, begun=begun)
        shared = tail.grid.counts[1] if tail.first < rows.target.shape[0] and len(tail) else 0
        return cls(rows, target, tail, shared)

    @property
    def new(self) -> Sequence[Region]:
        """The regions of new rows alone, which the parts fill."""
        return Behind(self.tail, self.shared)


@dataclass(frozen=True)
class Behind(Sequence[Region]):
    """Regions behind the first few."""

    all: Sequence[Region]
    first: int

    def __len__(self) -> int:
        return len(self.all) - self.first

    def __getitem__(self, index: int) -> Region:  # type: ignore[override]
        return self.all[self.first + index]


@contextmanager
def opened_table(plan: WorkPlan, retries: Retries) -> Iterator[tuple[Rows, Record]]:
    """The table of a plan and its record; raises NotFoundError where this machine does not see it."""
    check_seen(plan)
    rows, _ = retries.attempt(lambda: open_table(plan.target))
    retries.remote = rows.target.remote
    try:
        yield rows, record_of(rows.target) or {}
    finally:
        after_stragglers(rows.target.close)


def note_of(record: Record) -> Mapping[str, Any]:
    """The record's note of a grow that has begun."""
    note = record.get(GROWING)
    return note if isinstance(note, dict) else {}


def number_of(plan: WorkPlan) -> int:
    """The number of rows that a plan grows its table to."""
    return int(plan.record["shape"][0])


def growing(plan: WorkPlan, rows: Rows, record: Record) -> bool:
    """Whether a table is still to get its shape; False where the plan was finished.

    Raises RecordError where the table is not the one that the plan is for.
    """
    number, label = number_of(plan), rows.target.label
    note = note_of(record)
    if note.get(PLAN) == plan.fingerprint:
        return True
    if rows.target.shape[0] >= number and not note:
        return False
    raise RecordError(
        f"{label}: expected the grow that plan {plan.fingerprint} began, got "
        f"{f'plan {note[PLAN]}' if PLAN in note else 'none'} at {rows.target.shape[0]} rows; make the plan again"
    )


def plan_growing(rows: Rows, spec: TensorSpec, number: int, place: Any, parts: Any) -> WorkPlan:
    """The plan of a grow; nothing is changed. `place` is the table's path, and where its ledger lies."""
    target, (path, ledger) = rows.target, place
    if number <= target.shape[0]:
        raise InputError(
            f"{target.label}: expected more than the {target.shape[0]} rows that it has, got {number}; a table does "
            "not shrink"
        )
    wanted = larger(spec, number, target.label)
    grow = Growing.of(rows, number, begun=True)
    new = len(grow.new)
    count = check_parts(parts, new, target.label)
    return WorkPlan.of(
        ledger,
        task="grow",
        target=path,
        layout={},
        record=wanted.record(),
        grid=grid_of(grow.tail.grid, new),
        parts=count if new else 0,
        given={"rows": target.shape[0]},
    )


def begin_growing(plan: WorkPlan, rows: Rows, record: Record, retries: Retries) -> None:
    """Notes in the table's record that the plan grows it, and reserves the space. The table is locked.

    The same plan may be begun again, and goes on. Raises InputError where another plan grows the table.
    """
    note, number, old = note_of(record), number_of(plan), rows.target.shape[0]
    if PLAN in note and note[PLAN] != plan.fingerprint:
        raise InputError(planned_growth(rows.target.label, note, old))
    retries.attempt(plan.notes.begin)
    if note.get(PLAN) == plan.fingerprint:
        retries.attempt(lambda: plan.notes.put(KEY, plan.text()))
        return
    retries.attempt(plan.notes.clear)
    settled = settled_record(record, rows.target.shape)
    if note:  # a grow without a plan was killed
        retries.attempt(lambda: rows.discard(note.get("to", old)))
    grown, _ = rows.grown(number)
    try:
        retries.attempt(plan.notes.begin)
        retries.attempt(lambda: plan.notes.put(KEY, plan.text()))
        rows.reserve(grown)
        retries.attempt(lambda: rows.keep(settled | {GROWING: {"to": number, PLAN: plan.fingerprint}}))
    except BaseException:
        with suppress(Exception):  # the first error is the one to report
            rows.keep(settled)
            rows.discard(number)
            plan.notes.clear()
        raise
    finally:
        grown.close()


def planned_growing(plan: WorkPlan, rows: Rows) -> Growing:
    """The larger table of a plan; raises RecordError where its chunks are not those that were planned."""
    grow = Growing.of(rows, number_of(plan), begun=True)
    check_fits(plan, grow.tail.grid, len(grow.new), rows.target.label)
    return grow


def grow_part(plan: WorkPlan, part: int, options: Any, retries: Retries, progress: Progress) -> int | None:
    """Writes new rows behind the table's end; returns their bytes, or None where the plan was finished."""
    limits: Limits = options.limits
    with opened_table(plan, retries) as (rows, record):
        if not growing(plan, rows, record):
            return None
        grow = planned_growing(plan, rows)
        filler, target = filler_of(plan), grow.target
        target.sync = options.sync
        workers = workers_within(target, filler, limits)
        try:
            target.start()
            regions = regions_of(target, grow.new, plan.tasks(part))
            fill_regions(target, filler, regions, workers, retries, progress)
            if options.sync:
                target.settle(regions)
            return sum(map(target.bytes_of, regions))
        finally:
            after_stragglers(target.close)


def finish_growing(plan: WorkPlan, rows: Rows, record: Record, limits: Limits, retries: Retries) -> Record:
    """Writes the chunks that old and new rows share, then the new shape and the record. The table is locked."""
    number, old = number_of(plan), rows.target.shape[0]
    final = settled_record(record, (number, *rows.target.shape[1:]))
    if old == number:  # killed when the array had its new shape, and the record not yet
        retries.attempt(lambda: rows.keep(final))
        return final
    grow = Growing.of(rows, number, begun=True)
    shared = [grow.tail[index] for index in range(grow.shared)]
    if shared:
        filler = KeptFiller(filler_of(plan), old, rows.read, rows.target.block_memory())
        workers = workers_within(grow.target, filler, limits)
        fill_regions(grow.target, filler, shared, workers, retries)
        rows.sync(shared)
    retries.attempt(lambda: rows.commit(number, final, sync=True))
    grow.target.close()
    return final
