"""CUDA without a GPU: the tests of on_device.py and on_device_fills.py under numba's simulator, in a process of their
own; and what is said where there is no GPU."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys

import pytest
from common import ROOT, TESTS

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("numba-cuda is not installed: pip install 'bigin[test-cuda]'", allow_module_level=True)


@pytest.mark.slow
def test_under_the_simulator():
    """Numba reads the variable when it is imported, so these tests cannot run beside the others."""
    paths = [TESTS / name for name in ("on_device.py", "on_device_fills.py")]
    command = [sys.executable, "-m", "pytest", *map(str, paths), "-q", "-m", "not slow", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command,
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    print(done.stdout[-1000:])
    assert passed is not None
    assert int(passed.group(1)) >= 80, "some tests were not run"


def without_gpu(code, **environment):
    """Runs Python in a process that sees no GPU; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "NUMBA_ENABLE_CUDASIM": "0"} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_a_gpu():
    """One clear line, or the CPU where the device was left open."""
    code = """
import bigin, numpy
from bigin.jobs import device as choice
try:
    bigin.fill(numpy.zeros(9), "normal", device="cuda")
except bigin.InputError as error:
    print(error)
choice.seconds = lambda *_: (1.0, 0.0)
print(bigin.fill(numpy.zeros(9), "normal", device="auto").device)
"""
    refused, instead = without_gpu(code).splitlines()
    assert refused.startswith("expected a CUDA device, got none that works: ")
    assert instead.startswith("cpu (expected a CUDA device, got none that works: ")


def test_without_numba_cuda():
    code = """
import importlib.util, bigin, numpy
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "numba_cuda" else find(name, *rest)
try:
    bigin.fill(numpy.zeros(9), "normal", device="cuda")
except bigin.InputError as error:
    print(error)
"""
    assert without_gpu(code).strip().endswith("got none; pip install 'bigin[cuda13]' or 'bigin[cuda12]'")


@pytest.mark.slow
def test_the_measurement_under_the_simulator():
    """What scripts/check-gpu runs on a GPU: every case works, and whatever is left out has its reason."""
    small = ["--repeats", "1", "--elements", "40", "--rows", "4", "--store", "8192"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.gpu", *small],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith(("| float", "| bfloat", "| normal"))]
    assert len(rows) == 18
    assert all("left out: " in line or line.endswith("x |  |") for line in rows)
