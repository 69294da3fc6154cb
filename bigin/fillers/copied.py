"""Values that are read from a file, as another checkpoint holds them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from bigin.core.disk import read_all
from bigin.core.errors import FillError
from bigin.core.regions import Region, extent, segments
from bigin.core.source import Source
from bigin.fillers.computed import rounded
from bigin.fillers.filler import Array, Filler

BLOCK = 512 << 10  # bytes that a target makes at once, if it may choose


class CopyFiller(Filler):
    """A tensor of a file, read region by region: bit for bit, or rounded to another dtype of floats."""

    on_device = "bigin.fillers.cuda.fillers:HostedOnDevice"

    def __init__(self, source: Source, dtype: np.dtype[Any]) -> None:
        self.source = source
        self.shape = source.shape
        self.same = dtype == source.dtype
        self.worker_memory = 0 if self.same else BLOCK // dtype.itemsize * 16

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
        source, size = self.source, out.itemsize
        data = memoryview(out.reshape(-1).view(np.uint8).data)  # type: ignore[arg-type]
        at = 0
        try:
            fd = os.open(source.file, os.O_RDONLY | os.O_CLOEXEC)
            try:
                for start, count in segments(self.shape, region):
                    read_all(fd, data[at : at + count * size], source.offset + start * size)
                    at += count * size
            finally:
                os.close(fd)
        except (OSError, ValueError) as error:
            raise FillError(f"{source.file}: expected the values of {source.tensor}, got {error}") from None
