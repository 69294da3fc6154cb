"""One suite for every kind of executor: the rows of executors.py."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import zarr
from executors import KINDS

import bigin

pytestmark = pytest.mark.filterwarnings("ignore")  # those of the executors themselves
SHAPE = (700, 1000)


@contextmanager
def started(kind):
    if kind.missing:
        pytest.skip(kind.missing)
    with kind.start() as executor:
        yield executor


EVERY = [pytest.param(kind, id=kind.name, marks=[pytest.mark.slow] if kind.slow else []) for kind in KINDS]


@pytest.mark.parametrize("kind", EVERY)
def test_the_bits_of_one_process(kind):
    expected = np.empty(SHAPE, np.float32)
    bigin.fill(expected, "normal", name="w")
    with started(kind) as executor:
        plan = bigin.plan("w.zarr", "normal", shape=SHAPE, chunks=(64, 1000), parts=5)
        assert plan.run(executor).nbytes == expected.nbytes
        np.testing.assert_array_equal(zarr.open_array("w.zarr")[:], expected)
        assert bigin.plan_verify("w.zarr", parts=3).run(executor).equal
        assert bigin.fill("w.npy", "normal", shape=SHAPE, executor=executor).nbytes == expected.nbytes
        np.testing.assert_array_equal(np.load("w.npy"), expected)
