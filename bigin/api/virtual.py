"""bigin.virtual: an array of a method's initial values that is never stored."""

from __future__ import annotations

from typing import Any

from bigin.api.virtual_array import VirtualArray
from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.text import parse_shape
from bigin.jobs.device import parse_device
from bigin.spec.tensor import TensorSpec


def virtual(
    shape: Any,
    method: str,
    *,
    seed: int = 0,
    name: str = "",
    dtype: Any = "float32",
    threads: int | None = None,
    max_memory: int | str | None = None,
    device: str | None = None,
    max_device_memory: int | str | None = None,
    **parameters: Any,
) -> VirtualArray:
    """Return an array of a method's initial values that is never stored: indexing computes the bits of `fill`.

    Nothing is computed or compiled before the first value is requested. Then the cost of a part depends only on its own
    size. Orthogonal methods first prepare an n x n triangle, which takes time and memory once.

    Args:
        shape: shape of the whole tensor; fewer than 2^63 elements.
        method, seed, name, **parameters: as in `fill`.
        dtype: dtype of the values.
        threads: number of threads for parts of over 4 MiB; by default the number of cores that this process may use.
        max_memory: bytes of memory in addition to the result, or a string such as "2GiB". By default a quarter of what
            is available. A triangle that does not fit is kept in a scratch file.
        device: "cuda" or "cuda:1" to compute parts on a CUDA device and keep them there, as arrays for
            torch.from_dlpack and cupy.from_dlpack. Such an array is indexed by integers and by slices with positive
            steps.
        max_device_memory: bytes of the device's memory that may be used at once, or a string. By default all that is
            free.

    Returns:
        The array. Indexing it computes the values.

    Raises:
        InputError: an argument is invalid.

    Example:
        >>> w = bigin.virtual((10**12, 128), "normal", std=0.02, dtype="bfloat16")
        >>> w[999_999_999_999].shape
        (128,)
        >>> w[::10**11, 0].shape
        (10,)
    """
    limits = Limits.parse(threads, max_memory, device, max_device_memory)
    if not dtypes.parse_stored(dtype).isnative:
        raise InputError(
            f"expected a dtype in the machine's byte order for a virtual array, got {dtype!r}; convert parts"
        )
    with default_modes():
        spec = TensorSpec.parse(method, parameters, seed, name, parse_shape(shape), dtypes.parse_dtype(dtype))
        if limits.device == "auto":
            raise InputError("expected a device among cpu, cuda, cuda:0 ... for a virtual array, got 'auto'")
        if limits.device is not None and parse_device(limits.device) is not None:
            from bigin.api.virtual_device import DeviceVirtualArray

            return DeviceVirtualArray(spec, limits)
        return VirtualArray(spec, limits)
