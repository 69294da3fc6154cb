"""Many short runs at once: the values of each run alone, and nothing written past the end of the memory."""

from __future__ import annotations

import numpy as np
import pytest
from common import bits

from bigin.core.dtypes import FLOATS
from bigin.fillers.families import plan
from bigin.methods.distributions import Normal, Uniform
from bigin.spec.keyed import KeyedSpec

MARK = -7.0  # no value of these distributions
SIZES = [1, 2, 3, 5, 6, 8, 9, 13, 50]  # elements of a run: parts of vectors and of blocks, odd and even
COUNTS = [1, 2, 9, 700]  # runs: fewer than fill a tile, and more


def lent(count: int, run: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """An array for so many runs, and the memory behind it."""
    memory = np.full(count * run + 64, MARK, FLOATS[dtype])
    return memory[: count * run].reshape(count, run), memory[count * run :]


@pytest.mark.parametrize(
    ("method", "dtype"), [("normal", "float32"), pytest.param("uniform", "float64", marks=pytest.mark.slow)]
)
def test_rows_by_key_are_those_of_each_key_alone(method, dtype):
    keys = np.random.default_rng(2).integers(0, 2**64, max(COUNTS), np.uint64)
    for run in SIZES:
        fill = KeyedSpec.parse(method, {}, 3, "rows", run, dtype).plan()()
        alone = np.empty((len(keys), run), FLOATS[dtype])
        for i in range(len(keys)):
            fill(keys[i : i + 1], alone[i : i + 1])
        for count in COUNTS:
            made, behind = lent(count, run, dtype)
            fill(keys[:count], made)
            np.testing.assert_array_equal(bits(made), bits(alone[:count]))
            assert (behind == MARK).all()


@pytest.mark.parametrize(
    ("distribution", "dtype"),
    [(Normal(0.0, 1.0), "float32"), pytest.param(Uniform(0.0, 1.0), "float64", marks=pytest.mark.slow)],
)
def test_runs_from_anywhere_are_those_of_each_run_alone(distribution, dtype):
    """The starts lie at odd and even places of blocks; in one round all are even, so that no run cuts a pair."""
    fill = plan(distribution, (2**40,), FLOATS[dtype], 3, "runs")()
    anywhere = np.random.default_rng(2).integers(0, 2**39, max(COUNTS)).astype(np.uint64)
    for starts in (anywhere, anywhere & ~np.uint64(1)):
        for run in SIZES:
            alone = np.empty((len(starts), run), FLOATS[dtype])
            for start, row in zip(starts.tolist(), alone, strict=True):
                fill.fill_flat(start, row)
            for count in COUNTS:
                made, behind = lent(count, run, dtype)
                fill.gather(starts[:count], made)
                np.testing.assert_array_equal(bits(made), bits(alone[:count]))
                assert (behind == MARK).all()
