"""The kernels' cache: it must never give one kernel's code for another's, and never stop a fill."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from common import BIGIN

from bigin.core.dtypes import DTYPES, FLOATS

CODE = """
import sys, numpy as np, bigin
from bigin.core.dtypes import DTYPES
for case in sys.argv[1:]:
    method, dtype = case.split("-")
    values = np.zeros(700, DTYPES[dtype])
    bigin.fill(values, method, name="")
    print(case, values.tobytes().hex())
"""
CASES = [f"{method}-{dtype}" for method in ("uniform", "normal", "trunc_normal") for dtype in FLOATS]


def run(*cases: str, folder: object = "cache", **environment: str) -> list[str]:
    env = {**os.environ, "BIGIN_CACHE_DIR": str(folder), **environment}
    done = subprocess.run([sys.executable, "-c", CODE, *cases], capture_output=True, text=True, env=env, check=True)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.slow
def test_kernels_of_many_processes_do_not_take_each_others_code():
    """Each compiled as the first of its process, where Numba's counters give all of them the same symbols."""
    cases = ["normal-float16", "normal-bfloat16", "uniform-float16", "uniform-float8_e5m2", "uniform-float8_e4m3fn"]
    apart = [line for case in cases for line in run(case)]
    files = sorted(path.name for path in Path("cache").rglob("*.nbc"))
    assert len(files) == len(cases)
    assert run(*cases) == apart
    assert run(*reversed(cases)) == apart[::-1]
    assert run(*cases, folder="") == apart
    assert len({line.split()[1] for line in apart}) == len(cases)


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncate", "garbage", "swap"])
def test_a_damaged_cache_is_compiled_anew(damage):
    (expected,) = run("uniform-float32")
    for path in Path("cache").rglob("*.nb[ic]"):
        data = path.read_bytes()
        path.write_bytes({"truncate": data[:100], "garbage": os.urandom(len(data)), "swap": b""}[damage])
    assert run("uniform-float32") == [expected]


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_told_once_and_does_not_stop_a_fill():
    Path("file").write_text("in the way")
    env = {**os.environ, "BIGIN_CACHE_DIR": "file/cache"}
    command = [sys.executable, "-c", CODE, "uniform-float32", "normal-float32"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    for line in done.stdout.splitlines():
        values = np.frombuffer(bytes.fromhex(line.split()[1]), DTYPES["float32"])
        assert len(np.unique(values)) > 690
    assert done.stderr.count("CacheWarning: file/cache: expected a folder for compiled kernels") == 1
    assert done.stderr.count("got: Not a directory") == done.stderr.count("set BIGIN_CACHE_DIR") == 1
    told = subprocess.run(
        [*BIGIN, "fill", "a.npy", "-m", "normal", "--shape", "9"], capture_output=True, text=True, env=env
    )
    assert told.stderr.startswith("bigin: warning: file/cache: expected")
    assert told.stderr.count("warning") == 1
    assert told.returncode == 0


@pytest.mark.slow
def test_another_instruction_set_has_a_folder_of_its_own():
    run("uniform-float32")
    run("uniform-float32", NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES="")
    assert len(list(Path("cache").iterdir())) == 2


@pytest.mark.slow
def test_a_kernel_is_compiled_for_what_a_call_needs_and_the_speed_does_not_count_it():
    """Rows of a whole array need one kernel; a column of it another."""
    code = """
import sys, numpy as np, bigin
from bigin.core.compiling import clock
report = bigin.fill(np.zeros((100, 9), np.float32), "uniform")
assert report.compiling == clock.seconds > 0, report
assert bigin.fill(np.zeros((100, 9), np.float32), "uniform").compiling == 0
assert "scipy.linalg" not in sys.modules
bigin.fill(np.zeros((100, 3), np.float32), "uniform", shape=(100, 9), region=(slice(None), slice(3, 6)))
"""
    env = {**os.environ, "BIGIN_CACHE_DIR": "cache"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)
    names = sorted(path.relative_to("cache").parts[1] for path in Path("cache").rglob("*.nbc"))
    assert names == ["short-uniform-float32", "uniform-float32"]


def test_numba_still_compiles_linear_algebra():
    code = """
import numpy as np, numba, bigin
bigin.fill(np.zeros(9, np.float32), "uniform")
assert numba.njit(lambda a: np.dot(a, a))(2 * np.eye(2))[0, 0] == 4
"""
    subprocess.run([sys.executable, "-c", code], check=True)
