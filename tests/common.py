"""What many tests share: where things stand, bits, and processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from hypothesis import settings

TESTS = Path(__file__).parent
ROOT = TESTS.parent

BIGIN = [sys.executable, "-m", "bigin"]

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


def examples(count: int) -> settings:
    """How many examples hypothesis tries in a run of every test; in a quick one a fifth of them (see conftest.py)."""
    return settings(max_examples=max(5, count * settings.default.max_examples // 100))


def bits(values: np.ndarray) -> np.ndarray:
    """The values as native-endian integers, so that equal means equal bits."""
    native = values.astype(values.dtype.newbyteorder("=")) if values.dtype.kind in "iuf" else values
    return np.ascontiguousarray(native).view(f"u{values.dtype.itemsize}")


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with the exit code that it must have."""
    done = subprocess.run([*BIGIN, *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def snapshot() -> dict[str, bytes]:
    """Every file below the working directory, with its bytes."""
    return {str(path): path.read_bytes() for path in sorted(Path.cwd().rglob("*")) if path.is_file()}
