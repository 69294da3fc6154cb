from __future__ import annotations

import os
import tempfile

import pytest
from hypothesis import HealthCheck, settings

# Kernels are compiled once for the whole run, and not into the user's cache.
os.environ.setdefault("BIGIN_CACHE_DIR", os.path.join(tempfile.gettempdir(), f"bigin-test-kernels-{os.getuid()}"))

settings.register_profile(
    "bigin", deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("bigin")


@pytest.fixture(autouse=True)
def _empty_folder(tmp_path, monkeypatch):
    """Every test stands in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)
