"""Fills that are killed and started again, in children of one process that has loaded everything.

A child that is forked costs milliseconds where a new Python costs a second, so that many moments are tried. The
parent starts no thread and touches no store. What came of it is printed as JSON; tests/jobs/test_resume.py judges.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from layouts import LAYOUTS

import bigin
from bigin.core import disk
from bigin.core import threads as engine
from bigin.jobs import journal, resume, run
from bigin.targets import files
from bigin.targets.zarr import chunks

SHAPE = (33, 22)
PAUSE = 0.002  # seconds that storing a region takes longer
NAMED = {layout.name: layout for layout in LAYOUTS}
CASES = [
    ("npy", "normal"),
    ("npy Fortran", "trunc_normal"),
    ("npy made", "sparse"),
    ("npy big-endian", "kaiming_normal"),
    ("raw", "xavier_uniform"),
    ("zarr", "normal"),
    ("zarr", "orthogonal"),
    ("zarr sharded", "normal"),
    ("zarr sharded", "orthogonal"),
    ("zarr compressed", "normal"),
    ("zarr compressed", "sparse"),
    ("zarr sharded compressed", "uniform"),
    ("zarr v2", "normal"),
    ("zarr v2 compressed", "eye"),
    ("zarr made", "normal"),
]
PARAMETERS: dict[str, dict[str, Any]] = {"sparse": {"sparsity": 0.3}}


@dataclass
class Case:
    """A target in a folder of its own, and the fill of it."""

    layout: str
    method: str
    folder: Path

    def make(self) -> None:
        """The target, empty."""
        NAMED[self.layout].make(self.folder, SHAPE, "float32")

    def fill(self) -> bigin.Report:
        """The same command, every time."""
        os.chdir(self.folder)
        chunks.MANY = 2 if self.method in ("normal", "sparse") else 1 << 60  # together, and alone
        names = {"npy made": "new.npy", "zarr made": "new.zarr/layers/weight", "raw": "raw.bin"}
        target = names.get(self.layout, "array.zarr" if self.layout.startswith("zarr") else "array.npy")
        options = NAMED[self.layout].arguments(SHAPE, "float32") | {"name": ""} | PARAMETERS.get(self.method, {})
        return bigin.fill(target, self.method, threads=2, **options)


def small_steps() -> None:
    """Many regions, a slow store and a journal that is kept all the time: most kills fall between two checkpoints."""
    files.BLOCK, chunks.BATCH = 64, 400
    journal.FIRST, journal.SHARE = 0.001, 0.2
    engine.REPORT = 0.002
    disk.STALE = 0.0
    store = run.store

    def slowly(*arguments: Any) -> int:
        time.sleep(PAUSE)
        return store(*arguments)

    run.store = slowly


def child(function: Callable[[], Any]) -> int:
    """Runs a function in a forked child, whose result is written to the file `result` in the current folder."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            function()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


def wait(pid: int) -> int:
    """A child's exit code; negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def tree(folder: Path) -> dict[str, bytes]:
    """Every file in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


class Lab:
    """A folder in memory, if there is one: the disk has no part in a kill."""

    def __init__(self) -> None:
        place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.root = Path(tempfile.mkdtemp(prefix="bigin-kills-", dir=place))
        self.trial = 0
        self.wrong: list[str] = []
        self.stored = 0
        self.killed = 0
        self.complete = 0  # killed after the end of the fill

    def prepared(self, layout: str, method: str) -> tuple[Case, Path, dict[str, bytes], float]:
        """The case, its empty target to copy, what an uninterrupted fill leaves, and how long that took."""
        self.trial += 1
        template, whole = self.root / f"template{self.trial}", self.root / f"whole{self.trial}"
        template.mkdir()
        case = Case(layout, method, template)
        assert wait(child(case.make)) == 0
        shutil.copytree(template, whole)
        start = time.perf_counter()
        assert wait(child(Case(layout, method, whole).fill)) == 0
        return case, template, tree(whole), time.perf_counter() - start

    def copy(self, case: Case, template: Path) -> Case:
        """The same, in a new folder."""
        self.trial += 1
        folder = self.root / f"trial{self.trial}"
        shutil.copytree(template, folder)
        return Case(case.layout, case.method, folder)

    def resume(self, case: Case, expected: dict[str, bytes], what: str) -> float:
        """Gives the same command again, and compares all that is there.

        Returns what to multiply the next trial's time with: on a machine that others use, the first one's says little.
        """
        result = self.root / "result"

        def again() -> None:
            report = case.fill()
            result.write_text(json.dumps([report.stored, report.nbytes]))

        code = wait(child(again))
        what = f"{case.layout}, {case.method}, {what}"
        if code != 0:
            self.wrong.append(f"{what}: exit code {code}")
            return 1.0
        found, made = json.loads(result.read_text())
        self.stored += found > 0 and made > 0
        self.complete += made == 0
        held = tree(case.folder)
        if held != expected:
            differing = [name for name in {**held, **expected} if held.get(name) != expected.get(name)]
            self.wrong.append(f"{what}: {differing} differ")
        shutil.rmtree(case.folder)
        return 0.8 if made == 0 else 1.0 if found > 0 else 1.1

    def told(self) -> None:
        """Prints what came of it."""
        shutil.rmtree(self.root)
        print(json.dumps({"wrong": self.wrong, "found": self.stored, "killed": self.killed, "complete": self.complete}))


