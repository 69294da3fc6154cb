"""Fillers on a CUDA device: what a filler of the CPU knows, made by the device's kernels into the device's memory."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import copy
from functools import partial
from operator import mul
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.regions import Region, Shape, extent, place_in, ranges_within, stretch, strided_runs
from bigin.fillers.filler import Drawn, Filled, Filler, Report
from bigin.fillers.orthogonal import DeltaOrthogonalFilled, OrthogonalFilled
from bigin.fillers.parts import PaddedFilled, RegionFilled, StretchFilled
from bigin.fillers.structured import DiracFilled, EyeFilled, SparseFilled
from bigin.kernels.cuda import fill as cuda
from bigin.kernels.cuda.device import View, dense


class DeviceFiller(ABC):
    """Fills regions of one tensor into views of the device's memory; launches on a stream, waits for nothing."""

    def memory(self) -> int:
        """Bytes of the device's memory that its setup takes."""
        return 0

    def worker_memory(self) -> int:
        """Bytes of the device's memory that each worker takes while it fills a region, beside the region."""
        return 0

    def setup(self, stream: Any, report: Report) -> None:  # noqa: B027 (most have none)
        """What is done once, before the first region."""

    @abstractmethod
    def __call__(self, region: Region, out: View, stream: Any) -> None:
        """Fills a view of the tensor's dtype, which has the region's shape."""

    def ranges(self, ranges: Sequence[range], out: View, stream: Any) -> None:
        """Fills a view with what ranges cut out of the tensor: by regions, one for each place of an axis with steps."""
        if not all(map(len, ranges)):
            return
        # Along each axis: the parts of the view, either all of it or one place.
        parts = [[(0, len(r))] if r.step == 1 else [(i, i + 1) for i in range(len(r))] for r in ranges]
        for part in itertools.product(*parts):
            region = tuple((r[start], r[stop - 1] + 1) for (start, stop), r in zip(part, ranges, strict=True))
            self(region, out.part(part), stream)


class DrawnOnDevice(DeviceFiller):
    """Independent draws, from the same stream and scalars."""

    def __init__(self, filler: Drawn) -> None:
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


class FilledOnDevice(DeviceFiller):
    """One value everywhere."""

    def __init__(self, filler: Filled) -> None:
        self.value = filler.value

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        fill_constant(out, self.value, stream)

    def ranges(self, ranges: Sequence[range], out: View, stream: Any) -> None:
        fill_constant(out, self.value, stream)


def fill_constant(out: View, value: np.ndarray[Any, Any], stream: Any) -> None:
    """Writes a value into all of a view."""
    unsigned = dtypes.unsigned(value.dtype)
    bits = np.asarray(value).reshape(1).view(unsigned)[0]
    nowhere = np.uint64(0)
    ranges = [range(size) for size in out.shape]
    tail = (nowhere, nowhere, (bits,), nowhere)
    cuda.fill_region(cuda.constant_kernel(out.itemsize), out, unsigned, out.shape, ranges, stream, tail)


class OnesOnDevice(DeviceFiller):
    """eye and dirac: zeros, and `one` where a row meets its column."""

    def __init__(self, filler: EyeFilled | DiracFilled) -> None:
        self.one = filler.one
        if isinstance(filler, DiracFilled):
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

    def __init__(self, filler: SparseFilled) -> None:
        self.values = DrawnOnDevice(filler.values)
        self.unsigned = dtypes.unsigned(filler.values.dtype)
        self.scalars = (filler.rows, filler.zeros, filler.halves)
        self.key = filler.key

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        self.values(region, out, stream)
        cuda.clear_permuted(out, self.unsigned, region, *self.scalars, stream, *self.key)


class OrthogonalOnDevice(DeviceFiller):
    """gain Q, whose trailing axes are flattened; transposed where it has fewer rows than columns."""

    def __init__(self, filler: OrthogonalFilled, dtype: np.dtype[Any]) -> None:
        from bigin.fillers.cuda.orthogonal import DeviceReflections

        self.shape, self.transposed = filler.shape, filler.transposed
        self.reflections = DeviceReflections(filler.reflections, DrawnOnDevice(filler.reflections.draw), dtype)

    def memory(self) -> int:
        return self.reflections.memory()

    def worker_memory(self) -> int:
        return self.reflections.worker_memory()

    def setup(self, stream: Any, report: Report) -> None:
        self.reflections.prepare(stream, report)

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        rows = region[0]
        trailing = [range(*span) for span in region[1:]]
        first, counts, strides, steps, run, step = strided_runs(self.shape[1:], trailing, out.strides[1:])
        if run == 0 or rows[0] == rows[1]:
            return
        # The trailing axes are flattened into columns; each run of them is a matrix.
        for index in itertools.product(*map(range, counts)):
            start = first + sum(map(mul, index, strides))
            place = sum(map(mul, index, steps))
            columns = (start, start + run)
            if self.transposed:
                part = out.at(place, (run, rows[1] - rows[0]), (step, out.strides[0]))
                self.reflections.fill(columns, rows, part, stream)
            else:
                part = out.at(place, (rows[1] - rows[0], run), (out.strides[0], step))
                self.reflections.fill(rows, columns, part, stream)


