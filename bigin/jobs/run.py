"""A fill: a filler, a target, and bounds on memory and threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass

from bigin.core.errors import InputError
from bigin.core.regions import Grid, Region
from bigin.core.text import size_text
from bigin.core.threads import Stopped, Stopping, run_threads
from bigin.fillers.filler import Filler
from bigin.jobs.journal import Journal
from bigin.jobs.retries import Retries
from bigin.targets.target import Scratch, Target

Progress = Callable[[int, int], None]  # bytes made so far, bytes in all


SETUP = 0.5  # of the progress, where a filler has a setup


@dataclass(frozen=True)
class Plan:
    """What of a target's grid is to be filled: some regions again, and all from `start` on. `fill` tells which fill
    it is, for the journal."""

    grid: Grid
    start: int = 0
    again: Sequence[int] = ()
    fill: str = ""

    def __len__(self) -> int:
        return len(self.again) + len(self.grid) - self.start

    def region(self, task: int) -> Region:
        """The region of a task."""
        first = len(self.again)
        return self.grid[self.again[task] if task < first else self.start + task - first]

    def front(self, tasks: int) -> int:
        """How many regions at the front of the grid are filled once so many tasks at the front are done."""
        return self.start + max(0, tasks - len(self.again))


def worker_memory(target: Target, filler: Filler) -> int:
    """How many bytes a worker takes."""
    return target.block_memory(filler.region_bytes) + filler.worker_memory


def workers_within(target: Target, filler: Filler, threads: int, max_memory: int, buffers: int = 1) -> int:
    """How many threads the memory allows, with so many buffers each; InputError where it does not allow one."""
    if threads < 1:
        raise InputError(f"expected at least 1 thread, got {threads}")
    need = buffers * worker_memory(target, filler)
    if need > max_memory:
        block = "x".join(map(str, target.grid(filler.region_bytes).block))
        raise InputError(
            f"{target.label}: expected a chunk or shard that fits in {size_text(max_memory)}, got one of {block} that "
            f"takes {size_text(need)} to make; raise --max-memory (max_memory=) to that, or store chunks "
            f"{-(-need // max(1, max_memory))} times smaller"
        )
    return min(threads, max_memory // need) if need else threads


def set_up(target: Target, filler: Filler, threads: int, max_memory: int, progress: Progress | None) -> None:
    """What a filler does once before the first region, in the memory that the workers leave."""
    if filler.has_setup:
        left = max_memory - threads * worker_memory(target, filler)
        filler.setup(
            threads, left, lambda part: progress and progress(int(SETUP * part * target.nbytes), target.nbytes)
        )


def run(target: Target, filler: Filler, plan: Plan, threads: int, retries: Retries, progress: Progress | None) -> int:
    """Fills the regions of a plan, of a target that has begun, and returns how many bytes they are.

    The journal follows, so that another process can go on wherever this one ends.
    """
    total = target.nbytes
    share = SETUP if filler.has_setup else 0.0
    before = total - total * len(plan) // max(1, len(plan.grid))  # about: regions at the edges are smaller
    journal = Journal(target, plan.grid, plan.start, plan.fill, retries)

    def worker(stopping: Stopping) -> Callable[[int], int]:
        scratch = Scratch(filler.buffer)

        def fill_region(task: int) -> int:
            region = plan.region(task)
            return retries.attempt(lambda: store(target, filler, region, scratch, stopping), stopping)

        return fill_region

    def report(size: int, front: int) -> None:
        target.advance()
        journal.reach(plan.front(front))
        if progress is not None:
            progress(int(share * total + (1 - share) * min(total, before + size)), total)

    try:
        made = run_threads(range(len(plan)), worker, threads, report)
        journal.stop()
        journal.check()
    except Exception:
        journal.stop()
        with suppress(Exception):  # the first error is the one to tell
            journal.checkpoint()
        raise
    except BaseException:
        journal.abandon()
        raise
    if progress is not None:
        progress(total, total)
    return made


def store(target: Target, filler: Filler, region: Region, scratch: Scratch, stopping: Stopping) -> int:
    """Fills one region of the grid; returns its bytes."""
    size = 0
    with closing(target.block(region, scratch)) as parts:  # a part that fails leaves nothing half-stored
        for part, out in parts:
            if stopping():
                raise Stopped
            filler(part, out)
            size += out.nbytes
    return size
