"""Some rows of a table with their initial values, beside others that stay as they are."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from bigin.core.regions import Region, stretches
from bigin.fillers.filler import Array, Filler
from bigin.fillers.parts import PartFiller

Read = Callable[[Region], Array]


class KeptFiller(PartFiller):
    """The first rows as they are read, and another filler's values from row `kept` on."""

    def __init__(self, whole: Filler, kept: int, read: Read, read_memory: int) -> None:
        super().__init__(whole, whole.shape)
        self.worker_memory += read_memory
        self.kept = kept
        self.read = read

    def __call__(self, region: Region, out: Array) -> None:
        (top, bottom), *columns = region
        edge = min(max(top, self.kept), bottom)
        if top < edge:
            out[: edge - top] = self.read(((top, edge), *columns))
        if edge < bottom:
            self.whole(((edge, bottom), *columns), out[edge - top :])


class ResetFiller(PartFiller):
    """Another filler's values in the rows `ids` (sorted), and all other rows as they are read."""

    def __init__(self, whole: Filler, ids: Array, read: Read, read_memory: int) -> None:
        super().__init__(whole, whole.shape)
        self.worker_memory += read_memory
        self.ids = ids
        self.read = read

    def __call__(self, region: Region, out: Array) -> None:
        (top, bottom), *columns = region
        out[...] = self.read(region)
        first, last = np.searchsorted(self.ids, (top, bottom))
        for start, stop in stretches(self.ids[first:last]):
            self.rows(((start, stop), *columns), out[start - top : stop - top])

    def rows(self, region: Region, out: Array) -> None:
        """The values of rows that are all among `ids`."""
        self.whole(region, out)


class UpdateFiller(ResetFiller):
    """Given values in the rows `ids` (sorted), and all other rows as they are read."""

    def __init__(self, whole: Filler, ids: Array, values: Array, read: Read, read_memory: int) -> None:
        super().__init__(whole, ids, read, read_memory)
        self.values = values

    def rows(self, region: Region, out: Array) -> None:
        (start, stop), columns = region
        first = int(np.searchsorted(self.ids, start))
        out[...] = self.values[first : first + stop - start, slice(*columns)]


def initial_rows(filler: Filler, ids: Array, dtype: np.dtype[np.generic]) -> Array:
    """The initial values of rows, in the order asked: ids of shape (n,) to values of shape (n, elements of a row)."""
    size = math.prod(filler.shape[1:])
    out = np.empty((ids.size, size), dtype)
    filler.gather(ids.astype(np.uint64) * np.uint64(size), out)
    return out
