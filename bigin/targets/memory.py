"""numpy arrays, strided and memory-mapped ones too."""

from __future__ import annotations

from typing import Any

import numpy as np

from bigin import dtypes
from bigin.errors import InputError
from bigin.regions import Grid, Region, block_of_rows, extent, slices
from bigin.targets.base import Array, Parts, Scratch, Target

BLOCK = 4 << 20  # bytes in a region: large enough that Python's share of the time is small


class MemoryTarget(Target):
    """An array in memory, filled in place."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.label = f"array of shape {array.shape}"
        self.shape = array.shape
        self.dtype = dtypes.parse_dtype(array.dtype)
        self.array = array
        if not array.flags.writeable:
            raise InputError("expected an array that can be written, got a read-only one; pass a copy")
        self.direct = array.flags.c_contiguous and array.dtype == self.dtype and array.flags.aligned

    def grid(self, size: int = 0) -> Grid:
        """Blocks of rows."""
        return Grid(self.shape, block_of_rows(self.shape, max(size, BLOCK) // self.dtype.itemsize))

    def block_memory(self, size: int = 0) -> int:
        """Nothing where values are made in place."""
        return 0 if self.direct else max(size, BLOCK)

    def block(self, region: Region, scratch: Scratch) -> Parts:
        """The region itself, or scratch to copy from where its elements do not lie one behind the other."""
        view = self.array[slices(region)]
        if self.direct:
            yield region, view
            return
        made = scratch.array(extent(region), self.dtype)
        yield region, made
        view[...] = made

    def read(self, region: Region) -> Array:
        """A copy of a region."""
        return np.array(self.array[slices(region)], dtype=self.dtype)
