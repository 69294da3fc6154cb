"""Fused tensors: each part's values where the part lies."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from bigin.core.regions import Grid, Region, Shape, block_of_rows, extent, within
from bigin.fillers.filler import Array, Filler, SetupProgress

BATCH = 1 << 17  # elements that are made at once where a part is not contiguous in the fused tensor


class FusedFiller(Filler):
    """Parts of so many `sizes` along an axis. With `stack` each is one index of the axis, and its tensor lacks it."""

    def __init__(
        self,
        shape: Shape,
        dtype: np.dtype[Any],
        axis: int,
        sizes: Sequence[int],
        fillers: Sequence[Filler],
        *,
        stack: bool,
    ) -> None:
        self.shape = shape
        self.axis = axis
        self.stack = stack
        self.fillers = fillers
        self.stops = list(accumulate(sizes))
        self.region_bytes = max(filler.region_bytes for filler in fillers)
        self.worker_memory = max(filler.worker_memory for filler in fillers) + BATCH * dtype.itemsize
        self.has_setup = any(filler.has_setup for filler in fillers)

    def setup(self, threads: int, max_memory: int, report: SetupProgress) -> None:
        """That of all parts, each in its share of the memory."""
        needed = [filler for filler in self.fillers if filler.has_setup]
        for i, filler in enumerate(needed, 1):
            filler.setup(threads, max_memory // len(needed), lambda part: None)
            report(i / len(needed))

    def __call__(self, region: Region, out: Array) -> None:
        first, last = region[self.axis]
        number = bisect_right(self.stops, first)
        while first < last:
            stop = min(self.stops[number], last)
            inside = (slice(None),) * self.axis + (slice(first - region[self.axis][0], stop - region[self.axis][0]),)
            covered = (*region[: self.axis], (first, stop), *region[self.axis + 1 :])
            self._fill(number, covered, out[inside])
            first, number = stop, number + 1

    def _fill(self, number: int, covered: Region, out: Array) -> None:
        """What one part has in a region, which lies in it whole."""
        if out.flags.c_contiguous:
            self._make(number, covered, out)
            return
        sizes = extent(covered)
        for block in Grid(sizes, block_of_rows(sizes, BATCH)):
            made = np.empty(extent(block), out.dtype)
            self._make(number, within(covered, block), made)
            out[tuple(slice(*axis) for axis in block)] = made

    def _make(self, number: int, covered: Region, out: Array) -> None:
        axis, start = self.axis, self.stops[number - 1] if number else 0
        if self.stack:
            inside: Region = (*covered[:axis], *covered[axis + 1 :])
        else:
            first, last = covered[axis]
            inside = (*covered[:axis], (first - start, last - start), *covered[axis + 1 :])
        self.fillers[number](inside, out.reshape(extent(inside)))
