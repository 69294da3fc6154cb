"""Files as tensors: mapped into memory, so that a tensor of any size opens at once and only what is used is read."""

from __future__ import annotations

from typing import Any

import torch

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.text import parse_shape
from bigin.targets.mapped import map_array


def open(
    path: Any,
    mode: str = "r",
    *,
    raw: bool = False,
    shape: Any = None,
    dtype: Any = None,
    offset: int = 0,
) -> Any:
    """Return the tensor of a file, mapped into memory without a copy.

    Args:
        path: a .npy file; a zarr array (its folder, or a zarr.Array) whose chunks are whole rows without compression,
            each a multiple of the memory's pages (4096 bytes) if there are several; or with `raw` a file of values.
        mode: with "r" the file does not change, and writes to the tensor stay in this process; with "r+" they are
            written to the file.
        shape, dtype: required with `raw`; otherwise the expected shape and dtype. A .npy file of bfloat16 or float8
            needs the dtype if there is no record of a fill beside it.
        raw, offset: whether the file has values without a header, and the byte at which they begin.

    Returns:
        The tensor.

    Raises:
        InputError: the layout cannot be mapped, or the shape or dtype differs.

    Example:
        >>> _ = bigin.fill("table.npy", "normal", shape=(1000, 64), dtype="bfloat16")
        >>> bigin.torch.open("table.npy")[7].shape
        torch.Size([64])
    """
    array = map_array(
        path,
        mode,
        raw=raw,
        shape=None if shape is None else parse_shape(shape),
        dtype=None if dtype is None else dtypes.parse_stored(dtype),
        offset=offset,
    )
    if not array.dtype.isnative:
        raise InputError(f"{path}: expected values in this machine's byte order, got {array.dtype.str}; fill it again")
    return tensor_of(array)


def tensor_of(array: Any) -> Any:
    """A numpy array as a tensor that shares its memory, also of a dtype that only torch has by itself."""
    name = dtypes.parse_dtype(array.dtype).name
    if name in dtypes.ML_DTYPES:  # torch takes their bits from numpy
        array = array.view("i2" if array.dtype.itemsize == 2 else "u1")
    return torch.from_numpy(array).view(getattr(torch, name))
