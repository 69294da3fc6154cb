"""Arrays without storage, whose values are made when they are read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.html import card
from bigin.core.indexing import Picked, pick
from bigin.core.limits import Limits
from bigin.core.regions import Grid, block_of_rows, slices
from bigin.core.text import parse_shape, parse_size, size_text
from bigin.core.threads import map_threads
from bigin.fillers.filler import Array, Filler
from bigin.fillers.parts import LatticeFiller, RegionFiller, flat_axes
from bigin.spec.spec import STREAM
from bigin.spec.tensor import TensorSpec
from bigin.targets.memory import BLOCK

BLOCKS = 16 << 20  # bytes in a block of `blocks`, where nothing else is asked for
ROWS = 1 << 20  # bytes of rows that are made together while they are iterated over
INTEGERS = (int, np.integer)
MOST = 4  # the share of a tensor from which an optional setup is worth its time


class VirtualArray(NDArrayOperatorsMixin):
    """A read-only array that needs no storage and is indexed like a numpy array; `bigin.virtual` makes one.

    Attributes:
        shape, dtype: shape and dtype of the array.
        specification: the specification of its values.

    Example:
        >>> w = bigin.virtual((10**12, 128), "normal", std=0.02)
        >>> w[[5, 7, 10**11]].shape
        (3, 128)
    """

    def __init__(self, specification: TensorSpec, limits: Limits) -> None:
        self.specification = specification
        self.shape = specification.shape
        self.dtype = specification.dtype
        self.size = 1
        for size in self.shape:
            self.size *= size
        self._limits = limits
        self._plan = specification.plan()
        self._filler: Filler | None = None
        self._lock = threading.Lock()
        self._row_size = self.size // self.shape[0] if self.shape and self.shape[0] else 0
        self._direct = 0 < self._row_size * self.dtype.itemsize <= BLOCK  # rows are made by the calling thread

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def itemsize(self) -> int:
        """The number of bytes of an element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """The number of bytes that the values would take."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of unsized object")
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:
        if self._direct and isinstance(key, INTEGERS) and not isinstance(key, bool):
            return self._row(int(key))
        picked = pick(key, self.shape)
        out = self._make(picked).reshape(picked.shape)
        if picked.turn is not None:
            out = out[picked.turn]
        return out[()] if picked.scalar else out

    def _row(self, index: int) -> Any:
        """One index along the first axis, in microseconds."""
        rows = self.shape[0]
        if not -rows <= index < rows:
            raise IndexError(f"index {index} is out of bounds for axis 0 with size {rows}")
        out = np.empty(self._row_size, self.dtype)
        with default_modes():
            self._ready(self._row_size).fill_flat(index % rows * self._row_size, out)
        return out.reshape(self.shape[1:])[()]

    def _make(self, picked: Picked) -> Array:
        """The values that an index picks, in the order of the tensor's axes."""
        out = np.empty(_made_shape(picked), self.dtype)
        if out.size:
            with default_modes():
                self._fill(_part(self._ready(out.size), picked), out)
        return out

    def fill_region(self, ranges: tuple[range, ...], out: Array) -> None:
        """Fill a contiguous array with the product of ascending ranges along the axes.

        Args:
            ranges: one for each axis.
            out: an array of the same dtype that has the region's shape.
        """
        if out.size:
            with default_modes():
                self._fill(RegionFiller(self._ready(out.size), ranges), out)

    def _fill(self, part: Filler, out: Array) -> None:
        """A part of the tensor: by several threads where it is large."""
        if out.nbytes <= BLOCK:
            part(tuple((0, size) for size in out.shape), out)
            return
        block = block_of_rows(out.shape, max(part.region_bytes, BLOCK) // out.itemsize)
        threads = self._limits.threads
        if part.worker_memory:
            threads = max(1, min(threads, self._limits.memory // part.worker_memory))
        map_threads(lambda region: part(region, out[slices(region)]), Grid(out.shape, block), threads)

    def _ready(self, size: int) -> Filler:
        """The filler, made when it is first asked for, and set up where it must be or where `size` is worth it."""
        filler = self._filler
        if filler is None or (filler.has_setup and (filler.needs_setup or size * MOST >= self.size)):
            with self._lock:
                filler = self._filler or self._plan()
                if filler.has_setup and (filler.needs_setup or size * MOST >= self.size):
                    self._set_up(filler)
                self._filler = filler
        return filler

    def _set_up(self, filler: Filler) -> None:
        limits = self._limits
        left = max(0, limits.memory - limits.threads * filler.worker_memory)
        filler.setup(limits.threads, left, lambda part: None)
        filler.has_setup = False

    def __iter__(self) -> Iterator[Any]:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        step = max(1, ROWS // max(1, self._row_size * self.itemsize))
        for first in range(0, self.shape[0], step):
            yield from self[first : first + step]

    def blocks(self, block: Any = BLOCKS) -> Iterator[tuple[tuple[slice, ...], Array]]:
        """Iterate over the whole array in blocks, in C order.

        Args:
            block: the bytes of a block of whole rows, a number or a string such as "64MiB"; or the shape of a block.

        Returns:
            An iterator over (slices, values).

        Raises:
            InputError: the block is not a size, or its shape does not suit the array.
        """
        if isinstance(block, tuple | list):
            sizes = parse_shape(block)
            if len(sizes) != self.ndim or 0 in sizes:
                raise InputError(f"expected a block with a size above 0 for each axis of {self.shape}, got {sizes}")
        else:
            sizes = block_of_rows(self.shape, parse_size(block) // self.itemsize)
        return ((place[1:], self[place]) for place in map(slices, Grid(self.shape, sizes)))

    # What zarr calls on the values of a whole chunk, before it takes their bytes.

    def ravel(self, order: Any = "C") -> Array:
        """Return the values of the whole array along one axis, in memory.

        Args:
            order: as numpy's.

        Returns:
            An array of numpy.
        """
        return np.asarray(self).ravel(order)

    def astype(self, dtype: Any, order: Any = "K", copy: bool = True) -> Array:
        """Return the values of the whole array in another dtype, in memory.

        Args:
            dtype, order, copy: as numpy's.

        Returns:
            An array of numpy.
        """
        return np.asarray(self).astype(dtype, order, copy=copy)

    def transpose(self, *axes: Any) -> Array:
        """Return the values of the whole array with the axes in another order, in memory.

        Args:
            *axes: as numpy's.

        Returns:
            An array of numpy.
        """
        return np.asarray(self).transpose(*axes)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("Unable to avoid copy while creating an array as requested.")
        values: Array = self[...]
        return values if dtype is None else values.astype(dtype, copy=False)

    # By these protocols xarray knows an array that it may keep as it is. numpy's own functions get all values in
    # memory, as they would by __array__ alone.

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return func(*_in_memory(args), **_in_memory(kwargs))

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if any(isinstance(each, VirtualArray) for each in kwargs.get("out", ())):
            raise TypeError("expected an array that can be written, got a virtual one; write numpy.asarray(w)")
        return getattr(ufunc, method)(*_in_memory(inputs), **_in_memory(kwargs))

    __hash__ = object.__hash__  # the operators of numpy compare element by element

    def __repr__(self) -> str:
        spec = self.specification
        from bigin.methods import table

        defaults = table.find(spec.method).defaults
        given = {key: value for key, value in spec.parameters.items() if value != defaults[key]}
        given |= {"seed": spec.seed} | ({"name": spec.name} if spec.name else {}) | {"dtype": self.dtype.name}
        return f"bigin.virtual({self.shape}, {spec.method!r}, {', '.join(f'{k}={v!r}' for k, v in given.items())})"

    def _repr_html_(self) -> str:
        spec = self.specification
        shape = "x".join(map(str, self.shape)) or "scalar"
        facts = {
            "values": spec.call,
            "seed": spec.seed,
            "name": spec.name,
            "size": f"{size_text(self.nbytes)}, computed where it is read and stored nowhere",
        }
        return card(f"virtual array, {shape} {self.dtype.name}", facts)

    def __reduce__(self) -> Any:
        return VirtualArray, (self.specification, replace(self._limits))  # without what this machine said

    def __dask_tokenize__(self) -> Any:
        spec = self.specification
        parameters = sorted(spec.parameters.items())
        values = (spec.method, parameters, spec.seed, spec.name, spec.shape, spec.dtype.name, spec.padding_idx)
        return ("bigin.virtual", STREAM, *values)


def _in_memory(held: Any) -> Any:
    """Arguments of a function with the values of each virtual array."""
    if isinstance(held, VirtualArray):
        return np.asarray(held)
    if isinstance(held, tuple | list):
        return type(held)(map(_in_memory, held))
    return {key: _in_memory(value) for key, value in held.items()} if isinstance(held, dict) else held


def _made_shape(picked: Picked) -> tuple[int, ...]:
    """The shape in which a pick is made: of the ranges, with the points in their place."""
    sizes = [len(r) for r in picked.ranges if r is not None]
    if picked.points is not None:
        sizes.insert(picked.at, picked.points.size)
    return tuple(sizes)


def _part(filler: Filler, picked: Picked) -> Filler:
    """What an index picks, as a tensor of its own."""
    if picked.points is None:
        return RegionFiller(filler, [r for r in picked.ranges if r is not None])
    whole = [range(1) if r is None else r for r in picked.ranges]
    axes = [axis for axis, r in zip(flat_axes(filler.shape, whole), picked.ranges, strict=True) if r is not None]
    axes.insert(picked.at, picked.points)
    return LatticeFiller(filler, 0, axes)
