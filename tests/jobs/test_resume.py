"""What is killed goes on, and ends as if nothing had happened."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from common import LIMIT, TESTS
from kills import SHAPE, tree

import bigin
from bigin.core import disk
from bigin.jobs import journal
from bigin.jobs import run as running
from bigin.targets import files
from bigin.targets.lock import Lock
from bigin.targets.records import read_journal, unpack_progress, write_journal

KILLS = TESTS / "kills.py"


def killed(*arguments: object) -> dict[str, int]:
    """What tests/kills.py tells."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(KILLS), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    print(told, done.stderr[-3000:])
    assert told["wrong"] == []
    return told


@pytest.mark.slow
def test_a_fill_that_is_killed_at_any_moment_goes_on_to_the_same_bytes():
    told = killed("random", 5, 8)
    assert told["killed"] >= 100
    assert told["found"] >= 20  # so many went on in the middle: the others had not begun, or were through


@pytest.mark.slow
def test_a_fill_that_is_killed_at_any_call_goes_on_to_the_same_bytes():
    told = killed("calls")
    assert told["killed"] >= 100
    assert told["found"] >= 20


@pytest.mark.slow
def test_the_journal_never_runs_ahead_of_the_disk():
    told = killed("power", 5, 2)
    assert told["killed"] >= 15
    assert told["found"] >= 5


# Below, an interruption stands for a kill: the state that it leaves is one of those that a kill leaves.


@pytest.fixture
def small(monkeypatch):
    """Many regions in a small array, and a journal at every one of them."""
    monkeypatch.setattr(files, "BLOCK", 88)
    monkeypatch.setattr(journal, "FIRST", 0.0)
    monkeypatch.setattr(journal, "SHARE", 0)
    monkeypatch.setattr(disk, "boot", lambda: "this run")
    monkeypatch.setattr(journal, "boot", lambda: "this run")


class Dies(BaseException):
    """What no part of a fill expects."""


def cut(target: object, regions: int, method: str = "normal", **options: object) -> None:
    """A fill that ends when so many regions are stored and the journal says so."""
    store, done = running.store, 0

    def counted(*arguments: object) -> int:
        nonlocal done
        if done == regions:
            deadline = time.monotonic() + LIMIT
            while time.monotonic() < deadline and not told(target, regions):
                time.sleep(0.001)
            raise Dies
        done += 1
        return store(*arguments)

    running.store = counted
    try:
        with pytest.raises(Dies):
            bigin.fill(target, method, threads=1, **options)
    finally:
        running.store = store


def told(target: object, regions: int) -> bool:
    """Whether the journal of a path says that so many regions are done."""
    kept = read_journal(journal_of(target))
    return kept is not None and kept["done"] >= regions


def journal_of(target: object) -> Path:
    path = Path(str(target))
    return path / ".bigin.journal" if path.is_dir() else Path(f"{path}.bigin.journal")


def new_zarr(path: str = "a.zarr", **options: object) -> str:
    zarr.create_array(path, shape=SHAPE, chunks=(3, 22), dtype="float32", **{"compressors": None, **options})
    return path


def new_npy(path: str = "a.npy") -> str:
    np.save(path, np.zeros(SHAPE, np.float32))
    return path


def whole(path: str, make: object, **options: object) -> dict[str, bytes]:
    """What an uninterrupted fill leaves of the same target."""
    here = Path.cwd()
    Path("elsewhere").mkdir()
    os.chdir("elsewhere")
    try:
        make(path)
        bigin.fill(path, "normal", **options)
        return tree(Path.cwd())
    finally:
        os.chdir(here)


def tree_here() -> dict[str, bytes]:
    return {name: data for name, data in tree(Path.cwd()).items() if not name.startswith("elsewhere/")}


TARGETS = {
    "npy": ("a.npy", new_npy),
    "zarr": ("a.zarr", new_zarr),
    "compressed": ("a.zarr", lambda path: new_zarr(path, compressors="auto")),
    "sharded": (
        "a.zarr",
        lambda path: zarr.create_array(
            path, shape=SHAPE, chunks=(3, 11), shards=(3, 22), dtype="float32", compressors=None
        ),
    ),
}
every_target = pytest.mark.parametrize("kind", TARGETS)


@every_target
def test_it_goes_on_where_it_stopped(small, kind):
    path, make = TARGETS[kind]
    expected = whole(path, make)
    make(path)
    cut(path, 6)
    report = bigin.fill(path, "normal", threads=1)
    assert report.stored >= 6 * 88
    assert report.nbytes <= report.record["shape"][0] * 88 - 6 * 88
    assert tree_here() == expected


