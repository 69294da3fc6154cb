"""Two works side by side: A B A B, so that whatever else the machine does meets both."""

from __future__ import annotations

import fcntl
import mmap
import os
import shutil
import statistics
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path


class WrongError(Exception):
    """A work's output is not what it claims to be."""


@dataclass(frozen=True)
class Work:
    """What is timed: `run` returns how many bytes it made, `check` raises WrongError; both find `folder` made anew.

    `memory` is how many bytes the run leaves in the page cache; `prepare` is what has to be there before, untimed.
    """

    run: Callable[[], int]
    check: Callable[[], None]
    folder: Path | None = None
    memory: int = 0
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Spread:
    """Samples of one quantity."""

    samples: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.samples)

    def as_dict(self) -> dict[str, object]:
        return {
            "median": self.median,
            "min": min(self.samples),
            "max": max(self.samples),
            "samples": self.samples,
        }


def compare(ours: Work, peer: Work, repeats: int) -> tuple[Spread, Spread, Spread]:
    """GB/s of both, and the ratios of the neighbours in time.

    The first round compiles, warms up and is checked before anything is timed; the others are checked, too.
    """
    sample(ours)
    sample(peer)
    fast, slow = [], []
    for _ in range(repeats):
        fast.append(sample(ours))
        slow.append(sample(peer))
    return Spread(fast), Spread(slow), Spread([a / b for a, b in zip(fast, slow, strict=True)])


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
clock = "wall"  # which of them a run reads


def sample(work: Work) -> float:
    """GB/s of one run whose output is right."""
    with fresh(work.folder, work.memory):
        work.prepare()
        start = CLOCKS[clock]()
        nbytes = work.run()
        seconds = CLOCKS[clock]() - start
        work.check()
    return nbytes / seconds / 1e9


@contextmanager
def fresh(folder: Path | None, memory: int) -> Iterator[None]:
    """A new folder that is removed afterwards, no dirty pages of earlier runs, and as much memory as the run takes."""
    if folder is None:
        yield
        return
    new_folder(folder)
    os.sync()
    touch(memory)
    try:
        yield
    finally:
        shutil.rmtree(folder)


GET_FLAGS, SET_FLAGS, SPREAD = 0x80086601, 0x40086602, 0x20000  # of linux/fs.h; SPREAD is FS_TOPDIR_FL


def new_folder(folder: Path) -> None:
    """Makes a folder whose files lie apart from those of earlier runs, on ext4.

    Without a journal, ext4 does not use the inode of a deleted file again for one to five minutes, and each new file
    looks through all of them: 0.7 ms for a file in a folder beside one of 4,000 deleted files, where 0.07 is usual. In
    a folder with this flag ext4 spreads folders over the disk, by their names.
    """
    with suppress(OSError):
        fd = os.open(folder.parent, os.O_RDONLY)
        try:
            flags = struct.unpack("i", fcntl.ioctl(fd, GET_FLAGS, bytes(4)))[0]
            fcntl.ioctl(fd, SET_FLAGS, struct.pack("i", flags | SPREAD))
        finally:
            os.close(fd)
    made = folder.with_name(f"{folder.name}-{uuid.uuid4().hex}")
    made.mkdir()
    made.rename(folder)


def touch(size: int) -> None:
    """Takes so much memory and gives it back, so that the page cache finds it at once.

    A virtual machine may return memory to its host after two idle seconds (free page reporting), and getting it back
    made the same pwrites ten times slower. So what a run needs is touched just before it.
    """
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        for page in range(0, size, mmap.PAGESIZE):
            memory[page] = 1


def burst(block: Callable[[int], int], seconds: float) -> int:
    """Makes block after block for so long, eight at least, and returns how many bytes that were."""
    nbytes, i, end = 0, 0, time.perf_counter() + seconds
    while not nbytes or time.perf_counter() < end:
        for _ in range(8):
            nbytes += block(i)
            i += 1
    return nbytes
