"""CUDA without a GPU: the tests of on_device.py under numba's simulator, in a process of their own."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

if importlib.util.find_spec("numba_cuda") is None:
    pytest.skip("numba-cuda is not installed: pip install bigin[test-cuda]", allow_module_level=True)


def test_under_the_simulator():
    """Numba reads the variable when it is imported, so these tests cannot run beside the others."""
    path = Path(__file__).with_name("on_device.py")
    command = [sys.executable, "-m", "pytest", str(path), "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command,
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
        cwd=path.parents[1],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    print(done.stdout[-1000:])
    assert passed is not None
    assert int(passed.group(1)) >= 39, "some tests were not run"
