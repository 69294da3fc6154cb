"""What the operating system does with files: writing all of them, reserving space, bringing data to the disk."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import stat
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

from bigin.core.errors import FillError, TargetError
from bigin.core.text import size_text

SYNC_FILE_RANGE_WRITE = 2
OTHER_FILES = 16  # that a fill opens besides those of a checkpoint
SPARE_FILES = 200  # that are left for the rest of the process, where the system allows it
STALE = 5.0  # seconds that nobody takes to write a small file
FEW = 256  # files that are brought to the disk one by one
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC  # never through a link
SMALL = 64 << 20  # bytes of a record or of a zarr array's metadata: larger ones are none
NO_RESERVING = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than this process (ulimit -f) or its file system allows",
}


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

    Then an error of this kind is raised: TargetError where nothing has been done yet, else FillError.
    """
    if size == 0:
        return
    before = os.fstat(fd).st_size
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno in NO_RESERVING:  # then a full disk is found when it is full
            return
        with suppress(OSError):
            os.ftruncate(fd, before)  # what it did reserve
        if error.errno not in FULL:
            raise FillError(f"{path}: cannot reserve {size_text(size)}: {error.strerror}") from None
        if error.errno == errno.EFBIG:  # free space has nothing to do with it
            raise kind(
                f"{path}: expected {size_text(size)} of disk, got a bound below that: {FULL[error.errno]} "
                f"({error.strerror}); raise the bound or choose another disk"
            ) from None
        status = os.fstatvfs(fd)
        free = status.f_bavail * status.f_frsize
        raise kind(
            f"{path}: expected {size_text(size)} of disk, got {size_text(free)} free: {FULL[error.errno]} "
            f"({error.strerror}); free some or choose another disk"
        ) from None


def require_space(folder: Path, size: int) -> None:
    """Refuses to begin where a file system has less free space than a new target takes."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if size > free:
        what = f"expected {size_text(size)} of disk, got {size_text(free)} free"
        raise TargetError(f"{folder}: {what}; free some or choose another disk")


def start_writeback(fd: int) -> None:
    """Has the system begin to write a file's data to the disk, so that less is left for the fsync at the end.

    Without it writing to the disk begins late: 4 GiB with fsync took 1.07 times as long as this way.
    """
    call = _libc("sync_file_range")
    if call is not None:  # Linux has it; elsewhere the fsync does everything
        call(fd, ctypes.c_int64(0), ctypes.c_int64(0), SYNC_FILE_RANGE_WRITE)


def sync_files(root: Path, files: Sequence[Path]) -> None:
    """Brings files below a folder to the disk, and every folder on their way from it; missing ones are left out."""
    folders = {root.parent, root}
    for path in files:
        with suppress(FileNotFoundError):
            sync_path(path)
        folders.update(folder for folder in path.parents if folder.is_relative_to(root))
    for folder in sorted(folders, key=lambda folder: -len(folder.parts)):
        with suppress(FileNotFoundError):
            sync_folder(folder)


def sync_path(path: Path) -> None:
    """Brings a file to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file_system(folder: Path) -> None:
    """Brings everything under a folder to the disk, and with it whatever else was written on the file system.

    For many files: an fsync behind every chunk keeps the disk's queue short, and took a third longer. For few, what
    other programs have written may be the larger part: a reset of six rows took 37 s.
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


@cache
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


def remove_partials(folder: Path) -> None:
    """Removes what a process that died has left under temporary names, anywhere below a folder."""
    for path in folder.rglob("*.partial"):
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)


def allow_open_files(count: int, label: str) -> None:
    """Lets the process have so many more files open; raises TargetError where the system does not let it."""
    needed = count + open_files() + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed + SPARE_FILES:
        return
    most = needed + SPARE_FILES if hard == resource.RLIM_INFINITY else min(needed + SPARE_FILES, hard)
    if most < needed:
        raise TargetError(
            f"{label}: expected a system that lets a process have {needed} files open, got one that allows {hard}; "
            "raise the limit (ulimit -Hn), or make fewer and larger files with --max-shard-size (max_shard_size=)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def open_files() -> int:
    """The number of files that this process has open."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 64  # not known outside Linux


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


def open_file(path: Path | str) -> BinaryIO:
    """A file, to be read; raises OSError where there is something else: opening a pipe would wait for its other end."""
    return open(_open_regular(path)[0], "rb", buffering=0)


def read_file(path: Path | str) -> bytes:
    """All of a file, as `open_file` opens it; without a file object, which takes as long as a small read."""
    fd, size = _open_regular(path)
    try:
        data = os.read(fd, size + 1)
        while len(data) < size and (more := os.read(fd, size + 1 - len(data))):
            data += more
        return data
    finally:
        os.close(fd)


def _open_regular(path: Path | str) -> tuple[int, int]:
    """A file that is open to be read, and its size."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return fd, status.st_size


def read_small(path: Path) -> bytes:
    """A small file; raises OSError where it is none."""
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size > SMALL:
            raise OSError(errno.EFBIG, "it is too large", str(path))
        return file.read()


@cache
def boot() -> str:
    """Which run of the system this is: what is in its memory alone is lost with it."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return uuid.uuid4().hex  # not known: no other process takes part in it


def remove_stale(folder: Path) -> None:
    """Removes the temporary files in a folder whose writers must be dead; others may write there at this moment."""
    for path in folder.glob("*.partial"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > STALE:
                path.unlink()


def partial(path: Path) -> Path:
    """The temporary name of a file that is being replaced."""
    return path.with_name(path.name + ".partial")


def replace_file(path: Path, data: bytes) -> None:
    """Replaces a small file, whole or not at all, and for good."""
    with replacing_for_good(path) as file:
        file.write(data)


class replacing:  # noqa: N801 (a generator takes 1 us more, of the 20 that a small file takes)
    """A file descriptor to be written under a temporary name, which takes the path once it is whole.

    make_folder: whether a missing folder is made.
    """

    __slots__ = ("fd", "make_folder", "path", "temporary")

    def __init__(self, path: str, temporary: str, *, make_folder: bool = False) -> None:
        self.path, self.temporary, self.make_folder = path, temporary, make_folder

    def __enter__(self) -> int:
        try:
            self.fd = os.open(self.temporary, NEW_FILE, 0o666)
        except FileNotFoundError:
            if not self.make_folder:
                raise
            os.makedirs(os.path.dirname(self.temporary), exist_ok=True)
            self.fd = os.open(self.temporary, NEW_FILE, 0o666)
        return self.fd

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            os.close(self.fd)
            if error is None:
                os.replace(self.temporary, self.path)
                return
        except BaseException:
            self._remove()
            raise
        self._remove()

    def _remove(self) -> None:
        with suppress(OSError):
            os.unlink(self.temporary)


@contextmanager
def replacing_for_good(path: Path) -> Iterator[BinaryIO]:
    """A file to be written, which takes the path once it is whole and on the disk."""
    temporary = partial(path)
    temporary.unlink(missing_ok=True)  # a dead process's; and never through a link
    with replacing(str(path), str(temporary)) as fd, open(fd, "wb", closefd=False) as file:
        yield file
        file.flush()
        os.fsync(fd)
    sync_folder(path.parent)
