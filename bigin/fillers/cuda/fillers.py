"""Fillers on a CUDA device. Each is made from a filler of the CPU, with the same stream and scalars."""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from operator import mul
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.regions import Region, Shape, dense, extent, flat_slice, indices, place_in, ranges_within, strided_runs
from bigin.fillers.axes import MovedAxesFiller
from bigin.fillers.computed import NoisyIdentityFiller
from bigin.fillers.filler import ConstantFiller, DrawnFiller, Filler, SetupProgress
from bigin.fillers.parts import FlatSliceFiller, PaddedFiller, PartFiller, RegionFiller
from bigin.fillers.structured import DiracFiller, EyeFiller, SparseFiller
from bigin.kernels.cuda import fill as cuda
from bigin.kernels.cuda.device import View, copy_to_device


class DeviceFiller(ABC):
    """Fills regions of one tensor into views of the device's memory; launches on a stream, waits for nothing."""

    def memory(self) -> int:
        """Bytes of the device's memory that the setup takes."""
        return 0

    def worker_memory(self) -> int:
        """Bytes of the device's memory that each worker takes beside the region that it fills."""
        return 0

    def setup(self, stream: Any, report: SetupProgress) -> None:  # noqa: B027 (most have none)
        """Do what is needed once, before the first region."""

    @abstractmethod
    def __call__(self, region: Region, out: View, stream: Any) -> None:
        """Fill a view of the tensor's dtype, which has the region's shape."""

    def ranges(self, ranges: Sequence[range], out: View, stream: Any) -> None:
        """Fill a view with what ranges select of the tensor, by regions: one for each index of an axis with steps."""
        if not all(map(len, ranges)):
            return
        # Along each axis, a part of the view is all of it, or one index.
        for place in indices([range(1 if r.step == 1 else len(r)) for r in ranges]):
            part = tuple((0, len(r)) if r.step == 1 else (i, i + 1) for i, r in zip(place, ranges, strict=True))
            region = tuple((r[start], r[stop - 1] + 1) for (start, stop), r in zip(part, ranges, strict=True))
            self(region, out.part(part), stream)


class DrawnOnDevice(DeviceFiller):
    """Independent draws, from the same stream and scalars."""

    def __init__(self, filler: DrawnFiller, dtype: np.dtype[Any]) -> None:
        self.shape, self.storage, self.tail = filler.shape, filler.storage, filler.tail
        self.kernel = cuda.fill_kernel(filler.kind, filler.dtype.name)

    def as_shape(self, shape: Shape) -> DrawnOnDevice:
        """The same values, of a tensor that has another shape."""
        other = copy(self)
        other.shape = shape
        return other

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        self.ranges([range(*span) for span in region], out, stream)

    def ranges(self, ranges: Sequence[range], out: View, stream: Any) -> None:
        cuda.fill_region(self.kernel, out, self.storage, self.shape, ranges, stream, self.tail)


class ConstantOnDevice(DeviceFiller):
    """One value everywhere."""

    def __init__(self, filler: ConstantFiller, dtype: np.dtype[Any]) -> None:
        self.value = filler.value

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        fill_constant(out, self.value, stream)

    def ranges(self, ranges: Sequence[range], out: View, stream: Any) -> None:
        fill_constant(out, self.value, stream)


def fill_constant(out: View, value: np.ndarray[Any, Any], stream: Any) -> None:
    """Write a value into all of a view."""
    unsigned = dtypes.unsigned(value.dtype)
    bits = np.asarray(value).reshape(1).view(unsigned)[0]
    nowhere = np.uint64(0)
    ranges = [range(size) for size in out.shape]
    tail = (nowhere, nowhere, (bits,), nowhere)
    cuda.fill_region(cuda.constant_kernel(out.itemsize), out, unsigned, out.shape, ranges, stream, tail)


class OnesOnDevice(DeviceFiller):
    """eye and dirac: zeros, and `one` where a row meets its column."""

    def __init__(self, filler: EyeFiller | DiracFiller, dtype: np.dtype[Any]) -> None:
        self.one = filler.one
        if isinstance(filler, DiracFiller):
            self.outputs, self.centre = filler.outputs, filler.centre
            self.inputs = min(filler.outputs, filler.inputs)
        else:
            self.outputs, self.inputs, self.centre = max(1, filler.shape[0]), filler.shape[1], ()

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        fill_constant(out, np.zeros_like(self.one), stream)
        centre = place_in(region[2:], self.centre)
        if centre is None:
            return
        plane = matrix_at(out, tuple(centre))
        unsigned = dtypes.unsigned(self.one.dtype)
        one = np.asarray(self.one).reshape(1).view(unsigned)[0]
        cuda.put_ones(plane, unsigned, region[:2], self.outputs, self.inputs, one, stream)


def matrix_at(out: View, place: Shape) -> View:
    """The matrix of the first two axes at a place along the others."""
    part = out.part((*((0, size) for size in out.shape[:2]), *((i, i + 1) for i in place)))
    return part.at(0, part.shape[:2], part.strides[:2])


class SparseOnDevice(DeviceFiller):
    """Normal values, and then zeros where each column's permutation says so; every element is decided alone."""

    def __init__(self, filler: SparseFiller, dtype: np.dtype[Any]) -> None:
        self.values = DrawnOnDevice(filler.values, filler.values.dtype)
        self.unsigned = dtypes.unsigned(filler.values.dtype)
        self.scalars = (filler.rows, filler.zeros, filler.halves)
        self.key = filler.key

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        self.values(region, out, stream)
        cuda.clear_permuted(out, self.unsigned, region, *self.scalars, stream, *self.key)


