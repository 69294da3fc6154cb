"""Small chunks and tensors that are made together: the same bytes as alone, after a cut, too, and exact messages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from kills import tree

import bigin
from bigin.core import disk
from bigin.core.limits import Limits
from bigin.core.regions import Grid, Stretches
from bigin.jobs import journal
from bigin.jobs import run as running
from bigin.jobs.batches import Batches
from bigin.jobs.workers import workers_for
from bigin.kernels.native import Kernel
from bigin.targets.safetensors import checkpoint
from bigin.targets.safetensors.checkpoint import CheckpointFiles, new_checkpoint
from bigin.targets.safetensors.header import lay_out, pack_header, read_header
from bigin.targets.zarr import chunks

SHAPE = (50, 41)
CHUNKS = (3, 4)  # 187 of them, of which those at two edges are cut off
LAYOUTS = {
    "plain": {"compressors": None},
    "zstd": {"compressors": "auto"},
    "format 2": {"compressors": None, "zarr_format": 2, "fill_value": 3},
    "bfloat16": {"compressors": None, "dtype": "bfloat16"},
    "rows": {"compressors": None, "chunks": (1, 41)},
    "columns": {"compressors": None, "chunks": (50, 1)},
}


@pytest.fixture
def tiny(monkeypatch):
    """Batches of a few small chunks, and a journal at every one of them."""
    for module in (chunks, checkpoint):
        monkeypatch.setattr(module, "BATCH", 500)
    monkeypatch.setattr(chunks, "MANY", 8)
    monkeypatch.setattr(journal, "FIRST", 0.0)
    monkeypatch.setattr(journal, "SHARE", 0)
    monkeypatch.setattr(disk, "boot", lambda: "this run")
    monkeypatch.setattr(journal, "boot", lambda: "this run")


def new(path: str, layout: str) -> str:
    zarr.create_array(path, **{"shape": SHAPE, "chunks": CHUNKS, "dtype": "float32", **LAYOUTS[layout]})
    return path


def alone(monkeypatch) -> None:
    """Every region is a task again."""
    monkeypatch.setattr(chunks, "MANY", 1 << 60)
    monkeypatch.setattr(checkpoint, "MANY", 1 << 60)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_chunks_that_are_made_together_have_the_same_bytes(tiny, monkeypatch, layout):
    bigin.fill(new("a.zarr", layout), "normal", name="w", threads=2)
    assert bigin.verify("a.zarr").equal
    together = tree(Path("a.zarr"))
    alone(monkeypatch)
    bigin.fill(new("b.zarr", layout), "normal", name="w")
    assert tree(Path("b.zarr")) == together
    assert bigin.verify("a.zarr").equal


def test_they_are_made_together(tiny, monkeypatch):
    calls = []
    store = running.store
    monkeypatch.setattr(running, "store", lambda *arguments: calls.append(1) or store(*arguments))
    bigin.fill(new("a.zarr", "plain"), "normal")
    assert len(calls) == 17 * 2  # of 11 chunks in a row, ten at a time


@pytest.mark.parametrize("layout", ["plain", "zstd", "columns"])
@pytest.mark.parametrize("tasks", [1, 5, 11])
def test_a_cut_between_batches_goes_on_to_the_same_bytes(tiny, monkeypatch, layout, tasks):
    Path("whole").mkdir()
    bigin.fill(new("whole/a.zarr", layout), "normal", name="a")
    cut(monkeypatch, new("a.zarr", layout), tasks)
    report = bigin.fill("a.zarr", "normal", name="a")
    assert report.stored > 0
    assert tree(Path("a.zarr")) == tree(Path("whole/a.zarr"))


def test_a_fill_that_was_begun_alone_goes_on_in_the_middle_of_a_batch(tiny, monkeypatch):
    Path("whole").mkdir()
    bigin.fill(new("whole/a.zarr", "plain"), "normal", name="a")
    with monkeypatch.context() as patched:
        alone(patched)
        cut(patched, new("a.zarr", "plain"), 13)
    Path("a.zarr/c/0/2").unlink()
    report = bigin.fill("a.zarr", "normal", name="a")
    assert 0 < report.stored < 13 * 48
    assert tree(Path("a.zarr")) == tree(Path("whole/a.zarr"))


class Dies(BaseException):
    """What no part of a fill expects."""


def cut(monkeypatch, path: str, tasks: int) -> None:
    """A fill that ends when so many tasks are stored and the journal says something of them."""
    store, done = running.store, 0

    def counted(*arguments: object) -> int:
        nonlocal done
        if done == tasks:
            while not Path(path, ".bigin.journal").exists():
                pass
            raise Dies
        done += 1
        return store(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(running, "store", counted)
        with pytest.raises(Dies):
            bigin.fill(path, "normal", name="a", threads=1)


@pytest.mark.parametrize("layout", ["plain", "zstd"])
def test_what_differs_in_a_batch_is_told_by_its_chunk(tiny, layout):
    bigin.fill(new("a.zarr", layout), "normal")
    array = zarr.open_array("a.zarr", mode="r+")
    array[4, 9] = 7
    Path("a.zarr/c/2/3").unlink()
    Path("a.zarr/c/3/0").write_bytes(b"short")
    found = bigin.verify("a.zarr")
    assert [difference.where for difference in found.differences] == ["chunk c/1/2", "chunk c/2/3", "chunk c/3/0"]
    assert [difference.elements for difference in found.differences] == [1, 12, 12]
    assert found.differences[0].first == (4, 9)
    assert bigin.verify("a.zarr", repair=True).repaired
    assert bigin.verify("a.zarr").equal


def test_a_link_out_of_the_array_is_refused_in_a_batch(tiny):
    new("a.zarr", "plain")
    Path("outside").mkdir()
    Path("a.zarr/c").mkdir()
    Path("a.zarr/c/7").symlink_to(Path("outside").absolute())
    with pytest.raises(bigin.FillError, match="a link that leads out of it"):
        bigin.fill("a.zarr", "normal")
    assert not any(Path("outside").iterdir())


def test_without_memory_for_a_batch_regions_are_made_alone():
    class Here:
        remote = False

    assert workers_for(Here(), Limits(2, 64 << 20), 1000).together
    assert not workers_for(Here(), Limits(2, 1 << 20), 1000).together


@pytest.mark.parametrize("start", [0, 1, 9, 10, 11, 20, 186, 187])
@pytest.mark.parametrize("again", [0, 3])
def test_positions_are_each_in_one_task(start, again):
    grid = Grid(SHAPE, CHUNKS)
    count = again + len(grid) - start
    assert list(Batches(count)) == [range(position, position + 1) for position in range(count)]
    tasks = Batches(count, Stretches(grid, 10), again, start)
    positions = [position for task in tasks for position in task]
    assert positions == list(range(count))
    assert [tasks.front(done) for done in range(len(tasks) + 1)] == [0, *(task.stop for task in tasks)]
    for task in tasks:
        if len(task) > 1:  # a row of the grid of chunks, whole or in part
            first, last = (grid[position - again + start] for position in (task[0], task[-1]))
            assert first[0] == last[0]


# Checkpoints

DTYPES = ("float32", "bfloat16", "float64", "float8_e4m3fn", "float16")
TENSORS = {f"t{i:03d}": (DTYPES[i % 5], [(i % 7, 5), (), (3,), (400,)][i % 4]) for i in range(200)}
RECIPE = '[default]\nmethod = "normal"\n'


def like(path: str, tensors: dict[str, tuple[str, tuple[int, ...]]]) -> None:
    entries = lay_out((name, dtype, shape) for name, (dtype, shape) in tensors.items())
    with Path(path).open("wb") as file:
        file.write(pack_header(entries, {}))
        file.truncate(file.tell() + max(entry.end for entry in entries.values()))
    Path("recipe.toml").write_text(RECIPE)


def test_tensors_that_are_made_together_have_the_same_bytes(tiny, monkeypatch):
    like("like.safetensors", TENSORS)
    bigin.initialize("recipe.toml", "a.safetensors", like="like.safetensors")
    assert bigin.verify("a.safetensors").equal
    alone(monkeypatch)
    bigin.initialize("recipe.toml", "b.safetensors", like="like.safetensors")
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()
    assert bigin.verify("a.safetensors").equal


def test_tensors_that_are_alike_are_filled_by_one_call_of_the_kernel(monkeypatch):
    many = {f"{kind}{i:03d}": ("float32", (3, 3)) for i in range(100) for kind in ("bias", "w")}
    like("like.safetensors", many)
    Path("recipe.toml").write_text(RECIPE + '[[rule]]\nmatch = "bias*"\nmethod = "ones"\n')
    bigin.initialize("recipe.toml", "a.safetensors", like="like.safetensors")
    assert bigin.verify("a.safetensors").equal
    alone(monkeypatch)
    calls = []
    call = Kernel._call
    monkeypatch.setattr(Kernel, "_call", lambda *arguments: calls.append(1) or call(*arguments))
    bigin.initialize("recipe.toml", "b.safetensors", like="like.safetensors")
    assert len(calls) == 100
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()
    monkeypatch.setattr(checkpoint, "MANY", 64)
    bigin.initialize("recipe.toml", "c.safetensors", like="like.safetensors")
    assert len(calls) == 101
    assert Path("a.safetensors").read_bytes() == Path("c.safetensors").read_bytes()


def test_what_differs_among_small_tensors_is_told_by_its_name(tiny):
    like("like.safetensors", TENSORS)
    bigin.initialize("recipe.toml", "a.safetensors", like="like.safetensors")
    header = read_header(Path("a.safetensors"))
    with Path("a.safetensors").open("r+b") as file:
        file.seek(header.start + header.entries["t102"].begin)
        file.write(b"\x55")
    found = bigin.verify("a.safetensors")
    assert [difference.where.split(",")[0] for difference in found.differences] == ["t102"]
    assert [difference.elements for difference in found.differences] == [1]


def test_tensors_are_in_batches_of_one_file_and_large_ones_alone(monkeypatch):
    monkeypatch.setattr(checkpoint, "BATCH", 1 << 10)
    small = {f"a{i:03d}": ("float32", (8,)) for i in range(100)}
    large = {"b": ("float32", (1 << 19,))}  # four regions
    files = {"1.safetensors": small | large, "2.safetensors": {f"c{i}": ("float32", (0, 2)[i % 2 :]) for i in range(4)}}
    records = {name: {"name": name} for tensors in files.values() for name in tensors}
    target = new_checkpoint("x", CheckpointFiles(Path(), files), records)
    grid = target.grid(0)
    batches = target.batches(grid)
    assert len(batches)
    flat = [number for batch in batches for number in batch]
    assert flat == list(range(len(grid)))
    sizes = [len(batch) for batch in batches]
    assert max(sizes) == 16  # of 32 bytes, and as many of padding
    assert [len(batch) for batch in batches if batch[0] in range(100, 104)] == [1] * 4
    with pytest.raises(IndexError):
        batches[len(batches)]


def test_a_large_tensor_among_small_ones_is_verified_region_by_region(tiny):
    large = {"b": ("float32", (2049, 257))}  # several regions, of which the last is smaller
    like("like.safetensors", TENSORS | large)
    bigin.initialize("recipe.toml", "a.safetensors", like="like.safetensors")
    assert bigin.verify("a.safetensors").equal
    header = read_header(Path("a.safetensors"))
    with Path("a.safetensors").open("r+b") as file:
        file.seek(header.start + header.entries["b"].end - 3)
        file.write(b"\x55")
    found = bigin.verify("a.safetensors")
    assert [difference.where.split(",")[0] for difference in found.differences] == ["b"]
    assert [difference.elements for difference in found.differences] == [1]


def test_random_bytes_of_a_header_are_read_as_before():
    entries = lay_out((f"n{i}", "float32", (i % 3, 2)) for i in range(50))
    text = pack_header(entries, {"format": "pt"})[8:]
    size = max(entry.end for entry in entries.values())
    from bigin.targets.safetensors.header import parse_header

    assert parse_header(text, size).entries == entries
    doubled = text.replace(b'"n7"', b'"n6"')
    with pytest.raises(bigin.InputError, match="'n6' appears twice"):
        parse_header(doubled, size)
    again = text.replace(b'"n9"', b'"__metadata__"')
    with pytest.raises(bigin.InputError):
        parse_header(again, size)
    spaced = text.replace(b'"n20":', b'"n20" : ')
    assert parse_header(spaced, size).entries == entries
    assert np.prod(entries["n1"].shape) == 2
