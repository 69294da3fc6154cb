"""A fill's values from a CUDA device: made where they stay, or brought to the host through pinned memory."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from bigin.core.regions import Region, Shape, dense
from bigin.fillers.cuda.fillers import fill_constant, on_device
from bigin.fillers.filler import Array, Filler, SetupProgress
from bigin.kernels.cuda import device as cuda_device
from bigin.kernels.cuda.arrays import LEGACY, DeviceArray, DeviceValues

REGION = 8 << 20  # bytes that are made and copied at once, where the target is free to choose


class OnDevice(Filler):
    """The same values as another filler's, made on a CUDA device.

    For an array on the device they are made in place, on its stream. For one on the host each worker has a stream and a
    buffer on the device: while one writes what has arrived, the others make and copy.
    """

    region_bytes = REGION

    def __init__(self, filler: Filler, dtype: np.dtype[Any], number: int = 0) -> None:
        self.shape, self.dtype, self.number = filler.shape, dtype, number
        with cuda_device.on_device(number):
            self.values = on_device(filler, dtype)
            self.name = cuda_device.device_name()
        self.has_setup = self.needs_setup = self.values.memory() > 0
        self.workers = threading.local()

    def device_memory(self, threads: int, region_bytes: int) -> int:
        """Bytes of the device's memory that a fill of so many threads takes."""
        return self.values.memory() + threads * (region_bytes + self.values.worker_memory())

    def free_memory(self) -> int:
        """Bytes of the device's memory that are free."""
        with cuda_device.on_device(self.number):
            return cuda_device.free_memory()

    def try_out(self) -> None:
        """Compiles and runs a kernel, so that what does not work is found before anything is changed."""
        with cuda_device.on_device(self.number), cuda_device.on_stream(None) as stream:
            place = cuda_device.contiguous((1,), np.dtype(np.uint8))
            fill_constant(place, np.zeros((), np.uint8), stream)

    def setup(self, threads: int, max_memory: int, report: SetupProgress) -> None:
        with cuda_device.on_device(self.number), cuda_device.on_stream(None) as stream:
            self.values.setup(stream, report)

    def buffer(self, size: int) -> Array:
        """Memory that the device copies to without the host's help."""
        with cuda_device.on_device(self.number):
            return cuda_device.pinned(size)

    def part(self, ranges: Sequence[range], shape: Shape) -> DeviceValues:
        """What ranges cut out, as a new array on the device, of a shape of as many elements; its values are there."""
        sizes = tuple(map(len, ranges))
        with cuda_device.on_device(self.number), cuda_device.on_stream(None) as stream:
            view = cuda_device.contiguous(sizes, self.dtype)
            if 0 not in sizes:
                self.values.ranges(ranges, view, stream)
        strides = dense(shape)
        owner = view.owner
        array = DeviceArray(view.first, shape, strides, self.dtype, self.number, LEGACY, wait=False, owner=owner)
        return DeviceValues(array)

    def __call__(self, region: Region, out: Array | DeviceArray) -> None:
        with cuda_device.on_device(self.number):
            if isinstance(out, DeviceArray):
                self._in_place(region, out)
            else:
                self._to_host(region, out)

    def _in_place(self, region: Region, out: DeviceArray) -> None:
        view = cuda_device.View(out.first, out.dtype.itemsize, out.shape, out.strides, out.owner)
        with cuda_device.on_stream(out.stream) as stream:
            self.values(region, view, stream)
            if out.wait:
                cuda_device.wait(stream)

    def _to_host(self, region: Region, out: Array) -> None:
        if out.size == 0:
            return
        if not hasattr(self.workers, "stream"):
            self.workers.stream, self.workers.view = cuda_device.new_stream(), None
        view = self.workers.view
        if view is None or math.prod(view.shape) < out.size:
            view = self.workers.view = cuda_device.contiguous((out.size,), self.dtype)
        made = view.at(0, out.shape, dense(out.shape))
        self.values(region, made, self.workers.stream)
        cuda_device.copy_to_host(made, out, self.workers.stream)
