"""Kills updates of a table with SIGKILL, and looks at what each leaves behind. Run by test_embedding.py.

Every update is a process of its own that kills itself before the k-th call that changes the disk, for every k until it
comes to its end. Prints how often some rows were old and some new.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys

import numpy as np
from grow_and_kill import DIM, OLD, copy, make
from kills import at_call, child, wait

import bigin

IDS = np.random.default_rng(1).permutation(OLD)[:200]
VALUES = np.random.default_rng(2).normal(size=(IDS.size, DIM)).astype(np.float32)


def look(path: str, old: np.ndarray, new: np.ndarray) -> tuple[int, int]:
    """How many of the rows are still to be written, and how many are; every row must be one of the two."""
    table = bigin.EmbeddingTable.open(path)
    found = np.asarray(table)
    before, after = (found == old).all(axis=1), (found == new).all(axis=1)
    assert (before | after).all(), np.flatnonzero(~(before | after))
    assert after[np.setdiff1d(np.arange(OLD), IDS)].all()
    assert np.array_equal(table.verify().changed.ids(), np.flatnonzero(~before))
    return int(before[IDS].sum()), int(after[IDS].sum())


def main(layout: str, step: int) -> None:
    end = ".npy" if layout == "npy" else ".zarr"
    begin, path = "begin" + end, "table" + end
    old = np.asarray(make(begin, layout, OLD))
    new = old.copy()
    new[IDS] = VALUES
    bigin.EmbeddingTable.open(copy(begin, path)).update(IDS, VALUES, threads=2)  # imports what an update imports
    copy(path, "updated" + end)
    assert look(path, old, new) == (0, IDS.size)
    killed = between = 0
    for what in ("update", "reset"):
        for number in range(1, 1000, step):
            copy(begin if what == "update" else "updated" + end, path)

            def work(number: int = number, what: str = what) -> None:
                at_call(number)
                table = bigin.EmbeddingTable.open(path)
                table.update(IDS, VALUES, threads=2) if what == "update" else table.reset(IDS, threads=2)

            code = wait(child(work))
            assert code in (0, -signal.SIGKILL), code
            left, done = look(path, old, new)
            if what == "reset":
                left, done = done, left
            if code == 0:
                assert left == 0
                break
            killed += 1
            between += left > 0 and done > 0
            table = bigin.EmbeddingTable.open(path)
            assert (table.update(IDS, VALUES) if what == "update" else table.reset(IDS)) == IDS.size
            assert np.array_equal(np.asarray(table), new if what == "update" else old)
    shutil.rmtree(path, ignore_errors=True)
    print(json.dumps({"killed": killed, "between": between}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
