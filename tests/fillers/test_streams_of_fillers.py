"""A filler that is taken from another for another stream draws from that one."""

from __future__ import annotations

import numpy as np
import pytest

from bigin.fillers.families import plan
from bigin.fillers.filler import Stream
from bigin.methods.distributions import Normal


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_filler_of_another_stream_is_as_one_that_was_made_for_it(dtype):
    shape, kind = (9, 700), np.dtype(dtype)
    first = plan(Normal(0.0, 1.0), shape, kind, 3, "a")()
    regions = [((0, 9), (0, 700)), ((2, 5), (10, 610)), ((1, 9), (5, 8))]

    def values(filler):
        made = []
        for region in regions:
            out = np.empty([stop - start for start, stop in region], kind)
            filler(region, out)
            made.append(out.tobytes())
        out = np.empty((3, 2), kind)
        filler.gather(np.array([1, 50, 900], np.uint64), out)
        return [*made, out.tobytes()]

    before = values(first)
    other = first.with_stream(Stream(4, "b"))
    assert values(other) == values(plan(Normal(0.0, 1.0), shape, kind, 4, "b")())
    assert values(first) == before
    assert all(left != right for left, right in zip(values(other), before, strict=True))
