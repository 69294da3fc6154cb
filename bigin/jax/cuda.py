"""Shards on CUDA devices: made there, and given to jax by DLPack."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from typing import Any, cast

import jax

from bigin.core.errors import InputError
from bigin.core.limits import Limits
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec


class CudaShards:
    """The shards of one tensor on CUDA devices. What cannot be made there is made on the host.

    That is so without numba-cuda, where the device's memory has no room beside what XLA has taken of it
    (XLA_PYTHON_CLIENT_MEM_FRACTION), and for a dtype that jax does not take by DLPack.
    """

    def __init__(self, spec: TensorValues, limits: Limits) -> None:
        self.spec = spec
        self.limits = limits
        self._values: dict[int, Any] = {}

    def made(self, device: jax.Device, ranges: tuple[range, ...]) -> jax.Array | None:
        """A shard on its device; None where it is to be made on the host."""
        if not _is_cuda(device) or importlib.util.find_spec("numba_cuda") is None:
            return None
        number = int(device.local_hardware_id or 0)
        try:
            if number not in self._values:
                from bigin.api.virtual_device import DeviceVirtualArray

                limits = replace(self.limits, device=f"cuda:{number}")
                self._values[number] = DeviceVirtualArray(cast(TensorSpec, self.spec), limits)
            lent = self._values[number][tuple(slice(r.start, r.stop) for r in ranges)]
            return jax.dlpack.from_dlpack(lent)
        except (InputError, BufferError, TypeError, ValueError, NotImplementedError, jax.errors.JaxRuntimeError):
            return None


def _is_cuda(device: jax.Device) -> bool:
    return device.platform == "gpu" and "cuda" in device.client.platform_version.lower()
