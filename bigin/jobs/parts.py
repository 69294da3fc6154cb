"""A part of a fill as data: what any process that sees the target needs to do it, and the function that does it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from bigin.core.errors import RecordError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.record import Record
from bigin.core.regions import Region
from bigin.jobs.retries import Retries
from bigin.jobs.run import Pending, fill_regions, set_up
from bigin.jobs.where import Where, as_fill_error, opened
from bigin.jobs.workers import workers_within
from bigin.spec.record import spec_of
from bigin.targets.target import record_of

PARTS = 64  # of a plan, at most: enough to share the work, few enough that starting them costs nothing


@dataclass(frozen=True)
class Part(Sequence[Region]):
    """Some tasks of a plan: where the target is, its record, and which regions. It can be pickled.

    Any two attempts at a part write the same bytes.
    """

    where: Where
    record: Record
    plan: Pending
    tasks: range
    limits: Limits

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: int) -> Region:  # type: ignore[override]
        return self.plan[self.tasks[index]]


def parts_of(where: Where, record: Record, plan: Pending, limits: Limits) -> list[Part]:
    """A plan in parts that follow each other."""
    count = min(PARTS, len(plan))
    edges = [len(plan) * i // max(1, count) for i in range(count + 1)]
    return [Part(where.absolute(), record, plan, range(start, stop), limits) for start, stop in pairwise(edges)]


def fill_part(part: Part) -> int:
    """Opens the target, which has begun, and fills the regions of a part; returns the bytes that they take.

    Raises RecordError where the target holds another fill by now, FillError where it cannot be written.
    """
    retries = Retries(remote=part.where.remote)
    with default_modes(), opened(part.where, retries) as target, as_fill_error(target.label):
        if (record_of(target) or {}) != part.record:
            raise RecordError(f"{target.label}: expected the fill that this part is of, got another one or none")
        filler = spec_of(part.record).plan()()
        workers = workers_within(target, filler, part.limits)
        retries.remote = target.remote
        target.start()
        set_up(target, filler, workers, part.limits, None)
        fill_regions(target, filler, part, workers, retries)
    return sum(map(target.bytes_of, part))
