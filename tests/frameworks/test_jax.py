"""jax and what is built on it: each file of checks in a process of its own.

XLA has one number of devices in a process, Keras one backend, and a process that has imported jax should not fork.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys

import pytest
from common import LIMIT, ROOT, TESTS


def need(*modules):
    """Skips where a package is missing; it is not imported."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install 'bigin[test-jax]'")


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


def test_arrays_and_initializers(pytestconfig):
    need("jax")
    check(TESTS / "frameworks/checks_jax.py", *(["--all"] if pytestconfig.getoption("--all") else []))


@pytest.mark.slow
def test_models():
    need("jax", "flax", "equinox", "optax")
    check(TESTS / "frameworks/checks_flax.py", "--all")


@pytest.mark.slow
def test_each_of_two_processes_makes_its_own_shards():
    need("jax")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, TESTS / "processes_of_jax.py"]
    run = [
        subprocess.Popen([*command, str(n), "2", str(port)], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for n in range(2)
    ]
    try:
        for process in run:
            out = process.communicate(timeout=LIMIT)[0].decode()
            assert process.returncode == 0, out
            assert "made" in out
    finally:
        for process in run:
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_docstrings():
    need("jax")
    check(TESTS / "test_house.py", "-k", "whole_docstrings or example", BIGIN_HOUSE="bigin.jax")
