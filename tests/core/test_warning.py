"""Warnings name the line that called bigin, through as many of its own as there are."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from common import ROOT

import bigin
from bigin.core.errors import RecipeWarning, StreamWarning


def shared_stream() -> None:
    first, second = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)
    bigin.fill(first, "normal", seed=2**40)
    bigin.fill(second, "normal", seed=2**40)


def layout_of_a_method() -> None:
    bigin.fill(np.zeros((3, 3, 64, 64), np.float32), "orthogonal", name="w")


def hidden_rule() -> None:
    bigin.create("g.zarr/a", shape=(2, 2))
    Path("r.toml").write_text('[[rule]]\nmatch = "*"\nmethod = "ones"\n[[rule]]\nmatch = "b"\nmethod = "zeros"\n')
    bigin.initialize("r.toml", "g.zarr")


@pytest.mark.parametrize(
    ("call", "kind"), [(shared_stream, StreamWarning), (layout_of_a_method, UserWarning), (hidden_rule, RecipeWarning)]
)
def test_a_warning_names_its_caller(call, kind, monkeypatch):
    monkeypatch.setattr("bigin.api.streams._told", False)  # it is told once in a process
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        call()
    files = {warning.filename for warning in told if issubclass(warning.category, kind)}
    assert files == {__file__}, [str(warning) for warning in told]


def test_all_warnings_but_the_kernels_go_through_it():
    """The cache of kernels has one of its own: its sources are part of what names a kernel's folder."""
    own = {"bigin/core/warning.py", "bigin/kernels/files.py", "bigin/cli/__init__.py"}
    used = {str(path.relative_to(ROOT)) for path in ROOT.glob("bigin/**/*.py") if "warnings.warn(" in path.read_text()}
    assert used <= own
