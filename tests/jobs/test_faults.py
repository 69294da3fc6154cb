"""What goes wrong on the way: one line that names the cause and what to do, nothing lost, and it goes on afterwards."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from common import LIMIT
from kills import child, wait
from zarr.storage import LocalStore, MemoryStore, WrapperStore

import bigin
import bigin.cli
from bigin.core import threads as engine
from bigin.jobs import journal
from bigin.jobs import retries as faults
from bigin.jobs import run as running

SHAPE = (64, 50)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Many regions in a file, and retries that do not wait for long."""
    monkeypatch.setattr("bigin.targets.files.BLOCK", 800)
    monkeypatch.setattr(faults, "PAUSE", 0.001)


def command(*arguments: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """A command line in this process: its exit code and what it prints as an error, which is one line."""
    handler, argv = signal.getsignal(signal.SIGTERM), sys.argv
    sys.argv = ["bigin", *map(str, arguments)]
    try:
        bigin.cli.main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.argv = argv
        signal.signal(signal.SIGTERM, handler)
    errors = capsys.readouterr().err
    assert "Traceback" not in errors
    assert errors.count("\n") <= 1
    return code, errors


def new(kind: str) -> str:
    """An empty target."""
    if kind == "npy":
        np.save("a.npy", np.zeros(SHAPE, np.float32))
        return "a.npy"
    more = {"compressors": "auto"} if kind == "compressed" else {"compressors": None}
    zarr.create_array("a.zarr", shape=SHAPE, chunks=(4, 50), dtype="float32", **more)
    return "a.zarr"


def complete(path: str) -> object:
    """What the record says."""
    if path.endswith(".npy"):
        sidecar = Path(f"{path}.bigin.json")
        return json.loads(sidecar.read_text())["complete"] if sidecar.exists() else None
    return zarr.open_array(path).attrs.get("bigin", {}).get("complete")


every_kind = pytest.mark.parametrize("kind", ["npy", "zarr", "compressed"])

CAUSES = {
    "full": (errno.ENOSPC, "the disk is full (No space left on device); make room and rerun the same command"),
    "quota": (errno.EDQUOT, "the disk quota is used up (Disk quota exceeded); make room and rerun the same command"),
    "limit": (errno.EFBIG, "the file would be larger than this process (ulimit -f) or its file system allows"),
    "read-only": (errno.EROFS, "Read-only file system; fix this and rerun the same command"),
    "permission": (errno.EACCES, "Permission denied; fix this and rerun the same command"),
    "broken disk": (errno.EIO, "Input/output error; fix this and rerun the same command"),
}


@every_kind
@pytest.mark.parametrize("cause", CAUSES)
def test_an_error_of_the_disk_is_one_line_and_the_fill_goes_on_when_it_is_gone(kind, cause, monkeypatch, capsys):
    path, (number, line) = new(kind), CAUSES[cause]
    write, count = os.pwrite, 0

    def failing(fd: int, data: object, offset: int) -> int:
        nonlocal count
        count += 1
        if count > 6:
            raise OSError(number, os.strerror(number))
        return write(fd, data, offset)

    def failing_put(*arguments: object, **options: object) -> int:
        nonlocal count
        count += 1
        if count > 6:
            raise OSError(number, os.strerror(number))
        return put(*arguments, **options)

    put = zarr.storage._local._put
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", failing)
        if kind == "compressed":
            patch.setattr(zarr.storage._local, "_put", failing_put)
        code, errors = command("fill", "--method", "normal", path, "--threads", 2, capsys=capsys)
    assert code == 1
    assert errors.startswith(f"bigin: {path}: ")
    assert line in errors
    assert complete(path) is False
    assert not list(Path.cwd().rglob("*.partial"))
    report = bigin.fill(path, "normal")
    assert report.nbytes > 0
    assert bigin.verify(path).equal


def limited(size: int, *arguments: str) -> None:
    """A command line under a limit of a file's size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    sys.argv = ["bigin", *arguments]
    bigin.cli.main()


def in_child(function: object) -> tuple[int, str]:
    """The exit code and the errors of a function in a process of its own."""
    with Path("errors").open("w+b") as file:

        def work() -> None:
            os.dup2(file.fileno(), 2)
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            try:
                function()
            except SystemExit as end:
                sys.stderr.flush()
                os._exit(int(end.code or 0))

        code = wait(child(work))
    return code, Path("errors").read_text()


def test_a_limit_on_the_size_of_files(tmp_path):
    new("zarr")
    code, errors = in_child(lambda: limited(2000, "fill", "--method", "normal", "b.npy", "--shape", "1000"))
    assert code == 1
    assert "b.npy: expected 4.0 KiB of disk" in errors
    assert "ulimit -f" in errors
    assert not Path("b.npy").exists()
    assert not list(Path.cwd().glob("b.npy*"))


def test_a_disk_that_fills_up(capsys):
    """A small file system in memory, where this user may mount one."""
    Path("disk").mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", "disk"], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no small disk: mount says {mounted.stderr.strip() or mounted.returncode}")
    try:
        zarr.create_array("disk/a.zarr", shape=(64, 10000), chunks=(1, 10000), dtype="float32")
        code, errors = command("fill", "--method", "normal", "disk/a.zarr", "--threads", 2, capsys=capsys)
        assert code == 1
        assert "disk/a.zarr: the disk is full (No space left on device); make room" in errors
        code, errors = command("fill", "--method", "normal", "disk/b.npy", "--shape", "1000000", capsys=capsys)
        assert code == 1
        assert "disk/b.npy: expected 3.8 MiB of disk, got" in errors
        assert not list(Path("disk").glob("b.npy*"))
        subprocess.run(["mount", "-o", "remount,size=8m", "disk"], check=True)
        assert bigin.fill("disk/a.zarr", "normal").nbytes > 0
        assert bigin.verify("disk/a.zarr").equal
        subprocess.run(["mount", "-o", "remount,ro", "disk"], check=True)
        code, errors = command("fill", "--method", "ones", "disk/a.zarr", "--overwrite", capsys=capsys)
        assert code == 1
        assert "read-only" in errors.lower()
        assert bigin.verify("disk/a.zarr").equal
    finally:
        subprocess.run(["umount", "-l", "disk"], check=True)


def test_without_permission(tmp_path, capsys):
    """root may write to everything, so that somebody else is asked for."""
    for kind in ("npy", "zarr"):
        path = new(kind)
        # All that a command imports late is imported here: it may lie where only root may read.
        command("fill", "-m", "normal", path, capsys=capsys)
        command("fill", "-m", "ones", path, capsys=capsys)
        command("fill", "-m", "normal", path, "--overwrite", capsys=capsys)
    if os.getuid() == 0:
        for folder in [tmp_path, *tmp_path.parents]:
            with contextlib.suppress(OSError):
                if folder != Path("/") and folder.stat().st_uid == 0 and folder.is_relative_to("/tmp"):
                    folder.chmod(folder.stat().st_mode | 0o055)
    else:
        Path("a.npy").chmod(0o444)
        Path("a.zarr").chmod(0o555)

    def unprivileged(*arguments: str) -> None:
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        sys.argv = ["bigin", *arguments]
        bigin.cli.main()

    for path in ("a.npy", "a.zarr"):
        code, errors = in_child(lambda path=path: unprivileged("fill", "-m", "normal", path, "--overwrite"))
        assert code == 1, errors
        assert "expected a" in errors
        assert "can be written, got a read-only" in errors
        assert "Traceback" not in errors
        assert bigin.verify(path).equal
    code, errors = in_child(lambda: unprivileged("fill", "-m", "normal", "new.npy", "--shape", "3"))
    if os.getuid() == 0:
        assert code == 1, errors
        assert "cannot be opened for writing: Permission denied; fix this" in errors


# Stores that fail.


class Flaky(WrapperStore):
    """A store on a network that loses some of its calls, before or after they are done, or is slow."""

    chance, down, slow, kinds = 0.0, False, 0.0, (ConnectionError, OSError, RuntimeError, TimeoutError)
    dice = random.Random(3)
    lost = 0

    def lose(self) -> None:
        time.sleep(Flaky.slow)
        if Flaky.down or Flaky.dice.random() < Flaky.chance:
            Flaky.lost += 1
            raise Flaky.kinds[Flaky.lost % len(Flaky.kinds)](f"the network has lost call {Flaky.lost}")

    async def get(self, *arguments, **options):
        self.lose()
        return await super().get(*arguments, **options)

    async def set(self, *arguments, **options):
        if Flaky.dice.random() < 0.5:
            self.lose()
            await super().set(*arguments, **options)
        else:
            await super().set(*arguments, **options)
            self.lose()

    async def exists(self, *arguments, **options):
        self.lose()
        return await super().exists(*arguments, **options)

    async def delete(self, *arguments, **options):
        self.lose()
        return await super().delete(*arguments, **options)

    async def getsize(self, *arguments, **options):
        self.lose()
        return await super().getsize(*arguments, **options)


@pytest.fixture(params=["memory", "local"])
def flaky(request) -> Iterator[Flaky]:
    Flaky.chance, Flaky.down, Flaky.slow, Flaky.dice, Flaky.lost = 0.0, False, 0.0, random.Random(3), 0
    yield Flaky(MemoryStore() if request.param == "memory" else LocalStore("under"))
    Flaky.chance, Flaky.down, Flaky.slow = 0.0, False, 0.0


every_layout = pytest.mark.parametrize(
    "layout", [{"compressors": None}, {"compressors": "auto"}, {"compressors": None, "shards": (8, 50)}], ids=str
)


@every_layout
def test_errors_that_pass_are_waited_out_and_reported(flaky, layout, monkeypatch):
    monkeypatch.setattr(journal, "FIRST", 0.0)
    zarr.create_array(flaky, shape=SHAPE, chunks=(4, 50), dtype="float32", **layout)
    Flaky.chance = 0.15
    report = bigin.fill(flaky, "normal")
    assert report.retries > 0
    assert Flaky.lost > 0
    found = bigin.verify(flaky)
    Flaky.chance = 0.0
    assert found.equal
    assert report.record["complete"] is True
    assert bigin.verify(flaky).equal
    np.testing.assert_array_equal(zarr.open_array(flaky)[:], expected())


def expected(**options: object) -> np.ndarray:
    values = np.zeros(SHAPE, np.float32)
    bigin.fill(values, "normal", **options)
    return values


def test_an_array_that_is_made_over_a_flaky_network(flaky):
    Flaky.chance = 0.1
    for trial in range(5):
        Flaky.dice = random.Random(trial)
        store = Flaky(MemoryStore())
        report = bigin.fill(store, "normal", shape=SHAPE)
        assert report.record["complete"] is True
    Flaky.chance = 0.0
    np.testing.assert_array_equal(zarr.open_array(store)[:], expected())


def test_a_flaky_network_costs_no_array_its_name():
    inner = MemoryStore()
    zarr.open_group(inner, mode="a").create_array("a/w", shape=SHAPE, dtype="float32")
    names = []
    for trial in range(8):
        Flaky.chance, Flaky.dice = 0.0, random.Random(trial)
        array = zarr.open_array(Flaky(inner), path="a/w")
        Flaky.chance = 0.3
        with contextlib.suppress(bigin.FillError):  # where it was lost too often
            names.append(bigin.fill(array, "normal", overwrite=True).record["name"])
    Flaky.chance = 0.0
    assert names
    assert set(names) == {"a.w"}


@every_layout
def test_a_network_that_stays_down_is_one_line_and_the_fill_goes_on_when_it_is_back(flaky, layout, monkeypatch):
    zarr.create_array(flaky, shape=SHAPE, chunks=(4, 50), dtype="float32", **layout)
    store, count = running.store, 0

    def then_down(*arguments: object) -> int:
        nonlocal count
        count += 1
        Flaky.down = count > 3
        return store(*arguments)

    monkeypatch.setattr(running, "store", then_down)
    with pytest.raises(bigin.FillError, match="the network has lost call") as told:
        bigin.fill(flaky, "normal", threads=1)
    assert "rerun the same command" in str(told.value)
    assert "\n" not in str(told.value)
    assert Flaky.lost >= faults.ATTEMPTS
    with pytest.raises(bigin.FillError, match="the network has lost call"):
        bigin.fill(flaky, "normal")
    Flaky.down = False
    monkeypatch.setattr(running, "store", store)
    assert zarr.open_array(flaky).attrs["bigin"]["complete"] is False
    bigin.fill(flaky, "normal")
    np.testing.assert_array_equal(zarr.open_array(flaky)[:], expected())


def test_a_slow_store_is_waited_for(flaky):
    zarr.create_array(flaky, shape=SHAPE, chunks=(16, 50), dtype="float32", compressors=None)
    Flaky.slow = 0.02
    assert bigin.fill(flaky, "normal").retries == 0
    Flaky.slow = 0.0
    assert bigin.verify(flaky).equal


def test_attempts_are_bounded_and_wait_longer_each_time(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(faults.Retries, "_pause", lambda self, seconds, stopping: waits.append(seconds))
    monkeypatch.setattr(faults, "PAUSE", 0.1)
    retries = faults.Retries(remote=False)
    with pytest.raises(ConnectionError):
        retries.attempt(lambda: (_ for _ in ()).throw(ConnectionError("down")))
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6]
    assert retries.count == 5
    for lasting in (PermissionError(errno.EACCES, "no"), OSError(errno.ENOSPC, "full"), ValueError("wrong")):
        with pytest.raises(type(lasting)):
            retries.attempt(lambda lasting=lasting: (_ for _ in ()).throw(lasting))
    assert retries.count == 5


# Under our feet.


def during(monkeypatch: pytest.MonkeyPatch, regions: int, action: object) -> None:
    """Something happens when so many regions are stored."""
    store, count = running.store, 0

    def counted(*arguments: object) -> int:
        nonlocal count
        size = store(*arguments)
        count += 1
        if count == regions:
            action()
        return size

    monkeypatch.setattr(running, "store", counted)


FEET = {
    "a chunk is removed": (
        "zarr",
        lambda: Path("a.zarr/c/1/0").unlink(),
        "1 of the chunks or shards was removed or truncated",
    ),
    "a compressed chunk is removed": (
        "compressed",
        lambda: Path("a.zarr/c/1/0").unlink(),
        "1 of the chunks or shards was",
    ),
    "a chunk is cut off": (
        "zarr",
        lambda: os.truncate("a.zarr/c/1/0", 9),
        "1 of the chunks or shards was removed or truncated",
    ),
    "the file is removed": ("npy", lambda: Path("a.npy").unlink(), "was removed or replaced while it was filled"),
    "the file is replaced": ("npy", lambda: shutil.copy("b", "c") and os.replace("c", "a.npy"), "removed or replaced"),
    "the file is cut off": ("npy", lambda: os.truncate("a.npy", 200), "was truncated while it was filled"),
}


@pytest.mark.parametrize("what", FEET)
def test_what_changes_under_our_feet_is_noticed_and_the_same_command_mends_it(what, monkeypatch, capsys):
    kind, action, line = FEET[what]
    path = new(kind)
    shutil.copy(path, "b") if kind == "npy" else None
    with monkeypatch.context() as patch:
        during(patch, 12, action)
        code, errors = command("fill", "--method", "normal", path, "--threads", 1, capsys=capsys)
    assert code == 1
    assert line in errors
    assert complete(path) is not True
    bigin.fill(path, "normal", shape=SHAPE)
    assert bigin.verify(path).equal


@pytest.mark.parametrize("kind", ["zarr", "compressed"])
def test_the_folder_is_removed_under_our_feet(kind, monkeypatch, capsys):
    path = new(kind)
    with monkeypatch.context() as patch:
        during(patch, 5, lambda: shutil.rmtree(path))
        code, errors = command("fill", "--method", "normal", path, "--threads", 1, capsys=capsys)
    assert code == 1
    assert "a.zarr: was removed while it was filled; rerun the fill" in errors
    assert not Path(path).exists()
    bigin.fill(path, "normal", shape=SHAPE)
    assert bigin.verify(path).equal


@every_kind
def test_what_nobody_expects_is_one_line_too(kind, monkeypatch, capsys):
    path = new(kind)
    for error in (KeyError("k"), RuntimeError("line 1\nline 2"), ZeroDivisionError(), Exception("x" * 5000)):
        with monkeypatch.context() as patch:
            patch.setattr("bigin.jobs.job.run", lambda *arguments, error=error: (_ for _ in ()).throw(error))
            code, errors = command("fill", "--method", "normal", path, capsys=capsys)
        assert code == 1
        assert len(errors) < 600
    monkeypatch.setattr(bigin, "fill", lambda *arguments, **options: (_ for _ in ()).throw(KeyError("k")))
    code, errors = command("fill", "--method", "normal", path, capsys=capsys)
    assert code == 1
    assert "unexpected KeyError: 'k'; please report this defect" in errors


# Interruptions.

# A fill that sends itself a signal as soon as there is a journal, and tells how many regions it begins after that.
SLOW = """
import os, sys, time
from pathlib import Path
import bigin.cli
from bigin.jobs import run
store = run.store
kept, number = Path(sys.argv.pop(1)), int(sys.argv.pop(1))
after = []
def slowly(*arguments):
    if after or kept.exists():
        after.append(1)
        Path("after").write_text(str(len(after)))
    if len(after) == 1:
        os.kill(os.getpid(), number)
    time.sleep(0.02)
    return store(*arguments)
run.store = slowly
bigin.cli.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "signum", "code"), [("npy", signal.SIGINT, 130), ("zarr", signal.SIGTERM, 1)])
def test_an_interruption_says_how_far_it_got_and_how_to_go_on(kind, signum, code, monkeypatch):
    monkeypatch.setattr("bigin.targets.files.BLOCK", 512 << 10)  # as in the other process
    np.save("a.npy", np.zeros((2000, 5000), np.float32))
    # Chunks that are made one by one, and not many small ones at a time.
    zarr.create_array("a.zarr", shape=(200_000, 50), chunks=(400, 50), dtype="float32", compressors=None)
    path = f"a.{kind}"
    kept = "a.npy.bigin.journal" if kind == "npy" else "a.zarr/.bigin.journal"
    arguments = [sys.executable, "-c", SLOW, kept, str(int(signum)), "fill", "-m", "normal", path, "--threads", "1"]
    process = subprocess.run(arguments, capture_output=True, text=True, timeout=LIMIT)
    errors = process.stderr
    assert process.returncode == code, errors
    assert 1 <= int(Path("after").read_text()) < 50  # promised within a second, which is 50 regions
    word = "interrupted" if signum == signal.SIGINT else "terminated"
    done, _, rest = errors.partition("% of ")
    assert done.startswith(f"bigin: {path}: {word}; ")
    assert int(done.rsplit(" ", 1)[1]) > 0
    assert "is stored; rerun the same command to continue\n" in rest
    assert errors.count("\n") == 1
    report = bigin.fill(path, "normal")
    assert report.stored > 0
    assert bigin.verify(path).equal