def at_random(lab: Lab, seed: int, each: int) -> None:
    """SIGKILL at random moments."""
    moments = random.Random(seed)
    for layout, method in CASES:
        case, template, expected, seconds = lab.prepared(layout, method)
        for _ in range(each):
            trial = lab.copy(case, template)
            delay = moments.uniform(0, 0.9 * seconds)
            pid = child(trial.fill)
            time.sleep(delay)
            os.kill(pid, signal.SIGKILL)
            lab.killed += wait(pid) == -signal.SIGKILL
            if moments.random() < 0.3:  # and the one that goes on is killed, too
                pid = child(trial.fill)
                time.sleep(moments.uniform(0, seconds))
                os.kill(pid, signal.SIGKILL)
                lab.killed += wait(pid) == -signal.SIGKILL
            seconds *= lab.resume(trial, expected, f"killed after {delay:.4f} s")


CALLS = ("fsync", "fdatasync", "replace", "rename", "link", "unlink", "pwrite", "ftruncate", "posix_fallocate", "mkdir")


def at_call(number: int) -> None:
    """Has this process killed at the so many-th call that changes the disk, before it is made."""
    lock, count = threading.Lock(), 0

    def counted(name: str) -> Callable[..., Any]:
        function = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            with lock:
                count += 1
                if count == number:
                    os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for name in CALLS:
        setattr(os, name, counted(name))


def at_every_call(lab: Lab) -> None:
    """SIGKILL before the first call that changes the disk, before the second, and so on until the fill is through."""
    for layout in ("npy", "npy made", "zarr sharded compressed", "zarr made"):
        case, template, expected, _ = lab.prepared(layout, "normal")
        number = survived = 0
        while survived < 3:
            number += 1 if number < 30 else 19  # the beginning, and now and then of what repeats itself
            trial = lab.copy(case, template)

            def work(number: int = number, trial: Case = trial) -> None:
                at_call(number)
                trial.fill()

            code = wait(child(work))
            lab.killed += code == -signal.SIGKILL
            survived += code == 0
            lab.resume(trial, expected, f"killed at call {number}")


def power_cuts(lab: Lab, seed: int, each: int) -> None:
    """The power is cut: of the data there is what was brought to the disk, while record and journal are the newest."""
    moments = random.Random(seed)
    resume.believed = lambda *arguments: True  # it would find most of what a journal says too early
    for layout, method in CASES[:-1]:
        case, template, expected, seconds = lab.prepared(layout, method)
        for _ in range(each):
            trial, shadow = lab.copy(case, template), lab.root / "shadow"
            shutil.rmtree(shadow, ignore_errors=True)
            shadow.mkdir()
            for path in [path for path in trial.folder.rglob("*") if path.is_file()]:
                shutil.copyfile(path, shadow / str(path.stat().st_ino))

            def work(trial: Case = trial, shadow: Path = shadow) -> None:
                remember_what_reaches_the_disk(trial.folder, shadow)
                trial.fill()

            delay = moments.uniform(0.2, 0.9) * seconds
            pid = child(work)
            time.sleep(delay)
            os.kill(pid, signal.SIGKILL)
            lab.killed += wait(pid) == -signal.SIGKILL
            lose_what_did_not(trial.folder, shadow, moments)
            seconds *= lab.resume(trial, expected, f"power cut after {delay:.4f} s")


def is_data(path: Path) -> bool:
    """Whether a file holds values: the newest record and journal are the worst case."""
    return path.name not in ("zarr.json", ".zarray", ".zattrs", "result") and "bigin" not in path.name


def remember_what_reaches_the_disk(folder: Path, shadow: Path) -> None:
    """Keeps a copy of every file as it was when it was last brought to the disk, under its number, as names change."""

    def keep(path: Path) -> None:
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            place = shadow / str(path.stat().st_ino)
            temporary = place.with_suffix(".part")
            shutil.copyfile(path, temporary)
            os.rename(temporary, place)

    def keeping(function: Callable[[int], None]) -> Callable[[int], None]:
        def call(fd: int) -> None:
            function(fd)
            if is_data(Path(os.readlink(f"/proc/self/fd/{fd}"))):  # the name that it was opened by
                keep(Path(f"/proc/self/fd/{fd}"))

        return call

    def sync_all(root: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_file() and is_data(path) and path.suffix != ".partial":
                keep(path)

    os.fsync, os.fdatasync = keeping(os.fsync), keeping(os.fdatasync)
    import bigin.targets.zarr.to_disk

    bigin.targets.zarr.to_disk.sync_file_system = sync_all


def lose_what_did_not(folder: Path, shadow: Path, moments: random.Random) -> None:
    """Every file of values as the shadow has it, and zeros behind that; one that it has not is lost in some way."""
    for path in [path for path in folder.rglob("*") if path.is_file() and is_data(path)]:
        size, kept = path.stat().st_size, shadow / str(path.stat().st_ino)
        if kept.exists():
            path.write_bytes(kept.read_bytes()[:size].ljust(size, b"\0"))
        elif (lost := moments.randrange(3)) == 0:
            path.unlink()
        else:
            path.write_bytes(bytes(size if lost == 1 else size // 2))


def main() -> None:
    """python kills.py random|calls|power [SEED EACH]"""
    kind, *numbers = sys.argv[1:]
    for _, method in CASES:  # the kernels are compiled once, and every child has them
        import numpy as np

        bigin.fill(np.zeros(SHAPE, np.float32), method, threads=1, **PARAMETERS.get(method, {}))
    assert threading.active_count() == 1
    small_steps()
    lab = Lab()
    {"random": at_random, "calls": at_every_call, "power": power_cuts}[kind](lab, *map(int, numbers))
    lab.told()


if __name__ == "__main__":
    main()
