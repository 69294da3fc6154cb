"""A fill: a filler, a target, and bounds on memory and threads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from bigin.errors import InputError
from bigin.filling.engine import run_threads
from bigin.filling.filler import Filler
from bigin.regions import Region
from bigin.targets.base import Scratch, Target
from bigin.text import size_text

Progress = Callable[[int, int], None]  # bytes made so far, bytes in all


SETUP = 0.5  # of the progress, where a filler has a setup


def worker_memory(target: Target, filler: Filler) -> int:
    """How many bytes a worker takes."""
    return target.block_memory(filler.region_bytes) + filler.worker_memory


def workers_within(target: Target, filler: Filler, threads: int, max_memory: int) -> int:
    """How many threads the memory allows; raises InputError where it does not allow one."""
    if threads < 1:
        raise InputError(f"expected at least 1 thread, got {threads}")
    need = worker_memory(target, filler)
    if need > max_memory:
        block = "x".join(map(str, target.grid().block))
        raise InputError(
            f"{target.label}: expected a chunk or shard that fits in {size_text(max_memory)}, got one of {block} that "
            f"takes {size_text(need)} to make; raise --max-memory (max_memory=) to that, or store chunks "
            f"{-(-need // max(1, max_memory))} times smaller"
        )
    return min(threads, max_memory // need) if need else threads


def run(target: Target, filler: Filler, threads: int, max_memory: int, progress: Progress | None) -> None:
    """Sets the filler up and fills every region of a target that has begun."""
    if filler.has_setup:
        left = max_memory - threads * worker_memory(target, filler)
        filler.setup(
            threads, left, lambda part: progress and progress(int(SETUP * part * target.nbytes), target.nbytes)
        )
    total = target.nbytes
    share = SETUP if filler.has_setup else 0.0

    def worker() -> Callable[[Region], int]:
        scratch = Scratch()

        def fill_region(region: Region) -> int:
            size = 0
            with closing(target.block(region, scratch)) as parts:  # a part that fails leaves nothing half-stored
                for part, out in parts:
                    filler(part, out)
                    size += out.nbytes
            return size

        return fill_region

    def report(done: int) -> None:
        target.advance()
        if progress is not None:
            progress(int(share * total + (1 - share) * done), total)

    run_threads(target.grid(filler.region_bytes), worker, threads, report)
    if progress is not None:
        progress(total, total)
