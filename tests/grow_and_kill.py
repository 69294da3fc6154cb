"""Kills grows of a table with SIGKILL, again and again, and looks at what each leaves behind. Run by test_embedding.py.

Every grow is a process of its own, forked from this one, which has imported and compiled everything. It kills itself at
the k-th file that it opens, renames, removes or cuts, for every k until it comes to its end; or it is killed from here
at a random moment. Prints how often a killed grow had left the old table, and how often the new one.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import zarr

import bigin

OLD, NEW, DIM = 1000, 2600, 32
TRAINED = [0, 5, 301, OLD - 1]
MOMENTS = ("open", "os.rename", "os.remove", "os.truncate", "os.mkdir", "os.listdir", "os.rmdir")
LAYOUTS = {
    "npy": {},
    "zarr": {"chunks": 300},
    "zarr sharded": {"chunks": 100, "shards": 300},
    "zarr v2": {"chunks": 300, "zarr_format": 2},
    "zarr compressed": None,
}


def make(path: str, layout: str, rows: int) -> bigin.EmbeddingTable:
    if LAYOUTS[layout] is None:
        zarr.create_array(path, shape=(rows, DIM), chunks=(300, DIM), dtype="float32", compressors="auto")
        bigin.fill(path, "normal", std=0.02, seed=5, name="", padding_idx=3)
        return bigin.EmbeddingTable.open(path)
    return bigin.EmbeddingTable.create(
        path, rows, DIM, "normal", std=0.02, seed=5, name="", padding_idx=3, **LAYOUTS[layout]
    )


def train(path: str) -> None:
    values = np.lib.format.open_memmap(path, "r+") if path.endswith(".npy") else zarr.open_array(path, mode="r+")
    for row in TRAINED:
        values[row] = np.full(DIM, row + 0.5, np.float32)


def child(path: str, moment: int) -> None:
    """Grows, and kills itself at a moment."""
    seen = 0

    def hook(event: str, arguments: object) -> None:
        nonlocal seen
        if event in MOMENTS:
            seen += 1
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    bigin.EmbeddingTable.open(path).grow(NEW, threads=2)


def grow_and_kill(path: str, moment: int, seconds: float | None = None) -> bool:
    """Whether the grow was killed."""
    pid = os.fork()
    if pid == 0:
        try:
            child(path, moment)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(3)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"moment {moment}: exit {os.WEXITSTATUS(status)}"
    return os.WIFSIGNALED(status)


def look(path: str, expected: np.ndarray) -> str:
    """Which table is there; every row of it must be right, for whoever reads it."""
    table = bigin.EmbeddingTable.open(path)
    assert len(table) in (OLD, NEW), len(table)
    np.testing.assert_array_equal(table.rows(np.arange(len(table))), expected[: len(table)])
    plain = np.load(path) if path.endswith(".npy") else zarr.open_array(path, mode="r")[:]
    np.testing.assert_array_equal(plain, expected[: len(table)])
    return "old" if len(table) == OLD else "new"


def finish(path: str, expected: np.ndarray) -> None:
    """Grown again, the table is the fresh one, and nothing is left over."""
    table = bigin.EmbeddingTable.open(path)
    table.grow(NEW)
    np.testing.assert_array_equal(table.rows(np.arange(NEW)), expected)
    table.reset(TRAINED)
    assert table.verify().equal
    found, fresh = files(path), files(FRESH)
    assert found.keys() == fresh.keys(), found.keys() ^ fresh.keys()
    different = [name for name in found if found[name] != fresh[name]]
    assert all(name.endswith(("zarr.json", ".zattrs", ".zarray")) for name in different), different
    for name in different:  # the same words, in another order or layout
        assert json.loads(found[name]) == json.loads(fresh[name]), name


def files(path: str) -> dict[str, bytes]:
    """What lies at a path and beside it."""
    found = {}
    for top in (name for name in os.listdir() if name.startswith(path)):
        inside = [os.path.join(folder, name) for folder, _, names in os.walk(top) for name in names] or [top]
        found.update({name.removeprefix(path): Path(name).read_bytes() for name in inside})
    return found


def copy(old: str, new: str) -> str:
    """A table's files under another name, in place of what was there."""
    for name in os.listdir():
        if name.startswith(new):
            shutil.rmtree(name) if os.path.isdir(name) else os.remove(name)
    for name in os.listdir():
        if name.startswith(old):
            (shutil.copytree if os.path.isdir(name) else shutil.copyfile)(name, name.replace(old, new))
    return new


def main(layout: str, seed: int, step: int, times: int) -> None:
    global FRESH
    end = ".npy" if layout == "npy" else ".zarr"
    FRESH, begin, path = "fresh" + end, "begin" + end, "table" + end
    expected = make(FRESH, layout, NEW).rows(np.arange(NEW))
    for row in TRAINED:
        expected[row] = row + 0.5
    make(begin, layout, OLD)
    train(begin)
    finish(copy(begin, path), expected)  # imports what a grow imports
    left = {"old": 0, "new": 0}
    for moment in range(1, 1000, step):
        killed = grow_and_kill(copy(begin, path), moment)
        state = look(path, expected)
        if not killed:
            assert state == "new"
            break
        left[state] += 1
        finish(path, expected)
    random.seed(seed)
    copy(begin, path)
    for _ in range(times):  # one after the other on what the last has left
        grow_and_kill(path, 0, random.random() * 0.05)
        state = look(path, expected)
        left[state] += 1
        if state == "new":
            copy(begin, path)
    finish(path, expected)
    print(json.dumps(left | {"moments": moment}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
