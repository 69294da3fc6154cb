"""Plans: parts that any process does, in any order, twice and at once, with the bytes of one fill; and wrong use."""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import zarr
from common import ROOT, snapshot
from executors import Here
from hypothesis import given
from hypothesis import strategies as st

import bigin
from bigin.core.errors import FillError, InputError, NotFoundError, RecordError
from bigin.core.regions import Grid
from bigin.jobs.plans import work as work_module
from bigin.jobs.plans.numbers import as_text, parse_parts, parts_here
from bigin.jobs.plans.plan import WorkPlan, grid_of
from bigin.jobs.plans.work import Options, do_part, work

SHAPE = (700, 1000)
TARGETS = {
    "npy": ("w.npy", {}),
    "raw": ("w.bin", {"raw": True, "offset": 24, "dtype": "float32"}),
    "zarr": ("w.zarr", {"chunks": (64, 1000)}),
    "shards": ("w.zarr", {"chunks": (16, 500), "shards": (64, 1000)}),
    "inner": ("g.zarr/layers/w", {"chunks": (64, 300)}),
    "bfloat16": ("w.zarr", {"dtype": "bfloat16", "chunks": (64, 1000)}),
}


def alone(path: str, method: str = "normal", **given: object) -> dict[str, bytes]:
    """What a fill by one process leaves, in this folder, which is empty again."""
    bigin.fill(path, method, shape=SHAPE, **given)
    left = snapshot()
    shutil.rmtree(Path(path).parts[0]) if Path(path).suffix != ".npy" and Path(Path(path).parts[0]).is_dir() else None
    for name in list(left):
        Path(name).unlink(missing_ok=True)
    return left


@pytest.mark.parametrize("kind", TARGETS)
def test_parts_in_random_order_and_twice_make_the_bytes_of_one_fill(kind):
    path, given = TARGETS[kind]
    expected = alone(path, **given)
    plan = bigin.plan(path, "normal", shape=SHAPE, parts=4, **given)
    order = [0, 1, 2, 3, 2, 0]
    random.Random(1).shuffle(order)
    for part in order:
        plan.work([part])
    plan.work([1], again=True)
    report = plan.finish()
    assert report.record["complete"] is True
    assert report.nbytes == np.prod(SHAPE) * (2 if kind == "bfloat16" else 4)
    assert snapshot() == expected


