"""What it costs that nothing is lost: the journal beside a fill without one, verifying beside reading."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

from bench.measure import Work, WrongError
from bench.setting import COLUMNS, Setting, cores
from bigin.api.filling import fill
from bigin.api.verifying import verify

READ = 4 << 20  # bytes of a read


def unjournalled(setting: Setting, journalled: Callable[[Setting], Work]) -> Work:
    """The same fill, without checkpoints."""
    work = journalled(setting)

    def run() -> int:
        with mock.patch("bigin.jobs.journal.FIRST", 1e6):
            return work.run()

    return replace(work, run=run)


def filled(setting: Setting, side: str) -> tuple[Path, Work]:
    """A .npy file that is on the disk, and no longer in memory."""
    path = setting.folder / side / "w.npy"
    shape = (setting.size // 4 // COLUMNS, COLUMNS)

    def prepare() -> None:
        fill(path, "normal", name="", shape=shape)
        forget(path)

    return path, Work(lambda: 0, lambda: None, path.parent, setting.size, prepare)


def forget(path: Path) -> None:
    """Takes a file that has reached the disk out of the page cache."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def verified(setting: Setting) -> Work:
    """bigin.verify of a file that has to come from the disk, all cores."""
    path, work = filled(setting, "ours")
    found = []

    def run() -> int:
        found[:] = [verify(path)]
        return found[0].nbytes

    def check() -> None:
        if not found[0].equal or found[0].nbytes != setting.size // 4 // COLUMNS * COLUMNS * 4:
            raise WrongError(f"expected an equal file, got {found[0]}")
        flip(path)
        if verify(path).equal:
            raise WrongError("expected a difference where a bit was flipped, got none")

    return replace(work, run=run, check=check)


def flip(path: Path) -> None:
    """Flips a bit in the middle of a file."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))


def read(setting: Setting) -> Work:
    """Reading the same file from the disk into a buffer, all cores, and nothing else."""
    path, work = filled(setting, "peer")
    sizes: list[int] = []

    def run() -> int:
        sizes.clear()
        threads = cores()
        pool = [threading.Thread(target=read_part, args=(path, i, threads, sizes)) for i in range(threads)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
        return sum(sizes)

    def check() -> None:
        if sum(sizes) != path.stat().st_size:
            raise WrongError(f"expected {path.stat().st_size} bytes read, got {sum(sizes)}")

    return replace(work, run=run, check=check)


def read_part(path: Path, first: int, step: int, sizes: list[int]) -> None:
    """Every step-th block of a file."""
    buffer = bytearray(READ)
    with path.open("rb") as file:
        for place in range(first * READ, path.stat().st_size, step * READ):
            sizes.append(os.preadv(file.fileno(), [buffer], place))
