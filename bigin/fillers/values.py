"""Given values."""

from __future__ import annotations

from bigin.core.regions import Region
from bigin.fillers.filler import Array, Filler


class ValuesFiller(Filler):
    """Values in memory."""

    on_device = "bigin.fillers.cuda.fillers:HostedOnDevice"

    def __init__(self, values: Array) -> None:
        self.values = values
        self.shape = values.shape

    def __call__(self, region: Region, out: Array) -> None:
        out[...] = self.values[tuple(slice(*axis) for axis in region)]
