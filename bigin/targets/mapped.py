"""Arrays on disk that are mapped into memory as they are: opened at once, read when used, whatever their size."""

from __future__ import annotations

import math
import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bigin import dtypes
from bigin.errors import InputError
from bigin.regions import Shape, slices
from bigin.targets.base import Array
from bigin.targets.record import read_sidecar

MODES = ("r", "r+")
NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000)  # without a name in Python before 3.13


@dataclass(frozen=True)
class Layout:
    """Values that lie in a file one behind the other, from a byte on.

    `stored` is their dtype in the file's byte order; `block` is what the file holds, and `shape` the array, which a
    chunk may exceed.
    """

    path: Path
    offset: int
    shape: Shape
    block: Shape
    stored: np.dtype[Any]
    fortran: bool = False


def map_array(
    path: str | os.PathLike[str],
    mode: str = "r",
    *,
    raw: bool = False,
    shape: Shape | None = None,
    dtype: np.dtype[Any] | None = None,
    offset: int = 0,
) -> Array:
    """The array of a .npy file, a raw file or a zarr array that is one file, mapped into memory.

    With mode "r" the file never changes: what is written into the array stays in this process. With "r+" it goes to
    the file. Raises InputError where the file does not hold the values as they are.
    """
    place = Path(path)
    if mode not in MODES:
        raise InputError(f"expected mode r or r+, got {mode!r}")
    if not place.exists():
        raise InputError(f"{place}: expected a file, found nothing")
    if raw:
        if shape is None or dtype is None:
            raise InputError("expected a shape and a dtype for a raw file, which names neither; give both")
        layout = Layout(place, offset, shape, shape, dtype)
    elif offset:
        raise InputError("expected an offset only for a raw file; add raw=True")
    else:
        layout = zarr_layout(place) if place.is_dir() else npy_layout(place, dtype)
    for what, given, has in (("shape", shape, layout.shape), ("dtype", dtype, layout.stored)):
        if given is not None and given != has:
            raise InputError(f"{place}: expected {what} {given}, got {has}")
    return mapped(layout, mode)


def npy_layout(path: Path, dtype: np.dtype[Any] | None) -> Layout:
    """What a .npy file's header says; a dtype for which .npy has no name is the one given or the record's."""
    try:
        header = np.load(path, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise InputError(
            f"{path}: expected a .npy file or a zarr array, got one that cannot be read: {error}"
        ) from None
    if not isinstance(header, np.memmap):
        raise InputError(f"{path}: expected a .npy file, got an archive of several; name a file of one array")
    stored = header.dtype
    if stored.kind == "V":
        name = dtype.name if dtype is not None else (read_sidecar(path) or {}).get("dtype")
        if name not in dtypes.ML_DTYPES or dtypes.DTYPES[name].itemsize != stored.itemsize:
            raise InputError(f"{path}: expected a dtype, as a .npy header names none for {stored}; give one")
        stored = dtypes.DTYPES[name]
    fortran = header.flags.f_contiguous and not header.flags.c_contiguous
    return Layout(path, header.offset, header.shape, header.shape, stored, fortran)


def zarr_layout(path: Path) -> Layout:
    """A zarr array of one chunk without a codec, whose file is the chunk's values."""
    import zarr  # takes a third of a second to import

    from bigin.targets.zarr import chunk_key, stores_plain_bytes

    try:
        array = zarr.open(path, mode="r")
    except (FileNotFoundError, ValueError, TypeError, KeyError, OSError, NotImplementedError) as error:
        raise InputError(f"{path}: expected a .npy file or a zarr array, got neither: {error}") from None
    if isinstance(array, zarr.Group):
        raise InputError(f"{path}: expected a zarr array, got a group; name an array in it")
    whole = tuple((0, size) for size in array.shape)
    chunks = tuple(max(1, size) for size in array.chunks)
    number = math.prod(-(-size // chunk) for size, chunk in zip(array.shape, chunks, strict=True))
    if array.shards is not None or number > 1 or not stores_plain_bytes(array):
        what = "compressed or reordered chunks" if not stores_plain_bytes(array) else f"{number} chunks"
        raise InputError(
            f"{path}: expected one chunk without compression and shards, which can be mapped into memory, got "
            f"{'shards' if array.shards is not None else what}; fill a .npy file instead, or read parts: "
            "torch.from_numpy(zarr.open(path)[rows])"
        )
    file = path / chunk_key(array, whole, chunks)
    if number and not file.exists():
        raise InputError(f"{path}: expected values, got an array that nothing was written to; fill it first")
    return Layout(file, 0, array.shape, chunks, dtypes.parse_dtype(array.dtype))


def mapped(layout: Layout, mode: str) -> Array:
    """The array in memory."""
    count, size = math.prod(layout.block), layout.stored.itemsize
    order: Any = "F" if layout.fortran else "C"
    if 0 in layout.shape:
        return np.empty(layout.shape, layout.stored, order)
    try:
        with layout.path.open("r+b" if mode == "r+" else "rb") as file:
            has = os.fstat(file.fileno()).st_size
            if layout.offset < 0 or has < layout.offset + count * size:
                raise InputError(
                    f"{layout.path}: expected {count * size} bytes from {layout.offset} on for shape {layout.block} "
                    f"and {layout.stored.name}, got {has} in all"
                )
            # A private mapping and not a read-only one: torch knows no tensors that cannot be written, and a write
            # would end the process. Nothing is set aside for such writes, or a large file would not be mapped at all.
            flags = mmap.MAP_SHARED if mode == "r+" else mmap.MAP_PRIVATE | NORESERVE
            memory = mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError as error:
        raise InputError(f"{layout.path}: cannot be mapped into memory: {error.strerror}") from None
    values: Array = np.frombuffer(memory, layout.stored, count, layout.offset).reshape(layout.block, order=order)
    found: Array = values[slices(tuple((0, size) for size in layout.shape))]
    return found
