"""Checks that pytest runs in a process of their own.

XLA has one number of devices in a process, Keras one backend, and a process that has imported jax should not fork.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
from common import LIMIT, ROOT


def need(*modules):
    """Skips where a package is missing; it is not imported."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            which = "tensorflow-cpu" if module == "tensorflow" else "'bigin[test-jax]'"
            pytest.skip(f"{module} is not installed: pip install {which}")


def check(*arguments, **environment):
    """Runs pytest with these arguments."""
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"} | environment
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *arguments],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    print(done.stdout[-20000:], done.stderr[-5000:])
    assert done.returncode == 0
    assert " passed" in done.stdout
