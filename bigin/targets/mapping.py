"""Files that are mapped into memory one behind the other, as one array."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bigin.core.errors import InputError
from bigin.core.regions import Shape, slices
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
class MappedLayout:
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


def mapped(layout: MappedLayout, mode: str) -> Array:
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
    array: Array = values[slices(tuple((0, size) for size in layout.shape))]
    return array


class Mapping:
    """Files one behind the other in memory, for as long as an array refers to it."""

    def __init__(self, layout: MappedLayout, mode: str) -> None:
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
                            f"{path}: expected {layout.block_bytes} bytes from byte {layout.offset} on for shape "
                            f"{layout.block} and {layout.stored.name}, got {has} in all"
                        )
                    self._map(self.address + i * size, size, READ_WRITE, FLAGS[mode] | FIXED, file.fileno())
        except OSError as error:
            many = f"; {len(layout.files)} chunks may be too many, use larger ones" if len(layout.files) > 1 else ""
            raise InputError(f"{layout.files[0]}: cannot be mapped into memory: {error.strerror}{many}") from None

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {"data": (self.address, False), "shape": (self.size,), "typestr": "|u1", "version": 3}

    @staticmethod
    def _map(address: int | None, size: int, protection: int, flags: int, file: int) -> int:
        start = int(libc.mmap(address, size, protection, flags, file, 0))
        if start == FAILED:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return start

    def __del__(self, munmap: Callable[..., int] = libc.munmap) -> None:
        if self.size:
            munmap(self.address, self.size)
