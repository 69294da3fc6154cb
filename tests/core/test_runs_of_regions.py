"""Indices of a grid, which may have more chunks than memory has room for."""

from __future__ import annotations

import itertools
import tracemalloc
from collections import deque

import pytest

from bigin.core.regions import indices


@pytest.mark.parametrize("spans", [[], [range(3)], [range(2, 4), range(1)], [range(2), range(0), range(3)]])
def test_indices_are_those_of_itertools(spans):
    assert list(indices(spans)) == list(itertools.product(*spans))


def test_indices_take_no_memory_that_grows_with_them():
    for spans in ([range(100_000)], [range(100_000), range(1)], [range(1), range(100_000)]):
        every = indices(spans)
        tracemalloc.start()
        deque(every, maxlen=0)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 20_000, (spans, peak)
