"""The coefficients are what their script prints."""

from __future__ import annotations

import subprocess
import sys

import pytest
from common import ROOT


@pytest.mark.slow
def test_the_script_prints_the_module():
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "fit-polynomials")], capture_output=True, text=True, check=True
    )
    assert done.stdout == (ROOT / "bigin" / "rng" / "coefficients.py").read_text()
