"""Copies that are cut, transposed, repeated, stacked, multiplied, or drawn anew in part."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from bigin.core.regions import Region, Shape, extent
from bigin.fillers.computed import rounded
from bigin.fillers.filler import Array, Filler, SetupProgress
from bigin.fillers.parts import PartFiller

TILE = 4 << 20  # bytes of a region of a transposed tensor: a row of its source is read in long runs
NEAR = 4  # times as many elements as are wanted may be read along the last axis


class ViewFiller(PartFiller):
    """Indices along the axes of another filler's tensor, in another order of the axes.

    axes: for each axis of this tensor that of the other one, or None for one that the other lacks: all along it are
    equal. indices: for each axis that the other has, which of its indices.
    """

    on_device = "bigin.fillers.cuda.fillers:HostedOnDevice"

    def __init__(
        self, whole: Filler, dtype: np.dtype[Any], shape: Shape, axes: Sequence[int | None], indices: Sequence[Array]
    ) -> None:
        super().__init__(whole, shape)
        self.axes, self.indices = tuple(axes), tuple(indices)
        self.kept = [axis for axis in self.axes if axis is not None]
        moved = self.kept != sorted(self.kept)
        self.region_bytes = max(whole.region_bytes, TILE if moved else 0)
        self.worker_memory = whole.worker_memory + 2 * max(self.region_bytes, TILE // 4) * NEAR

    def __call__(self, region: Region, out: Array) -> None:
        if out.size == 0:
            return
        new = [number for number, axis in enumerate(self.axes) if axis is None]
        once = out[tuple(slice(0, 1) if number in new else slice(None) for number in range(out.ndim))]
        picked: list[Array] = [np.empty(0)] * len(self.kept)
        for (start, stop), axis, indices in zip(region, self.axes, self.indices, strict=True):
            if axis is not None:
                picked[axis] = indices[start:stop]
        made = np.empty(tuple(map(len, picked)), out.dtype)
        pick(self.whole, picked, made)
        once[...] = made.transpose(self.kept).reshape(once.shape)
        for number in new:
            along = (slice(None),) * number
            out[(*along, slice(1, None))] = out[(*along, slice(0, 1))]


def pick(whole: Filler, indices: Sequence[Array], out: Array) -> None:
    """Fill a contiguous array with the elements at the product of indices along each axis."""
    for axis, along in enumerate(indices):
        edges = np.flatnonzero(np.diff(along) != 1) + 1
        if edges.size == 0:
            continue
        first, last = int(along.min()), int(along.max()) + 1
        if axis == len(indices) - 1 and last - first <= NEAR * len(along) and edges.size > 1:
            box = np.empty((*out.shape[:-1], last - first), out.dtype)
            pick(whole, [*indices[:-1], np.arange(first, last)], box)
            out[...] = box[..., along - first]
            return
        for start, stop in zip((0, *edges.tolist()), (*edges.tolist(), len(along)), strict=True):
            part = np.empty((*out.shape[:axis], stop - start, *out.shape[axis + 1 :]), out.dtype)
            pick(whole, [*indices[:axis], along[start:stop], *indices[axis + 1 :]], part)
            out[(*(slice(None),) * axis, slice(start, stop))] = part
        return
    whole(tuple((int(along[0]), int(along[-1]) + 1) for along in indices), out)


class Choice:
    """Which elements are drawn anew: those whose uniform value is below a fraction."""

    def __init__(self, uniform: Filler, fraction: float) -> None:
        self.uniform, self.fraction = uniform, fraction

    def mask(self, region: Region, shape: Shape) -> Array:
        """Whether each element of a region is drawn anew."""
        values = np.empty(extent(region), np.float64)
        self.uniform(region, values)
        return values < self.fraction


class AxisChoice(Choice):
    """Which indices along an axis are drawn anew: a fraction of them, those with the smallest uniform values.

    `uniform` is of (copies, indices), as each copy in a stack has a choice of its own. Where several tensors are joined
    along the axis, the choice is the same for each of them.
    """

    def __init__(self, uniform: Filler, fraction: float, axis: int, *, stacked: bool) -> None:
        super().__init__(uniform, fraction)
        self.axis, self.stacked = axis, stacked

    @cached_property
    def chosen(self) -> Array:
        """For each copy, whether an index is drawn anew."""
        copies, size = self.uniform.shape
        values = np.empty((copies, size), np.float64)
        self.uniform(((0, copies), (0, size)), values)
        chosen = np.zeros((copies, size), bool)
        order = np.argsort(values, axis=1, kind="stable")[:, : round(self.fraction * size)]
        np.put_along_axis(chosen, order, np.ones((), bool), axis=1)
        return chosen

    def mask(self, region: Region, shape: Shape) -> Array:
        axis = self.axis + self.stacked
        copies = np.arange(*region[0]) if self.stacked else np.zeros(1, np.intp)
        along = np.arange(*region[axis]) % self.uniform.shape[1]
        sizes = [1] * len(region)
        sizes[axis] = along.size
        if self.stacked:
            sizes[0] = copies.size
        return np.broadcast_to(self.chosen[np.ix_(copies, along)].reshape(sizes), extent(region))


class AlteredFiller(PartFiller):
    """Another filler's values, multiplied, with noise, and some of them drawn anew.

    The products and sums are in float32, or in float64 where the values or the copy are, and rounded to the dtype once.
    """

    on_device = "bigin.fillers.cuda.fillers:HostedOnDevice"

    def __init__(
        self,
        whole: Filler,
        held: np.dtype[Any],
        work: np.dtype[Any],
        multiply: float,
        noise: Filler | None,
        anew: tuple[Filler, Choice] | None,
    ) -> None:
        super().__init__(whole, whole.shape)
        self.held, self.work, self.multiply, self.noise, self.anew = held, work, multiply, noise, anew
        more = [filler for filler in (noise, anew[0] if anew else None) if filler is not None]
        self.worker_memory += sum(filler.worker_memory for filler in more) + 4 * max(self.region_bytes, TILE // 4)
        self.has_setup = any(filler.has_setup for filler in more)

    def setup(self, threads: int, max_memory: int, report: SetupProgress) -> None:
        for filler in (self.noise, self.anew[0] if self.anew else None):
            if filler is not None and filler.has_setup:
                filler.setup(threads, max_memory, report)

    def __call__(self, region: Region, out: Array) -> None:
        if out.size == 0:
            return
        if self.multiply == 1 and self.noise is None and self.held == out.dtype:
            self.whole(region, out)
        else:
            stored = np.empty(out.shape, self.held)
            self.whole(region, stored)
            values = stored.astype(self.work)
            values *= self.work.type(self.multiply)
            if self.noise is not None:
                noise = np.empty(out.shape, self.work)
                self.noise(region, noise)
                values += noise
            out[...] = rounded(values, out.dtype)
        if self.anew is not None:
            filler, choice = self.anew
            mask = choice.mask(region, self.shape)
            if mask.any():
                drawn = np.empty(out.shape, out.dtype)
                filler(region, drawn)
                np.copyto(out, drawn, where=mask)
