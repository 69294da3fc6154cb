"""Reading a target for its statistics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bigin.core.errors import FillError, InputError
from bigin.core.handlers import let_through
from bigin.core.limits import Limits
from bigin.core.record import Record
from bigin.core.regions import Grid
from bigin.core.text import size_text
from bigin.core.threads import Stopped
from bigin.jobs.journal import done_regions
from bigin.jobs.measure import TABLES, Span, Statistics, compile_for, statistics_of
from bigin.jobs.resume import identity
from bigin.jobs.retries import Retries, one_line
from bigin.jobs.workers import Workers, workers_for
from bigin.spec.record import spec_of
from bigin.targets.target import Target

REGION = 4 << 20  # bytes that are read together if the target may choose


@dataclass(frozen=True)
class Filled:
    """What of a target is filled: the grid to read by, and how many regions at its front."""

    grid: Grid
    regions: int


def filled(target: Target, record: Record | None) -> Filled:
    """All of a target, or what a fill that was interrupted has stored of it."""
    if record is None or record.get("complete") is True:
        grid = target.grid(REGION)
        return Filled(grid, len(grid))
    try:
        grid = target.grid(spec_of(record).plan()().region_bytes)
    except InputError:  # a record that was edited by hand
        return Filled(target.grid(), 0)
    return Filled(grid, done_regions(target, grid, identity(record)))


def measure(
    target: Target,
    grid: Grid,
    tasks: Sequence[int],
    expected: Span | None,
    limits: Limits,
    retries: Retries,
    progress: Callable[[int, int], None] | None,
) -> tuple[Statistics, float]:
    """The statistics of some regions of a grid, and the seconds that reading them took.

    `expected` is where most values are expected. Raises FillError where the target cannot be read.
    """
    total = target.nbytes * len(tasks) // len(grid)
    report = None if progress is None else (lambda size: progress(min(size, total), total))
    workers = readers_within(target, grid, limits)
    compile_for(target.dtype)
    start = time.perf_counter()
    try:
        statistics = statistics_of(target, grid, tasks, expected, workers, retries, report)
    except (InputError, FillError, Stopped, OSError):
        raise
    except Exception as error:  # codecs raise errors of many kinds
        let_through(error)
        if target.remote:
            raise
        reason = f"{target.label}: cannot be read: {one_line(error)}"
        raise FillError(f"{reason}; `bigin verify` names the part, and its --repair fills it again") from error
    return statistics, time.perf_counter() - start


def readers_within(target: Target, grid: Grid, limits: Limits) -> Workers:
    """The workers that the memory allows."""
    need = target.block_memory(math.prod(grid.block) * target.dtype.itemsize) + TABLES
    if need > limits.memory:
        raise InputError(
            f"{target.label}: expected a chunk or shard that fits in {size_text(limits.memory)}, got one that takes "
            f"{need} bytes ({size_text(need)}) to read; raise --max-memory (max_memory=) to that"
        )
    return workers_for(target, limits, need)
