"""Tensors whose matrix does not have its rows along the first axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bigin.core.regions import Grid, Region, Shape, block_of_rows, extent, segments, within
from bigin.fillers.filler import Array, Filler
from bigin.fillers.parts import PartFiller

BATCH = 1 << 20  # elements that are filled in the matrix's order at once


class MovedAxesFiller(PartFiller):
    """Values of a tensor of shape (rows, ...), with the rows spread over some axes and the others in any order.

    `rows` and `others` are the axes of this tensor that are, in C order, the first axis of the whole and the rest.
    """

    on_device = "bigin.fillers.cuda.fillers:MovedAxesOnDevice"

    def __init__(self, whole: Filler, shape: Shape, rows: Sequence[int], others: Sequence[int]) -> None:
        super().__init__(whole, shape)
        self.rows, self.others = tuple(rows), tuple(others)
        self.worker_memory += 16 * BATCH

    def __call__(self, region: Region, out: Array) -> None:
        sizes = extent(region)
        for block in Grid(sizes, block_of_rows(sizes, BATCH)):
            self._fill(within(region, block), out[tuple(slice(*axis) for axis in block)])

    def _fill(self, region: Region, out: Array) -> None:
        row_region = tuple(region[axis] for axis in self.rows)
        others = tuple(region[axis] for axis in self.others)
        values = np.empty((math.prod(extent(row_region)), *extent(others)), out.dtype)
        filled = 0
        for first, count in segments(tuple(self.shape[axis] for axis in self.rows), row_region):
            self.whole(((first, first + count), *others), values[filled : filled + count])
            filled += count
        order = (*self.rows, *self.others)
        out[...] = values.reshape(extent((*row_region, *others))).transpose(np.argsort(order))
