"""The tutorials run, and print what they print on their pages."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest
from common import LIMIT, ROOT

TUTORIALS = sorted(path.stem for path in (ROOT / "docs" / "tutorials").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_prints_what_its_page_shows(name):
    needed = [("nbclient", "docs"), ("ipykernel", "docs"), ("matplotlib", "plot"), ("torch", "torch")]
    for package, extra in [*needed, *([("transformers", "transformers")] if name == "llm" else [])]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'bigin[{extra}]'")
    command = [sys.executable, ROOT / "scripts" / "notebooks", "--check", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr


def test_a_page_has_no_control_codes():
    assert TUTORIALS
    for name in TUTORIALS:
        assert "\\u001b[" not in (ROOT / "docs" / "tutorials" / f"{name}.ipynb").read_text(), name
