"""Arrays in the memory of a CUDA device, however they are lent: by torch, cupy, __cuda_array_interface__ or DLPack.

Importing this imports no numba.cuda: that is done where an array is copied, or its device asked for.
"""

from __future__ import annotations

import ctypes
import math
import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.regions import Region, Shape, dense, extent, slices

Array = np.ndarray[Any, np.dtype[Any]]

LEGACY = 1  # the handle of the default stream that waits for all others, and all others for it
CUDA, CUDA_MANAGED = 2, 13  # DLPack's kinds of devices


@dataclass(frozen=True)
class DeviceArray:
    """Where an array lies: the address of its first element, its strides in elements, the device's number.

    `stream` is the handle of the caller's stream. Where the caller has none to name, `wait` says that the values must
    be there before the fill returns. `owner` keeps the memory.
    """

    first: int
    shape: Shape
    strides: Shape
    dtype: np.dtype[Any]
    device: int
    stream: int
    wait: bool
    owner: Any

    def part(self, region: Region) -> DeviceArray:
        """A region of it."""
        offset = sum(start * stride for (start, _), stride in zip(region, self.strides, strict=True))
        return replace(self, first=self.first + offset * self.dtype.itemsize, shape=extent(region))

    @property
    def nbytes(self) -> int:
        """How many bytes its elements take."""
        return math.prod(self.shape) * self.dtype.itemsize

    def to_host(self) -> Array:
        """A copy of its elements on the host."""
        from bigin.kernels.cuda import device as cuda_device

        view = cuda_device.View(self.first, self.dtype.itemsize, self.shape, self.strides, self.owner)
        with cuda_device.on_device(self.device), cuda_device.on_stream(self.stream) as stream:
            span = cuda_device.to_host(
                view.at(-view.place, (view.span,), (1,)), np.dtype(f"u{self.dtype.itemsize}"), stream
            )
        steps = [stride * self.dtype.itemsize for stride in self.strides]
        values = np.lib.stride_tricks.as_strided(span[view.place :], self.shape, steps)
        return np.array(values[slices(tuple((0, size) for size in self.shape))]).view(self.dtype)


def device_array_of(target: Any) -> DeviceArray | None:
    """An array on a CUDA device, however it is lent; None for everything else."""
    if isinstance(target, np.ndarray | str | bytes) or type(target).__module__.partition(".")[0] in ("jax", "jaxlib"):
        return None
    torch = sys.modules.get("torch")  # whoever has a tensor has imported it
    if torch is not None and isinstance(target, torch.Tensor):
        if target.device.type != "cuda":
            return None
        array = from_torch(torch, target)
    elif hasattr(target, "__cuda_array_interface__"):
        array = from_interface(target)
    elif hasattr(target, "__dlpack_device__") and target.__dlpack_device__()[0] in (CUDA, CUDA_MANAGED):
        array = from_dlpack(target)
    else:
        return None
    if array.nbytes and any(s == 0 and n > 1 for s, n in zip(array.strides, array.shape, strict=True)):
        raise InputError("expected elements with memory of their own, got an array that repeats some; pass a copy")
    return array


def from_torch(torch: Any, tensor: Any) -> DeviceArray:
    """A torch tensor, on the stream that torch would use. Autograd records nothing, as in torch.nn.init."""
    if type(tensor).__name__ == "DTensor":
        raise InputError("expected a plain tensor, got a DTensor; fill it with bigin.torch.fill_dtensor")
    if tensor.layout != torch.strided:
        raise InputError(f"expected a dense tensor, got one of {tensor.layout}")
    dtype = dtypes.parse_dtype(tensor.dtype)
    device = tensor.device.index
    device = torch.cuda.current_device() if device is None else device
    stream = torch.cuda.current_stream(device).cuda_stream or LEGACY
    strides = tuple(map(int, tensor.stride()))
    shape = tuple(map(int, tensor.shape))
    return DeviceArray(tensor.data_ptr(), shape, strides, dtype, device, stream, wait=False, owner=tensor)


