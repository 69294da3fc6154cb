"""Values that are read from what another checkpoint holds."""

from __future__ import annotations

from typing import Any

import numpy as np

from bigin.core.errors import FillError
from bigin.core.regions import Region, extent
from bigin.core.source import Source
from bigin.fillers.computed import rounded
from bigin.fillers.filler import Array, Filler

BLOCK = 512 << 10  # bytes that a target makes at once, if it may choose


class CopyFiller(Filler):
    """A tensor that is there, read region by region: bit for bit, or rounded to another dtype of floats."""

    on_device = "bigin.fillers.cuda.fillers:HostedOnDevice"

    def __init__(self, source: Source, dtype: np.dtype[Any]) -> None:
        self.source = source
        self.shape = source.shape
        self.same = dtype == source.dtype
        self.reader = source.reader()
        self.region_bytes = self.reader.region_bytes
        block = max(BLOCK, self.region_bytes)
        self.worker_memory = self.reader.worker_memory + (0 if self.same else block // dtype.itemsize * 16)

    def __call__(self, region: Region, out: Array) -> None:
        if out.size == 0:
            return
        if self.same:
            self._read(region, out)
            return
        stored = np.empty(extent(region), self.source.dtype)
        self._read(region, stored)
        out[...] = rounded(stored, out.dtype)

    def _read(self, region: Region, out: Array) -> None:
        try:
            self.reader.read(region, out)
        except (OSError, ValueError) as error:
            source = self.source
            raise FillError(f"{source.file}: expected the values of {source.tensor}, got {error}") from None