@every_target
def test_another_specification_is_refused_with_both_shown(small, kind):
    path, make = TARGETS[kind]
    make(path)
    cut(path, 4)
    before = tree_here()
    with pytest.raises(bigin.InputError) as refused:
        bigin.fill(path, "uniform", a=-2, seed=9)
    for part in ("is half filled with normal(), seed 0", "not with uniform(a=-2.0), seed 9", "--overwrite"):
        assert part in str(refused.value)
    assert tree_here() == before
    bigin.fill(path, "uniform", a=-2, seed=9, overwrite=True)
    assert bigin.verify(path).equal


DAMAGES = {
    "no journal": lambda place: place.unlink(),
    "an empty journal": lambda place: place.write_bytes(b""),
    "half a journal": lambda place: place.write_bytes(place.read_bytes()[:40]),
    "a flipped bit": lambda place: place.write_bytes(place.read_bytes().replace(b'"done": 4', b'"done": 6')),
    "no text": lambda place: place.write_bytes(b"\xff\xfe\0"),
    "a deep one": lambda place: place.write_bytes(b"[" * 100000),
    "a folder": lambda place: (place.unlink(), place.mkdir()),
}


@every_target
@pytest.mark.parametrize("damage", [name for name in DAMAGES if name != "a folder"])
def test_a_damaged_journal_is_no_journal(small, kind, damage):
    path, make = TARGETS[kind]
    expected = whole(path, make)
    make(path)
    cut(path, 4)
    DAMAGES[damage](journal_of(path))
    assert bigin.fill(path, "normal").stored == 0
    assert tree_here() == expected


def edited(**changes: object) -> object:
    def edit(path: str) -> None:
        place = journal_of(path)
        kept = unpack_progress(place.read_bytes())
        write_journal(place, kept | changes)

    return edit


EDITS = {
    "of another fill": edited(fill="0123456789abcdef"),
    "of another shape": edited(shape=[22, 33]),
    "of another grid": edited(block=[4, 22]),
    "beyond the end": edited(done=1000),
    "negative": edited(done=-3),
    "no number": edited(done="4"),
    "a truth": edited(done=True),
    "of another start of the system": edited(boot="another run"),
    "with more in it": edited(more=1),
}


@every_target
@pytest.mark.parametrize("edit", EDITS)
def test_a_journal_that_speaks_of_something_else_is_no_journal(small, kind, edit):
    path, make = TARGETS[kind]
    expected = whole(path, make)
    make(path)
    cut(path, 4)
    EDITS[edit](path)
    assert bigin.fill(path, "normal").stored == 0
    assert tree_here() == expected


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        *((damage, kind) for damage in ("gone", "cut off", "empty") for kind in ("zarr", "compressed", "sharded")),
        ("torn", "compressed"),  # without a codec, a chunk of its size that is not what it was is found by verify
    ],
)
def test_a_chunk_that_is_no_longer_whole_is_made_again(small, kind, damage):
    path, make = TARGETS[kind]
    expected = whole(path, make)
    make(path)
    cut(path, 8)
    place = Path("a.zarr/c/3/0")
    data = place.read_bytes()
    place.unlink()
    if damage != "gone":
        place.write_bytes({"cut off": data[:-1], "empty": b"", "torn": data[:20] + bytes(len(data) - 20)}[damage])
    assert bigin.fill(path, "normal").stored > 0
    assert tree_here() == expected


@pytest.mark.parametrize(
    "change", ["cut off", "cut off, and killed again", "another file", "the same file written anew"]
)
def test_a_file_that_is_another_is_filled_anew(small, change):
    expected = whole("a.npy", new_npy)
    new_npy()
    cut("a.npy", 20)
    if change == "another file":
        np.save("b.npy", np.zeros(SHAPE, np.float32))
        os.replace("b.npy", "a.npy")
    elif change == "the same file written anew":
        np.save("a.npy", np.zeros(SHAPE, np.float32))
    else:
        os.truncate("a.npy", 1000)
    if change == "cut off, and killed again":
        cut("a.npy", 1)
    report = bigin.fill("a.npy", "normal")
    assert change == "cut off, and killed again" or report.stored == 0
    assert tree_here() == expected


