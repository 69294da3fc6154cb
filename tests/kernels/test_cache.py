"""The kernels' cache: it must never give one kernel's code for another's, and never stop a fill."""

from __future__ import annotations

import os
import shutil
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
    cases = ["uniform-float16", "uniform-bfloat16", "uniform-float8_e5m2", "uniform-float8_e4m3fn"]
    apart = [line for case in cases for line in run(case)]
    files = sorted(Path("cache").rglob("code"))
    assert len(files) == len(cases)
    assert run(*cases) == apart
    assert run(*reversed(cases)) == apart[::-1]
    assert run(*cases, folder="") == apart
    assert len({line.split()[1] for line in apart}) == len(cases)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory) -> tuple[Path, str]:
    """A cache with a kernel, and what the kernel makes."""
    folder = tmp_path_factory.mktemp("compiled")
    (line,) = run("uniform-float32", folder=folder)
    return folder, line


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["truncate", "garbage", "empty", "flip"])
def test_a_damaged_cache_is_compiled_anew(compiled, damage):
    folder, expected = compiled
    shutil.copytree(folder, "cache")
    for path in Path("cache").rglob("code"):
        data = path.read_bytes()
        flipped = data[:5000] + bytes([data[5000] ^ 1]) + data[5001:]
        damaged = {"truncate": data[:-1], "garbage": os.urandom(len(data)), "empty": b"", "flip": flipped}
        path.write_bytes(damaged[damage])
    assert run("uniform-float32") == [expected]
    assert path.read_bytes() == data


@pytest.mark.slow
def test_what_is_compiled_is_called_without_numba_and_needs_nothing_of_it():
    code = f"{CODE}\nassert ('numba' in sys.modules) == (sys.argv[-1].endswith('32')), sorted(sys.modules)"
    env = {**os.environ, "BIGIN_CACHE_DIR": "cache", "NUMBA_DISABLE_JIT": "0"}
    for case in ("trunc_normal-float32", "trunc_normal-float32-"):
        subprocess.run(
            [sys.executable, "-c", code.replace('case.split("-")', 'case.split("-")[:2]'), case], env=env, check=True
        )
    (path,) = Path("cache").rglob("code")
    symbols = path.read_bytes()
    for prefix in (b"NRT_", b"Py", b"numba_", b"_Py"):
        assert prefix not in symbols.replace(b"_ZN08NumbaEnv", b"")


@pytest.mark.slow
def test_processes_that_compile_one_kernel_at_once_keep_one_file():
    env = {**os.environ, "BIGIN_CACHE_DIR": "cache"}
    command = [sys.executable, "-c", CODE, "uniform-float32"]
    running = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    lines = {process.communicate(timeout=300)[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(lines) == 1
    assert [path.name for path in Path("cache").rglob("*") if path.is_file()] == ["code"]


@pytest.mark.slow
def test_a_process_that_numba_may_not_compile_in_says_so():
    env = {**os.environ, "BIGIN_CACHE_DIR": "cache", "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run([sys.executable, "-c", CODE, "uniform-float32"], capture_output=True, text=True, env=env)
    assert "InputError: expected numba's compiler, got NUMBA_DISABLE_JIT" in done.stderr


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
    names = sorted(path.relative_to("cache").parts[1] for path in Path("cache").rglob("code"))
    assert names == ["long-uniform-float32", "short-uniform-float32"]


@pytest.mark.slow
def test_numba_still_compiles_linear_algebra():
    code = """
import numpy as np, numba, bigin
bigin.fill(np.zeros(9, np.float32), "uniform")
assert numba.njit(lambda a: np.dot(a, a))(2 * np.eye(2))[0, 0] == 4
"""
    subprocess.run([sys.executable, "-c", code], check=True)
