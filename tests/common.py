"""What many tests share: where things stand, bits, and processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
from hypothesis import settings

TESTS = Path(__file__).parent
ROOT = TESTS.parent

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


def examples(count: int) -> settings:
    """How many examples hypothesis tries in a run of every test; in a quick one a fifth of them (see conftest.py)."""
    return settings(max_examples=max(5, count * settings.default.max_examples // 100))


def bits(values: np.ndarray) -> np.ndarray:
    """The values as native-endian integers, so that equal means equal bits."""
    native = values.astype(values.dtype.newbyteorder("=")) if values.dtype.kind in "iuf" else values
    return np.ascontiguousarray(native).view(f"u{values.dtype.itemsize}")


def run(*arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, with the exit code that it must have."""
    done = subprocess.run([*BIGIN, *map(str, arguments)], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


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


def snapshot() -> dict[str, bytes]:
    """Every file below the working directory, with its bytes."""
    return {str(path): path.read_bytes() for path in sorted(Path.cwd().rglob("*")) if path.is_file()}
