"""Arrays that lie in a file as they are, written with pwrite.

pwrite of blocks from a small buffer that stays in the cache is two to ten times faster than storing through a fresh
mapping, stays coherent with one, and reports a full disk as an error instead of a SIGBUS.
"""

from __future__ import annotations

import errno
import os
import stat
import uuid
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bigin.core import dtypes
from bigin.core.disk import move_new, partial, read_all, reserve, start_writeback, sync_folder, write_all
from bigin.core.errors import DamagedError, ExistsError, TargetError
from bigin.core.names import file_name
from bigin.core.regions import Grid, Region, Shape, block_of_rows, extent, segments
from bigin.targets.lock import Lock
from bigin.targets.target import Array, Parts, Scratch, Target

BLOCK = 512 << 10  # bytes in a pwrite: it stays in the L2 cache between being made and being written


class FileTarget(Target):
    """An array that lies in a file as it is, from an offset on, in C or Fortran order and either byte order."""

    def __init__(
        self,
        path: Path,
        shape: Shape,
        stored: np.dtype[Any],
        offset: int,
        *,
        fortran: bool = False,
        header: bytes = b"",
    ) -> None:
        self.label = str(path)
        self.path = path
        self.shape = shape
        self.dtype = dtypes.stored_dtype(stored, self.label)
        self.stored_dtype = stored
        self.offset = offset
        self.fortran = fortran and len(shape) > 1
        self.header = header  # what a file that is still to be made begins with
        self.name, self.name_from = file_name(path.name), "file"
        self.file: BinaryIO | None = None

    def grid(self, size: int = 0) -> Grid:
        """Regions that are one stretch of the file."""
        return _stretches(self.shape, max(size, BLOCK) // self.dtype.itemsize, fortran=self.fortran)

    def block_memory(self, size: int = 0) -> int:
        """The block, and its copy where the file has another order of axes or bytes."""
        return max(size, BLOCK) * (1 if self._as_made else 2)

    @property
    def byte_order(self) -> str:
        return self.stored_dtype.byteorder if not self.stored_dtype.isnative else "="

    @property
    def _as_made(self) -> bool:
        return (self.stored_dtype is self.dtype or self.stored_dtype == self.dtype) and not self.fortran

    def block(self, region: Region, scratch: Scratch) -> Parts:
        """Parts of the buffer, which are written to the file."""
        made = scratch.array(extent(region), self.dtype)
        yield region, made
        data = made if self._as_made else self._as_stored(made)
        ((start, _),) = segments(*self.in_file_order(region))
        assert self.file is not None
        self.check_size(self.offset + self.nbytes)
        write_all(self.file.fileno(), data.reshape(-1).view(np.uint8).data, self._position(start))

    def is_even(self) -> bool:
        """Whether its elements lie in the file as in memory: in the same order, at multiples of their size."""
        return self._as_made and self.offset % self.dtype.itemsize == 0

    def check_size(self, size: int) -> None:
        """Raises DamagedError where the file has been cut off, which writing would hide."""
        assert self.file is not None
        if os.fstat(self.file.fileno()).st_size < size:
            raise self._cut_off()

    def advance(self) -> None:
        """Starts to bring what is written to the disk."""
        if self.sync and self.file is not None:
            start_writeback(self.file.fileno())

    def in_file_order(self, region: Region) -> tuple[Shape, Region]:
        """The shape and the region as the file orders the axes."""
        return (self.shape[::-1], region[::-1]) if self.fortran else (self.shape, region)

    def _as_stored(self, made: Array) -> Array:
        if self.stored_dtype.byteorder != self.dtype.byteorder:
            made = made.astype(self.stored_dtype)
        return np.ascontiguousarray(made.T if self.fortran else made)

    def _position(self, element: int) -> int:
        return self.offset + element * self.dtype.itemsize

    def stored(self, region: Region, scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        """The region, as it is one stretch of the file."""
        shape, stretch = self.in_file_order(region)
        ((start, _),) = segments(shape, stretch)
        values = scratch.array(extent(stretch), self.stored_dtype)
        with self.path.open("rb") as file:
            read_all(file.fileno(), values.reshape(-1).view(np.uint8).data, self._position(start))
        if not self._as_made:
            values = values.astype(self.dtype)
        yield region, np.ascontiguousarray(values.T) if self.fortran else values

    def read(self, region: Region) -> Array:
        """The values of a region."""
        shape, stretch = self.in_file_order(region)
        with self.path.open("rb") as file:
            data = b"".join(
                os.pread(file.fileno(), count * self.dtype.itemsize, self._position(first))
                for first, count in segments(shape, stretch)
            )
        values = np.frombuffer(data, self.stored_dtype).astype(self.dtype).reshape(extent(stretch))
        return np.ascontiguousarray(values.T) if self.fortran else values

    def exists(self) -> bool:
        return self.path.exists()

    def holds_data(self) -> bool:
        """Whether any byte of the array is not 0. Holes are not read."""
        return self.path.exists() and has_data(self.path, self.offset, self.nbytes)

    def layout(self) -> dict[str, Any]:
        """The order of axes and bytes, and where the values begin, in bytes."""
        with self.path.open("rb") as file:
            kind = "npy" if file.read(len(np.lib.format.MAGIC_PREFIX)) == np.lib.format.MAGIC_PREFIX else "raw"
        return {
            "format": kind,
            "order": "Fortran" if self.fortran else "C",
            "byte_order": "big" if self.stored_dtype.byteorder == ">" else "little",
            "offset": self.offset,
        }

    def stored_bytes(self) -> int:
        """What the file takes on the disk."""
        return self.path.stat().st_blocks * 512

    def whole(self) -> bool:
        return self.path.exists() and self.path.stat().st_size >= self.offset + self.nbytes

    def intact(self, region: Region) -> bool | None:
        """A file is there as a whole, or is filled from the start."""
        return True

    def start(self) -> None:
        """Opens the file, and reserves its space."""
        self.open(self.path, os.O_RDWR)
        self.reserve(TargetError)

    def make(self) -> Lock:
        """Makes a missing file with its header and its space; returns a lock of it.

        Raises ExistsError or LockedError where another process makes it at this moment.
        """
        temporary = partial(self.path)  # so that no file is there without its header
        self.open(temporary, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
        assert self.file is not None
        try:
            lock = Lock(temporary, self.label)
        except FileNotFoundError:  # another process has finished the file by now
            raise self._made_by_another() from None
        if not temporary.exists() or not os.path.samestat(temporary.stat(), os.fstat(self.file.fileno())):
            lock.release()
            raise self._made_by_another()
        made = temporary  # what is removed if anything fails
        try:
            self.check_missing()
            self.file.truncate(0)
            self.file.write(self.header)
            self.reserve(TargetError)
            os.fsync(self.file.fileno())
            move_new(temporary, self.path)
            made = self.path
            sync_folder(self.path.parent)
        except BaseException as error:
            made.unlink(missing_ok=True)
            lock.release()
            if isinstance(error, FileExistsError):
                raise self._made_by_another() from None
            raise
        return lock

    def check_missing(self) -> None:
        """Raises ExistsError where another process has made the file."""
        if self.path.exists():
            raise self._made_by_another()

    def _made_by_another(self) -> ExistsError:
        return ExistsError(
            f"{self.path}: expected nothing there, got a file that another process has just made; rerun the command"
        )

    def open(self, path: Path, flags: int) -> None:
        """Opens a file to be written; raises TargetError."""
        try:
            fd = os.open(path, flags | os.O_NONBLOCK, 0o666)
            self.file = open(fd, "r+b", buffering=0)  # noqa: SIM115 (closed in close)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "it is no file")
        except OSError as error:
            raise TargetError(
                f"{path}: cannot be opened for writing: {error.strerror}; fix this or choose another path"
            ) from None

    def reserve(self, kind: type[Exception]) -> None:
        """Reserves the space; raises an error of this kind where there is too little."""
        assert self.file is not None
        reserve(self.file.fileno(), self.offset + self.nbytes, self.path, kind)

    def beside(self) -> FileTarget:
        """A file of the same layout in the same folder, of holes, to try how fast it is written."""
        path = self.path.with_name(f".bigin-trial-{uuid.uuid4().hex}")
        other = FileTarget(path, self.shape, self.stored_dtype, self.offset, fortran=self.fortran)
        other.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        assert other.file is not None
        other.file.truncate(self.offset + self.nbytes)
        return other

    def flush(self) -> None:
        """fsync."""
        assert self.file is not None
        if self.sync:
            os.fsync(self.file.fileno())

    def check_there(self) -> None:
        """Raises FillError where another file has replaced this one, or it was cut off."""
        assert self.file is not None
        status = os.fstat(self.file.fileno())
        if not self.path.exists() or not os.path.samestat(self.path.stat(), status):
            raise DamagedError(f"{self.path}: was removed or replaced while it was filled; rerun the fill")
        if status.st_size < self.offset + self.nbytes:
            raise self._cut_off()

    def _cut_off(self) -> DamagedError:
        return DamagedError(f"{self.path}: was truncated while it was filled; rerun the fill, which repairs it")

    def close(self) -> None:
        """Closes the file, and the ledger."""
        if self.file is not None:
            self.file.close()
            self.file = None
        super().close()


@lru_cache(1024)
def _stretches(shape: Shape, elements: int, *, fortran: bool) -> Grid:
    """The grid of an array's stretches of at most so many elements; one object for all tensors of a shape."""
    if fortran:
        return Grid(shape, block_of_rows(shape[::-1], elements)[::-1])
    return Grid(shape, block_of_rows(shape, elements))


def has_data(path: Path, offset: int, size: int) -> bool:
    """Whether a stretch of a file holds any byte that is not 0."""
    with path.open("rb") as file:
        fd, end = file.fileno(), min(offset + size, os.fstat(file.fileno()).st_size)
        while offset < end:
            try:
                offset = os.lseek(fd, offset, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole is left
                return False
            data = os.pread(fd, min(BLOCK, end - offset), offset) if offset < end else b""
            if data.strip(b"\0"):
                return True
            offset += max(1, len(data))
    return False