def test_a_crash_between_the_data_and_the_record(small, monkeypatch):
    for path, make in TARGETS.values():
        make(path)
        ledger = {"a.npy": "bigin.targets.file_ledger.FileLedger", "a.zarr": "bigin.targets.zarr.ledger.ZarrLedger"}[
            path
        ]
        with monkeypatch.context() as patch:
            patch.setattr(f"{ledger}.finish", lambda self, record: (_ for _ in ()).throw(RuntimeError("crash")))
            with pytest.raises(bigin.FillError, match="crash"):
                bigin.fill(path, "normal")
        with pytest.raises(bigin.InputError, match="got one that was interrupted; rerun its command"):
            bigin.verify(path)
        bigin.fill(path, "normal")
        assert bigin.verify(path).equal
        subprocess.run(["rm", "-r", path], check=True)


def test_a_raw_file_that_is_filled_from_another_place_on_is_not_taken_for_done(small):
    options = {"raw": True, "shape": SHAPE, "dtype": "float32"}
    cut("a.bin", 6, offset=64, **options)
    with pytest.raises(bigin.InputError, match=r"already holds data|half filled"):
        bigin.fill("a.bin", "normal", offset=200, **options)
    bigin.fill("a.bin", "normal", offset=200, overwrite=True, **options)
    assert bigin.verify("a.bin", raw=True).equal
    with pytest.raises(bigin.InputError, match="is filled with normal"):
        bigin.fill("a.bin", "normal", offset=64, **options)


def test_without_sync_a_journal_holds_until_the_system_starts_anew(small, monkeypatch):
    new_npy()
    cut("a.npy", 6, sync=False)
    monkeypatch.setattr(journal, "boot", lambda: "the next run")
    assert bigin.fill("a.npy", "normal").stored == 0


def test_what_is_complete_is_left_as_it_is_and_stray_files_go(small):
    for path, make in TARGETS.values():
        make(path)
        bigin.fill(path, "normal")
        before = tree_here()
        journal_of(path).write_bytes(b"")
        Path(path + ".partial" if path == "a.npy" else "a.zarr/x.partial").write_bytes(b"x")
        report = bigin.fill(path, "normal")
        assert (report.nbytes, report.stored) == (0, 33 * 88)
        assert tree_here() == before
        subprocess.run(["rm", "-r", path], check=True)


def test_what_is_complete_and_no_longer_whole_is_not_called_done():
    bigin.fill("a.bin", "normal", raw=True, shape=(100,), dtype="float32")
    os.truncate("a.bin", 300)
    with pytest.raises(bigin.InputError, match="some of it is missing; `bigin verify --repair`"):
        bigin.fill("a.bin", "normal", raw=True, shape=(100,), dtype="float32")
    new_zarr()
    bigin.fill("a.zarr", "normal")
    Path("a.zarr/c/3/0").unlink()
    with pytest.raises(bigin.InputError, match="some of it is missing"):
        bigin.fill("a.zarr", "normal")


# Two writers.


@pytest.mark.parametrize("kind", TARGETS)
def test_a_second_writer_is_refused_while_the_first_is_at_work(kind):
    path, make = TARGETS[kind]
    make(path)
    with Lock(Path(path), path), pytest.raises(bigin.LockedError, match="expected no other writer, got one"):
        bigin.fill(path, "normal")
    bigin.fill(path, "normal")


def racer(start: object, number: int, path: str, results: object) -> None:
    """One of several that make and fill the same target at once."""
    start.wait()
    try:
        bigin.fill(path, "normal", shape=(64, 64), seed=number)
        results.put((number, "filled"))
    except bigin.InputError as error:
        results.put((number, str(error)))
    except BaseException as error:
        results.put((number, f"unexpected {type(error).__name__}: {error}"))


def test_of_several_that_make_a_target_at_once_one_fills_it():
    many, racers = 12, 3
    forking = multiprocessing.get_context("fork" if sys.version_info < (3, 12) else "forkserver")
    for trial in range(many):
        path = f"race{trial}.npy" if trial % 2 else f"race{trial}.zarr/layers/weight"
        start, results = forking.Barrier(racers), forking.Queue()
        processes = [forking.Process(target=racer, args=(start, n, path, results)) for n in range(racers)]
        for process in processes:
            process.start()
        outcomes = dict(results.get(timeout=LIMIT) for _ in processes)
        for process in processes:
            process.join()
        winners = [number for number, outcome in outcomes.items() if outcome == "filled"]
        assert len(winners) == 1, outcomes
        for outcome in outcomes.values():
            assert (
                outcome == "filled"
                or "no other writer" in outcome
                or "just made" in outcome
                or ("is filled with normal" in outcome or "half filled" in outcome)
            ), outcomes
        verification = bigin.verify(path)
        assert verification.equal
        assert verification.record["seed"] == winners[0]
    assert not list(Path.cwd().rglob("*.partial"))
    assert not list(Path.cwd().rglob("*journal*"))