@pytest.mark.parametrize("kind", ["npy", "zarr"])
def test_two_attempts_at_once(kind):
    path, given = TARGETS[kind]
    expected = alone(path, **given)
    plan = bigin.plan(path, "normal", shape=SHAPE, parts=2, **given)
    threads = [threading.Thread(target=plan.work, args=([part],)) for part in (0, 0, 1, 1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    plan.finish()
    assert snapshot() == expected


def test_existing_zarr_array_with_a_codec():
    zarr.create_array("w.zarr", shape=SHAPE, chunks=(64, 1000), dtype="float32")
    plan = bigin.plan("w.zarr", "normal", parts=3)
    plan.work("0-2")
    plan.finish()
    assert bigin.verify("w.zarr").equal


def test_a_plan_is_read_from_its_file_and_says_the_same():
    plan = bigin.plan("w.npy", "normal", shape=SHAPE, parts=3)
    plan.write("p.json")
    again = bigin.Plan.read("p.json")
    assert again.fingerprint == plan.fingerprint
    assert (again.parts, again.rounds, again.target) == (3, {}, str(Path("w.npy").resolve()))
    assert Path("p.json").stat().st_size < 2000
    held = json.loads(Path("p.json").read_text())
    assert held["record"]["method"] == "normal"
    assert held["grid"] == {"shape": [700, 1000], "block": [131, 1000], "regions": 6}


def test_the_same_call_gives_the_same_plan_and_forgets_nothing():
    first = bigin.plan("w.npy", "normal", shape=SHAPE, parts=3)
    first.work([1])
    second = bigin.plan("w.npy", "normal", shape=SHAPE, parts=3)
    assert second.fingerprint == first.fingerprint
    assert second.status().missing == [0, 2]
    assert second.work([1])[0].stored


def test_two_plans_for_one_store():
    first = bigin.plan("w.npy", "normal", shape=SHAPE, parts=3)
    first.work([1])
    with pytest.raises(
        InputError, match=r"expected to be filled by plan .*, but it is being filled by plan .*--overwrite"
    ):
        bigin.plan("w.npy", "normal", shape=SHAPE, parts=2)
    with pytest.raises(bigin.ExistsError, match="half filled with normal"):
        bigin.plan("w.npy", "normal", seed=1, shape=SHAPE, parts=3)
    second = bigin.plan("w.npy", "normal", shape=SHAPE, parts=2, overwrite=True)
    with pytest.raises(RecordError, match=r"expected to be filled by plan .*, but it is being filled by plan"):
        first.work([2])
    second.work("0-1")
    second.finish()
    assert bigin.verify("w.npy").equal


def test_a_plan_for_what_is_filled_already():
    bigin.fill("w.npy", "normal", shape=SHAPE)
    with pytest.raises(InputError, match="already holds these values"):
        bigin.plan("w.npy", "normal", shape=SHAPE, parts=3)


def test_finish_lists_what_is_missing_and_changes_nothing():
    plan = bigin.plan("w.zarr", "normal", shape=SHAPE, chunks=(10, 1000), parts=30)
    plan.work("0-9,15,20-29")
    before = snapshot()
    with pytest.raises(FillError, match=r"parts 10-14,16-19 are not done: `bigin work` with --part 10-14,16-19"):
        plan.finish()
    assert snapshot() == before
    plan.work("10-14,16-19")
    Path("w.zarr/c/0/0").unlink()
    with Path("w.zarr/c/69/0").open("r+b") as file:
        file.truncate(100)
    before = snapshot()
    with pytest.raises(FillError, match=r"parts 0,29 are marked, but missing or short \(chunk c/0/0 of part 0\)"):
        plan.finish()
    assert snapshot() == before
    assert plan.work([0])[0].stored
    plan.work([0, 29], again=True)
    assert plan.finish().record["complete"]
    assert plan.finish().stored == 4 * np.prod(SHAPE)  # may be repeated
    assert bigin.verify("w.zarr").equal


def test_a_run_does_again_what_is_short():
    plan = bigin.plan("w.zarr", "normal", shape=SHAPE, chunks=(10, 1000), parts=30)
    plan.work("0-29")
    Path("w.zarr/c/5/0").unlink()
    executor = Here()
    plan.run(executor)
    assert [part for *_, part, _ in executor.submitted] == [2]
    assert bigin.verify("w.zarr").equal


def test_status():
    plan = bigin.plan("w.npy", "normal", shape=SHAPE, parts=3)
    assert plan.status().left is None
    plan.work("0,2")
    status = plan.status()
    assert (status.done, status.missing, status.complete) == ({"fill": 2}, [1], False)
    assert 0 < status.nbytes < status.total == 2_800_000
    assert status.rate > 0
    plan.work([1])
    assert plan.status().complete
    plan.finish()
    assert plan.status().finished
    assert plan.work([1])[0].stored  # a task that a scheduler runs once more


@pytest.mark.parametrize("shape", [(3000, 700), (700, 3000), (1300, 40, 3)])
def test_orthogonal_in_rounds_has_the_bits_of_one_process(shape, monkeypatch):
    monkeypatch.setattr("bigin.fillers.orthogonal_parts.COLUMNS", 1)
    bigin.fill("alone.npy", "orthogonal", shape=shape, name="w")
    chunks = (-(-shape[0] // 4), *shape[1:])
    plan = bigin.plan("w.zarr", "orthogonal", shape=shape, chunks=chunks, parts=2)
    assert list(plan.rounds) == ["gram", "triangle"]
    with pytest.raises(InputError, match=r"expected round gram to be done before fill, got no parts 0.*--round gram"):
        plan.work([0])
    for name, count in plan.rounds.items():
        plan.work(range(count)[::-1], round=name, max_memory="64MiB")
        plan.work([0], round=name)
    plan.work("1,0", max_memory="100MiB")
    plan.finish()
    np.testing.assert_array_equal(zarr.open_array("w.zarr")[:], np.load("alone.npy"))
    assert not Path("w.zarr.bigin.parts").exists()


def test_orthogonal_inside_of_a_model_is_prepared_once_in_rounds(monkeypatch):
    monkeypatch.setattr("bigin.fillers.orthogonal_parts.COLUMNS", 1)
    group = zarr.open_group("like.zarr", mode="w")
    for name, shape in (("a", (1300, 700)), ("b", (600, 3000)), ("c", (900, 40)), ("d.qkv", (1200, 500))):
        group.create_array(name.replace(".", "/"), shape=shape, chunks=(-(-shape[0] // 3), shape[1]), dtype="float32")
    Path("recipe.toml").write_text(
        '[[rule]]\nmatch = "c"\nmethod = "normal"\nstd = 0.02\n'
        '[[rule]]\nmatch = "d.qkv"\nmethod = "orthogonal"\n'
        'split = {axis = 0, sizes = [600, 600], names = ["d.q", "d.k"]}\n'
        '[default]\nmethod = "orthogonal"\n'
    )
    bigin.initialize("recipe.toml", "alone.zarr", like="like.zarr")
    plan = bigin.plan_initialize("recipe.toml", "out.zarr", like="like.zarr", parts=4)
    assert list(plan.rounds) == ["gram", "triangle"]
    with pytest.raises(InputError, match=r"expected round gram to be done before fill"):
        plan.work([0])
    for name, count in plan.rounds.items():
        assert count >= 4  # a, b and both halves of d.qkv
        plan.work(range(count)[::-1], round=name)

    def setup(*arguments):
        raise AssertionError("prepared again by a worker")

    from bigin.fillers.orthogonal import Reflections

    monkeypatch.setattr(Reflections, "prepare", setup)
    plan.work([0, 3, 1, 2])
    plan.finish()
    for name in ("a", "b", "c", "d/qkv"):
        made, expected = (zarr.open_array(f"{store}/{name}")[:] for store in ("out.zarr", "alone.zarr"))
        np.testing.assert_array_equal(made, expected)
    assert not Path("out.zarr.bigin.parts").exists()


@pytest.mark.parametrize("parts", [1, 2, 3, 5, 8, 13])
def test_sums_that_are_cut_between_parts(parts, monkeypatch):
    """Strips of few rows, so that a square's sum is of many parts."""
    from bigin.fillers import orthogonal, orthogonal_parts
    from bigin.fillers.orthogonal_parts import Preparation, reflections_of
    from bigin.spec.tensor import TensorSpec

    for module in (orthogonal, orthogonal_parts):
        monkeypatch.setattr(module, "STRIP", 256)
        monkeypatch.setattr(module, "WIDE", 512)
        monkeypatch.setattr(module, "TILE", 256)

    class Kept(dict):
        put = dict.__setitem__

    def filler():
        return TensorSpec.parse("orthogonal", {}, 0, "w", (1500, 700), np.dtype(np.float32)).plan()()

    whole = filler()
    whole.setup(2, 1 << 30, lambda done: None)
    store = Kept()
    for part in range(parts):
        Preparation(reflections_of(filler()), store, parts).gram(part, 2, lambda done: None)
    for first in range(2):
        prepared = Preparation(reflections_of(filler()), store, parts)
        prepared.triangle(range(first, prepared.layout.count, 2), 1, 1 << 30, lambda done: None)
    other = filler()
    Preparation(reflections_of(other), store, parts).load(1, 1 << 30)
    values = [np.empty((1500, 700), np.float32) for _ in range(2)]
    for made, out in zip((whole, other), values, strict=True):
        made(((0, 1500), (0, 700)), out)
    np.testing.assert_array_equal(*values)


def test_a_model_as_a_checkpoint_and_as_a_group():
    from bigin.targets.safetensors.header import lay_out, pack_header

    entries = lay_out([(f"layers.{i}.weight", "float32", (300, 700)) for i in range(5)])
    end = max(entry.end for entry in entries.values())
    Path("like.safetensors").write_bytes(pack_header(entries, {}) + bytes(end))
    Path("recipe.toml").write_text('[default]\nmethod = "normal"\nstd = 0.02\n')
    for out, more in (("out", {"max_shard_size": "2MB"}), ("one.safetensors", {}), ("out.zarr", {})):
        bigin.initialize("recipe.toml", out, like="like.safetensors", **more)
        expected = snapshot()
        shutil.rmtree(out) if Path(out).is_dir() else Path(out).unlink()
        plan = bigin.plan_initialize("recipe.toml", out, like="like.safetensors", parts=5, **more)
        for part in (3, 0, 4, 1, 2, 3):
            plan.work([part])
        plan.finish()
        assert plan.finish().stored == 5 * 840_000
        assert snapshot() == expected
        assert bigin.verify(out).equal


def test_a_group_in_place():
    group = zarr.open_group("m.zarr", mode="w")
    for name in ("a", "b"):
        group.create_array(name, shape=SHAPE, chunks=(100, 1000), dtype="float32", compressors=None)
    Path("recipe.toml").write_text('[default]\nmethod = "normal"\nstd = 0.02\n')
    plan = bigin.plan_initialize("recipe.toml", "m.zarr", parts=4)
    with pytest.raises(FillError, match="parts 0-3 are not done"):
        plan.finish()
    plan.run(Here())
    assert bigin.verify("m.zarr").equal


def test_a_verification_in_parts():
    bigin.fill("w.zarr", "normal", shape=SHAPE, chunks=(64, 1000))
    plan = bigin.plan_verify("w.zarr", parts=3)
    assert plan.run(Here()).equal
    array = zarr.open_array("w.zarr")
    array[3, 5] = array[699, 7] = 1
    plan = bigin.plan_verify("w.zarr", parts=5)
    with pytest.raises(FillError, match="parts 0-4 are not done"):
        plan.finish()
    found = bigin.plan_verify("w.zarr", parts=5).run(Here())
    assert found.differences == bigin.verify("w.zarr").differences
    assert len(found.differences) == 2
    assert (found.regions, found.total, found.nbytes) == (11, 11, 2_800_000)
    some = bigin.plan_verify("w.zarr", parts=2, sample=0.3).run(Here())
    assert some.differences == bigin.verify("w.zarr", sample=0.3).differences
    assert some.regions == 3


def test_a_straggler_stops_where_another_attempt_has_finished(monkeypatch):
    monkeypatch.setattr(work_module, "LOOK", 0.0)
    bigin.plan("w.zarr", "normal", shape=(4000, 100), chunks=(10, 100), parts=2).write("p.json")
    slow, store = threading.Event(), []
    plan = bigin.Plan.read("p.json")

    def progress(done: int, total: int) -> None:
        store.append(done)
        if not slow.is_set():
            slow.set()
            bigin.Plan.read("p.json").work([0])
            time.sleep(0.2)

    import bigin.jobs.run as run_module

    fill = run_module.store

    def slowly(*arguments):
        time.sleep(0.005)
        return fill(*arguments)

    monkeypatch.setattr(run_module, "store", slowly)
    (done,) = plan.work([0], progress=progress)
    assert done.stored
    plan.work([1])
    plan.finish()
    assert bigin.verify("w.zarr").equal


def test_a_straggler_that_ends_after_the_plan_was_finished(monkeypatch):
    plan = bigin.plan("w.zarr", "normal", shape=(400, 100), chunks=(10, 100), parts=2)
    ended = []

    def progress(done: int, total: int) -> None:
        if not ended:
            ended.append(True)
            plan.work("0,1")
            plan.finish()

    assert bigin.plan  # the face
    assert plan.work([0], progress=progress)[0].stored
    assert bigin.verify("w.zarr").equal
    assert not Path("w.zarr.bigin.parts").exists()


def test_tasks_are_small_and_name_what_they_need():
    plan = bigin.plan("w.zarr", "normal", shape=SHAPE, chunks=(10, 1000), parts=30)
    executor = Here()
    plan.run(executor)
    assert max(executor.sizes) < 1000
    assert len(executor.submitted) == 30


def test_lost_workers_are_replaced_and_their_parts_done_again(monkeypatch):
    plan = bigin.plan("w.zarr", "normal", shape=SHAPE, chunks=(10, 1000), parts=30)
    plan.run(Here(fails=20))
    assert bigin.verify("w.zarr").equal
    plan = bigin.plan("v.zarr", "normal", shape=SHAPE, chunks=(10, 1000), parts=30)
    with pytest.raises(FillError, match=r"5 workers at it were lost, the last one with: .*a worker is lost"):
        plan.run(Here(fails=10_000))


def test_wrong_files_and_versions():
    plan = bigin.plan("w.npy", "normal", shape=SHAPE, parts=3)
    plan.write("p.json")
    held = json.loads(Path("p.json").read_text())
    for change, message in (
        (
            {"bigin": "0.0.1"},
            "expected bigin 0.0.1, which the plan was made with, got bigin|got .* here; install bigin 0.0.1",
        ),
        ({"stream": 2}, "expected stream version 2"),
        ({"format": 7}, "expected plan format 7"),
        ({"task": "cook"}, "got one that was changed"),
        ({"more": 1}, "got one that was changed"),
    ):
        Path("q.json").write_text(json.dumps(held | change))
        with pytest.raises(InputError, match=message):
            bigin.Plan.read("q.json")
    for text in ("", "{}", "[]", "w"):
        Path("q.json").write_text(text)
        with pytest.raises(InputError, match="expected a plan that `bigin plan` has written"):
            bigin.Plan.read("q.json")
    with pytest.raises(NotFoundError, match="expected a plan, got nothing"):
        bigin.Plan.read("none.json")
    with pytest.raises(InputError, match="expected an existing folder"):
        plan.write("none/p.json")


@pytest.mark.parametrize(("key", "other"), [("bigin", "0.0.1"), ("stream", 2), ("fingerprint", "0" * 16)])
def test_a_worker_of_another_version_or_with_another_plan_in_the_ledger(key, other):
    plan = bigin.plan("w.npy", "normal", shape=SHAPE, parts=3)
    held = Path(plan._data.ledger, "plan.json")
    held.write_text(json.dumps(json.loads(held.read_text()) | {key: other}))
    with pytest.raises(
        InputError, match=rf"expected (bigin|stream version|plan) .*{'got' if key != 'bigin' else other}"
    ):
        do_part(plan._data.ledger, plan.fingerprint, "fill", 0, Options())


def test_a_target_that_is_not_there_or_not_the_same_any_more():
    plan = bigin.plan("w.zarr", "normal", shape=SHAPE, chunks=(10, 1000), parts=3)
    shutil.move("w.zarr", "other.zarr")
    with pytest.raises(NotFoundError, match=r"expected the target of the plan, got nothing on .*every worker sees"):
        plan.work([0])
    bigin.fill("w.zarr", "normal", shape=SHAPE, chunks=(20, 1000), seed=4)
    with pytest.raises(RecordError, match=r"expected the fill that plan .* began, got another one"):
        plan.work([0])
    shutil.rmtree("w.zarr.bigin.parts")
    with pytest.raises(NotFoundError, match=r"expected a plan there, got nothing on .*"):
        do_part(plan._data.ledger + "x", plan.fingerprint, "fill", 0, Options())


def test_chunks_that_have_changed():
    plan = bigin.plan("w.zarr", "normal", shape=SHAPE, chunks=(10, 1000), parts=3)
    document = json.loads(Path("w.zarr/zarr.json").read_text())
    document["chunk_grid"]["configuration"]["chunk_shape"] = [20, 1000]
    Path("w.zarr/zarr.json").write_text(json.dumps(document))
    with pytest.raises(
        RecordError, match=r"expected chunks of \[10, 1000\] .*the target has changed: make the plan again"
    ):
        plan.work([0])


def test_a_file_that_was_cut_off():
    plan = bigin.plan("w.npy", "normal", shape=SHAPE, parts=3)
    plan.work("0,1")
    with Path("w.npy").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(FillError, match="was truncated while it was filled; make the plan again with --overwrite"):
        plan.work([2])
    with pytest.raises(FillError, match="the end of a file"):
        plan.finish()


def test_what_cannot_be_planned():
    with pytest.raises(InputError, match="expected the path or the URL of a target"):
        bigin.plan(np.zeros(5), "normal", parts=1)
    with pytest.raises(InputError, match="expected at most 6 parts, as a part is whole chunks"):
        bigin.plan("w.npy", "normal", shape=SHAPE, parts=7)
    for parts in (0, -1, True, "5", 1.5):
        with pytest.raises(InputError, match="expected at least 1 part"):
            bigin.plan("w.npy", "normal", shape=SHAPE, parts=parts)
    with pytest.raises(InputError, match="expected a file, a zarr array or a model that other processes can open"):
        bigin.plan("w.zarr.zip", "normal", shape=SHAPE, parts=1)
    with pytest.raises(InputError, match="expected no chunks or shards"):
        bigin.plan("w.npy", "normal", shape=SHAPE, parts=1, chunks=(10, 10))
    assert not list(Path().iterdir())


def test_a_part_out_of_range():
    plan = bigin.plan("w.npy", "normal", shape=SHAPE, parts=3)
    for parts in ([3], "3", "2-3", [-1], 17):
        with pytest.raises(InputError, match="expected parts"):
            plan.work(parts)
    with pytest.raises(InputError, match="expected a part from 0 to 2"):
        work(plan._data, 3)
    with pytest.raises(InputError, match="expected a round among fill, got 'gram'"):
        plan.work([0], round="gram")


def test_a_million_parts_of_a_petabyte(monkeypatch):
    """Its size, and that nothing in it is a list; the time is measured by bench/scale.py."""
    monkeypatch.setattr("bigin.targets.zarr.ledger.require_space", lambda folder, size: None)
    tracemalloc.start()
    plan = bigin.plan(
        "t.zarr", "normal", shape=(2_000_000_000_000, 256), dtype="bfloat16", chunks=(500_000, 256), parts=1_000_000
    )
    data = plan._data
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()
    assert len(data.text()) < 2000
    assert data.tasks(999_999) == range(3_999_996, 4_000_000)
    assert data.part_of(3_999_996) == 999_999


@given(regions=st.integers(1, 10**12), parts=st.integers(1, 10**7), number=st.integers(0))
def test_every_region_is_in_one_part(regions, parts, number):
    parts = min(parts, regions)
    plan = WorkPlan("fill", "w", {}, {}, grid_of(Grid((regions,), (1,)), regions), parts)
    part = number % parts
    tasks = plan.tasks(part)
    assert len(tasks) >= 1
    assert plan.part_of(tasks[0]) == plan.part_of(tasks[-1]) == part
    assert tasks.start == (plan.tasks(part - 1).stop if part else 0)
    assert plan.tasks(parts - 1).stop == regions


# Which parts a process does

HERE = [
    ({"SLURM_ARRAY_TASK_ID": "17", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_MAX": "99"}, [17]),
    ({"SLURM_ARRAY_TASK_ID": "17", "SLURM_ARRAY_TASK_MIN": "17", "SLURM_ARRAY_TASK_MAX": "60"}, [17]),  # --array=17,60
    ({"SLURM_ARRAY_TASK_ID": "20", "SLURM_ARRAY_TASK_MAX": "90", "SLURM_ARRAY_TASK_STEP": "10"}, list(range(20, 30))),
    ({"SLURM_ARRAY_TASK_ID": "96", "SLURM_ARRAY_TASK_MAX": "96", "SLURM_ARRAY_TASK_STEP": "8"}, [96, 97, 98, 99]),
    ({"JOB_COMPLETION_INDEX": "0"}, [0]),
    ({"AWS_BATCH_JOB_ARRAY_INDEX": "99"}, [99]),
    ({"SGE_TASK_ID": "1", "SGE_TASK_LAST": "100", "SGE_TASK_STEPSIZE": "1"}, [0]),
    ({"SGE_TASK_ID": "undefined", "PBS_ARRAY_INDEX": "3"}, [3]),
    ({"RANK": "1", "WORLD_SIZE": "40"}, [1, 41, 81]),
    ({"OMPI_COMM_WORLD_RANK": "99", "OMPI_COMM_WORLD_SIZE": "200"}, [99]),
    ({"OMPI_COMM_WORLD_RANK": "150", "OMPI_COMM_WORLD_SIZE": "200"}, []),
    ({"SLURM_ARRAY_TASK_ID": "20", "SLURM_ARRAY_TASK_STEP": "10", "RANK": "1", "WORLD_SIZE": "4"}, [21, 25, 29]),
]


@pytest.mark.parametrize(("environment", "parts"), HERE)
def test_the_environment_says_which_parts(environment, parts):
    assert list(parts_here(environment, 100)) == parts


def test_parts_are_counted_from_1_where_asked():
    assert list(parts_here({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MAX": "100"}, 100, one_based=True)) == [0]
    assert list(parts_here({"SGE_TASK_ID": "1"}, 100, one_based=True)) == [0]
    assert parse_parts("1,100", 100, one_based=True) == [0, 99]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "expected --part, or a task's number in the environment"),
        (
            {"SLURM_ARRAY_TASK_ID": "100"},
            "expected parts from 0 to 99, as the plan has 100, got SLURM_ARRAY_TASK_ID=100",
        ),
        ({"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MAX": "100"}, "got SLURM_ARRAY_TASK_MAX=100; add --one-based"),
        ({"SLURM_ARRAY_TASK_ID": "1", "PBS_ARRAY_INDEX": "1"}, "expected one scheduler in the environment"),
        ({"JOB_COMPLETION_INDEX": "x"}, "expected JOB_COMPLETION_INDEX to be a number, got 'x'"),
        ({"RANK": "4", "WORLD_SIZE": "4"}, "expected RANK below WORLD_SIZE"),
    ],
)
def test_an_environment_that_is_wrong(environment, message):
    with pytest.raises(InputError, match=message):
        parts_here(environment, 100)


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "5-3", "1,,2", "1-2-3", "1.5", "²"])
def test_parts_that_are_no_text_of_parts(text):
    with pytest.raises(InputError, match="expected parts such as"):
        parse_parts(text, 100)


@given(st.sets(st.integers(0, 300), min_size=1))
def test_the_text_of_parts_is_read_back(numbers):
    assert parse_parts(as_text(sorted(numbers), shown=1000), 301) == sorted(numbers)


def test_docs_have_every_variable():
    text = (ROOT / "docs" / "scale.md").read_text()
    for number in (
        "SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX", "AWS_BATCH_JOB_ARRAY_INDEX", "SGE_TASK_ID", "PBS_ARRAY_INDEX",
        "RANK", "WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
    ):  # fmt: skip
        assert f"`{number}`" in text


# A ledger under a URL


@pytest.fixture
def bucket():
    """The URL of a store that is no folder; what is below it goes afterwards."""
    import fsspec

    yield "memory://plans"
    fsspec.filesystem("memory").store.clear()


@pytest.mark.parametrize("inner", ["", "/layers/w"])
def test_a_plan_of_a_url(bucket, inner):
    expected = np.empty(SHAPE, np.float32)
    bigin.fill(expected, "normal", name="w" if inner else "t")
    url = f"{bucket}/t.zarr{inner}"
    plan = bigin.plan(url, "normal", shape=SHAPE, chunks=(64, 1000), parts=4)
    plan.write("p.json")
    other = bigin.Plan.read("p.json")
    for part in (2, 0, 2):
        other.work([part])
    assert other.work([0])[0].stored
    assert (plan.status().done, plan.status().missing) == ({"fill": 2}, [1, 3])
    with pytest.raises(FillError, match="parts 1,3 are not done"):
        plan.finish()
    plan.run(Here())
    assert plan.finish().stored == expected.nbytes
    assert plan.work([0])[0].stored
    np.testing.assert_array_equal(zarr.open_array(url)[:], expected)
    import fsspec

    assert not [key for key in fsspec.filesystem("memory").store if ".bigin.parts" in key]
    assert bigin.plan_verify(url, parts=3).run(Here()).equal
    assert bigin.plan_show(url, parts=3).run(Here()).looks_right


def test_a_chunk_that_a_store_has_lost(bucket):
    import fsspec

    plan = bigin.plan(f"{bucket}/g.zarr/w", "normal", shape=SHAPE, chunks=(64, 1000), parts=4)
    plan.work("0-3")
    store = fsspec.filesystem("memory").store
    del store["/plans/g.zarr/w/c/0/0"]
    store["/plans/g.zarr/w/c/10/0"].truncate(100)
    with pytest.raises(FillError, match=r"parts 0,3 are marked, but missing or short \(chunk c/0/0 of part 0\)"):
        plan.finish()
    executor = Here()
    plan.run(executor)
    assert [part for *_, part, _ in executor.submitted] == [0, 3]
    assert bigin.verify(f"{bucket}/g.zarr/w").equal


def test_two_plans_for_one_url_and_one_that_is_gone(bucket):
    first = bigin.plan(f"{bucket}/t.zarr", "normal", shape=SHAPE, chunks=(64, 1000), parts=4)
    with pytest.raises(InputError, match=r"expected to be filled by plan .*, but it is being filled by plan"):
        bigin.plan(f"{bucket}/t.zarr", "normal", shape=SHAPE, chunks=(64, 1000), parts=3)
    with pytest.raises(NotFoundError, match=r"expected a plan there, got nothing on .*"):
        do_part(first._data.ledger + "x", first.fingerprint, "fill", 0, Options())
    import fsspec

    fsspec.filesystem("memory").store.clear()
    with pytest.raises(InputError, match=r"expected the target of the plan, got nothing on .*every worker sees"):
        first.work([0])


# A tensor inside of a file, and pages


def test_a_tensor_inside_of_a_file():
    from bigin.targets.safetensors.header import lay_out, pack_header

    entries = lay_out([("a", "float32", (300, 700)), ("b.weight", "bfloat16", (4000, 1000))])
    end = max(entry.end for entry in entries.values())
    for name in ("m.safetensors", "n.safetensors"):
        Path(name).write_bytes(pack_header(entries, {}) + bytes(end))
    bigin.fill("n.safetensors#b.weight", "normal", std=0.02)
    plan = bigin.plan("m.safetensors#b.weight", "normal", std=0.02, parts=2)
    for part in (1, 0, 1):
        plan.work([part])
    plan.finish()
    assert Path("m.safetensors").read_bytes() == Path("n.safetensors").read_bytes()
    assert bigin.plan_verify("m.safetensors#b.weight", parts=2).run(Here()).equal
    assert bigin.plan_show("m.safetensors#b.weight", parts=2).run(Here()).looks_right
    assert sorted(path.name for path in Path().iterdir())[0] == "m.safetensors"


FILES = {
    "npy": ("w.npy", {}, SHAPE),
    "raw": ("w.bin", {"raw": True, "offset": 24, "dtype": "float32"}, SHAPE),
    "unaligned": ("w.bin", {"raw": True, "offset": 25, "dtype": "float32"}, SHAPE),
    "bfloat16": ("w.bin", {"raw": True, "dtype": "bfloat16"}, (1401, 999)),
    "float64": ("w.npy", {"dtype": "float64"}, (77, 31, 300)),
    "wide": ("w.npy", {}, (2, 700_001)),
    "one row": ("w.npy", {}, (1_400_003,)),
    "orthogonal": ("w.npy", {"method": "orthogonal"}, (40_000, 401)),
}


@pytest.mark.parametrize("kind", FILES)
def test_parts_of_a_file_begin_with_a_page(kind, monkeypatch):
    path, given, shape = FILES[kind]
    method, given = given.get("method", "normal"), {key: value for key, value in given.items() if key != "method"}
    bigin.fill(path, method, shape=shape, **given)
    expected = Path(path).read_bytes()
    for name in list(Path().iterdir()):
        name.unlink()
    plan = bigin.plan(path, method, shape=shape, parts=3, **given)
    for which, count in plan.rounds.items():
        plan.work(range(count), round=which)
    written: list[tuple[int, int]] = []
    import bigin.targets.files as files_module

    write = files_module.write_all

    def noted(fd, data, position):
        written.append((position, position + len(data)))
        write(fd, data, position)

    monkeypatch.setattr(files_module, "write_all", noted)
    ends = []
    for part in (2, 0, 1):
        written.clear()
        (done,) = plan.work([part])
        stretches = sorted(written)
        assert all(a[1] == b[0] for a, b in pairwise(stretches))  # one stretch of the file
        assert done.nbytes == stretches[-1][1] - stretches[0][0]
        ends.append((stretches[0][0], stretches[-1][1]))
    ends.sort()
    assert all(a[1] == b[0] for a, b in pairwise(ends))
    inner = [start for start, _ in ends[1:]]
    assert all(start % 4096 == 0 for start in inner) == (kind != "unaligned")
    plan.finish()
    assert Path(path).read_bytes() == expected


def test_a_file_in_fortran_order_and_a_model_are_cut_at_pages():
    values = np.asfortranarray(np.zeros((900, 1001), ">f4"))
    np.save("w.npy", values)
    np.save("v.npy", values)
    bigin.fill("v.npy", "normal", name="w")
    plan = bigin.plan("w.npy", "normal", parts=5)
    plan.run(Here())
    assert Path("w.npy").read_bytes() == Path("v.npy").read_bytes()
