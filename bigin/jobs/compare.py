"""What a target holds, compared bit for bit with what its specification says."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import FillError, InputError
from bigin.core.regions import Grid, Region, Shape, extent
from bigin.core.threads import Stopped, Stopping, run_threads
from bigin.fillers.filler import Filler
from bigin.jobs.retries import Retries, Unreadable, one_line
from bigin.targets.target import Array, Scratch, Target

BUFFERS = 2  # of a worker: what is stored, and what it should be


@dataclass(frozen=True)
class Difference:
    """A region whose stored bits are not those of the specification.

    region is its number in the grid, place where it lies in the target, elements how many differ (all, where it cannot
    be read: then `reason` says why), first the global index of the first that does.
    """

    region: int
    place: str
    elements: int
    first: Shape
    reason: str = ""

    def __str__(self) -> str:
        first = "[" + ", ".join(map(str, self.first)) + "]"
        if self.reason:
            return f"{self.place}: cannot be read, from {first} on: {self.reason}"
        differ = "elements differ" if self.elements > 1 else "element differs"
        return f"{self.place}: {self.elements} {differ}, the first at {first}"


def compare(
    target: Target,
    filler: Filler,
    grid: Grid,
    tasks: Sequence[int],
    threads: int,
    retries: Retries,
    report: Callable[[int], None] | None = None,
) -> list[Difference]:
    """The differing regions among those that the tasks number, in order; `report` gets the bytes compared so far."""
    found: list[Difference] = []

    def worker(stopping: Stopping) -> Callable[[int], int]:
        stored, made = Scratch(), Scratch()

        def compare_region(task: int) -> int:
            try:
                difference = retries.attempt(
                    lambda: difference_of(target, filler, task, grid[task], stored, made, stopping), stopping
                )
            except Unreadable as error:
                if target.remote and isinstance(error.cause, OSError):  # the network, and not this region
                    raise error.cause from None
                difference = unreadable(target, task, grid[task], error.cause)
            if difference is not None:
                found.append(difference)
            return target.bytes_of(grid[task])

        return compare_region

    run_threads(tasks, worker, threads, None if report is None else lambda size, front: report(size))
    return sorted(found, key=lambda difference: difference.region)


def difference_of(
    target: Target, filler: Filler, number: int, region: Region, stored: Scratch, made: Scratch, stopping: Stopping
) -> Difference | None:
    """How a region differs, or None; raises Unreadable."""
    elements, first = 0, None
    parts = target.stored(region, stored)
    while (read := next_part(parts)) is not None:
        if stopping():
            raise Stopped
        count, place = differing(*read, filler, made)
        elements += count
        first = place if first is None else first
    return None if first is None else Difference(number, target.where(region), elements, target.index_of(first))


def next_part(parts: Iterator[tuple[Region, Array]]) -> tuple[Region, Array] | None:
    """What is stored, part by part, until there is no more; raises Unreadable."""
    try:
        return next(parts, None)
    except (Stopped, FillError):
        raise
    except Exception as error:  # codecs raise errors of many kinds, of damaged sizes even MemoryError
        raise Unreadable(error) from error


def unreadable(target: Target, number: int, region: Region, error: Exception) -> Difference:
    """What cannot be read differs as a whole."""
    elements, first = int(np.prod(extent(region), dtype=object)), tuple(start for start, _ in region)
    return Difference(number, target.where(region), elements, target.index_of(first), one_line(error))


def differing(part: Region, values: Array, filler: Filler, scratch: Scratch) -> tuple[int, Shape | None]:
    """How many elements of a part differ, and the global index of the first."""
    made = scratch.array(extent(part), values.dtype)
    filler(part, made)
    bits = dtypes.unsigned(values.dtype)
    unequal = np.ascontiguousarray(values).reshape(-1).view(bits) != made.reshape(-1).view(bits)
    count = int(np.count_nonzero(unequal))
    if count == 0:
        return 0, None
    place = np.unravel_index(int(np.argmax(unequal)), extent(part))
    return count, tuple(start + int(at) for (start, _), at in zip(part, place, strict=True))


def sampled(grid: Sequence[Any], sample: float, seed: int) -> Sequence[int]:
    """The regions of a sample: so large a fraction of them, at least one, chosen by the seed; in order."""
    if not 0 < sample <= 1:
        raise InputError(f"expected a sample above 0% and up to 100%, got {100 * sample:g}%")
    count = len(grid)
    if sample == 1 or count == 0:
        return range(count)
    return sorted(random.Random(seed).sample(range(count), max(1, round(sample * count))))
