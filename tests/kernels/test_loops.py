"""Loops over arrays that are called without Numba: they see each argument as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bigin.kernels import loops


def test_arrays_of_any_strides_and_numbers_reach_a_loop():
    """Of one or two axes, with steps, that may not be written; integers and a float."""
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    for part in (values, values[:, 1:4], values[::2], values[::-1, ::-1], values[:0]):
        sums = np.zeros(part.shape[1])
        loops.add_rows(part, sums)
        assert (sums == part.sum(axis=0, dtype=np.float64)).all()
    values.flags.writeable = False
    sums = np.zeros(6)
    loops.add_rows(values, sums)
    assert (sums == values.sum(axis=0)).all()
    tile = np.full((2, 3), 0.25)
    loops.finish_tile(tile, 1, 0, np.array([1.0, -1.0, 1.0]), 2.0)
    assert tile.tolist() == [[-0.5, -1.5, -0.5], [-0.5, 0.5, 1.5]]


def test_types_that_no_loop_has_are_refused():
    for values in (np.zeros((2, 2), ">f8"), np.zeros((2, 2), np.complex64)):
        with pytest.raises(KeyError):
            loops.add_rows(values, np.zeros(2))


CODE = """
import sys, numpy as np, bigin
bigin.fill("a.npy", "normal", shape=(100, 30), seed=1, overwrite=True)
bigin.init.orthogonal_(np.zeros((30, 20)), seed=1)
bigin.init.sparse_(np.zeros((30, 20)), sparsity=0.5, seed=1)
assert bigin.show("a.npy").statistics.count == 3000
assert ("numba" in sys.modules) == (sys.argv[1] == "compiles")
"""


@pytest.mark.slow
def test_what_is_compiled_is_called_without_numba_and_needs_nothing_of_it():
    env = {**os.environ, "BIGIN_CACHE_DIR": "cache", "NUMBA_DISABLE_JIT": "0"}
    for case in ("compiles", "loads"):
        subprocess.run([sys.executable, "-c", CODE, case], env=env, check=True)
    files = [path for path in Path("cache").rglob("*") if path.is_file()]
    labels = {path.parent.name.split("-")[0] for path in files}
    assert labels >= {"panels", "reflectors", "sparse", "statistics"}
    for path in files:
        symbols = path.read_bytes().replace(b"_ZN08NumbaEnv", b"")
        for prefix in (b"NRT_", b"Py", b"numba_", b"_Py"):
            assert prefix not in symbols, path