def test_an_interruption_does_not_wait_for_a_store_that_hangs(monkeypatch):
    """Nor lets it write later into what another fill has begun: the lock is held until it has ended."""
    path = new("compressed")
    hang, entered, waited = threading.Event(), threading.Event(), threading.Event()
    store = running.store

    def hanging(*arguments: object) -> int:
        entered.set()
        hang.wait(LIMIT)
        waited.set()
        return store(*arguments)

    def interrupt() -> None:
        entered.wait(LIMIT)
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(running, "store", hanging)
        threading.Thread(target=interrupt).start()
        with pytest.raises(bigin.Interrupted, match="0% of"):
            bigin.fill(path, "normal", threads=2)
        assert not waited.is_set()
    with pytest.raises(bigin.LockedError, match="expected no other writer, got one that is at work"):
        bigin.fill(path, "ones", overwrite=True)
    hang.set()
    for _ in range(100 * LIMIT):
        if not [thread for thread in threading.enumerate() if thread.name.startswith("bigin")]:
            break
        time.sleep(0.01)
    bigin.fill(path, "ones", overwrite=True)
    assert bigin.verify(path).equal


# Threads.


def test_an_interruption_while_a_thread_starts_waits_for_no_task(monkeypatch):
    """Thread.start was interrupted: the thread begins a moment later, or never."""
    hang, entered, waited, late = threading.Event(), threading.Event(), threading.Event(), []
    start = threading.Thread.start

    def interrupted(self: threading.Thread) -> None:
        if self.name != "bigin-1":
            start(self)
            return
        entered.wait(LIMIT)
        late.append(threading.Timer(0.1, start, [self]))
        start(late[0])
        raise KeyboardInterrupt

    def task(number: int) -> int:
        entered.set()
        hang.wait(60)
        waited.set()
        return 1

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.run_threads(range(10), lambda stopping: task, 2)
    assert not waited.is_set()
    hang.set()
    late[0].join()


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_an_exception_in_a_worker_stops_the_rest_and_surfaces_once(threads):
    started, lock = [], threading.Lock()

    def make(stopping):
        def work(task: int) -> int:
            with lock:
                started.append(task)
            if task == 5:
                raise KeyError("once")
            deadline = time.monotonic() + LIMIT
            while task > 5 and time.monotonic() < deadline:  # until it is told
                if stopping():
                    raise engine.Stopped
                time.sleep(0.001)
            return 1

        return work

    with pytest.raises(KeyError, match="once"):
        engine.run_threads(range(1000), make, threads)
    assert len(started) <= 6 + threads
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("bigin")]


