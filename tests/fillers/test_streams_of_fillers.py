"""A filler that is taken from another for another stream draws from that one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bigin.core.dtypes import DTYPES
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


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("shape", [(), (3,), (5, 7), (600,)])
def test_fillers_that_are_alike_fill_together_what_each_fills_alone(dtype, shape):
    kind = DTYPES[dtype]
    first = plan(Normal(0.0, 1.0), shape, kind, 3, "a")()
    fillers = [first, *(first.with_stream(Stream(3, name)) for name in ("b", "", "c"))]
    size = math.prod(shape)
    together = np.empty(4 * size, kind)
    first.fill_alike(fillers, together)
    alone = np.empty(size, kind)
    for filler, values in zip(fillers, together.reshape(4, size), strict=True):
        assert filler.alike is first.alike
        filler.fill_flat(0, alone)
        assert alone.tobytes() == values.tobytes()
    assert first.with_stream(Stream(4, "b")).alike is not first.alike
