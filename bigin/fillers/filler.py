"""What makes the values of any region of a tensor."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from bigin.core import dtypes
from bigin.core.regions import Region, Shape, extent, flat_slice, runs
from bigin.kernels.native import Kernel, Tail, kernel
from bigin.kernels.sizes import SHORT, STARTS, STREAMS
from bigin.methods.scalars import Scalars, drawn_as
from bigin.rng.streams import stream_id

Array = np.ndarray[Any, np.dtype[Any]]
SetupProgress = Callable[[float], None]  # takes the part of the setup that is done, from 0 to 1


class Stream(NamedTuple):
    """A stream of the generator: the seed, the tensor's name, and the purpose, empty for the values themselves."""

    seed: int
    name: str = ""
    purpose: str = ""

    def of(self, purpose: str) -> Stream:
        """The stream of the same draw for a purpose of its method."""
        return self._replace(purpose=f"{self.purpose}/{purpose}" if self.purpose else purpose)

    @property
    def number(self) -> int:
        """The stream id."""
        return stream_id(self.name, self.purpose)

    def words(self) -> tuple[np.uint64, np.uint64]:
        """The stream id and the key, as kernels take them."""
        return np.uint64(self.number), np.uint64(self.seed)


@dataclass(frozen=True)
class Cost:
    """Estimated cost of a tensor's values on the CPU.

    rate: bytes per second that one core makes. products: float32 operations in matrix products, for the whole tensor.
    """

    rate: float = math.inf
    products: float = 0.0


@dataclass(frozen=True)
class Least:
    """Memory that a setup cannot do without: bytes, and what they hold."""

    nbytes: int = 0
    what: str = ""


class Filler(ABC):
    """Fills regions of one tensor, from several threads, in any order.

    region_bytes: the smallest region worth filling at once, where the target is free to choose. worker_memory:
    bytes of scratch memory per worker. least: memory that the setup cannot do without. needs_setup: whether nothing
    can be filled before the setup. near: up to this step between elements it is cheaper to fill what lies between
    them than to fill each alone. on_device: the class, as "module:name", that makes the same values on a CUDA
    device; it is imported where one is used. alike: one object for fillers of one shape and dtype that one call
    of `fill_alike` can fill; None for a filler that is like no other.
    """

    shape: Shape
    region_bytes: int = 0
    worker_memory: int = 0
    least: Least = Least()
    has_setup: bool = False
    needs_setup: bool = False
    near: int = 5
    cost: Cost = Cost()
    on_device: str | None = None
    alike: object = None

    def setup(self, threads: int, max_memory: int, report: SetupProgress) -> None:  # noqa: B027 (most have none)
        """Do what is needed once, before the first region."""

    def buffer(self, size: int) -> Array:
        """Return so many bytes for a worker's buffer."""
        return np.empty(size, np.uint8)

    @abstractmethod
    def __call__(self, region: Region, out: Array) -> None:
        """Fill a contiguous array of the tensor's dtype, which has the region's shape."""

    def fill_flat(self, start: int, out: Array) -> None:
        """Fill a contiguous 1-d array with the flat slice of the tensor that begins at a flat index."""
        filled = 0
        for region in flat_slice(self.shape, start, start + out.size):
            sizes = extent(region)
            count = math.prod(sizes)
            self(region, out[filled : filled + count].reshape(sizes))
            filled += count

    def fill_alike(self, fillers: Sequence[Filler], out: Array) -> None:
        """Fill a contiguous 1-d array with the whole tensors of several fillers like this one, one after the other."""
        for filler, values in zip(fillers, out.reshape(len(fillers), -1), strict=True):
            filler.fill_flat(0, values)

    def gather(self, starts: Array, out: Array) -> None:
        """Fill each row of a contiguous array with a flat slice; `starts` (uint64) are their first flat indices."""
        if len(self.shape) != 2:
            for start, row in zip(starts.tolist(), out, strict=True):
                self.fill_flat(start, row)
            return
        for first, stop in stacks(starts, out.shape[1], self.shape[1]):
            start = int(starts[first])
            if stop == first + 1:
                self.fill_flat(start, out[first])
                continue
            top, left = divmod(start, self.shape[1])
            self(((top, top + stop - first), (left, left + out.shape[1])), out[first:stop])


