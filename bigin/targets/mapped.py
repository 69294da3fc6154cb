"""Arrays on disk that are mapped into memory as they are: opened at once, read when used, whatever their size."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.regions import Shape, slices
from bigin.targets.records import read_sidecar
from bigin.targets.target import Array

MODES = ("r", "r+")

# Python's mmap cannot choose the address, so that files come to lie one behind the other; these are the C library's.
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)
libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
FAILED = ctypes.c_void_p(-1).value
FIXED, NORESERVE = 0x10, 0x4000  # Linux's, without a name in Python 3.11
RESERVED = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NORESERVE
PROT_NONE, READ_WRITE = 0, mmap.PROT_READ | mmap.PROT_WRITE

# "r" is a private mapping and not a read-only one: torch knows no tensors that cannot be written, and a write would end
# the process. No memory is set aside for such writes, or the system would refuse to map a large file.
FLAGS = {"r": mmap.MAP_PRIVATE | NORESERVE, "r+": mmap.MAP_SHARED}


@dataclass(frozen=True)
class Layout:
    """Values that lie in files one behind the other: in each, from a byte on, a block of C or Fortran order.

    `stored` is their dtype in the files' byte order. The blocks lie behind each other along the first axis; together
    they may exceed the array, whose shape is `shape`.
    """

    files: Sequence[Path]
    offset: int
    shape: Shape
    block: Shape
    stored: np.dtype[Any]
    fortran: bool = False

    @property
    def block_bytes(self) -> int:
        """What a file holds."""
        return math.prod(self.block) * self.stored.itemsize


def map_array(
    place: Any,
    mode: str = "r",
    *,
    raw: bool = False,
    shape: Shape | None = None,
    dtype: np.dtype[Any] | None = None,
    offset: int = 0,
) -> Array:
    """The array of a .npy file, a raw file or a zarr array of whole rows, mapped into memory.

    With mode "r" the files never change: what is written into the array stays in this process. With "r+" it goes to
    the files. Raises InputError where the files do not hold the values as they are.
    """
    path = local_path(place)
    if mode not in MODES:
        raise InputError(f"expected mode r or r+, got {mode!r}")
    if not path.exists():
        raise InputError(f"{path}: expected a file, found nothing")
    if raw:
        if shape is None or dtype is None:
            raise InputError("expected a shape and a dtype for a raw file, which names neither; give both")
        if offset < 0:
            raise InputError(f"expected an offset that is not negative, got {offset}")
        layout = Layout([path], offset, shape, shape, dtype)
    elif offset:
        raise InputError("expected an offset only for a raw file; add raw=True")
    else:
        layout = zarr_layout(path) if path.is_dir() else npy_layout(path, dtype)
    for what, given, has in (("shape", shape, layout.shape), ("dtype", dtype, layout.stored)):
        if given is not None and given != has:
            raise InputError(f"{path}: expected {what} {given}, got {has}")
    return mapped(layout, mode)


def local_path(place: Any) -> Path:
    """Where a file or a zarr array lies."""
    if isinstance(place, str | os.PathLike) and "://" not in str(place):
        return Path(place)
    zarr = sys.modules.get("zarr")  # whoever has an array has imported it
    if zarr is not None and isinstance(place, zarr.Array) and isinstance(place.store, zarr.storage.LocalStore):
        return Path(place.store.root, place.path)
    what = place if isinstance(place, str) else type(place).__name__
    raise InputError(f"expected the path of a file or of a zarr array on this machine, got {what}")


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
    return Layout([path], header.offset, header.shape, header.shape, stored, fortran)


def zarr_layout(path: Path) -> Layout:
    """A zarr array whose chunks are whole rows without a codec, each of them a file of the chunk's values."""
    import zarr  # takes a third of a second to import

    from bigin.targets.zarr.chunks import chunk_key, stores_plain_bytes

    try:
        array = zarr.open(path, mode="r")
    except (FileNotFoundError, ValueError, TypeError, KeyError, OSError, NotImplementedError) as error:
        raise InputError(f"{path}: expected a .npy file or a zarr array, got neither: {error}") from None
    if isinstance(array, zarr.Group):
        raise InputError(f"{path}: expected a zarr array, got a group; name an array in it")
    chunks = tuple(max(1, size) for size in array.chunks)
    got = None
    if not stores_plain_bytes(array):
        got = "compressed or reordered ones"
    elif array.shards is not None:
        got = "shards"
    elif any(size > chunk for size, chunk in zip(array.shape[1:], chunks[1:], strict=True)):
        got = f"chunks of {'x'.join(map(str, chunks))} of shape {'x'.join(map(str, array.shape))}"
    if got is not None:
        raise InputError(
            f"{path}: expected chunks of whole rows, without compression and shards, which can be mapped into memory, "
            f"got {got}; fill such an array or a .npy file, or read parts: torch.from_numpy(zarr.open(path)[rows])"
        )
    region = tuple((0, size) for size in array.shape)
    count = 0 if 0 in array.shape else -(-array.shape[0] // chunks[0]) if array.shape else 1
    starts = (((i * chunks[0], 0), *region[1:]) for i in range(count)) if array.shape else [region] * count
    files = [path / chunk_key(array, start, chunks) for start in starts]
    layout = Layout(files, 0, array.shape, chunks, dtypes.parse_dtype(array.dtype))
    if count > 1 and layout.block_bytes % mmap.PAGESIZE:
        row = layout.block_bytes // chunks[0]
        rows = mmap.PAGESIZE // math.gcd(mmap.PAGESIZE, row)
        raise InputError(
            f"{path}: expected chunks of a multiple of {rows} rows, which fill whole pages of memory, got chunks of "
            f"{chunks[0]} rows of {row} bytes; fill an array of such chunks, or a .npy file"
        )
    missing = next((file for file in files if not file.exists()), None)
    if missing is not None:
        raise InputError(f"{path}: expected values, got an array without its chunk {missing.name}; fill it first")
    return layout


def mapped(layout: Layout, mode: str) -> Array:
    """The array in memory."""
    order: Any = "F" if layout.fortran else "C"
    if 0 in layout.shape:
        return np.empty(layout.shape, layout.stored, order)
    memory = np.asarray(Mapping(layout, mode))  # which lives as long as its arrays
    whole = (layout.block[0] * len(layout.files), *layout.block[1:]) if layout.block else ()
    count = math.prod(whole)
    values: Array = (
        memory[layout.offset :][: count * layout.stored.itemsize].view(layout.stored).reshape(whole, order=order)
    )
    found: Array = values[slices(tuple((0, size) for size in layout.shape))]
    return found


class Mapping:
    """Files one behind the other in memory, for as long as an array refers to it."""

    def __init__(self, layout: Layout, mode: str) -> None:
        self.address, self.size = 0, 0
        size = layout.offset + layout.block_bytes
        try:
            self.address = self._map(None, size * len(layout.files), PROT_NONE, RESERVED, -1)
            self.size = size * len(layout.files)
            for i, path in enumerate(layout.files):
                with path.open("r+b" if mode == "r+" else "rb") as file:
                    has = os.fstat(file.fileno()).st_size
                    if has < size:
                        raise InputError(
                            f"{path}: expected {layout.block_bytes} bytes from {layout.offset} on for shape "
                            f"{layout.block} and {layout.stored.name}, got {has} in all"
                        )
                    self._map(self.address + i * size, size, READ_WRITE, FLAGS[mode] | FIXED, file.fileno())
        except OSError as error:
            many = f"; {len(layout.files)} chunks may be too many, larger ones fewer" if len(layout.files) > 1 else ""
            raise InputError(f"{layout.files[0]}: cannot be mapped into memory: {error.strerror}{many}") from None

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"data": (self.address, False), "shape": (self.size,), "typestr": "|u1", "version": 3}

    @staticmethod
    def _map(address: int | None, size: int, protection: int, flags: int, file: int) -> int:
        found = int(libc.mmap(address, size, protection, flags, file, 0))
        if found == FAILED:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return found

    def __del__(self, munmap: Callable[..., int] = libc.munmap) -> None:
        if self.size:
            munmap(self.address, self.size)
