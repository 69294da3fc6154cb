"""A file of a checkpoint that is written: under a temporary name, header first, values by pwrite in any order."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bigin.core.disk import partial, reserve
from bigin.core.errors import DamagedError, FillError, TargetError
from bigin.core.regions import Shape
from bigin.targets.files import BLOCK, FileTarget
from bigin.targets.safetensors.header import Entry, Header, read_header
from bigin.targets.safetensors.tensor import stored_dtype


class StoredTensor(FileTarget):
    """A tensor of a file that a checkpoint writes, which opens the file and reserves its space."""

    @cached_property
    def nbytes(self) -> int:  # type: ignore[override]
        """As any target's; computed once, as a model asks each tensor several times."""
        return math.prod(self.shape) * self.dtype.itemsize

    def at(self, label: str, shape: Shape, dtype: np.dtype[Any], offset: int, nbytes: int) -> StoredTensor:
        """Another tensor of the same file. Fields are copied: a model may have 100,000 small tensors."""
        other = object.__new__(StoredTensor)
        held = other.__dict__
        held.update(self.__dict__)
        held["label"], held["shape"], held["dtype"], held["stored_dtype"] = label, shape, dtype, dtype
        held["offset"], held["nbytes"] = offset, nbytes
        return other

    def block_memory(self, size: int = 0) -> int:
        """The block alone, as the file has the machine's byte order."""
        return size if size > BLOCK else BLOCK

    def move(self, path: Path, file: BinaryIO | None) -> None:
        """Follows the file to another path, or to another opening of it."""
        self.path, self.file = path, file


class StoredFile:
    """A file of a checkpoint: its path, its temporary path and its tensors."""

    def __init__(self, path: Path, header: bytes, entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> None:
        self.path = path
        self.metadata = metadata
        self.partial = partial(path)
        self.header = header
        self.entries = entries
        self.size = len(header) + max((entry.end for entry in entries.values()), default=0)
        self.file: BinaryIO | None = None
        self.tensors: dict[str, StoredTensor] = {}
        any_tensor = StoredTensor(path, (), np.dtype(np.uint8), 0)
        known: dict[str, np.dtype[Any]] = {}  # dtypes of codes whose values are not packed
        label, start = str(path), len(header)
        for name, entry in entries.items():
            code, shape, begin, end = entry
            dtype = known.get(code)
            if dtype is None:
                dtype, shape = stored_dtype(path, name, entry), entry.stored[1]
                if entry.stored[0] == entry.dtype:
                    known[code] = dtype
            self.tensors[name] = any_tensor.at(f"{label}#{name}", shape, dtype, start + begin, end - begin)

    def create(self) -> None:
        """Makes it under its temporary name, with its header and its space."""
        self._open(self.partial, os.O_CREAT)
        assert self.file is not None
        self.file.truncate(0)
        self.file.write(self.header)
        self.file.flush()
        reserve(self.file.fileno(), self.size, self.partial, TargetError)

    def reopen(self) -> None:
        """Opens what an earlier fill has left, under either name."""
        path = self.written()
        if not path.exists():
            raise DamagedError(f"{self.partial}: was removed; give --overwrite (overwrite=True) to start over")
        self._open(path, 0)
        assert self.file is not None
        if os.pread(self.file.fileno(), len(self.header), 0) != self.header:
            raise DamagedError(f"{path}: was replaced by another file; give --overwrite (overwrite=True) to start over")
        reserve(self.file.fileno(), self.size, path, FillError)

    def _open(self, path: Path, flags: int) -> None:
        self.file = os.fdopen(os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o666), "r+b")
        for target in self.tensors.values():
            target.move(path, self.file)

    def read(self) -> Header:
        """What the file under its own name says now: read anew only if it begins with another header."""
        with self.path.open("rb") as file:
            same = os.fstat(file.fileno()).st_size == self.size and file.read(len(self.header)) == self.header
        return Header(self.entries, self.metadata, len(self.header)) if same else read_header(self.path)

    def whole(self) -> bool:
        """Whether it has its size."""
        path = self.written()
        return path.exists() and path.stat().st_size >= self.size

    def written(self) -> Path:
        """The path that it has now: its temporary one while that exists."""
        return self.partial if self.partial.exists() else self.path

    def bring_to_disk(self, sync: Callable[[int], None] | None) -> None:
        """Has `sync` write the data; raises FillError where another file has replaced this one, or it was cut off."""
        assert self.file is not None
        if sync is not None:
            sync(self.file.fileno())
        status = os.fstat(self.file.fileno())
        path = self.written()
        if not path.exists() or not os.path.samestat(path.stat(), status):
            raise DamagedError(f"{path}: was removed or replaced while it was filled; rerun the fill")
        if status.st_size < self.size:
            raise DamagedError(f"{path}: was truncated while it was filled; rerun the fill, which repairs it")

    def close(self) -> None:
        """Closes it."""
        if self.file is not None:
            self.file.close()
            self.file = None
            for target in self.tensors.values():
                target.move(target.path, None)
