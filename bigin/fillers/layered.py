"""Tensors that are written in layers: each on some indices along every axis, the last on top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bigin.core.regions import Grid, Region, Shape, block_of_rows, extent
from bigin.core.views import Positions
from bigin.fillers.filler import Array, Filler, SetupProgress

BATCH = 1 << 17  # elements that are made at once where a layer is not contiguous in the tensor


class LayeredFiller(Filler):
    """Layers, the lowest first: the indices that one has along each axis, and the filler of what lies there."""

    on_device = "bigin.fillers.cuda.fillers:HostedOnDevice"

    def __init__(
        self, shape: Shape, dtype: np.dtype[Any], layers: Sequence[tuple[Sequence[Positions], Filler]]
    ) -> None:
        self.shape = shape
        self.layers = layers
        fillers = [filler for _, filler in layers]
        self.region_bytes = max(filler.region_bytes for filler in fillers)
        self.worker_memory = max(filler.worker_memory for filler in fillers) + BATCH * dtype.itemsize
        self.has_setup = any(filler.has_setup for filler in fillers)

    def setup(self, threads: int, max_memory: int, report: SetupProgress) -> None:
        """That of all layers, each in its share of the memory."""
        needed = [filler for _, filler in self.layers if filler.has_setup]
        for i, filler in enumerate(needed, 1):
            filler.setup(threads, max_memory // len(needed), lambda part: None)
            report(i / len(needed))

    def __call__(self, region: Region, out: Array) -> None:
        if out.size == 0:
            return
        cuts = [self._cut(positions, region) for positions, _ in self.layers]
        first = 0  # what a layer that covers the region hides is not made
        for number, cut in enumerate(cuts):
            if cut is not None and extent(cut) == out.shape:
                first = number
        for cut, (positions, filler) in list(zip(cuts, self.layers, strict=True))[first:]:
            if cut is not None:
                self._fill(filler, cut, [p[a:b] for p, (a, b) in zip(positions, cut, strict=True)], region, out)

    def _cut(self, positions: Sequence[Positions], region: Region) -> Region | None:
        """Which of a layer's indices lie in a region; None where it has nothing there."""
        cut = tuple(within(axis, start, stop) for axis, (start, stop) in zip(positions, region, strict=True))
        return cut if all(first < stop for first, stop in cut) else None

    def _fill(self, filler: Filler, cut: Region, indices: Sequence[Positions], region: Region, out: Array) -> None:
        """Fill what a layer has in the region."""
        sizes = extent(cut)
        if sizes == out.shape:
            filler(cut, out)
            return
        for block in Grid(sizes, block_of_rows(sizes, BATCH)):
            made = np.empty(extent(block), out.dtype)
            filler(tuple((a + first, b + first) for (first, _), (a, b) in zip(cut, block, strict=True)), made)
            index = [
                selection(axis[a:b], start) for axis, (a, b), (start, _) in zip(indices, block, region, strict=True)
            ]
            if all(isinstance(part, slice) for part in index):
                out[tuple(index)] = made
            else:
                lists = (np.arange(size)[part] for part, size in zip(index, out.shape, strict=True))
                out[np.ix_(*lists)] = made


def within(positions: Positions, start: int, stop: int) -> tuple[int, int]:
    """The first of the rising indices that is not below start, and the first that is not below stop."""
    if isinstance(positions, range):
        first, step, count = positions.start, positions.step, len(positions)
        low, high = (max(0, min(count, -((first - bound) // step))) for bound in (start, stop))
        return low, high
    low, high = np.searchsorted(positions, np.array([start, stop], positions.dtype)).tolist()
    return low, high


def selection(positions: Positions, start: int) -> Any:
    """Indices along an axis, counted from the start of a region, as numpy takes them."""
    if isinstance(positions, range):
        return slice(positions.start - start, positions[-1] - start + 1, positions.step)
    return positions.astype(np.int64) - start
