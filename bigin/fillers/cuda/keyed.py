"""Rows by key on a CUDA device."""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from bigin.core.errors import InputError
from bigin.core.regions import Shape, dense
from bigin.fillers.cuda.fillers import fill_constant
from bigin.fillers.keyed import ConstantRows, DrawnRows, RowFiller
from bigin.kernels.cuda import device as cuda_device
from bigin.kernels.cuda import fill as cuda
from bigin.kernels.cuda.arrays import DeviceArray, DeviceValues
from bigin.kernels.cuda.device import View


class RowsOnDevice(ABC):
    """Makes the rows of a keyed table on the device that its keys lie on."""

    def __init__(self, filler: RowFiller) -> None:
        self.dim, self.dtype = filler.dim, filler.dtype

    @abstractmethod
    def fill(self, keys: Any, out: View, stream: Any) -> None:
        """Fill a contiguous view of shape (keys, dim); keys is a uint64 array of the device."""

    def __call__(self, keys: DeviceArray, out: DeviceArray) -> None:
        """Fill a contiguous array of shape (*keys.shape, dim), on its stream."""
        count = math.prod(keys.shape)
        if keys.stream != out.stream:  # what makes the keys must have made them
            with cuda_device.on_device(keys.device), cuda_device.on_stream(keys.stream) as stream:
                cuda_device.wait(stream)
        with cuda_device.on_device(out.device), cuda_device.on_stream(out.stream) as stream:
            view = View(out.first, self.dtype.itemsize, (count, self.dim), (self.dim, 1), out.owner)
            if count:
                listed = cuda_device.device_array(keys.first, count, np.dtype(np.uint64), keys.owner)
                self.fill(listed, view, stream)
            if out.wait:
                cuda_device.wait(stream)

    def rows(self, keys: DeviceArray) -> DeviceValues:
        """A new array of the rows, which are there."""
        shape: Shape = (*keys.shape, self.dim)
        with cuda_device.on_device(keys.device):
            view = cuda_device.contiguous(shape, self.dtype)
        strides = dense(shape)
        place = (view.first, shape, strides, self.dtype, keys.device, keys.stream)
        array = DeviceArray(*place, wait=True, owner=view.owner)
        self(keys, array)
        return DeviceValues(array)


class ConstantRowsOnDevice(RowsOnDevice):
    """One value everywhere."""

    def __init__(self, filler: ConstantRows) -> None:
        super().__init__(filler)
        self.value = filler.value

    def fill(self, keys: Any, out: View, stream: Any) -> None:
        fill_constant(out, self.value, stream)


class DrawnRowsOnDevice(RowsOnDevice):
    """Independent draws, from the same streams and numbers."""

    def __init__(self, filler: DrawnRows) -> None:
        super().__init__(filler)
        self.kernel, self.storage = cuda.keyed_kernel(filler.kind, filler.dtype.name), filler.storage
        self.tail = filler.tail

    def fill(self, keys: Any, out: View, stream: Any) -> None:
        cuda.fill_rows(self.kernel, out, self.storage, keys, self.dim, stream, self.tail)


def rows_on_device(filler: RowFiller) -> RowsOnDevice:
    """What makes the same rows on a device; raises InputError where no kernel does."""
    if filler.dtype.itemsize > 8:
        raise InputError(f"expected a dtype of at most 8 bytes for a CUDA device, got {filler.dtype.name}")
    module, _, name = filler.on_device.partition(":")
    made: RowsOnDevice = getattr(importlib.import_module(module), name)(filler)
    return made
