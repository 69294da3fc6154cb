"""What a target holds, compared bit for bit with what its specification says."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bigin import dtypes
from bigin.errors import InputError
from bigin.filling.engine import Stopped, Stopping, run_threads
from bigin.filling.faults import LASTING, Retries
from bigin.filling.filler import Filler
from bigin.regions import Grid, Region, Shape, extent
from bigin.targets.base import Array, Scratch, Target

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
            return f"{self.place}: cannot be read from {first} on: {self.reason}"
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
            difference = retries.attempt(
                lambda: difference_of(target, filler, task, grid[task], stored, made, stopping), stopping
            )
            if difference is not None:
                found.append(difference)
            return int(np.prod(extent(grid[task]), dtype=object)) * target.dtype.itemsize

        return compare_region

    run_threads(tasks, worker, threads, None if report is None else lambda size, front: report(size))
    return sorted(found, key=lambda difference: difference.region)


def difference_of(
    target: Target, filler: Filler, number: int, region: Region, stored: Scratch, made: Scratch, stopping: Stopping
) -> Difference | None:
    """How a region differs, or None. One that cannot be decoded differs; errors of the store are raised."""
    elements, first = 0, None
    expected = region
    try:
        for part, values in target.stored(region, stored):
            if stopping():
                raise Stopped
            expected = part
            count, place = differing(part, values, filler, made)
            elements += count
            first = first or place
    except (*LASTING, OSError):
        raise
    except Exception as error:  # codecs raise errors of many kinds
        start = first or tuple(start for start, _ in expected)
        reason = " ".join(str(error).split()) or type(error).__name__
        return Difference(number, target.place(region), int(np.prod(extent(region), dtype=object)), start, reason)
    return Difference(number, target.place(region), elements, first) if first is not None else None


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


def sampled(grid: Grid, sample: float, seed: int) -> Sequence[int]:
    """The regions of a sample: so large a fraction of them, at least one, chosen by the seed; in order."""
    if not 0 < sample <= 1:
        raise InputError(f"expected a sample above 0% and up to 100%, got {100 * sample:g}%")
    count = len(grid)
    if sample == 1 or count == 0:
        return range(count)
    return sorted(random.Random(seed).sample(range(count), max(1, round(sample * count))))
