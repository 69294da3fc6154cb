"""Keras on each of its backends, in a process of its own."""

from __future__ import annotations

import pytest
from common import TESTS
from nested import check, need

CHECKS = TESTS / "frameworks/checks_keras.py"


def test_the_backend_numpy():
    need("keras")
    check(CHECKS, KERAS_BACKEND="numpy")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch", "tensorflow"])
def test_a_backend(backend):
    """tensorflow is 600 MB, and no extra has it: pip install tensorflow-cpu."""
    need("keras", backend)
    check(CHECKS, "--all", KERAS_BACKEND=backend)


@pytest.mark.slow
def test_docstrings():
    need("keras")
    keras_own = "ignore:__array__ implementation:DeprecationWarning"  # of its variables on the backend numpy
    check(
        TESTS / "test_house.py",
        "-k",
        "whole_docstrings or example",
        "-W",
        keras_own,
        BIGIN_HOUSE="bigin.keras",
        KERAS_BACKEND="numpy",
    )