def from_interface(target: Any) -> DeviceArray:
    """What __cuda_array_interface__ says (version 3, with the stream of the caller; 2 and 1 without)."""
    interface = target.__cuda_array_interface__
    pointer, read_only = interface["data"]
    if read_only:
        raise InputError("expected an array that can be written, got a read-only one; pass a copy")
    if interface.get("mask") is not None:
        raise InputError("expected an array without a mask; pass its values")
    if interface["typestr"][0] == ">":
        raise InputError("expected an array in the device's byte order, got a big-endian one")
    dtype = dtypes.parse_dtype(getattr(target, "dtype", interface["typestr"]))
    shape = tuple(map(int, interface["shape"]))
    strides = interface.get("strides")
    if strides is None:
        steps = dense(shape)
    elif any(stride % dtype.itemsize for stride in strides):
        raise InputError("expected an array whose elements lie at multiples of their size, got other strides")
    else:
        steps = tuple(int(stride) // dtype.itemsize for stride in strides)
    stream = interface.get("stream")
    device = getattr(getattr(target, "device", None), "id", None)  # cupy says which; else it is the current one
    if device is None:
        from bigin.kernels.cuda import device as cuda_device

        device = cuda_device.current_device()
    wait = stream is None
    return DeviceArray(pointer, shape, steps, dtype, int(device), stream or LEGACY, wait=wait, owner=target)


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    """DLTensor of dlpack.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("type", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


def _capsule(name: str, result: Any, *arguments: Any) -> Any:
    """A function of Python's with a prototype of our own: those in ctypes.pythonapi are everybody's."""
    return ctypes.PYFUNCTYPE(result, *arguments)((name, ctypes.pythonapi))


_CAPSULE_POINTER = _capsule("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
_CAPSULE_VALID = _capsule("PyCapsule_IsValid", ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)
_NEW_CAPSULE = _capsule("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)


def from_dlpack(target: Any) -> DeviceArray:
    """A DLPack capsule, which is not consumed: its producer frees it. The producer makes the default stream wait."""
    number = int(target.__dlpack_device__()[1])
    capsule = target.__dlpack__(stream=LEGACY)
    tensor = ctypes.cast(_CAPSULE_POINTER(id(capsule), b"dltensor"), ctypes.POINTER(_Tensor)).contents
    if tensor.type.lanes != 1:
        raise InputError(f"expected an array of single numbers, got vectors of {tensor.type.lanes}")
    dtype = dtypes.from_dlpack(tensor.type.code, tensor.type.bits)
    shape = tuple(tensor.shape[axis] for axis in range(tensor.ndim))
    strides = tuple(tensor.strides[axis] for axis in range(tensor.ndim)) if tensor.strides else dense(shape)
    first = (tensor.data or 0) + tensor.byte_offset
    return DeviceArray(first, shape, strides, dtype, number, LEGACY, wait=True, owner=(target, capsule))


class _Managed(ctypes.Structure):
    """DLManagedTensor of dlpack.h."""


_DELETER = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _DELETER)]
_LENT: dict[int, Any] = {}  # what consumers of capsules have not given back, by address


def _give_back(managed: Any) -> None:
    _LENT.pop(ctypes.addressof(managed.contents), None)


def _unused(capsule: int) -> None:
    """A capsule that goes away: if nobody took what it holds, it is given back here."""
    if _CAPSULE_VALID(capsule, b"dltensor"):
        _LENT.pop(_CAPSULE_POINTER(capsule, b"dltensor"), None)


# C functions for as long as the process lives: consumers call them when they please.
_DELETE = _DELETER(_give_back)
_DESTROY = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(_unused)


def to_dlpack(array: DeviceArray) -> Any:
    """A DLPack capsule of an array, whose owner lives until the consumer is done."""
    numbers = ctypes.c_int64 * len(array.shape)
    shape, strides = numbers(*array.shape), numbers(*array.strides)
    kind = _Type(dtypes.row(array.dtype).dlpack, 8 * array.dtype.itemsize, 1)
    device = _Device(CUDA, array.device)
    tensor = _Tensor(array.first, device, len(array.shape), kind, shape, strides, 0)
    managed = _Managed(tensor, None, _DELETE)
    address = ctypes.addressof(managed)
    _LENT[address] = (managed, shape, strides, array.owner)
    return _NEW_CAPSULE(address, b"dltensor", ctypes.cast(_DESTROY, ctypes.c_void_p))


class DeviceValues:
    """A C-ordered array on a CUDA device, which torch, cupy and others take without a copy.

    shape, dtype, nbytes as numpy has them. torch.from_dlpack and cupy.from_dlpack take it, also what knows
    __cuda_array_interface__ (which has no name for bfloat16 and the 8-bit floats); numpy.asarray copies it to the host.
    """

    def __init__(self, array: DeviceArray) -> None:
        self._array = array
        self.shape, self.dtype, self.nbytes = array.shape, array.dtype, array.nbytes

    def __repr__(self) -> str:
        return f"<array of shape {self.shape}, {self.dtype.name}, on cuda:{self._array.device}>"

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if dtypes.name_of(self.dtype) in dtypes.ML_DTYPES:
            raise AttributeError(f"__cuda_array_interface__ has no name for {self.dtype.name}; use DLPack")
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self._array.first, False),
            "strides": None,
            "version": 3,
            "stream": None,  # the values are there
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self._array.device

    def __dlpack__(self, *, stream: Any = None, **rest: Any) -> Any:
        return to_dlpack(self._array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("Unable to avoid copy while creating an array as requested.")
        values = self._array.to_host()
        return values if dtype is None else values.astype(dtype, copy=False)
