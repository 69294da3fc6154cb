"""Parts of a tensor as tensors of their own: regions, flat slices, any lattice of elements; and a row of zeros."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bigin.core.regions import Region, Shape, dense, ranges_within
from bigin.fillers.filler import Array, Filler, SetupProgress

Axis = range | Array  # what the indices along an axis add to the flat index: a rising range, or uint64 numbers
BATCH = 1 << 18  # runs that are listed at once, or elements that are filled to keep some of them


def fill_lattice(filler: Filler, base: int, axes: Sequence[Axis], out: Array) -> None:
    """Fill a contiguous array with the elements base + a + b + ..., one number of each axis, in C order."""
    if out.size == 0:
        return
    outer, run = joined(axes)
    last = axes[outer - 1] if outer else None
    near = run == 1 and isinstance(last, range) and last.step <= filler.near
    between = last.step if near and isinstance(last, range) else 1
    if outer and out.size // run * between > BATCH:
        axis = next(k for k, numbers in enumerate(axes) if len(numbers) > 1)
        half = len(axes[axis]) // 2
        for part in (slice(0, half), slice(half, None)):
            inside = (*(slice(None),) * axis, part)
            fill_lattice(filler, base, [*axes[:axis], axes[axis][part], *axes[axis + 1 :]], out[inside])
        return
    starts = run_starts(base + sum(int(numbers[0]) for numbers in axes[outer:]), axes[: outer - near])
    if not near:
        filler.gather(starts, out.reshape(-1, run))
        return
    assert isinstance(last, range)
    box = np.empty((len(starts), last[-1] - last[0] + 1), out.dtype)
    filler.gather(starts + np.uint64(last[0]), box)
    out.reshape(len(starts), -1)[...] = box[:, ::between]


def joined(axes: Sequence[Axis]) -> tuple[int, int]:
    """(the number of outer axes, the length of a run): the axes behind the outer ones join into one run."""
    outer, run = len(axes), 1
    while outer and isinstance(axis := axes[outer - 1], range) and (len(axis) == 1 or axis.step == run):
        outer -= 1
        run *= len(axis)
    return outer, run


def run_starts(base: int, axes: Sequence[Axis]) -> Array:
    """The sums of base and one number of each axis, in C order (uint64)."""
    starts = np.full(1, base, np.uint64)
    for axis in reversed(axes):
        if isinstance(axis, range):
            numbers = np.arange(len(axis), dtype=np.uint64) * np.uint64(axis.step) + np.uint64(axis.start)
        else:
            numbers = axis
        starts = np.add.outer(numbers, starts).reshape(-1)
    return starts


def flat_axes(shape: Shape, ranges: Sequence[range]) -> list[Axis]:
    """What ranges along the axes of a tensor add to the flat index."""
    axes: list[Axis] = []
    for r, stride in zip(ranges, dense(shape), strict=True):
        step = r.step * stride if len(r) > 1 and stride else 1  # a single index takes no step, however long it is
        axes.append(range(r.start * stride, r.start * stride + len(r) * step, step))
    return axes


class PartFiller(Filler):
    """Values of another filler, in another arrangement."""

    def __init__(self, whole: Filler, shape: Shape) -> None:
        self.whole = whole
        self.shape = shape
        self.region_bytes = whole.region_bytes
        self.worker_memory = whole.worker_memory
        self.has_setup, self.needs_setup, self.least = whole.has_setup, whole.needs_setup, whole.least
        self.near = whole.near
        self.cost = whole.cost

    def setup(self, threads: int, max_memory: int, report: SetupProgress) -> None:
        self.whole.setup(threads, max_memory, report)


class LatticeFiller(PartFiller):
    """The elements at base + one number of each axis, as a tensor of their own."""

    def __init__(self, whole: Filler, base: int, axes: Sequence[Axis]) -> None:
        super().__init__(whole, tuple(map(len, axes)))
        self.base = base
        self.axes = tuple(axes)
        if joined(axes)[0]:
            self.worker_memory += 3 * 8 * BATCH

    def __call__(self, region: Region, out: Array) -> None:
        parts = [axis[start:stop] for axis, (start, stop) in zip(self.axes, region, strict=True)]
        fill_lattice(self.whole, self.base, parts, out)


class RegionFiller(LatticeFiller):
    """The product of ranges along a tensor's axes, as a tensor of its own."""

    on_device = "bigin.fillers.cuda.fillers:RegionOnDevice"

    def __init__(self, whole: Filler, ranges: Sequence[range]) -> None:
        super().__init__(whole, 0, flat_axes(whole.shape, ranges))
        self.ranges = tuple(ranges)

    def __call__(self, region: Region, out: Array) -> None:
        ranges = ranges_within(self.ranges, region)
        if all(r.step == 1 or len(r) == 1 for r in ranges):
            if out.size:
                self.whole(tuple((r[0], r[-1] + 1) for r in ranges), out)
        else:
            super().__call__(region, out)


class FlatSliceFiller(LatticeFiller):
    """The flat slice of a tensor that begins at flat index `offset`, as a tensor of its own."""

    on_device = "bigin.fillers.cuda.fillers:FlatSliceOnDevice"

    def __init__(self, whole: Filler, offset: int, shape: Shape) -> None:
        super().__init__(whole, offset, flat_axes(shape, [range(size) for size in shape]))
        self.offset = offset


class PaddedFiller(PartFiller):
    """Another filler's values, with a row of zeros."""

    on_device = "bigin.fillers.cuda.fillers:PaddedOnDevice"

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