def stacks(starts: Array, run: int, columns: int) -> Iterator[tuple[int, int]]:
    """Cut a list of runs in a matrix where one does not lie right below the one before it: (first, stop)."""
    fit = starts % np.uint64(columns) + np.uint64(run) <= columns
    below = (starts[1:] - starts[:-1] == columns) & fit[1:] & fit[:-1]
    edges = np.flatnonzero(~below) + 1
    return pairwise([0, *edges.tolist(), len(starts)])


class ConstantFiller(Filler):
    """One value everywhere."""

    on_device = "bigin.fillers.cuda.fillers:ConstantOnDevice"

    def __init__(self, shape: Shape, value: Array) -> None:
        self.shape = shape
        self.value = value
        self.alike = self

    def __call__(self, region: Region, out: Array) -> None:
        out.fill(self.value[()])

    def fill_alike(self, fillers: Sequence[Filler], out: Array) -> None:
        out.fill(self.value[()])

    def gather(self, starts: Array, out: Array) -> None:
        out.fill(self.value[()])


class DrawnFiller(Filler):
    """Independent draws from a stream.

    tail: stream, key, numbers and anchor, as kernels of CUDA take them.
    """

    on_device = "bigin.fillers.cuda.fillers:DrawnOnDevice"

    def __init__(self, shape: Shape, dtype: np.dtype[Any], scalars: Scalars, stream: Stream) -> None:
        self.shape = shape
        self.storage = dtypes.storage(dtype)
        self.kind = scalars.kind
        self.dtype = dtype
        self.numbers = tuple(map(drawn_as(dtype), scalars.values)), np.uint64(scalars.anchor)
        self.stream = stream
        self.alike = object()
        self.shared = Tail(*self.tail)
        self.kernel = self._kernel("long")
        self.kernel.load(self.shared.count)  # here and now, so that no worker waits for it and no clock counts it

    def with_stream(self, stream: Stream) -> DrawnFiller:
        """The filler of a tensor that differs in its stream alone."""
        other = object.__new__(DrawnFiller)
        other.__dict__.update(self.__dict__)
        other.__dict__.pop("shared", None)
        other.stream = stream
        if stream.seed != self.stream.seed:
            other.alike = object()
        return other

    @property
    def tail(self) -> tuple[np.uint64, np.uint64, tuple[Any, ...], np.uint64]:
        return (*self.stream.words(), *self.numbers)

    @cached_property
    def shared(self) -> Tail:
        """What all calls of the kernel share: made late where other tensors are filled with the first one's."""
        return Tail(*self.tail)

    def __call__(self, region: Region, out: Array) -> None:
        if out.size == 0:
            return
        if out.shape == self.shape:
            self.fill_flat(0, out.reshape(-1))
            return
        start, counts, strides, run = runs(self.shape, region)
        kernel = self._short_kernel if counts and run < SHORT else self.kernel
        kernel.fill(out.reshape(-1).view(self.storage), start, counts, strides, run, self.shared)

    def fill_flat(self, start: int, out: Array) -> None:
        if out.size:
            self.kernel.fill(out.view(self.storage), start, (), (), out.size, self.shared)

    def fill_alike(self, fillers: Sequence[Filler], out: Array) -> None:
        streams = np.array([filler.stream.number for filler in fillers], np.uint64)  # type: ignore[attr-defined]
        self.kernel.fill_runs(out.view(self.storage), streams, out.size // len(fillers), STREAMS, self.shared)

    def gather(self, starts: Array, out: Array) -> None:
        if len(starts) == 1:  # no other kernel is loaded for what is one run
            self.fill_flat(int(starts[0]), out[0])
        elif out.size:
            run = out.shape[1]
            kernel = self._gather_kernel if run < SHORT else self.kernel
            kernel.fill_runs(out.reshape(-1).view(self.storage), starts, run, STARTS, self.shared)

    def _kernel(self, kind: str) -> Kernel:
        return kernel(kind, self.kind, dtypes.name_of(self.dtype))

    @cached_property
    def _short_kernel(self) -> Kernel:
        return self._kernel("short")

    @cached_property
    def _gather_kernel(self) -> Kernel:
        return self._kernel("gather")
