"""What the operating system does with files: writing all of them, reserving space, bringing data to the disk."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
from pathlib import Path
from typing import Any

from bigin.errors import FillError, InputError
from bigin.text import size_text

SYNC_FILE_RANGE_WRITE = 2


def write_all(fd: int, data: memoryview, offset: int) -> None:
    """pwrite until everything is written."""
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written


def read_all(fd: int, data: memoryview, offset: int) -> None:
    """pread until the buffer is full; raises ValueError where the file ends before."""
    while data:
        count = os.preadv(fd, [data], offset)
        if count == 0:
            raise ValueError(f"it ends at byte {offset}, where {len(data)} more were expected")
        data, offset = data[count:], offset + count


def reserve(fd: int, size: int, path: Path, kind: type[Exception]) -> None:
    """Reserves a file's blocks, so that a disk that is too small is found before they are written.

    Then an error of this kind is raised: InputError where nothing has been done yet, else FillError.
    """
    if size == 0:
        return
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise FillError(f"{path}: cannot reserve {size_text(size)}: {error.strerror}") from None
        status = os.fstatvfs(fd)
        free = status.f_bavail * status.f_frsize
        raise kind(
            f"{path}: expected {size_text(size)} of disk, got {size_text(free)} free ({error.strerror}); "
            "free some or choose another disk"
        ) from None


def require_space(folder: Path, size: int) -> None:
    """Refuses to begin where a file system has less free space than a new target takes."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size > free:
        what = f"expected {size_text(size)} of disk, got {size_text(free)} free"
        raise InputError(f"{folder}: {what}; free some or choose another disk")


def start_writeback(fd: int) -> None:
    """Has the system begin to write a file's data to the disk, so that less is left for the fsync at the end.

    Without it writing to the disk begins late: 4 GiB with fsync took 1.07 times as long as this way.
    """
    call = _libc("sync_file_range")
    if call is not None:  # Linux has it; elsewhere the fsync does everything
        call(fd, ctypes.c_int64(0), ctypes.c_int64(0), SYNC_FILE_RANGE_WRITE)


def sync_file_system(folder: Path) -> None:
    """Brings everything under a folder to the disk.

    One call for the file system: an fsync behind every chunk keeps the disk's queue short, and took a third longer.
    """
    fd = os.open(folder, os.O_RDONLY)
    try:
        syncfs = _libc("syncfs")
        if syncfs is None:
            os.sync()  # no such call outside Linux
        elif syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(fd)


def _libc(name: str) -> Any:
    """A function of the C library, or None."""
    return getattr(ctypes.CDLL(None, use_errno=True), name, None)


def move_new(temporary: Path, path: Path) -> None:
    """Gives a file its name, never over another one; raises FileExistsError where there is one."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if path.exists():  # no links on this file system: nearly as good
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temporary.rename(path)
        return
    temporary.unlink()


def sync_folder(folder: Path) -> None:
    """Brings a folder's entries to the disk: that files were made, renamed or removed."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems have no such thing
            raise
    finally:
        os.close(fd)


def replace_file(path: Path, data: bytes) -> None:
    """Replaces a small file, whole or not at all, and for good."""
    temporary = path.with_name(path.name + ".partial")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)