class DeltaOrthogonalOnDevice(DeviceFiller):
    """gain Q at the centre of a kernel of zeros."""

    def __init__(self, filler: DeltaOrthogonalFilled, dtype: np.dtype[Any]) -> None:
        self.matrix = OrthogonalOnDevice(filler.matrix, dtype)
        self.centre = filler.centre
        self.zero = np.zeros((), dtype)

    def memory(self) -> int:
        return self.matrix.memory()

    def worker_memory(self) -> int:
        return self.matrix.worker_memory()

    def setup(self, stream: Any, report: Report) -> None:
        self.matrix.setup(stream, report)

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        fill_constant(out, self.zero, stream)
        centre = place_in(region[2:], self.centre)
        if centre is not None:
            self.matrix(region[:2], matrix_at(out, tuple(centre)), stream)


class PartOnDevice(DeviceFiller):
    """Values that another filler makes."""

    def __init__(self, whole: DeviceFiller) -> None:
        self.whole = whole

    def memory(self) -> int:
        return self.whole.memory()

    def worker_memory(self) -> int:
        return self.whole.worker_memory()

    def setup(self, stream: Any, report: Report) -> None:
        self.whole.setup(stream, report)


class RegionOnDevice(PartOnDevice):
    """A region of a tensor, as a tensor of its own."""

    def __init__(self, filler: RegionFilled, whole: DeviceFiller) -> None:
        super().__init__(whole)
        self.region = filler.ranges

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        self.whole.ranges(ranges_within(self.region, region), out, stream)


class StretchOnDevice(PartOnDevice):
    """A stretch of the flat tensor, as a tensor of its own."""

    def __init__(self, filler: StretchFilled, whole: DeviceFiller) -> None:
        super().__init__(whole)
        self.shape, self.tensor, self.offset = filler.shape, filler.whole.shape, filler.offset

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        first, counts, strides, steps, run, step = strided_runs(self.shape, [range(*s) for s in region], out.strides)
        for index in itertools.product(*map(range, counts)):
            start = self.offset + first + sum(map(mul, index, strides))
            place = sum(map(mul, index, steps))
            for part in stretch(self.tensor, start, start + run):
                sizes = extent(part)
                self.whole(part, out.at(place, sizes, tuple(step * stride for stride in dense(sizes))), stream)
                place += step * math.prod(sizes)


class PaddedOnDevice(PartOnDevice):
    """Another filler's values, with a row of zeros."""

    def __init__(self, filler: PaddedFilled, whole: DeviceFiller, dtype: np.dtype[Any]) -> None:
        super().__init__(whole)
        self.row, self.zero = filler.row, np.zeros((), dtype)

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        self.whole(region, out, stream)
        top, bottom = region[0]
        if top <= self.row < bottom:
            row = out.part(((self.row - top, self.row - top + 1), *((0, size) for size in out.shape[1:])))
            fill_constant(row, self.zero, stream)


def on_device(filler: Filler, dtype: np.dtype[Any]) -> DeviceFiller:
    """The filler of the same values on the device, for a tensor of a dtype."""
    again = partial(on_device, dtype=dtype)
    if isinstance(filler, Drawn):
        return DrawnOnDevice(filler)
    if isinstance(filler, Filled):
        return FilledOnDevice(filler)
    if isinstance(filler, EyeFilled | DiracFilled):
        return OnesOnDevice(filler)
    if isinstance(filler, SparseFilled):
        return SparseOnDevice(filler)
    if isinstance(filler, OrthogonalFilled):
        return OrthogonalOnDevice(filler, dtype)
    if isinstance(filler, DeltaOrthogonalFilled):
        return DeltaOrthogonalOnDevice(filler, dtype)
    if isinstance(filler, RegionFilled):
        return RegionOnDevice(filler, again(filler.whole))
    if isinstance(filler, StretchFilled):
        return StretchOnDevice(filler, again(filler.whole))
    if isinstance(filler, PaddedFilled):
        return PaddedOnDevice(filler, again(filler.whole), dtype)
    raise InputError(f"expected values that CUDA kernels can make, got {type(filler).__name__}; use device cpu")
