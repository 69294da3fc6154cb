"""Tensors that torch.save has pickled, read without torch. Nothing that a pickle names is run.

A file of torch.save is a zip archive with a pickle, in which each tensor names its storage, and an entry for the bytes
of each storage.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from bigin.core.regions import Shape, dense

REBUILT = ("_rebuild_tensor_v2", "_rebuild_tensor_v3")
LOCAL_HEADER = struct.Struct("<26xHH")  # of an entry: the lengths of its name and of its extra field
# What reading a pickle or an archive raises if it is damaged, or is none.
ERRORS = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, EOFError, AttributeError, KeyError, TypeError, IndexError),
    *(ValueError, RecursionError),
)


class Named:
    """A class or function that a pickle names: calling it keeps the arguments, and does nothing else."""

    name = ""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __getitem__(self, key: str) -> Any:
        return self.state[key]


class Dictionary(dict[Any, Any]):
    """An OrderedDict; a state dict sets attributes of it."""


class Reading(pickle.Unpickler):
    """An unpickler that makes only plain objects, and `Named` ones for torch's names."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for a name; raises UnpicklingError for names other than torch's."""
        if (module, name) == ("torch", "Size"):
            return tuple
        if (module, name) == ("collections", "OrderedDict"):
            return Dictionary
        if module.partition(".")[0] in ("torch", "pathlib"):
            return type("Named", (Named,), {"name": name})
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """Return the name of a storage as it is."""
        return pid


@dataclass(frozen=True)
class PickledTensor:
    """A tensor in a pickle: the kind of its storage and the storage's key, its first element there, and its strides.

    told: the further arguments, which name the dtype if the kind of storage does not.
    """

    kind: str
    storage: str
    first: int
    shape: Shape
    strides: Shape
    told: tuple[Any, ...]

    @classmethod
    def of(cls, held: Any) -> PickledTensor | None:
        """The tensor that an object of a pickle is, or wraps, as a parameter does; None for other objects."""
        rebuilt = next((each for each in unwrapped(held) if each.name in REBUILT), None)
        if rebuilt is None:
            return None
        (_, kind, key, *_), first, shape, strides, *told = rebuilt.arguments
        if not all(isinstance(number, int) for number in (first, *shape, *strides)):
            raise pickle.UnpicklingError("a tensor's shape has something else than integers")
        return cls(kind.name, key, first, tuple(shape), tuple(strides), tuple(told))

    @property
    def is_fortran(self) -> bool:
        """Whether the elements are in Fortran order, and not in C order as well."""
        return self.strides != dense(self.shape) and self.strides[::-1] == dense(self.shape[::-1])

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements follow each other in C or Fortran order; an axis of length 1 may have any stride."""
        axes = zip(self.shape, self.strides, dense(self.shape), strict=True)
        return self.is_fortran or 0 in self.shape or all(size == 1 or own == step for size, own, step in axes)


def unwrapped(held: Any) -> Iterator[Named]:
    """An object that a pickle names, then what it wraps, and so on."""
    while isinstance(held, Named):
        yield held
        held = held.arguments[0] if held.arguments else None


class Archive:
    """What torch.save has written, in a file of its own or in `length` bytes of another file, from `start` on."""

    def __init__(self, file: BinaryIO, start: int = 0, length: int | None = None) -> None:
        self._file, self._start = file, start
        self._zip = zipfile.ZipFile(file if length is None else _Stretch(file, start, length))
        (self._root,) = {entry.partition("/")[0] for entry in self._zip.namelist()}

    def read(self) -> Any:
        """What the pickle holds."""
        return Reading(io.BytesIO(self._zip.read(f"{self._root}/data.pkl"))).load()

    @property
    def is_little_endian(self) -> bool:
        """Whether the values are; older archives do not say it, and are."""
        name = f"{self._root}/byteorder"
        return name not in self._zip.namelist() or self._zip.read(name) == b"little"

    def offset_of(self, storage: str) -> int | None:
        """The byte of the file at which a storage begins; None if it is missing or compressed."""
        try:
            entry = self._zip.getinfo(f"{self._root}/data/{storage}")
        except KeyError:
            return None
        if entry.compress_type:
            return None
        at = self._start + entry.header_offset
        self._file.seek(at)
        header = self._file.read(LOCAL_HEADER.size)
        if len(header) < LOCAL_HEADER.size:
            raise zipfile.BadZipFile("an entry lies outside of the file")
        return at + LOCAL_HEADER.size + int(sum(LOCAL_HEADER.unpack(header)))


class _Stretch(io.RawIOBase):
    """A stretch of a file as a file of its own."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self.file, self.start, self.length, self.at = file, start, length, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, self.length)[whence])
        return self.at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.length - self.at)
        self.file.seek(self.start + self.at)
        data = self.file.read(left if size < 0 else min(size, left))
        self.at += len(data)
        return data
