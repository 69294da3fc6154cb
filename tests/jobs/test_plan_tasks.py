"""Plans that measure a target and plans that grow a table: what they find and write is that of one process."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr
from common import snapshot
from executors import Here

import bigin
from bigin.core.errors import DamagedError, FillError, InputError, RecordError
from bigin.jobs.plans.work import Options, do_part

SHAPE = (700, 1000)


def same(shown: bigin.Overview, alone: bigin.Overview) -> None:
    """Every number is equal, but for the seconds."""
    np.testing.assert_array_equal(shown.statistics.histogram, alone.statistics.histogram)
    told = [replace(each, seconds=0.0).as_dict() for each in (shown, alone)]
    for each in told:
        each["target"] = Path(each["target"]).name
    assert told[0] == told[1]
    assert [str(check) for check in shown.checks] == [str(check) for check in alone.checks]


# show

LAYOUTS = {
    "zarr": ("w.zarr", {"chunks": (16, 1000)}),
    "columns": ("w.zarr", {"chunks": (64, 300)}),
    "bfloat16": ("w.zarr", {"chunks": (64, 1000), "dtype": "bfloat16"}),
    "float64": ("w.zarr", {"chunks": (64, 1000), "dtype": "float64"}),
    "npy": ("w.npy", {}),
    "raw": ("w.bin", {"raw": True, "offset": 24, "dtype": "float32"}),
}


@pytest.mark.parametrize("kind", LAYOUTS)
def test_statistics_of_parts_are_those_of_one_process(kind):
    path, given = LAYOUTS[kind]
    bigin.fill(
        path, "normal", shape=(4000, 1000) if "." in path and "chunks" not in given else SHAPE, std=0.02, **given
    )
    alone = bigin.show(path)
    plan = bigin.plan_show(path, parts=3 if "chunks" in given else 2)
    order = [*range(plan.parts), 0]
    random.Random(2).shuffle(order)
    for part in order:
        plan.work([part])
    plan.work([1], again=True)
    same(plan.finish(), alone)
    same(plan.finish(), alone)  # may be repeated
    assert plan.finish().looks_right
    assert plan.status().nbytes == plan.status().total == alone.nbytes


def test_statistics_of_a_sample_and_of_what_is_not_finite():
    bigin.fill("w.zarr", "normal", shape=SHAPE, chunks=(16, 1000))
    array = zarr.open_array("w.zarr")
    array[3, 5], array[100, :3], array[699, 7] = np.nan, np.inf, -3e38
    for sample in (1, 0.3):
        shown = bigin.plan_show("w.zarr", parts=4, sample=sample, sample_seed=3).run(Here())
        same(shown, bigin.show("w.zarr", sample=sample, sample_seed=3))
    assert not bigin.plan_show("w.zarr", parts=4).run(Here()).looks_right


@pytest.mark.parametrize("dtype", ["int32", "uint64", "int8", "bool", "float16"])
def test_statistics_of_values_that_bigin_has_not_made(dtype):
    values = np.random.default_rng(1).integers(0, 2, (2000, 700)).astype(dtype)
    np.save("w.npy", values if dtype != "uint64" else values * np.uint64(2**63 + 12345))
    same(bigin.plan_show("w.npy", parts=1).run(Here()), bigin.show("w.npy"))


def test_statistics_against_a_method_of_the_caller_and_of_a_structure():
    bigin.fill("w.zarr", "orthogonal", shape=(600, 200), chunks=(100, 200))
    same(bigin.plan_show("w.zarr", parts=4).run(Here()), bigin.show("w.zarr"))
    shown = bigin.plan_show("w.zarr", "normal", std=0.5, parts=4).run(Here())
    same(shown, bigin.show("w.zarr", "normal", std=0.5))
    assert shown.looks_right is False


def test_a_new_plan_that_reads_forgets_what_an_old_one_has_found():
    bigin.fill("w.zarr", "normal", shape=SHAPE, chunks=(64, 1000))
    assert bigin.plan_verify("w.zarr", parts=3).run(Here()).equal
    assert bigin.plan_show("w.zarr", parts=3).run(Here()).looks_right
    zarr.open_array("w.zarr")[5, 5] = 100.0
    assert not bigin.plan_verify("w.zarr", parts=3).run(Here()).equal
    assert bigin.plan_show("w.zarr", parts=3).run(Here()).statistics.maximum == 100


def test_a_part_whose_count_is_damaged():
    bigin.fill("w.zarr", "normal", shape=SHAPE, chunks=(64, 1000))
    plan = bigin.plan_show("w.zarr", parts=3)
    plan.work("0-2")
    held = next(Path("w.zarr.bigin.parts").rglob("statistics/*/1"))
    held.write_bytes(held.read_bytes()[:100])
    with pytest.raises(DamagedError, match=r"the counts of part 1,.*--again --part 1"):
        plan.finish()
    plan.work([1], again=True)
    assert plan.finish().looks_right


def test_what_cannot_be_measured_in_parts():
    with pytest.raises(InputError, match="expected a target to show, got nothing"):
        bigin.plan_show("w.npy", parts=1)
    bigin.plan("w.npy", "normal", shape=SHAPE, parts=2).work([0])
    with pytest.raises(InputError, match="expected a complete target for a plan, got one that is partly filled"):
        bigin.plan_show("w.npy", parts=1)
    bigin.fill("c.npy", "ones", shape=(10,), dtype="complex64")
    with pytest.raises(InputError, match="expected values that have an order, got complex64"):
        bigin.plan_show("c.npy", parts=1)


# grow

OLD, NEW, DIM = 1010, 9999, 64
TABLES = {
    "npy": ("t.npy", {}),
    "zarr": ("t.zarr", {"chunks": 300}),
    "shards": ("t.zarr", {"chunks": 100, "shards": 300}),
    "zarr v2": ("t.zarr", {"chunks": 300, "zarr_format": 2}),
    "bfloat16": ("t.npy", {"dtype": "bfloat16"}),
}


def table(kind: str, rows: int = OLD) -> str:
    path, given = TABLES[kind]
    dtype = given.get("dtype", "float32") if path.endswith("zarr") else "float32"
    bigin.EmbeddingTable.create(path, rows, DIM, "normal", std=0.02, seed=5, **{**given, "dtype": dtype})
    return path


def train(path: str) -> np.ndarray:
    """Changes the first and the last row; returns all rows."""
    values = np.lib.format.open_memmap(path, "r+") if path.endswith(".npy") else zarr.open_array(path, mode="r+")
    for row in (0, OLD - 1):
        values[row] = np.full(DIM, row + 0.5, np.float32)
    return np.array(values[:])


@pytest.mark.parametrize("kind", ["npy", "zarr", "shards", "zarr v2"])
def test_a_table_grows_in_parts_to_the_bytes_of_one_process(kind):
    path = table(kind)
    train(path)
    bigin.EmbeddingTable.open(path).grow(NEW)
    expected = snapshot()
    shutil.rmtree(path) if Path(path).is_dir() else [Path(name).unlink() for name in expected]
    path = table(kind)
    before = train(path)
    plan = bigin.plan_grow(path, NEW, parts=4)
    order = [3, 1, 0, 2, 1]
    for part in order:
        assert len(bigin.EmbeddingTable.open(path)) == OLD  # readers see the old table
        np.testing.assert_array_equal(bigin.EmbeddingTable.open(path).rows(range(OLD)), before)
        plan.work([part])
    assert plan.work([1])[0].stored
    plan.work([2], again=True)
    status = plan.status()
    assert (status.complete, status.finished, status.total) == (True, False, (NEW - OLD) * DIM * 4)
    report = plan.finish()
    assert report.nbytes == (NEW - OLD) * DIM * 4
    assert snapshot() == expected
    assert plan.finish().stored == report.nbytes  # may be repeated
    assert plan.work([1])[0].stored
    assert plan.status().finished


def test_only_the_old_chunk_has_room():
    path = table("zarr", 1000)
    plan = bigin.plan_grow(path, 1100, parts=1)
    assert plan.parts == 0
    assert plan.finish().nbytes == 100 * DIM * 4
    assert bigin.EmbeddingTable.open(path).verify().equal


def test_old_rows_that_are_trained_meanwhile_stay():
    path = table("zarr")
    plan = bigin.plan_grow(path, NEW, parts=3)
    plan.work("0-2")
    before = train(path)
    bigin.EmbeddingTable.open(path).reset([7])
    plan.finish()
    np.testing.assert_array_equal(bigin.EmbeddingTable.open(path).rows(range(OLD)), before)


def test_finish_lists_what_is_missing_of_a_grow():
    path = table("zarr")
    plan = bigin.plan_grow(path, NEW, parts=4)
    plan.work("0,3")
    before = snapshot()
    with pytest.raises(FillError, match="parts 1-2 are not done"):
        plan.finish()
    assert snapshot() == before
    plan.work("1-2")
    Path(path, "c/33/0").unlink()
    Path(path, "c/4/0").write_bytes(b"x")
    with pytest.raises(FillError, match=r"parts 0,3 are marked, but missing or short \(chunk c/4/0 of part 0\)"):
        plan.finish()
    executor = Here()
    plan.run(executor)
    assert [part for *_, part, _ in executor.submitted] == [0, 3]
    assert bigin.EmbeddingTable.open(path).verify().equal


def test_a_plan_and_other_writers_of_a_table():
    path = table("npy")
    plan = bigin.plan_grow(path, NEW, parts=3)
    plan.work([1])
    with pytest.raises(InputError, match=rf"got one that plan {plan.fingerprint} grows to 9999; finish that plan"):
        bigin.EmbeddingTable.open(path).grow(2000)
    with pytest.raises(InputError, match="expected a table that no plan grows"):
        bigin.plan_grow(path, 5000, parts=2)
    assert bigin.plan_grow(path, NEW, parts=3).status().missing == [0, 2]  # the same call forgets nothing
    bigin.EmbeddingTable.open(path).grow(OLD)  # gives it up
    with pytest.raises(RecordError, match=r"expected the grow that plan .* began, got none at 1010 rows"):
        plan.work([0])
    other = bigin.plan_grow(path, 5000, parts=2)
    with pytest.raises(RecordError, match=rf"expected the grow that plan .* began, got plan {other.fingerprint}"):
        plan.work([0])
    other.work("0-1")
    other.finish()
    assert bigin.EmbeddingTable.open(path).verify().equal


def test_a_killed_grow_is_taken_back_by_a_plan():
    path = table("npy")
    script = (
        "import os, signal, bigin\n"
        "bigin.EmbeddingTable.open('t.npy').grow(5000, progress=lambda *_: os.kill(os.getpid(), signal.SIGKILL))\n"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == -9
    bigin.plan_grow(path, NEW, parts=2).run(Here())
    assert bigin.EmbeddingTable.open(path).verify().equal


def test_killed_between_the_shape_and_the_record(monkeypatch):
    path = table("npy")
    plan = bigin.plan_grow(path, NEW, parts=2)
    plan.work("0-1")

    def killed(*arguments):
        raise OSError("killed")

    with monkeypatch.context() as changed:
        changed.setattr("bigin.targets.rows_npy.write_sidecar", killed)
        with pytest.raises(FillError, match="killed"):
            plan.finish()
    assert len(bigin.EmbeddingTable.open(path)) == NEW
    plan.finish()
    assert bigin.EmbeddingTable.open(path).verify().equal
    assert "growing" not in (bigin.plan_grow(path, NEW + 5000, parts=1)._data.record)


def test_tables_that_cannot_grow_by_a_plan():
    path = table("npy")
    for number in (OLD, 5):
        with pytest.raises(InputError, match="expected more than the 1010 rows that it has"):
            bigin.plan_grow(path, number, parts=1)
    with pytest.raises(InputError, match="expected at most"):
        bigin.plan_grow(path, NEW, parts=1000)
    with pytest.warns(bigin.TableWarning, match="cannot grow"):
        bigin.EmbeddingTable.create("o.npy", 100, 16, "orthogonal")
    with pytest.raises(InputError, match="whose values do not depend on the number of rows"):
        bigin.plan_grow("o.npy", 5000, parts=2)
    before = snapshot()
    with pytest.raises(InputError, match="expected a table"):
        bigin.plan_grow("none.npy", 5000, parts=2)
    assert snapshot() == before


def test_a_worker_that_does_not_see_the_table():
    path = table("npy")
    plan = bigin.plan_grow(path, NEW, parts=2)
    shutil.move(path, "other.npy")
    with pytest.raises(InputError, match=r"expected the target of the plan, got nothing on .*every worker sees"):
        do_part(plan._data.ledger, plan.fingerprint, "fill", 0, Options())


@pytest.mark.slow
def test_statistics_and_a_grow_by_processes():
    path = table("zarr")
    assert bigin.plan_grow(path, 60_000, parts=20).run("processes:2").nbytes == (60_000 - OLD) * DIM * 4
    same(bigin.plan_show(path, parts=7).run("processes:2"), bigin.show(path))


def test_all_limits_of_a_run_are_those_of_its_finish(monkeypatch):
    """The parts are done already, so that nothing else happens."""
    from bigin.api import plans

    plan = bigin.plan("p.npy", "normal", shape=(400_000, 8), parts=2)
    plan.work("0-1")
    held = []
    finish = plans.finish
    monkeypatch.setattr(plans, "finish", lambda data, limits: held.append(limits) or finish(data, limits))
    plan.run("processes:1", threads=2, max_memory="64MiB", requests=3)
    assert [(each.threads, each.memory, each.requests) for each in held] == [(2, 64 << 20, 3)]
