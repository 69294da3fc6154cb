from __future__ import annotations

import warnings

import pytest


@pytest.fixture
def alone():
    """Of torch's warnings none: that no process group is there, and of its own deprecated calls."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
