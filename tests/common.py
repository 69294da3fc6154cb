"""What many tests share: where things stand, bits, and processes of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import forks
import numpy as np
import pytest
from hypothesis import settings

TESTS = Path(__file__).parent
ROOT = TESTS.parent
TORCHREC = ROOT / "out" / "torchrec"  # where .ci/run installs it and FBGEMM
NO_TORCHREC = (
    "torchrec and fbgemm-gpu-cpu are not installed: pip install --no-deps --target out/torchrec torchrec==1.8.0 "
    "fbgemm-gpu-cpu==1.8.0 ... (.ci/run)"
)

BIGIN = [sys.executable, "-m", "bigin"]
LIMIT = 600  # seconds after which a process hangs, on a busy machine that compiles every kernel anew

# What makes numba compile for another CPU: both variables, in a fresh process.
CPUS = {
    "host": {},
    "generic": {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
    "haswell": {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx2,+fma"},
}

MIB = 1 << 20
# The command line, followed by the process's own peak of memory.
PEAK = """
import atexit, bigin.cli
atexit.register(lambda: print([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0]))
bigin.cli.main()
"""

# A recipe of normal weights, and uniform values for all other tensors.
NORMAL_WEIGHTS = """
seed = 4
[[rule]]
match = "*.weight"
method = "normal"
std = 0.02
[[rule]]
match = "*"
method = "uniform"
"""


def few(*cases: Any) -> list[Any]:
    """Cases of pytest.mark.parametrize, of which a quick run takes the first alone."""
    return [cases[0], *(pytest.param(case, marks=pytest.mark.slow) for case in cases[1:])]


def examples(count: int) -> settings:
    """How many examples hypothesis tries in a run of every test; in a quick one a fifth of them (see conftest.py)."""
    return settings(max_examples=max(2, count * settings.default.max_examples // 100))


def all_run() -> bool:
    """Whether this is a run of every test, which compiles kernels of every dtype."""
    return settings.default.max_examples >= 100


def narrow(dtype: str) -> str:
    """A dtype whose kernels a quick run does not compile; there bfloat16 instead, which most are rounded like."""
    return dtype if all_run() else "bfloat16"


def single(dtype: str) -> str:
    """A dtype of a method whose kernels a quick run compiles of float32 alone; there float32 instead."""
    return dtype if all_run() else "float32"


def is_compiled(dtype: str) -> bool:
    """Whether this run compiles kernels of a dtype."""
    return all_run() or dtype in ("float32", "float64", "bfloat16")


def bits(values: np.ndarray) -> np.ndarray:
    """The values as native-endian integers, so that equal means equal bits."""
    native = values.astype(values.dtype.newbyteorder("=")) if values.dtype.kind in "iuf" else values
    return np.ascontiguousarray(native).view(f"u{min(8, values.dtype.itemsize)}")


COMPILING = re.compile(r", after [\d.]+ s of compiling kernels")  # said by whichever test needs a kernel first


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with the exit code that it must have."""
    done = command(*arguments)
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    done.stdout = COMPILING.sub("", done.stdout)
    return done


def command(*arguments: object, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """What the command line does in a process of its own, which is forked unless the environment forbids it."""
    texts = list(map(str, arguments))
    if forks.server().environment == forks.fixed():
        return forks.server().run(folder or Path.cwd(), texts, LIMIT)
    return subprocess.run([*BIGIN, *texts], capture_output=True, text=True, timeout=LIMIT, cwd=folder)


def stopped(process: subprocess.Popen[str], number: int) -> tuple[float, str]:
    """Sends a signal and waits for the end: the seconds of CPU that the process took until then, and its errors.

    Not the seconds of a clock, which on a busy machine say nothing of the process.
    """
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    before = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    process.send_signal(number)
    hangs = threading.Timer(LIMIT, process.kill)
    hangs.start()
    with process.stderr:
        errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    hangs.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime - before, errors


def run_ranks(script: str, world: int, meeting: Path) -> Iterator[list[str]]:
    """Each rank's output, line by line."""
    ranks = [
        subprocess.Popen(
            [sys.executable, TESTS / script, str(rank), str(world), meeting],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
        )
        for rank in range(world)
    ]
    try:
        for rank in ranks:
            out, err = rank.communicate(timeout=LIMIT)
            assert rank.returncode == 0, out + err
            yield out.split()
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()


def snapshot() -> dict[str, bytes]:
    """Every file below the working directory, with its bytes."""
    return {str(path): path.read_bytes() for path in sorted(Path.cwd().rglob("*")) if path.is_file()}
