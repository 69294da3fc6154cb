"""Arrays in the memory of a CUDA device, filled in place by the device."""

from __future__ import annotations

import sys
from typing import Any

from bigin.core.regions import Grid, Region
from bigin.kernels.cuda.arrays import DeviceArray, device_array_of
from bigin.targets.target import Array, Parts, Scratch, Target


class DeviceTarget(Target):
    """An array on a CUDA device, filled in place by the device, in one piece."""

    def __init__(self, array: DeviceArray) -> None:
        self.array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.label = f"array of shape {array.shape} on cuda:{array.device}"

    def grid(self, size: int = 0) -> Grid:
        """All of it."""
        return Grid(self.shape, tuple(max(1, size) for size in self.shape))

    def start(self) -> None:
        """Invalidates what a backward pass of torch has saved of the old values."""
        torch, owner = sys.modules.get("torch"), self.array.owner
        if torch is not None and isinstance(owner, torch.Tensor) and not owner.is_inference():
            torch.autograd.graph.increment_version(owner)

    def block_memory(self, size: int = 0) -> int:
        """None of the host's."""
        return 0

    def block(self, region: Region, scratch: Scratch) -> Parts:
        """The region itself."""
        yield region, self.array.part(region)  # type: ignore[misc]  # what fills it knows what it is

    def read(self, region: Region) -> Array:
        """A copy of a region on the host."""
        return self.array.part(region).to_host()


def device_target(target: Any) -> DeviceTarget | None:
    """The target that an array on a CUDA device is; None for everything else."""
    if getattr(target, "is_cpu", False):  # a tensor's
        return None
    array = device_array_of(target)
    return None if array is None else DeviceTarget(array)
