"""jax and what is built on it: each file of checks in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from common import LIMIT, TESTS
from nested import check, need


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
