"""Arrays in memory: numpy's, torch's on the CPU, and whatever else lends its memory."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.regions import Grid, Region, block_of_rows, extent, slices
from bigin.targets.target import Array, Parts, Scratch, Target

BLOCK = 4 << 20  # bytes in a region: large enough that Python's share of the time is small


class MemoryTarget(Target):
    """An array in memory, filled in place."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self.label = f"array of shape {array.shape}"
        self.shape = array.shape
        self.dtype = dtypes.parse_dtype(array.dtype)
        self.array = array
        if not array.flags.writeable:
            raise InputError("expected an array that can be written, got a read-only one; pass a copy")
        if array.size and 0 in array.strides and repeats(array):
            raise InputError("expected elements with memory of their own, got an array that repeats some; pass a copy")
        self.direct = array.flags.c_contiguous and array.dtype == self.dtype and array.flags.aligned

    @property
    def byte_order(self) -> str:
        return "=" if self.array.dtype.isnative else self.array.dtype.byteorder

    def grid(self, size: int = 0) -> Grid:
        """Blocks of rows."""
        if self.array.nbytes <= BLOCK and self.array.nbytes:
            return Grid(self.shape, self.shape)
        return Grid(self.shape, block_of_rows(self.shape, max(size, BLOCK) // self.dtype.itemsize))

    def block_memory(self, size: int = 0) -> int:
        """Nothing where values are made in place."""
        return 0 if self.direct else max(size, BLOCK)

    def block(self, region: Region, scratch: Scratch) -> Parts:
        """The region itself, or scratch to copy from where its elements do not lie one behind the other."""
        view = self.array[slices(region)]
        if self.direct:
            yield region, view
            return
        made = scratch.array(extent(region), self.dtype)
        yield region, made
        view[...] = made

    def layout(self) -> dict[str, Any]:
        """Where the elements lie, in bytes."""
        order = "big" if self.array.dtype.byteorder == ">" else "little"
        return {"format": "memory", "byte_order": order, "strides": list(self.array.strides)}

    def read(self, region: Region) -> Array:
        """A copy of a region."""
        return np.array(self.array[slices(region)], dtype=self.dtype)


def refuse_cut(target: Any) -> None:
    """Raise InputError for a parameter that DeepSpeed's ZeRO-3 has cut, which is empty until it is gathered."""
    if getattr(target, "ds_tensor", None) is not None and tuple(target.shape) != tuple(target.ds_shape):
        raise InputError(
            f"expected a plain tensor, got a parameter of shape {tuple(target.ds_shape)} that ZeRO-3 has cut; fill it "
            "with bigin.torch.fill_dtensor"
        )


def repeats(array: np.ndarray[Any, Any]) -> bool:
    """Whether several elements share memory because an axis has no step."""
    return any(step == 0 for step, size in zip(array.strides, array.shape, strict=True) if size > 1)


class TorchTarget(MemoryTarget):
    """A torch tensor on the CPU. Filling it is no operation that autograd records, as in torch.nn.init."""

    def __init__(self, torch: Any, tensor: Any) -> None:
        if type(tensor).__name__ == "DTensor":
            raise InputError("expected a plain tensor, got a DTensor; fill it with bigin.torch.fill_dtensor")
        if not tensor.is_cpu or tensor.layout != torch.strided:
            raise InputError(f"expected a dense tensor on the CPU, got one of {tensor.layout} on {tensor.device}")
        dtype = dtypes.parse_dtype(tensor.dtype)
        plain = tensor.detach() if tensor.requires_grad else tensor
        try:
            if dtypes.name_of(dtype) in dtypes.ML_DTYPES:  # numpy does not have these dtypes: view their bits
                bits = plain.view(torch.uint8 if dtype.itemsize == 1 else torch.int16)
                super().__init__(bits.numpy().view(dtype))
            else:
                super().__init__(plain.numpy())
        except (RuntimeError, TypeError) as error:
            raise InputError(
                f"expected a tensor whose memory numpy can share: {str(error).partition('.')[0]}"
            ) from None
        self.torch, self.tensor = torch, tensor

    def start(self) -> None:
        """Invalidates what a backward pass has saved of the old values."""
        if not self.tensor.is_inference():  # inference tensors have no version counter
            self.torch.autograd.graph.increment_version(self.tensor)


def memory_target(target: Any) -> MemoryTarget | None:
    """The memory of an array, tensor or buffer, without a copy; None if it does not share its memory."""
    if isinstance(target, np.ndarray):
        return MemoryTarget(np.asarray(target))  # np.matrix, say, has views of its own kind
    torch = sys.modules.get("torch")  # whoever has a tensor has imported it
    if torch is not None and isinstance(target, torch.Tensor):
        return TorchTarget(torch, target)
    if type(target).__module__.partition(".")[0] in ("jax", "jaxlib"):
        raise InputError(
            "expected an array that can be written, got a jax array, which cannot; fill a numpy array, or make one "
            "from bigin.virtual"
        )
    if isinstance(target, np.generic):  # a scalar, which lends a copy
        return None
    try:
        lent = target if hasattr(target, "__array_interface__") else memoryview(target)
    except TypeError:
        return None
    try:
        return MemoryTarget(np.array(lent, copy=False))
    except (ValueError, TypeError, NotImplementedError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"expected memory that numpy can share, got a {type(target).__name__}: {error}") from None


def numbers_of(values: Any) -> Array:
    """What a caller gives as real numbers: an array, a tensor of any device, or lists; raises InputError."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(values, torch.Tensor):
        return TorchTarget(torch, values.detach().cpu()).array
    try:
        array = np.asarray(values)
    except ValueError:
        raise InputError("expected an array of numbers, got lists of different lengths") from None
    if array.dtype.kind not in "biuf" and array.dtype.name not in dtypes.ML_DTYPES:
        raise InputError(f"expected real numbers, got {array.dtype}")
    return array