class PartOnDevice(DeviceFiller):
    """Values of another filler, in another arrangement."""

    def __init__(self, filler: PartFiller, dtype: np.dtype[Any]) -> None:
        self.whole = on_device(filler.whole, dtype)

    def memory(self) -> int:
        return self.whole.memory()

    def worker_memory(self) -> int:
        return self.whole.worker_memory()

    def setup(self, stream: Any, report: SetupProgress) -> None:
        self.whole.setup(stream, report)


class RegionOnDevice(PartOnDevice):
    """A region of a tensor, as a tensor of its own."""

    def __init__(self, filler: RegionFiller, dtype: np.dtype[Any]) -> None:
        super().__init__(filler, dtype)
        self.region = filler.ranges

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        self.whole.ranges(ranges_within(self.region, region), out, stream)


class FlatSliceOnDevice(PartOnDevice):
    """A flat slice of a tensor, as a tensor of its own."""

    def __init__(self, filler: FlatSliceFiller, dtype: np.dtype[Any]) -> None:
        super().__init__(filler, dtype)
        self.shape, self.tensor, self.offset = filler.shape, filler.whole.shape, filler.offset

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        first, counts, strides, steps, run, step = strided_runs(self.shape, [range(*s) for s in region], out.strides)
        for index in indices(list(map(range, counts))):
            start = self.offset + first + sum(map(mul, index, strides))
            place = sum(map(mul, index, steps))
            for part in flat_slice(self.tensor, start, start + run):
                sizes = extent(part)
                self.whole(part, out.at(place, sizes, tuple(step * stride for stride in dense(sizes))), stream)
                place += step * math.prod(sizes)


class PaddedOnDevice(PartOnDevice):
    """Another filler's values, with a row of zeros."""

    def __init__(self, filler: PaddedFiller, dtype: np.dtype[Any]) -> None:
        super().__init__(filler, dtype)
        self.row, self.zero = filler.row, np.zeros((), dtype)

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        self.whole(region, out, stream)
        top, bottom = region[0]
        if top <= self.row < bottom:
            row = out.part(((self.row - top, self.row - top + 1), *((0, size) for size in out.shape[1:])))
            fill_constant(row, self.zero, stream)


class MovedAxesOnDevice(PartOnDevice):
    """Another filler's values, whose rows lie along other axes."""

    def __init__(self, filler: MovedAxesFiller, dtype: np.dtype[Any]) -> None:
        super().__init__(filler, dtype)
        self.shape, self.rows, self.others = filler.shape, filler.rows, filler.others

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        *outer, last = self.rows
        others = tuple(region[axis] for axis in self.others)
        (first, stop), count = region[last], extent(region)[last]
        strides = (out.strides[last], *(out.strides[axis] for axis in self.others))
        # The last axis of the rows is a range of them; the outer ones are walked over.
        for index in indices([range(*region[axis]) for axis in outer]):
            row, offset = 0, 0
            for axis, i in zip(outer, index, strict=True):
                row = row * self.shape[axis] + i
                offset += (i - region[axis][0]) * out.strides[axis]
            row *= self.shape[last]
            part = out.at(offset, (count, *extent(others)), strides)
            self.whole(((row + first, row + stop), *others), part, stream)


class NoisyIdentityOnDevice(DeviceFiller):
    """Normal draws, and on the diagonal those around the gain.

    The diagonal is the first column of the same flat tensor with one more column.
    """

    def __init__(self, filler: NoisyIdentityFiller, dtype: np.dtype[Any]) -> None:
        self.values = DrawnOnDevice(filler.values, dtype)
        rows, columns = filler.shape
        self.diagonal = DrawnOnDevice(filler.diagonal, dtype).as_shape((min(rows, columns), columns + 1))

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        self.values(region, out, stream)
        (top, bottom), (left, right) = region
        first, stop = max(top, left), min(bottom, right)
        if first < stop:
            place = (first - top) * out.strides[0] + (first - left) * out.strides[1]
            diagonal = out.at(place, (stop - first, 1), (sum(out.strides), 1))
            self.diagonal(((first, stop), (0, 1)), diagonal, stream)


class HostedOnDevice(DeviceFiller):
    """Values that the CPU makes: they are few, and lie in the tensor as no kernel of the device writes them."""

    def __init__(self, filler: Filler, dtype: np.dtype[Any]) -> None:
        self.filler, self.dtype = filler, dtype

    def setup(self, stream: Any, report: SetupProgress) -> None:
        if self.filler.has_setup:
            self.filler.setup(1, 1 << 30, report)

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        made = np.empty(extent(region), self.dtype)
        self.filler(region, made)
        self._copy(made.view(dtypes.unsigned(self.dtype)), out, stream)

    def _copy(self, made: np.ndarray[Any, Any], out: View, stream: Any) -> None:
        """Copy into a view, by its contiguous parts."""
        if made.size and out.strides == dense(out.shape):
            copy_to_device(made, out, stream)
        elif made.size:
            for i, row in enumerate(made):
                part = out.part(((i, i + 1), *((0, size) for size in out.shape[1:])))
                self._copy(np.ascontiguousarray(row), part.at(0, part.shape[1:], part.strides[1:]), stream)


def on_device(filler: Filler, dtype: np.dtype[Any]) -> DeviceFiller:
    """The filler of the same values on the device, for a tensor of a dtype."""
    if filler.on_device is None:
        raise InputError(f"expected values that CUDA kernels can make, got {type(filler).__name__}; use device cpu")
    if dtype.itemsize > 8:
        raise InputError(f"expected a dtype of at most 8 bytes for a CUDA device, got {dtype.name}; use device cpu")
    module, _, name = filler.on_device.partition(":")
    made: DeviceFiller = getattr(importlib.import_module(module), name)(filler, dtype)
    return made
