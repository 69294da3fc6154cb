"""What makes the values of any region of a tensor."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.regions import Region, Shape, extent, runs, stretch

Array = np.ndarray[Any, np.dtype[Any]]
Report = Callable[[float], None]  # which part of the setup is done
NONE = np.empty(0, np.uint64)  # the outer axes of what is one run


class Filler(ABC):
    """Fills regions of one tensor, from several threads, in any order."""

    shape: Shape
    region_bytes: int = 0  # how large a region should be at least, where the target is free to choose
    worker_memory: int = 0  # bytes that a worker takes for itself
    has_setup: bool = False
    needs_setup: bool = False  # whether nothing can be made before it
    near: int = 5  # up to this step it is cheaper to make what lies between the elements than to make each alone

    def setup(self, threads: int, max_memory: int, report: Report) -> None:  # noqa: B027 (most have none)
        """What is done once, before the first region."""

    def buffer(self, size: int) -> Array:
        """Bytes for a worker's buffer, where the filler would have them."""
        return np.empty(size, np.uint8)

    @abstractmethod
    def __call__(self, region: Region, out: Array) -> None:
        """Fills a contiguous array of the tensor's dtype, which has the region's shape."""

    def fill_stretch(self, start: int, out: Array) -> None:
        """Fills a contiguous 1-d array with the stretch of the flat tensor that begins at an element."""
        place = 0
        for region in stretch(self.shape, start, start + out.size):
            sizes = extent(region)
            count = math.prod(sizes)
            self(region, out[place : place + count].reshape(sizes))
            place += count

    def gather(self, starts: Array, out: Array) -> None:
        """Fills each row of a contiguous array with a stretch of the flat tensor; `starts` (uint64) says where."""
        if len(self.shape) != 2:
            for start, row in zip(starts.tolist(), out, strict=True):
                self.fill_stretch(start, row)
            return
        for first, stop in stacks(starts, out.shape[1], self.shape[1]):
            start = int(starts[first])
            if stop == first + 1:
                self.fill_stretch(start, out[first])
                continue
            top, left = divmod(start, self.shape[1])
            self(((top, top + stop - first), (left, left + out.shape[1])), out[first:stop])


def stacks(starts: Array, run: int, columns: int) -> Iterator[tuple[int, int]]:
    """Cuts a list of runs in a matrix where one does not lie right below the one before it: (first, stop)."""
    fit = starts % np.uint64(columns) + np.uint64(run) <= columns
    below = (starts[1:] - starts[:-1] == columns) & fit[1:] & fit[:-1]
    edges = np.flatnonzero(~below) + 1
    return pairwise([0, *edges.tolist(), len(starts)])


class Filled(Filler):
    """One value everywhere."""

    def __init__(self, shape: Shape, value: Array) -> None:
        self.shape = shape
        self.value = value

    def __call__(self, region: Region, out: Array) -> None:
        out.fill(self.value[()])

    def gather(self, starts: Array, out: Array) -> None:
        out.fill(self.value[()])


class Drawn(Filler):
    """Draws from the counter-based stream of a name, of the type `drawn`."""

    def __init__(
        self,
        shape: Shape,
        dtype: np.dtype[Any],
        kind: str,
        drawn: type[np.floating[Any]],
        numbers: list[float],
        anchor: int,
        seed: int,
        stream: str,
        purpose: str,
    ) -> None:
        from bigin.kernels.cpu import fill_kernel  # numba takes a third of a second to import
        from bigin.rng.philox import stream_id

        self.shape = shape
        self.storage = dtypes.storage(dtype)
        self.kernel = fill_kernel(kind, dtype.name)
        self.kind = kind
        self.dtype = dtype
        self.tail = (
            np.uint64(stream_id(stream, purpose)),
            np.uint64(seed),
            tuple(drawn(number) for number in numbers),
            np.uint64(anchor),
        )
        # Compiled here and now, so that no worker waits for it and no clock counts it.
        self(tuple((0, min(size, 1)) for size in shape), np.empty(tuple(min(size, 1) for size in shape), dtype))

    def __call__(self, region: Region, out: Array) -> None:
        if out.size == 0:
            return
        start, counts, strides, run = runs(self.shape, region)
        self.kernel(
            out.reshape(-1).view(self.storage),
            np.uint64(start),
            np.array(counts, np.uint64),
            np.array(strides, np.uint64),
            np.uint64(run),
            *self.tail,
        )

    def fill_stretch(self, start: int, out: Array) -> None:
        if out.size:
            self.kernel(out.view(self.storage), np.uint64(start), NONE, NONE, np.uint64(out.size), *self.tail)

    def gather(self, starts: Array, out: Array) -> None:
        if len(starts) == 1:  # no other kernel is loaded for what is one run
            self.fill_stretch(int(starts[0]), out[0])
        elif out.size:
            self._gather_kernel(out.reshape(-1).view(self.storage), starts, np.uint64(out.shape[1]), *self.tail)

    @cached_property
    def _gather_kernel(self) -> Callable[..., None]:
        from bigin.kernels.cpu import gather_kernel

        return gather_kernel(self.kind, self.dtype.name)
