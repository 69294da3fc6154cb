"""Parts of a tensor as tensors of their own: a region with steps, a stretch of the flat tensor; and a row of zeros."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bigin.filling.filler import Array, Filler, Report
from bigin.regions import Region, Shape, ranges_within, runs

BATCH = 1 << 16  # elements or runs that are placed at once
NEAR = 16  # up to this step it is cheaper to make what lies between the elements than to make each alone


def fill_ranges(filler: Filler, ranges: Sequence[range], out: Array) -> None:
    """The elements at the product of ranges with steps above 0, into a contiguous array of that shape."""
    if out.size == 0:
        return
    if all(len(r) == 1 or r.step == 1 for r in ranges):
        filler(tuple((r[0], r[-1] + 1) for r in ranges), out)
        return
    last = ranges[-1]
    near = len(last) > 1 and 1 < last.step <= NEAR
    rows = max(map(len, ranges[:-1]), default=1) > 1
    if (out.size > BATCH and rows) or (near and len(last) > BATCH):
        axis = next(k for k, r in enumerate(ranges) if len(r) > 1)
        half = len(ranges[axis]) // 2
        for part in (slice(0, half), slice(half, None)):
            place = (slice(None),) * axis
            fill_ranges(filler, (*ranges[:axis], ranges[axis][part], *ranges[axis + 1 :]), out[(*place, part)])
        return
    if near:
        box = np.empty((*out.shape[:-1], last[-1] + 1 - last[0]), out.dtype)
        fill_ranges(filler, (*ranges[:-1], range(last[0], last[-1] + 1)), box)
        out[...] = box[..., :: last.step]
        return
    starts, run = run_starts(filler.shape, ranges)
    filler.gather(starts, out.reshape(-1, run))


def run_starts(shape: Shape, ranges: Sequence[range]) -> tuple[Array, int]:
    """Where the runs of a product of non-empty ranges start in the flat tensor (uint64, C order), and their length."""
    axis = max((k + 1 for k, r in enumerate(ranges) if len(r) > 1 and r.step != 1), default=0)
    first, counts, strides, run = runs(shape[axis:], tuple((r[0], r[-1] + 1) for r in ranges[axis:]))
    inner = math.prod(shape[axis:])
    starts = np.full((1,), first, np.uint64)
    for count, stride in zip(reversed(counts), reversed(strides), strict=True):
        starts = np.add.outer(np.arange(count, dtype=np.uint64) * np.uint64(stride), starts)
    for size, r in zip(reversed(shape[:axis]), reversed(ranges[:axis]), strict=True):
        places = np.arange(len(r), dtype=np.uint64) * np.uint64(r.step) + np.uint64(r.start)
        starts = np.add.outer(places * np.uint64(inner), starts)
        inner *= size
    return starts.reshape(-1), run


class PartFilled(Filler):
    """Values that another filler makes."""

    def __init__(self, whole: Filler, shape: Shape) -> None:
        self.whole = whole
        self.shape = shape
        self.region_bytes = whole.region_bytes
        self.worker_memory = whole.worker_memory
        self.has_setup = whole.has_setup

    def setup(self, threads: int, max_memory: int, report: Report) -> None:
        self.whole.setup(threads, max_memory, report)


class RegionFilled(PartFilled):
    """A region of a tensor, as a tensor of its own."""

    def __init__(self, whole: Filler, ranges: Sequence[range]) -> None:
        super().__init__(whole, tuple(map(len, ranges)))
        self.ranges = tuple(ranges)
        self.worker_memory += 8 * BATCH * NEAR  # what lies between the elements

    def __call__(self, region: Region, out: Array) -> None:
        fill_ranges(self.whole, ranges_within(self.ranges, region), out)


class StretchFilled(PartFilled):
    """A stretch of the flat tensor from element `offset` on, as a tensor of its own."""

    def __init__(self, whole: Filler, offset: int, shape: Shape) -> None:
        super().__init__(whole, shape)
        self.offset = offset

    def __call__(self, region: Region, out: Array) -> None:
        if out.size:
            starts, run = run_starts(self.shape, [range(*span) for span in region])
            self.whole.gather(starts + np.uint64(self.offset), out.reshape(-1, run))


class PaddedFilled(PartFilled):
    """Another filler's values, with a row of zeros."""

    def __init__(self, whole: Filler, row: int) -> None:
        super().__init__(whole, whole.shape)
        self.row = row

    def __call__(self, region: Region, out: Array) -> None:
        self.whole(region, out)
        top, bottom = region[0]
        if top <= self.row < bottom:
            out[self.row - top] = 0

    def gather(self, starts: Array, out: Array) -> None:
        self.whole.gather(starts, out)
        size, run = math.prod(self.shape[1:]), out.shape[1]
        first = self.row * size
        (touched,) = np.nonzero((starts < first + size) & (starts + np.uint64(run) > first))
        for i in touched:
            start = int(starts[i])
            out[i, max(0, first - start) : max(0, first + size - start)] = 0