@every_kind
def test_a_fill_that_fails_leaves_no_thread_behind(kind, monkeypatch):
    path = new(kind)
    during(monkeypatch, 3, lambda: (_ for _ in ()).throw(ArithmeticError("on purpose")))
    with pytest.raises(bigin.FillError, match="ArithmeticError: on purpose"):
        bigin.fill(path, "normal", threads=4)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("bigin")]


@every_kind
def test_an_error_of_the_journal_surfaces_in_the_fill(kind, monkeypatch):
    path = new(kind)
    monkeypatch.setattr(journal, "FIRST", 0.0)
    module = "file_ledger" if kind == "npy" else "zarr.journal"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(f"bigin.targets.{module}.write_journal", lambda *a: (_ for _ in ()).throw(full))
    store = running.store
    monkeypatch.setattr(running, "store", lambda *a: time.sleep(0.02) or store(*a))
    with pytest.raises(bigin.FillError, match="the disk is full"):
        bigin.fill(path, "normal", threads=1)
    assert complete(path) is False
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("bigin")]


def test_a_memmap_that_fails_keeps_no_journal(monkeypatch):
    array = np.memmap("map.bin", np.float32, "w+", 0, (3000, 70))
    during(monkeypatch, 2, lambda: (_ for _ in ()).throw(RuntimeError("on purpose")))
    with pytest.raises(bigin.FillError, match="on purpose"):
        bigin.fill(array, "normal", threads=1)
    assert [path.name for path in Path.cwd().iterdir()] == ["map.bin"]
