"""Executors: the parts of a fill in other processes, with the bits of one; and what goes wrong there."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import zarr

import bigin
from bigin.core.limits import Limits
from bigin.core.regions import Grid
from bigin.jobs.parts import Part, fill_part, parts_of
from bigin.jobs.run import Pending
from bigin.jobs.where import Where

SHAPE = (700, 1000)
LAYOUTS = {
    "npy": lambda path: None,
    "chunks": lambda path: zarr.create_array(path, shape=SHAPE, chunks=(64, 1000), dtype="float32", compressors=None),
    "shards": lambda path: zarr.create_array(
        path, shape=SHAPE, chunks=(16, 500), shards=(64, 1000), dtype="float32", compressors=None
    ),
    "compressed": lambda path: zarr.create_array(path, shape=SHAPE, chunks=(64, 1000), dtype="float32"),
}


@pytest.fixture(scope="module")
def processes():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


class Here:
    """Runs what is submitted at once, from its pickle, as another process would; `fails` says of how many parts."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.submitted: list[Part] = []

    def submit(self, function, *arguments):
        future: Future[int] = Future()
        function, (part,) = pickle.loads(pickle.dumps((function, arguments)))
        self.submitted.append(part)
        try:
            if len(self.submitted) <= self.fails:
                raise ConnectionError("a worker is lost")
            future.set_result(function(part))
        except Exception as error:
            future.set_exception(error)
        return future


def values_of(path: str) -> np.ndarray:
    return np.load(path) if path.endswith(".npy") else zarr.open_array(path)[:]


def expected(method: str = "normal", **parameters: object) -> np.ndarray:
    values = np.empty(SHAPE, np.float32)
    bigin.fill(values, method, name="w", **parameters)
    return values


@pytest.mark.parametrize("layout", LAYOUTS)
def test_processes_make_the_bits_of_one(layout, processes):
    path = "w.npy" if layout == "npy" else "w.zarr"
    LAYOUTS[layout](path)
    report = bigin.fill(path, "normal", shape=SHAPE, executor=processes)
    assert report.nbytes == 4 * np.prod(SHAPE)
    assert report.record["complete"] is True
    np.testing.assert_array_equal(values_of(path), expected())
    assert bigin.verify(path).equal
    assert bigin.fill(path, "normal", shape=SHAPE, executor=processes).stored == report.nbytes


@pytest.mark.parametrize(("method", "parameters"), [("orthogonal", {}), ("sparse", {"sparsity": 0.2})])
def test_methods_that_prepare_do_so_in_every_process(method, parameters):
    bigin.fill("w.npy", method, shape=SHAPE, executor=Here(), **parameters)
    np.testing.assert_array_equal(np.load("w.npy"), expected(method, **parameters))


def test_a_part_may_be_done_twice_and_in_any_order():
    executor = Here()
    bigin.fill("w.npy", "normal", shape=SHAPE, executor=executor)
    assert len(executor.submitted) > 1
    np.save("other.npy", np.zeros(SHAPE, np.float32))
    assert sum(map(len, executor.submitted)) == len(executor.submitted[0].plan)


def test_a_lost_worker_is_an_error_and_the_same_call_continues(monkeypatch):
    with pytest.raises(bigin.FillError, match="a worker is lost"):
        bigin.fill("w.npy", "normal", shape=SHAPE, executor=Here(fails=1))
    assert not bigin.show("w.npy", statistics=False).record["complete"]
    bigin.fill("w.npy", "normal", shape=SHAPE, executor=Here())
    np.testing.assert_array_equal(np.load("w.npy"), expected())


def die(part: Part) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def test_a_worker_that_is_killed(monkeypatch):
    with monkeypatch.context() as patch:  # monkeypatch's own undo would leave the test's folder, too
        patch.setattr("bigin.jobs.job.fill_part", die)
        with (
            ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool,
            pytest.raises(bigin.FillError, match=r"w.npy: .*terminated abruptly"),
        ):
            bigin.fill("w.npy", "normal", shape=SHAPE, executor=pool)
    bigin.fill("w.npy", "normal", shape=SHAPE)
    np.testing.assert_array_equal(np.load("w.npy"), expected())


def test_a_part_of_another_fill_is_refused():
    executor = Here()
    bigin.fill("w.npy", "normal", shape=SHAPE, executor=executor)
    bigin.fill("w.npy", "normal", shape=SHAPE, seed=1, overwrite=True)
    before = Path("w.npy").read_bytes()
    with pytest.raises(bigin.RecordError, match="expected the fill that this part is of, got another one or none"):
        fill_part(executor.submitted[0])
    assert Path("w.npy").read_bytes() == before


@pytest.mark.parametrize("count", [0, 1, 5, 63, 64, 65, 1000, 12_345])
def test_parts_cover_a_plan_once(count):
    plan = Pending(Grid((count, 3), (1, 3)))
    parts = parts_of(Where("w.npy"), {}, plan, Limits())
    assert [region for part in parts for region in part] == list(plan)
    assert len(parts) <= 64
    assert all(parts)


def test_what_cannot_be_run_elsewhere_is_refused():
    with pytest.raises(bigin.InputError, match="expected a file or a zarr array for an executor"):
        bigin.fill(np.empty(5), "normal", executor=Here())
    with pytest.raises(
        bigin.InputError, match="expected an executor such as processes:8, dask://HOST:PORT or mpi, got 'dask'"
    ):
        bigin.fill("w.npy", "normal", shape=(3,), executor="dask")
