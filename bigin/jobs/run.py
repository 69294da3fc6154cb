"""Filling regions of a target: what a worker does with one, and a plan of many with their journal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial

from bigin.core.limits import Limits
from bigin.core.regions import Grid, Picked, Region
from bigin.core.threads import Stopped, Stopping
from bigin.fillers.filler import Filler
from bigin.jobs.batches import Batches
from bigin.jobs.executors.executor import Executor, Start, TaskProgress
from bigin.jobs.executors.threads import ThreadExecutor
from bigin.jobs.journal import Journal
from bigin.jobs.retries import Retries
from bigin.jobs.workers import Gate, Workers, worker_memory
from bigin.targets.target import Parts, Scratch, Target

Progress = Callable[[int, int], None]  # bytes made so far, bytes in all

SETUP = 0.5  # of the progress, where a filler has a setup


@dataclass(frozen=True)
class Pending(Sequence[Region]):
    """Which regions of a target's grid are to be filled: some of them again, and all from `start` on.

    `fill` identifies the fill, for the journal.
    """

    grid: Grid
    start: int = 0
    again: Sequence[int] = ()
    fill: str = ""

    def __len__(self) -> int:
        return len(self.again) + len(self.grid) - self.start

    def __getitem__(self, task: int) -> Region:  # type: ignore[override]
        first = len(self.again)
        return self.grid[self.again[task] if task < first else self.start + task - first]

    def front(self, tasks: int) -> int:
        """How many regions at the front of the grid are filled once so many tasks at the front are done."""
        return self.start + max(0, tasks - len(self.again))


def set_up(target: Target, filler: Filler, workers: Workers, limits: Limits, progress: Progress | None) -> None:
    """What a filler does once before the first region, in the memory that the workers leave."""
    if filler.has_setup:
        left = limits.memory - workers.requests * worker_memory(target, filler)
        filler.setup(
            workers.cores, left, lambda part: progress and progress(int(SETUP * part * target.nbytes), target.nbytes)
        )


def run(
    target: Target, filler: Filler, plan: Pending, workers: Workers, retries: Retries, progress: Progress | None
) -> int:
    """Fills the regions of a plan, of a target that has begun, in threads; returns the bytes that they take."""
    executor: Executor = ThreadExecutor(workers.requests)
    batches = target.batches(plan.grid) if workers.together else ()
    tasks = Batches(len(plan), batches, len(plan.again), plan.start)
    start = filling(target, filler, plan, retries, workers.gate(), tasks)
    share = SETUP if filler.has_setup else 0.0
    return journalled(
        lambda report: executor.run(start, len(tasks), lambda size, done: report(size, tasks.front(done))),
        Journal(target, plan.grid, plan.start, plan.fill, retries),
        target,
        plan,
        None if progress is None else (lambda done, total: progress(int(share * total + (1 - share) * done), total)),
    )


def journalled(
    work: Callable[[TaskProgress], int], journal: Journal, target: Target, plan: Pending, progress: Progress | None
) -> int:
    """Does the work of a plan; the journal follows, so that another process can continue wherever this one ends."""
    total = target.nbytes
    before = total - total * len(plan) // max(1, len(plan.grid))  # about: regions at the edges are smaller

    def report(size: int, front: int) -> None:
        target.advance()
        journal.reach(plan.front(front))
        if progress is not None:
            progress(min(total, before + size), total)

    try:
        made = work(report)
        journal.stop()
        journal.check()
    except Exception:
        journal.stop()
        with suppress(Exception):  # the first error is the one to report
            journal.checkpoint()
        raise
    except BaseException:
        journal.abandon()
        raise
    if progress is not None:
        progress(total, total)
    return made


def filling(
    target: Target,
    filler: Filler,
    regions: Sequence[Region],
    retries: Retries,
    gate: Gate,
    tasks: Batches,
) -> Start:
    """What a worker does: it fills the regions of a task, one or several, in a buffer that it keeps."""

    def start(stopping: Stopping) -> Callable[[int], int]:
        scratch = Scratch(filler.buffer, filler.region_bytes)

        def fill_region(task: int) -> int:
            stretch = tasks[task]
            if len(stretch) == 1:
                region = regions[stretch[0]]
                parts = partial(target.block, region, scratch)
            else:
                parts = partial(target.batch, Picked(regions, stretch), scratch)

            def attempt() -> int:
                with gate.region(stopping):
                    return store(parts, filler, stopping, gate)

            return retries.attempt(attempt, stopping)

        return fill_region

    return start


def store(parts: Callable[[], Parts], filler: Filler, stopping: Stopping, gate: Gate) -> int:
    """Fills what a target is to store; returns its bytes."""
    size = 0
    with closing(parts()) as made:  # a part that fails leaves nothing half-stored
        for part, out in made:
            if stopping():
                raise Stopped
            with gate.making():
                filler(part, out)
            size += out.nbytes
    return size


def fill_regions(
    target: Target,
    filler: Filler,
    regions: Sequence[Region],
    workers: Workers,
    retries: Retries,
    progress: Progress | None = None,
) -> None:
    """Fills some regions of a target's grid, without a journal."""
    total = sum(map(target.bytes_of, regions))

    def report(size: int, front: int) -> None:
        target.advance()
        if progress is not None:
            progress(size, total)

    start = filling(target, filler, regions, retries, workers.gate(), Batches(len(regions)))
    ThreadExecutor(workers.requests).run(start, len(regions), report)
    if progress is not None:
        progress(total, total)
