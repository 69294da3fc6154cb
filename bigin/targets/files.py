""".npy and raw files, written with pwrite.

pwrite of blocks from a small buffer that stays in the cache is two to ten times faster than storing through a fresh
mapping, stays coherent with one, and reports a full disk as an error instead of a SIGBUS.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import FillError, InputError, TargetError
from bigin.core.regions import Grid, Region, Shape, block_of_rows, extent, segments
from bigin.targets.disk import move_new, partial, read_all, reserve, start_writeback, sync_folder, write_all
from bigin.targets.ledger import (
    Progress,
    Record,
    journal,
    read_journal,
    read_sidecar,
    remove_journal,
    sidecar,
    write_journal,
    write_sidecar,
)
from bigin.targets.lock import Lock
from bigin.targets.target import Array, Parts, Scratch, Target

BLOCK = 512 << 10  # bytes in a pwrite: it stays in the L2 cache between being made and being written


class FileTarget(Target):
    """An array that lies in a file as it is, from an offset on, in C or Fortran order and either byte order."""

    keeps_progress = True

    def __init__(
        self,
        path: Path,
        shape: Shape,
        stored: np.dtype[Any],
        offset: int,
        *,
        fortran: bool = False,
        header: bytes = b"",
        raw: bool = False,
    ) -> None:
        self.label = str(path)
        self.path = path
        self.shape = shape
        self.dtype = dtypes.stored_dtype(stored, self.label)
        self.stored_dtype = stored
        self.offset = offset
        self.fortran = fortran and len(shape) > 1
        self.header = header  # what a file that is still to be made begins with
        self.raw = raw  # a file of values alone, whose record is all that tells where they lie
        self.file: BinaryIO | None = None
        self._lock: Lock | None = None
        self._found = path.exists()

    def grid(self, size: int = 0) -> Grid:
        """Regions that are one stretch of the file."""
        elements = max(size, BLOCK) // self.dtype.itemsize
        if self.fortran:
            return Grid(self.shape, block_of_rows(self.shape[::-1], elements)[::-1])
        return Grid(self.shape, block_of_rows(self.shape, elements))

    def block_memory(self, size: int = 0) -> int:
        """The block, and its copy where the file has another order of axes or bytes."""
        return max(size, BLOCK) * (1 if self._as_made else 2)

    @property
    def _as_made(self) -> bool:
        return self.stored_dtype == self.dtype and not self.fortran

    def block(self, region: Region, scratch: Scratch) -> Parts:
        """Scratch, which goes to the file's stretch."""
        made = scratch.array(extent(region), self.dtype)
        yield region, made
        data = made if self._as_made else self._in_file_order(made)
        ((start, _),) = segments(*self._in_file_axes(region))
        assert self.file is not None
        if os.fstat(self.file.fileno()).st_size < self.offset + self.nbytes:  # writing would hide it
            raise self._cut_off()
        write_all(self.file.fileno(), data.reshape(-1).view(np.uint8).data, self._place(start))

    def advance(self) -> None:
        """Starts to bring what is written to the disk."""
        if self.sync and self.file is not None:
            start_writeback(self.file.fileno())

    def _in_file_axes(self, region: Region) -> tuple[Shape, Region]:
        """The shape and the region as the file orders the axes."""
        return (self.shape[::-1], region[::-1]) if self.fortran else (self.shape, region)

    def _in_file_order(self, made: Array) -> Array:
        if self.stored_dtype.byteorder != self.dtype.byteorder:
            made = made.astype(self.stored_dtype)
        return np.ascontiguousarray(made.T if self.fortran else made)

    def _place(self, element: int) -> int:
        return self.offset + element * self.dtype.itemsize

    def stored(self, region: Region, scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        """The region, as it is one stretch of the file."""
        shape, stretch = self._in_file_axes(region)
        ((start, _),) = segments(shape, stretch)
        values = scratch.array(extent(stretch), self.stored_dtype)
        with self.path.open("rb") as file:
            read_all(file.fileno(), values.reshape(-1).view(np.uint8).data, self._place(start))
        if not self._as_made:
            values = values.astype(self.dtype)
        yield region, np.ascontiguousarray(values.T) if self.fortran else values

    def read(self, region: Region) -> Array:
        """The values of a region."""
        shape, stretch = self._in_file_axes(region)
        with self.path.open("rb") as file:
            data = b"".join(
                os.pread(file.fileno(), count * self.dtype.itemsize, self._place(first))
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

    def lock(self) -> None:
        """Of the file itself, so that nothing is left behind; of one that is missing, when it is made.

        Raises InputError for one that cannot be written.
        """
        if self._found:
            if not os.access(self.path, os.W_OK):
                raise TargetError(f"{self.path}: expected a file that can be written, got a read-only one")
            self._lock = Lock(self.path, self.label)
        self._check_still_missing()

    def _check_still_missing(self) -> None:
        if not self._found and self.path.exists():
            raise InputError(f"{self.path}: expected nothing there, but another process has just made it")

    def make(self) -> None:
        """Makes the file where it is missing, and reserves its space."""
        if self._found:
            self._open(self.path, os.O_RDWR)
            self._reserve(TargetError)
            return
        temporary = partial(self.path)  # so that no file is there without its header
        self._open(temporary, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW)
        assert self.file is not None
        self._lock = Lock(temporary, self.label)
        try:
            held = os.path.samestat(os.stat(temporary), os.fstat(self.file.fileno()))
        except FileNotFoundError:
            held = False
        if not held:  # another process had it, and has given it its name by now
            raise InputError(f"{self.path}: expected nothing there, but another process has just made it")
        try:
            self._check_still_missing()
            self.file.truncate(0)
            self.file.write(self.header)
            self._reserve(TargetError)
            os.fsync(self.file.fileno())
            move_new(temporary, self.path)
        except BaseException as error:
            temporary.unlink(missing_ok=True)
            if isinstance(error, FileExistsError):
                self._check_still_missing()
            raise
        self._found = True
        sync_folder(self.path.parent)

    def _open(self, path: Path, flags: int) -> None:
        try:
            fd = os.open(path, flags | os.O_NONBLOCK, 0o666)
            self.file = open(fd, "r+b", buffering=0)  # noqa: SIM115 (closed in close)
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(errno.EINVAL, "is no file")
        except OSError as error:
            raise TargetError(
                f"{path}: cannot be opened for writing: {error.strerror}; mend that or choose another place"
            ) from None

    def _reserve(self, kind: type[Exception]) -> None:
        assert self.file is not None
        reserve(self.file.fileno(), self.offset + self.nbytes, self.path, kind)

    def begin(self, record: Record) -> None:
        """Makes the file, and keeps an incomplete record."""
        self.make()
        self._remove_partials()
        self.forget_progress()
        self._keep_record(record)

    def resume(self) -> None:
        """Opens the file. One that was cut off is filled anew: its journal goes before the file gets its size again."""
        self._remove_partials()
        if not self.whole():
            self.forget_progress()
        self._open(self.path, os.O_RDWR)
        self._reserve(FillError)

    def clean(self) -> None:
        self._remove_partials()
        self.forget_progress()

    def _remove_partials(self) -> None:
        for path in (self.path, sidecar(self.path)):
            partial(path).unlink(missing_ok=True)

    def intact(self, region: Region) -> bool | None:
        """A file is there as a whole, or is filled anew."""
        return True

    def checkpoint(self, progress: Progress) -> None:
        """fdatasync, and only then the journal."""
        self._bring_to_disk(os.fdatasync if hasattr(os, "fdatasync") else os.fsync)
        write_journal(journal(self.path), progress | self._identity())

    def _identity(self) -> dict[str, int]:
        """What tells that a journal speaks of this stretch of this file."""
        return {"inode": self.path.stat().st_ino, "offset": self.offset}

    def progress(self) -> Progress | None:
        """The journal's; none where another file has taken the place of the one that it speaks of."""
        kept = read_journal(journal(self.path))
        if kept is None or not self.path.exists():
            return None
        identity = self._identity()
        return kept if {key: kept.pop(key, None) for key in identity} == identity else None

    def forget_progress(self) -> None:
        remove_journal(journal(self.path))

    def _bring_to_disk(self, sync: Callable[[int], None]) -> None:
        assert self.file is not None
        if self.sync:
            sync(self.file.fileno())
        status = os.fstat(self.file.fileno())
        if not self.path.exists() or not os.path.samestat(self.path.stat(), status):
            raise FillError(f"{self.path}: was removed or replaced while it was filled; fill it again")
        if status.st_size < self.offset + self.nbytes:
            raise self._cut_off()

    def _cut_off(self) -> FillError:
        return FillError(f"{self.path}: was cut off while it was filled; the same fill again repairs it")

    def finish(self, record: Record) -> None:
        """fsync, and only then the complete record."""
        self._bring_to_disk(os.fsync)
        self._keep_record(record)
        self.forget_progress()

    def _keep_record(self, record: Record) -> None:
        where = {"offset": self.offset} if self.raw and self.offset else {}
        write_sidecar(self.path, record | where)

    def record(self) -> Record | None:
        """The sidecar's. Where it speaks of another place in a raw file, it says so."""
        record = read_sidecar(self.path) if self.path.exists() else None
        if self.raw and record is not None and record.setdefault("offset", 0) == self.offset:
            del record["offset"]
        return record

    def close(self) -> None:
        """Closes the file."""
        if self.file is not None:
            self.file.close()
            self.file = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class MemmapTarget(FileTarget):
    """The file behind an np.memmap: an array in place like any other, without a record, but written with pwrite."""

    keeps_progress = False

    def lock(self) -> None:
        """None: several processes may each fill a part of one mapped file."""

    def holds_data(self) -> bool:
        return False

    def begin(self, record: Record) -> None:
        self.make()

    def clean(self) -> None:
        """Nothing is left behind."""

    def intact(self, region: Region) -> bool | None:
        return None

    def progress(self) -> Progress | None:
        return None

    def finish(self, record: Record) -> None:
        assert self.file is not None
        if self.sync:
            os.fsync(self.file.fileno())

    def record(self) -> Record | None:
        return None


def memmap_target(array: np.memmap[Any, Any]) -> MemmapTarget | None:
    """The target of a memory-mapped array; None where its file cannot be told for certain.

    The place is taken from the system's list of mappings, as a view of a memmap carries its parent's offset, and a
    file may have been replaced by another of its name.
    """
    if not (array.flags.c_contiguous and array.flags.writeable and array.size and array.filename):
        return None
    mapping = shared_mapping(array.ctypes.data, array.nbytes)
    path = Path(array.filename)
    try:
        status = path.stat()
    except OSError:
        return None
    if mapping is None or mapping[:2] != (status.st_dev, status.st_ino) or not os.access(path, os.W_OK):
        return None
    return MemmapTarget(path, array.shape, array.dtype, mapping[2])


def shared_mapping(address: int, size: int) -> tuple[int, int, int] | None:
    """The device, the inode and the offset in the file of a stretch of memory that is a file, mapped to be written."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        span, access, offset, device, inode = line.split()[:5]
        start, stop = (int(end, 16) for end in span.split("-"))
        if start <= address < stop:
            if not access.startswith("rw") or not access.endswith("s") or address + size > stop:
                return None
            major, minor = (int(part, 16) for part in device.split(":"))
            return os.makedev(major, minor), int(inode), int(offset, 16) + address - start
    return None


def npy_target(path: Path, shape: Shape | None, dtype: np.dtype[Any] | None, *, damaged: bool = False) -> FileTarget:
    """The array of a .npy file, or one that is still to be made with this shape and dtype (both given).

    A file that ends too early is taken if the record of a fill says so, or if a `damaged` one is of use.
    """
    if not path.exists():
        assert shape is not None
        assert dtype is not None
        header = npy_header(shape, dtype)
        return FileTarget(path, shape, dtype, len(header), header=header)
    with path.open("rb") as file:
        try:
            major = np.lib.format.read_magic(file)[0]
            read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
            found, fortran, stored = read(file)
        except Exception as error:  # whatever numpy's parser makes of it
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: expected a .npy file, got one whose header cannot be read: {reason}") from None
        offset = file.tell()
    if any(size < 0 for size in found):
        raise InputError(f"{path}: expected a .npy file, got one whose header says shape {found}")
    stored = _opaque(path, stored, dtype)
    target = FileTarget(path, found, stored, offset, fortran=fortran)
    size, complete = path.stat().st_size, (read_sidecar(path) or {}).get("complete")
    if size < offset + target.nbytes and not damaged and complete is not False:
        remedy = "; verify --repair mends it" if complete is True else ""
        raise InputError(
            f"{path}: expected {offset + target.nbytes} bytes for shape {found} and {stored.name}, got {size}; "
            f"the file is truncated{remedy}"
        )
    return target


def _opaque(path: Path, stored: np.dtype[Any], dtype: np.dtype[Any] | None) -> np.dtype[Any]:
    """The dtype of a file whose header can only say how wide it is: .npy has no names for ml_dtypes' types."""
    if stored.kind != "V" or stored.names or stored.subdtype:
        return stored
    if dtype is None:
        record = read_sidecar(path) or {}
        if record.get("dtype") not in dtypes.ML_DTYPES:
            raise InputError(f"{path}: expected a dtype, as a .npy header names none for {stored}; give one")
        dtype = dtypes.parse_dtype(record["dtype"])
    return dtype if dtype.itemsize == stored.itemsize else stored


def npy_header(shape: Shape, dtype: np.dtype[Any]) -> bytes:
    """The header that numpy.save writes, which numpy reads; ml_dtypes' types become opaque there (|V2, |V1)."""
    import io

    descr = f"|V{dtype.itemsize}" if dtype.name in dtypes.ML_DTYPES else np.lib.format.dtype_to_descr(dtype)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return header.getvalue()


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
