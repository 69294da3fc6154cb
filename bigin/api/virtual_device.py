"""Virtual arrays on a CUDA device: parts that are made there, and stay."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bigin.api.virtual_array import VirtualArray
from bigin.core.indexing import pick
from bigin.core.limits import Limits
from bigin.fillers.filler import Array
from bigin.jobs.device import parse_device, placed_on, require_device_memory
from bigin.spec.tensor import TensorSpec

if TYPE_CHECKING:
    from bigin.kernels.cuda.arrays import DeviceValues


class DeviceVirtualArray(VirtualArray):
    """A virtual array whose parts are arrays on a CUDA device.

    It is indexed by integers and by slices with positive steps. A part is a DeviceValues, which torch.from_dlpack and
    cupy.from_dlpack take without a copy. An InputError is raised if the device has too little memory for it.
    """

    def __init__(self, specification: TensorSpec, limits: Limits) -> None:
        super().__init__(specification, limits)
        number = parse_device(limits.device) or 0
        plan = self._plan
        self._plan = lambda: placed_on(plan(), self.dtype, number)

    def __getitem__(self, key: Any) -> DeviceValues:
        picked = pick(key, self.shape)
        if picked.points is not None or picked.turn is not None:
            raise IndexError("expected integers and slices with steps above 0 of a virtual array on a device")
        ranges = [r for r in picked.ranges if r is not None]
        size = math.prod(map(len, ranges))
        placed: Any = self._filler or self._plan()
        setup = placed.device_memory(1, 0) if placed.has_setup else 0
        require_device_memory(placed, setup + size * self.itemsize, self._limits.device_memory)
        self._filler = placed
        values: DeviceValues = self._ready(size).part(ranges, picked.shape)  # type: ignore[attr-defined]
        return values

    def __iter__(self) -> Any:
        if not self.shape:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(self.shape[0]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("Unable to avoid copy while creating an array as requested.")
        return self[...].__array__(dtype)

    def __reduce__(self) -> Any:
        return DeviceVirtualArray, (self.specification, replace(self._limits))
