"""Embedding tables: whatever lies beneath, rows are those of a fresh table, and what was trained is never lost."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import reference
import zarr
from common import BIGIN, LIMIT, TESTS, examples, few, run, snapshot, stopped
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from zarr.storage import LocalStore, MemoryStore

import bigin
from bigin.cli import cli
from bigin.core.dtypes import DTYPES
from bigin.fillers.rows import KeptFiller
from bigin.targets.lock import Lock

bigin.register_dtypes()

DIM, OLD, NEW = 12, 50, 123  # both end within a chunk and within a shard
WHAT = {"std": 0.02, "seed": 5, "name": ""}
GROW_AND_KILL = TESTS / "grow_and_kill.py"


@dataclass(frozen=True)
class Kind:
    """A layout of a table: `make` fills one of so many rows and returns what EmbeddingTable.open takes."""

    name: str
    make: Callable[[str, int, int | None], Any]
    dtype: str = "float32"


def created(path: str, dtype: str = "float32", **options: Any) -> Callable[..., Any]:
    def make(prefix: str, rows: int, padding_idx: int | None) -> str:
        place = path.replace("t", f"{prefix}t", 1)
        bigin.EmbeddingTable.create(place, rows, DIM, "normal", dtype=dtype, padding_idx=padding_idx, **WHAT, **options)
        return place

    return make


def filled(store: str = "local", **options: Any) -> Callable[..., Any]:
    """A zarr array that someone made, and bigin.fill filled."""

    def make(prefix: str, rows: int, padding_idx: int | None) -> Any:
        place = LocalStore(Path.cwd() / f"{prefix}t.zarr") if store == "local" else MemoryStore()
        array = zarr.create_array(
            place, shape=(rows, DIM), **{"chunks": (7, DIM), "dtype": "float32", "compressors": None, **options}
        )
        bigin.fill(array, "normal", padding_idx=padding_idx, **WHAT)
        return array

    return make


def big_endian(prefix: str, rows: int, padding_idx: int | None) -> str:
    np.save(f"{prefix}t.npy", np.zeros((rows, DIM), ">f4"))
    bigin.fill(f"{prefix}t.npy", "normal", padding_idx=padding_idx, **WHAT)
    return f"{prefix}t.npy"


KINDS = [
    Kind("npy", created("t.npy")),
    Kind("npy bfloat16", created("t.npy", "bfloat16"), "bfloat16"),
    Kind("npy big-endian", big_endian),
    Kind("zarr", created("t.zarr", chunks=7)),
    Kind("zarr bfloat16", created("t.zarr", "bfloat16", chunks=7), "bfloat16"),
    Kind("zarr one chunk", created("t.zarr")),
    Kind("zarr sharded", created("t.zarr", chunks=7, shards=21)),
    Kind("zarr v2", created("t.zarr", chunks=7, zarr_format=2)),
    Kind("zarr compressed", filled(compressors="auto")),
    Kind("zarr sharded compressed", filled(shards=(21, DIM), compressors="auto")),
    Kind("zarr v2 compressed", filled(zarr_format=2, compressors="auto")),
    Kind("zarr columns cut", filled(chunks=(7, 5))),
    Kind("zarr shards of cut columns", filled(chunks=(7, 6), shards=(14, 12))),
    Kind("zarr wide chunks", filled(chunks=(7, 20))),
    Kind("zarr big-endian", filled(serializer=zarr.codecs.BytesCodec(endian="big"))),
    Kind("zarr in memory", filled("memory")),
    Kind("zarr in memory, sharded", filled("memory", shards=(21, DIM))),
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@cache
def initial(dtype: str, padding_idx: int | None = None, name: str = "") -> np.ndarray:
    """The largest table, by the book."""
    values = reference.tensor("normal", {"mean": 0.0, "std": 0.02}, (NEW, DIM), dtype, 5, name)
    if padding_idx is not None:
        values[padding_idx] = 0
    return values


def bits(values: Any) -> np.ndarray:
    """Equal means equal bits; big-endian values are turned around."""
    values = np.asarray(values)
    native = values.astype(values.dtype.newbyteorder("=")) if values.dtype.kind == "f" else values
    return np.ascontiguousarray(native).view(f"u{values.dtype.itemsize}")


def same(found: Any, expected: Any) -> None:
    np.testing.assert_array_equal(bits(found), bits(expected))


def whole(place: Any, dtype: str) -> np.ndarray:
    """The array, as another program reads it."""
    if isinstance(place, str) and place.endswith(".npy"):
        values = np.load(place)
        return values.view(DTYPES[dtype]) if values.dtype.kind == "V" else values
    return zarr.open_array(getattr(place, "store_path", place), mode="r")[:]


def write(place: Any, row: int, values: np.ndarray, dtype: str) -> None:
    """A trained row, written by another program."""
    if isinstance(place, str) and place.endswith(".npy"):
        array = np.load(place, mmap_mode="r+")
        array[row] = values if array.dtype.kind == "f" else values.astype(DTYPES[dtype]).view(array.dtype)
        array.flush()
    else:
        zarr.open_array(getattr(place, "store_path", place), mode="r+")[row] = values


@every_kind
def test_a_grown_table_is_a_fresh_one_of_that_size(kind):
    place = kind.make("", OLD, 3)
    table = bigin.EmbeddingTable.open(place)
    assert (len(table), table.shape, table.dtype.name, table.padding_idx) == (OLD, (OLD, DIM), kind.dtype, 3)
    report = table.grow(NEW)
    assert report.nbytes == (NEW - OLD) * DIM * table.dtype.itemsize
    assert (len(table), table.shape) == (NEW, (NEW, DIM))
    same(whole(place, kind.dtype), initial(kind.dtype, 3))
    same(table.rows(np.arange(NEW)), initial(kind.dtype, 3))
    again = bigin.EmbeddingTable.open(place)
    assert again.specification == table.specification
    assert again.verify().equal
    if isinstance(place, str) and kind.name != "zarr one chunk":  # what is on the disk, to the last byte
        kind.make("fresh-", NEW, 3)
        found = {name.removeprefix("fresh-"): data for name, data in snapshot_here().items() if "fresh-" in name}
        grown = {name: data for name, data in snapshot_here().items() if "fresh-" not in name}
        assert {name: value(data) for name, data in grown.items()} == {
            name: value(data) for name, data in found.items()
        }


def snapshot_here() -> dict[str, bytes]:
    return {str(Path(name).relative_to(Path.cwd())): data for name, data in snapshot().items()}


def said(files: dict[str, bytes]) -> dict[str, Any]:
    return {name: value(data) for name, data in files.items()}


def value(data: bytes) -> Any:
    """What a file says: JSON may be in another order."""
    try:
        return json.loads(data)
    except ValueError:
        return data


@every_kind
def test_rows_that_were_trained_stay_as_they_are(kind):
    place = kind.make("", OLD, None)
    expected = initial(kind.dtype).copy()
    for row in (0, 6, 7, OLD - 1):  # the last one shares a chunk with new rows
        expected[row] = np.arange(DIM) + row
        write(place, row, expected[row], kind.dtype)
    table = bigin.EmbeddingTable.open(place)
    for rows in (OLD, OLD + 1, 70, 84, NEW):
        table.grow(rows)
        same(whole(place, kind.dtype), expected[:rows])
        same(table.rows(np.arange(rows)), expected[:rows])
    assert not table.verify().equal
    assert table.reset([OLD - 1, 0, [6, 7][0], 7, 0]) == 4
    same(whole(place, kind.dtype), initial(kind.dtype))
    assert table.verify().equal


@every_kind
def test_only_the_rows_that_are_named_are_reset(kind):
    place = kind.make("", OLD, 3)
    for row in range(OLD):
        write(place, row, np.full(DIM, 9.0), kind.dtype)
    table = bigin.EmbeddingTable.open(place)
    ids = np.array([[49, 3], [21, 20], [3, 8]])
    assert table.reset(ids) == 5
    found = whole(place, kind.dtype)
    same(found[np.unique(ids)], initial(kind.dtype, 3)[np.unique(ids)])
    assert not found[3].any()
    assert (np.delete(found, np.unique(ids), axis=0) == 9).all()
    assert table.reset([]) == 0


@every_kind
def test_rows_are_updated_in_any_order_and_read_as_numpy_reads_arrays(kind):
    place = kind.make("", OLD, 3)
    table = bigin.EmbeddingTable.open(place)
    expected = initial(kind.dtype, 3)[:OLD].copy()
    ids = np.array([[49, 3, 21], [20, 0, 7]])
    rows = np.random.default_rng(0).normal(size=(2, 3, DIM))
    expected[ids] = rows.astype(np.float32).astype(table.dtype)
    assert table.update(ids, rows.astype(np.float32)) == 6
    same(whole(place, kind.dtype), expected)
    same(np.asarray(table), expected)
    same(np.array(list(table)), expected)
    assert (len(table), table.ndim, table.nbytes) == (OLD, 2, expected.nbytes)
    mask = np.arange(OLD) % 3 == 0
    keys: list[Any] = [5, -1, slice(5, 9), slice(None, None, -7), slice(40, 99), slice(7, 7), [5, 7, 5], [[1], [-2]],
                       [], mask, ..., (slice(None), 0), (3, 2), (slice(2, 30, 3), slice(1, None, 2)), ([1, 2], [3, 0]),
                       (slice(2, 5), [0, 3]), (None, 5), (slice(2, 8, 3), None, [1, 2]), (mask, 1)]  # fmt: skip
    for key in keys:
        found = table[key]
        assert (np.shape(found), found.dtype) == (np.shape(expected[key]), expected.dtype), key
        same(found, expected[key])
    for key in (OLD, -OLD - 1, [OLD], (0, DIM), 0.5, "a"):
        with pytest.raises(IndexError):
            table[key]
    result = table.verify()
    assert result.changed.ids().tolist() == sorted(ids.reshape(-1).tolist())
    assert (result.rows, len(result.changed), 21 in result.changed, 22 in result.changed) == (OLD, 6, True, False)
    assert result.changed.text(3) == "0,3,7,..."
    assert result.as_dict()["changed"]["stretches"] == [[0, 1], [3, 4], [7, 8], [20, 22], [49, 50]]
    json.dumps(result.as_dict())
    stats = table.stats()
    assert (stats.changed, stats.compared, stats.rows, stats.error, stats.fraction) == (6, OLD, OLD, 0, 6 / OLD)
    assert table.reset(result.changed.ids()) == 6
    assert table.verify().equal
    assert str(table.stats()).endswith(f": 0% of rows trained (0 of {OLD})")


def test_what_cannot_be_written_into_rows_is_said_and_nothing_is_written():
    table = bigin.EmbeddingTable.create("t.npy", OLD, 4, "normal", **WHAT)
    before = snapshot()
    for ids, rows, message in [
        ([1, 2], np.zeros((1, 4)), r"expected rows of shape \(2, 4\), one for each id, got \(1, 4\)"),
        ([1, 2], np.zeros((2, 3)), r"got \(2, 3\)"),
        ([1, 2, 1], np.zeros((3, 4)), "expected each id once, got 1 more than once"),
        ([1, 50], np.zeros((2, 4)), "expected ids from 0 to 49, got 50 at index 1"),
        ([1], np.zeros((1, 4), complex), "expected real numbers, got complex128"),
        ([1], [["a", "b", "c", "d"]], "expected real numbers, got <U1"),
        ([1, 2], [[1], [2, 3]], "lists of different lengths"),
    ]:
        with pytest.raises(bigin.InputError, match=message):
            table.update(ids, rows)
    assert snapshot() == before
    assert table.update([], np.zeros((0, 4))) == 0
    table.update(7, [1, 2, 3, 4])
    assert table[7].tolist() == [1, 2, 3, 4]


def test_tensors_are_written_into_rows():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    table = bigin.EmbeddingTable.create("t.zarr", OLD, 4, "normal", dtype="bfloat16", **WHAT)
    rows = torch.nn.Parameter(torch.randn(2, 4))
    table.update(torch.tensor([9, 4]), rows)
    assert torch.equal(torch.tensor(table[[9, 4]].astype(np.float32)), rows.detach().bfloat16().float())
    table.update([9, 4], rows.detach().bfloat16() * 2)
    assert torch.equal(torch.tensor(table[[9, 4]].astype(np.float32)), (rows.detach().bfloat16() * 2).float())


def test_a_sample_estimates_how_many_rows_were_trained():
    table = bigin.EmbeddingTable.create("t.zarr", 20_000, 4, "normal", chunks=100, **WHAT)
    trained = np.flatnonzero(np.random.default_rng(5).random(20_000) < 0.11)
    table.update(trained, np.zeros((trained.size, 4)))
    for seed in range(3):
        found = table.stats(sample=0.2, sample_seed=seed)
        assert (found.compared, found.rows) == (4000, 20_000)
        assert 0 < found.error < 0.01
        assert abs(found.fraction - trained.size / 20_000) < 4 * found.error
        assert f"{found.changed} of 4,000 rows compared, of 20,000" in str(found)
    least = table.stats(sample=1e-9)
    assert least.compared == 200
    assert 0 <= least.error < 1
    whole = bigin.EmbeddingTable.open("t.zarr").verify(sample=0.2, sample_seed=2)
    assert len(whole.changed) == found.changed


def test_a_sample_of_a_table_whose_columns_are_cut_has_whole_rows():
    array = zarr.create_array("t.zarr", shape=(300, DIM), chunks=(10, 5), dtype="float32")
    bigin.fill(array, "normal", **WHAT)
    table = bigin.EmbeddingTable.open("t.zarr")
    rows = np.asarray(table)
    rows[:, DIM - 1] += 1  # only the last chunk of each row
    table.update(np.arange(300), rows)
    found = table.stats(sample=0.1)
    assert (found.compared, found.changed, found.error) == (30, 30, 0)


def test_a_chunk_that_cannot_be_read_differs_in_all_of_its_rows():
    table = bigin.EmbeddingTable.create("t.zarr", OLD, DIM, "normal", chunks=7, **WHAT)
    Path("t.zarr/c/2/0").write_bytes(b"short")
    Path("t.zarr/c/4/0").unlink()
    assert table.verify().changed.text() == "14:21,28:35"


def test_rows_are_exported():
    table = bigin.EmbeddingTable.create("t.zarr", OLD, 4, "normal", dtype="bfloat16", chunks=7, **WHAT)
    assert table.export("some.npy", [7, 3, 7]) == 3
    same(np.load("some.npy").view(table.dtype), table[[7, 3, 7]])
    assert table.export("all.npy") == OLD
    same(np.load("all.npy").view(table.dtype), np.asarray(table))
    assert table.export("some.csv", [7, 3]) == 2
    header, *lines = Path("some.csv").read_text().splitlines()
    assert header == "id,0,1,2,3"
    assert [line.split(",")[0] for line in lines] == ["7", "3"]
    same(np.array([line.split(",")[1:] for line in lines], np.float32).astype(table.dtype), table[[7, 3]])
    before = snapshot()
    for path, ids, error, message in [
        ("some.npy", [1], bigin.ExistsError, "expected nothing there, got a file"),
        ("some.txt", [1], bigin.InputError, "expected the name of a .npy or .csv file"),
        ("new.npy", [50], bigin.InputError, "got 50 at index 0"),
        ("new.npy", [[1]], bigin.InputError, "expected ids of one axis"),
    ]:
        with pytest.raises(error, match=message):
            table.export(path, ids)
    assert snapshot() == before


@pytest.fixture
def synced(monkeypatch):
    """What is brought to the disk by name; a call for the whole file system fails."""
    paths, fsync = set(), os.fsync

    def remember(fd: int) -> None:
        paths.add(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    def whole_file_system(folder: Path) -> None:
        raise AssertionError("it waits for what other programs have written")

    monkeypatch.setattr(os, "fsync", remember)
    monkeypatch.setattr("bigin.targets.zarr.to_disk.sync_file_system", whole_file_system)
    return paths


@pytest.mark.parametrize("options", [{}, {"shards": 14}])
def test_what_a_writer_of_rows_touched_is_brought_to_the_disk_and_nothing_else(options, synced):
    table = bigin.EmbeddingTable.create("t.zarr", OLD, DIM, "normal", chunks=7, **options, **WHAT)
    size = options.get("shards", 7)
    assert {f"t.zarr/c/{row // size}/0" for row in range(OLD)} | {"t.zarr/zarr.json", "t.zarr", "t.zarr/c"} <= synced
    synced.clear()
    table.reset([15, 30])
    assert {path for path in synced if Path(path).is_file()} - {"t.zarr/zarr.json"} == {
        f"t.zarr/c/{row // size}/0" for row in (15, 30)
    }
    synced.clear()
    table.grow(NEW)
    made = {f"t.zarr/c/{row // size}/0" for row in range(OLD, NEW)}
    assert made | {str(Path(path).parent) for path in made} | {"t.zarr/c"} <= synced
    synced.clear()
    table.reset([15, 30], sync=False)
    assert not synced


def test_a_fill_of_few_files_does_not_wait_for_other_programs(synced):
    zarr.open_group("g.zarr", mode="w")
    bigin.fill("g.zarr/a/w", "normal", shape=(4, 4))
    assert {"g.zarr/a/w/c/0/0", "g.zarr/a/w/c/0", "g.zarr/a/w/zarr.json", "g.zarr/a/zarr.json", "g.zarr"} <= synced
    Path("r.toml").write_text('[[rule]]\nmatch = "*"\nmethod = "ones"\n')
    synced.clear()
    bigin.initialize("r.toml", "g.zarr", overwrite=True)
    assert {"g.zarr/a/w/c/0/0", "g.zarr/zarr.json", "g.zarr/a/w/zarr.json"} <= synced


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """One table of each kind, and its values."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("tables"))
        made = []
        for i, kind in enumerate(KINDS):
            place = kind.make(f"{i}", NEW, 3)
            place = str(Path(place).absolute()) if str(place).endswith(".npy") else place
            made.append((bigin.EmbeddingTable.open(place), initial(kind.dtype, 3)))
        return made


IDS = hnp.arrays(
    st.sampled_from([np.int64, np.int32, np.uint64, np.uint8]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=6),
    elements=st.integers(0, NEW - 1),
)


@given(ids=IDS, which=st.integers(0, len(KINDS) - 1))
@examples(300)
def test_rows_are_what_numpy_takes(tables, ids, which):
    table, values = tables[which]
    found = table.rows(ids)
    assert found.shape == (*ids.shape, DIM)
    assert found.dtype == values.dtype
    same(found, values[ids])


def test_many_rows_are_read_by_several_threads():
    table = bigin.EmbeddingTable.create("t.npy", NEW, DIM, "normal", **WHAT)
    ids = np.random.default_rng(0).integers(0, NEW, 10_000)
    same(table.rows(ids), initial("float32")[ids])


def test_ids_are_lists_tensors_and_numbers():
    table = bigin.EmbeddingTable.create("t.zarr", NEW, DIM, "normal", **WHAT)
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    for ids in ([5, 7, 5], torch.tensor([5, 7, 5]), np.array([5, 7, 5], np.int8)):
        same(table.rows(ids), initial("float32")[[5, 7, 5]])
    same(table.rows(5), initial("float32")[5])
    assert table.rows([]).shape == (0, DIM)


@pytest.mark.parametrize("method", ["rows", "reset"])
@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1, 50, -1], r"expected ids from 0 to 49, got 50 at index 1"),
        ([[0, 1], [-1, 99]], r"expected ids from 0 to 49, got -1 at index 2"),
        (np.array([2**64 - 1], np.uint64), r"got 18446744073709551615 at index 0"),
        (np.array([50], np.uint8), r"got 50 at index 0"),
        ([0.5], r"expected ids that are integers, got float64"),
        ([True], r"expected ids that are integers, got bool"),
        ([[1], [2, 3]], r"lists of different lengths"),
        ("five", r"expected ids that are integers"),
    ],
)
def test_what_is_no_id_is_named(method, ids, message):
    table = bigin.EmbeddingTable.create("t.npy", OLD, DIM, "normal", **WHAT)
    before = snapshot()
    with pytest.raises(bigin.InputError, match=message):
        getattr(table, method)(ids)
    assert snapshot() == before


@pytest.mark.parametrize("path", ["t.npy", "t.zarr"])
def test_a_table_may_begin_empty(path):
    table = bigin.EmbeddingTable.create(path, 0, DIM, "normal", **WHAT)
    assert len(table) == 0
    assert table.rows([]).shape == (0, DIM)
    with pytest.raises(bigin.InputError, match="the table has no rows yet, got 0 at index 0"):
        table.rows([0])
    table.grow(NEW)
    same(table.rows(np.arange(NEW)), initial("float32"))


def test_the_padding_row_counts_from_the_end_as_in_torch_and_stays_where_it_is():
    table = bigin.EmbeddingTable.create("t.npy", OLD, DIM, "normal", padding_idx=-1, **WHAT)
    assert table.padding_idx == OLD - 1
    table.grow(NEW)
    assert table.padding_idx == OLD - 1
    same(table.rows(np.arange(NEW)), initial("float32", OLD - 1))


def test_a_table_in_a_hierarchy_has_its_path_as_its_name():
    table = bigin.EmbeddingTable.create("model.zarr/users/embedding", OLD, DIM, "normal", std=0.02, seed=5)
    table.grow(NEW)
    same(table.rows(np.arange(NEW)), initial("float32", name="users.embedding"))
    same(bigin.EmbeddingTable.create("x.npy", NEW, DIM, "normal", std=0.02, seed=5, name="users.embedding").rows(5),
         table.rows(5))  # fmt: skip
    assert zarr.open_group("model.zarr")["users/embedding"].shape == (NEW, DIM)


def test_small_tables_get_chunks_that_they_can_grow_in():
    bigin.EmbeddingTable.create("small.zarr", 10, 64, "zeros")
    assert zarr.open_array("small.zarr").chunks == (65536, 64)
    bigin.EmbeddingTable.create("shards.zarr", 10, 64, "zeros", chunks=8, shards=32)
    array = zarr.open_array("shards.zarr")
    assert (array.chunks, array.shards) == ((8, 64), (32, 64))


GROWS = [
    ("uniform", {}),
    ("trunc_normal", {"std": 0.1}),
    ("constant", {"val": 3}),
    ("zeros", {}),
    ("eye", {}),
    ("kaiming_normal", {}),  # of fan_in, which torch takes from the columns
    ("lecun_uniform", {}),
    ("variance_scaling", {"mode": "fan_out", "distribution": "normal", "in_axis": [-2], "out_axis": [-1]}),
]


@pytest.mark.parametrize(("method", "parameters"), GROWS)
@pytest.mark.parametrize("path", ["t.npy", "t.zarr"])
def test_methods_that_do_not_look_at_the_number_of_rows_grow(path, method, parameters):
    table = bigin.EmbeddingTable.create(path, 8, DIM, method, **parameters)
    table.grow(20)
    fresh = np.zeros((20, DIM), np.float32)
    bigin.fill(fresh, method, name="t", **parameters)
    same(table.rows(np.arange(20)), fresh)


REFUSED = [
    ("orthogonal", {}, "got orthogonal, where every value depends on all rows"),
    ("sparse", {"sparsity": 0.1}, r"got sparse: Sparse\(zeros=1, .*\) for 8 rows would be Sparse\(zeros=2, .*\)"),
    ("sparse", {"sparsity": 0.01}, "got sparse, where every value depends on all rows"),
    ("xavier_uniform", {}, r"got xavier_uniform: Uniform\(.*\) for 8 rows would be Uniform\(.*\) for 20"),
    ("kaiming_normal", {"mode": "fan_out"}, r"got kaiming_normal: Normal\(.*\) for 8 rows"),
    ("variance_scaling", {"in_axis": [-2], "out_axis": [-1]}, r"got variance_scaling: TruncNormal\(.*\) for 8 rows"),
]


@pytest.mark.parametrize(("method", "parameters", "message"), REFUSED)
@pytest.mark.parametrize("path", ["t.npy", "t.zarr"])
def test_methods_whose_values_depend_on_the_number_of_rows_are_refused(path, method, parameters, message):
    with pytest.warns(bigin.TableWarning, match=f"{path}: the table cannot grow: .*got {method}"):
        table = bigin.EmbeddingTable.create(path, 8, DIM, method, **parameters)
    bigin.EmbeddingTable.create(path, 8, DIM, method, **parameters)  # it is opened, and nothing is said again
    before = snapshot()
    with pytest.raises(bigin.InputError, match=message):
        table.grow(20)
    assert snapshot() == before
    assert table.grow(8).nbytes == 0
    assert table.verify().equal


def test_a_store_that_is_only_to_be_read_is_read():
    table = bigin.EmbeddingTable.create("t.zarr", OLD, DIM, "normal", chunks=7, **WHAT)
    found = bigin.EmbeddingTable.open(zarr.open_array("t.zarr", mode="r"))
    same(found.rows(np.arange(OLD)), initial("float32")[:OLD])
    assert found.verify().equal
    for write_to in (lambda: found.grow(NEW), lambda: found.reset([1])):
        with pytest.raises(bigin.InputError, match="expected a store that can be written, got a read-only one"):
            write_to()
    table.grow(NEW)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to everything")
@pytest.mark.parametrize("path", ["t.npy", "t.zarr"])
def test_a_file_that_is_only_to_be_read_is_read(path):
    bigin.EmbeddingTable.create(path, OLD, DIM, "normal", **WHAT)
    Path(path).chmod(0o444 if path == "t.npy" else 0o555)
    table = bigin.EmbeddingTable.open(path)
    same(table.rows(np.arange(OLD)), initial("float32")[:OLD])
    for write_to in (lambda: table.grow(NEW), lambda: table.reset([1])):
        with pytest.raises(bigin.InputError, match="can be written, got a read-only"):
            write_to()


def test_a_table_does_not_shrink():
    table = bigin.EmbeddingTable.create("t.npy", OLD, DIM, "normal", **WHAT)
    for rows, message in [
        (OLD - 1, "a table does not shrink"),
        (0.5, "to be an integer of 0 or more"),
        (2**62, "2\\^63"),
    ]:
        with pytest.raises(bigin.InputError, match=message):
            table.grow(rows)
    assert Path("t.npy").stat().st_size == 128 + OLD * DIM * 4


@pytest.mark.parametrize("path", ["t.npy", "t.zarr"])
def test_what_is_wrong_with_a_new_table_is_said_before_anything_is_made(path):
    for arguments, options, message in [
        ((OLD, 0, "normal"), {}, "expected embedding_dim to be an integer of 1 or more"),
        ((-1, DIM, "normal"), {}, "expected num_embeddings to be an integer of 0 or more"),
        ((OLD, DIM, "gauss"), {}, "expected a method"),
        ((OLD, DIM, "normal"), {"padding_idx": OLD}, "expected padding_idx to be a row"),
        ((OLD, DIM, "normal"), {"dtype": "int8"}, "expected a float dtype"),
        ((OLD, DIM, "normal"), {"seed": -1}, "expected a seed"),
        ((OLD, DIM, "normal"), {"max_memory": 1}, "expected a chunk or shard that fits"),
        ((OLD, DIM, "normal"), {"std": -1.0}, "expected std >= 0"),
        ((OLD, DIM, "normal"), {"chunks": 0}, "expected chunks to be an integer of 1 or more"),
        ((OLD, DIM, "normal"), {"chunks": 7, "shards": 20}, "shard|chunks"),
    ]:
        with pytest.raises(bigin.InputError, match=message):
            bigin.EmbeddingTable.create(path, *arguments, **options)
        assert snapshot() == {}
    bigin.EmbeddingTable.create(path, OLD, DIM, "normal")
    before = snapshot()
    assert bigin.EmbeddingTable.create(path, OLD, DIM, "normal").report.nbytes == 0  # it is opened
    with pytest.raises(bigin.InputError, match="expected nothing there"):
        bigin.EmbeddingTable.create(path, OLD, DIM, "normal", seed=1)
    assert snapshot() == before


def test_what_is_no_table_is_not_opened():
    Path("folder").mkdir()
    np.save("plain.npy", np.zeros((3, 4), np.float32))
    bigin.fill("cube.npy", "normal", shape=(3, 4, 5))
    bigin.fill("part.npy", "normal", shape=(6, 4), region=slice(0, 3))
    bigin.fill("other.npy", "normal", shape=(3, 4))
    np.save("other.npy", np.zeros((5, 4), np.float32))
    np.save("fortran.npy", np.zeros((3, 4), np.float32, order="F"))
    bigin.fill("fortran.npy", "normal")
    for place, message in [
        ("none.npy", "expected a table, got nothing"),
        ("folder", "expected a zarr array"),
        ("plain.npy", "got one without a record"),
        ("cube.npy", "expected a table of 2 dimensions, got shape"),
        ("part.npy", "expected a whole table, got a region"),
        ("other.npy", r"expected shape \(3, 4\), which its record says, got \(5, 4\)"),
        ("fortran.npy", "whose rows lie together"),
        (np.zeros((3, 4)), "expected the path of a .npy file, or a zarr array"),
    ]:
        with pytest.raises(bigin.InputError, match=message) as raised:
            bigin.EmbeddingTable.open(place)
        assert "\n" not in str(raised.value)


def test_what_lies_behind_a_table_in_its_file_is_not_overwritten():
    table = bigin.EmbeddingTable.create("t.npy", OLD, DIM, "normal", **WHAT)
    with Path("t.npy").open("ab") as file:
        file.write(b"something else")
    with pytest.raises(bigin.InputError, match="expected nothing behind the table, got 14 bytes"):
        table.grow(NEW)
    assert Path("t.npy").read_bytes().endswith(b"something else")


def test_a_header_without_room_is_refused():
    table = bigin.EmbeddingTable.create("t.npy", 9, DIM, "zeros")
    data = Path("t.npy").read_bytes()
    text = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9, 12), }\n"
    Path("t.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data[128:])
    with pytest.raises(bigin.InputError, match="expected a header with room for 10 rows"):
        bigin.EmbeddingTable.open("t.npy").grow(10)
    assert np.load("t.npy").shape == (9, 12)
    assert len(table) == 9


@pytest.mark.parametrize("path", ["t.npy", "t.zarr"])
def test_one_writer_keeps_the_others_away(path):
    table = bigin.EmbeddingTable.create(path, OLD, DIM, "normal", **WHAT)
    with Lock(Path(path), "it"):
        for write_to in (lambda: table.grow(NEW), lambda: table.reset([1])):
            with pytest.raises(bigin.InputError, match="expected no other writer"):
                write_to()
        same(table.rows(np.arange(OLD)), initial("float32")[:OLD])
    assert len(bigin.EmbeddingTable.open(path)) == OLD
    table.grow(NEW)


@pytest.mark.parametrize("path", ["t.npy", "t.zarr", "v2.zarr"])
def test_a_grow_that_fails_leaves_the_table_as_it_was(path):
    options = {"chunks": 7, "zarr_format": 2 if "v2" in path else 3} if "zarr" in path else {}
    table = bigin.EmbeddingTable.create(path, OLD, DIM, "normal", **WHAT, **options)
    before = said(snapshot())
    call, calls = KeptFiller.__call__, []

    def broken(self, region, out):
        calls.append(region)
        if len(calls) > 5 or path == "t.npy":
            raise OSError(28, "No space left on device")
        call(self, region, out)

    failed = pytest.raises(bigin.FillError, match="the grow failed and the table is as it was: the disk is full")
    with pytest.MonkeyPatch.context() as patch, failed:
        patch.setattr(KeptFiller, "__call__", broken)
        table.grow(NEW, threads=1)
    left = said(snapshot())
    assert left.keys() == before.keys()
    shared = [name for name in before if left[name] != before[name]]  # the chunk that new rows were to share
    assert len(shared) == (1 if "zarr" in path else 0), shared
    same(whole(path, "float32"), initial("float32")[:OLD])
    table.grow(NEW)
    same(table.rows(np.arange(NEW)), initial("float32"))


@pytest.mark.parametrize("path", ["t.npy", "t.zarr"])
def test_a_creation_that_was_killed_goes_on(path):
    renamed = "c/4" if "zarr" in path else "json"  # a chunk, or the record for the second time
    options = {**WHAT, "chunks": 7} if "zarr" in path else WHAT
    code = f"""
import os, signal, sys
import bigin
seen = []
def hook(event, arguments):
    if event == "os.rename" and {renamed!r} in str(arguments[0]):
        seen.append(arguments)
        if len(seen) == {1 if "zarr" in path else 2}:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
bigin.EmbeddingTable.create({path!r}, {NEW}, {DIM}, "normal", threads=1, **{options!r})
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    with pytest.raises(bigin.InputError, match="got one that is partly filled; rerun the command that makes it"):
        bigin.EmbeddingTable.open(path)
    with pytest.raises(bigin.InputError, match="got another table that is partly filled; remove it"):
        bigin.EmbeddingTable.create(path, NEW, DIM, "normal", **options | {"seed": 6})
    table = bigin.EmbeddingTable.create(path, NEW, DIM, "normal", **options)
    same(table.rows(np.arange(NEW)), initial("float32"))


@pytest.mark.slow
@pytest.mark.parametrize("layout", few("npy", "zarr", "zarr sharded", "zarr v2", "zarr compressed"))
def test_a_grow_killed_at_any_moment_leaves_a_valid_table_and_can_be_run_again(layout):
    step = 1 if layout == "npy" else 5
    command = [sys.executable, GROW_AND_KILL, layout, "7", str(step), "6"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    left = json.loads(done.stdout)
    print(layout, left)
    assert left["old"] >= 10
    assert left["new"] >= 2
    assert left["moments"] > 20


@pytest.mark.slow
@pytest.mark.parametrize("layout", few("npy", "zarr", "zarr sharded", "zarr compressed"))
def test_an_update_killed_at_any_moment_leaves_old_and_new_rows_and_can_be_run_again(layout):
    command = [sys.executable, TESTS / "update_and_kill.py", layout, "3" if layout == "zarr compressed" else "37"]
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=environment)
    assert done.returncode == 0, done.stderr
    left = json.loads(done.stdout)
    print(layout, left)
    assert left["killed"] >= 4
    assert left["between"] >= 2


@pytest.mark.parametrize(
    ("number", "code", "what"),
    [("SIGINT", 130, "interrupted"), pytest.param("SIGTERM", 1, "terminated", marks=pytest.mark.slow)],
)
def test_a_grow_that_is_stopped_takes_back_what_it_wrote(number, code, what):
    bigin.EmbeddingTable.create("t.npy", OLD, DIM, "normal", dtype="float64", **WHAT)
    before = said(snapshot())
    command = [*BIGIN, "table", "grow", "t.npy", str(10**8), "--no-sync"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while "growing" not in Path("t.npy.bigin.json").read_text():
        assert process.poll() is None
        time.sleep(0.01)
    _, errors = stopped(process, getattr(signal, number))
    assert (process.returncode, errors.strip()) == (code, f"bigin: t.npy: the grow was {what}; the table is as it was")
    assert said(snapshot()) == before


READER = """
import os, sys
from pathlib import Path
import numpy as np, bigin
path, fresh = sys.argv[1:]
expected = bigin.EmbeddingTable.open(fresh)
expected = expected.rows(np.arange(len(expected)))
rng, sizes = np.random.default_rng(0), set()
print("ready", flush=True)
while not Path("stop").exists():
    table = bigin.EmbeddingTable.open(path)
    ids = rng.integers(0, len(table), 50)
    np.testing.assert_array_equal(table.rows(ids), expected[ids])
    sizes.add(len(table))
    Path(f"{os.getpid()}.part").write_text(str(len(sizes)))
    os.replace(f"{os.getpid()}.part", f"{os.getpid()}.sizes")
print(len(sizes))
"""


@pytest.mark.parametrize("path", few("t.npy", "t.zarr", "v2.zarr", "shards.zarr"))
def test_processes_read_while_one_grows(path):
    options = {"t.npy": {}, "t.zarr": {"chunks": 30}, "v2.zarr": {"chunks": 30, "zarr_format": 2}}
    options["shards.zarr"] = {"chunks": 10, "shards": 30}
    bigin.EmbeddingTable.create("fresh.npy", 3000, DIM, "normal", **WHAT)
    table = bigin.EmbeddingTable.create(path, 100, DIM, "normal", **WHAT, **options[path])
    command = [sys.executable, "-c", READER, path, "fresh.npy"]
    readers = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for reader in readers:
        assert reader.stdout.readline() == "ready\n"
    seen = [Path(f"{reader.pid}.sizes") for reader in readers]
    for rows in range(150, 3001, 50):
        before = [path.read_text() if path.exists() else "0" for path in seen]
        table.grow(rows, sync=False)
        # On a busy machine a reader may not have had its turn for long: now and then, wait until each sees a new size.
        while rows % 500 == 0 and any(
            not path.exists() or path.read_text() == old for path, old in zip(seen, before, strict=True)
        ):
            assert all(reader.poll() is None for reader in readers)
            time.sleep(0.001)
    Path("stop").touch()
    for reader in readers:
        output, errors = reader.communicate(timeout=LIMIT)
        assert reader.returncode == 0, errors
        assert int(output) >= 3  # sizes of the table, all of them right


def test_what_is_missing_or_damaged_in_a_store():
    table = bigin.EmbeddingTable.create("t.zarr", OLD, DIM, "normal", chunks=7, **WHAT)
    Path("t.zarr/c/2/0").unlink()
    expected = initial("float32")[:OLD].copy()
    expected[14:21] = 0  # the fill value, as zarr has it
    same(table.rows(np.arange(OLD)), expected)
    assert table.reset([15]) == 1
    expected[15] = initial("float32")[15]
    same(table.rows(np.arange(OLD)), expected)
    same(whole("t.zarr", "float32"), expected)
    Path("t.zarr/c/3/0").write_bytes(b"short")
    with pytest.raises(bigin.FillError, match=r"c/3/0: expected a chunk of 336 bytes, got 5"):
        table.rows([22])
    same(table.rows([0]), expected[[0]])
    shards = bigin.EmbeddingTable.create("s.zarr", OLD, DIM, "normal", chunks=7, shards=21, **WHAT)
    data = bytearray(Path("s.zarr/c/1/0").read_bytes())
    data[-10] ^= 1
    Path("s.zarr/c/1/0").write_bytes(data)
    with pytest.raises(bigin.FillError, match="damaged"):
        shards.rows([22])


def test_a_shard_without_some_of_its_chunks_is_read_and_reset():
    array = zarr.create_array("t.zarr", shape=(OLD, DIM), chunks=(7, DIM), shards=(21, DIM), dtype="float32",
                              compressors=None, fill_value=2)  # fmt: skip
    bigin.fill(array, "normal", **WHAT)
    zarr.open_array("t.zarr", mode="r+")[0:14] = 2  # zarr leaves out what equals the fill value
    assert Path("t.zarr/c/0/0").stat().st_size < 7 * DIM * 4 * 2
    table = bigin.EmbeddingTable.open("t.zarr")
    expected = initial("float32")[:OLD].copy()
    expected[:14] = 2
    same(table.rows(np.arange(OLD)), expected)
    table.reset([3, 20])
    expected[3] = initial("float32")[3]
    same(table.rows(np.arange(OLD)), expected)
    same(whole("t.zarr", "float32"), expected)


@pytest.mark.slow
def test_growing_stays_in_its_memory():
    """The peak of the whole process, as the system counted it."""
    peak = (
        "import atexit, bigin.cli\n"
        "atexit.register(lambda: print([l for l in open('/proc/self/status') if l.startswith('VmHWM')][0]))\n"
        "bigin.cli.main()\n"
    )
    for path, options in [("t.npy", []), ("s.zarr", ["--chunks", "4096", "--shards", "262144"])]:
        run("table", "create", path, "--num-embeddings", 1000, "--embedding-dim", 128, "-m", "normal", "-q",
            "--no-sync", *options)  # fmt: skip
        command = ["table", "grow", path, "1000000", "--max-memory", "64MiB", "--no-sync", "-q"]
        done = subprocess.run([sys.executable, "-c", peak, *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        size = int(done.stdout.split()[-2]) * 1024
        print(f"{path}: peak {size >> 20} MiB of 300, for a table of {1000000 * 128 * 4 >> 20} MiB")
        assert size < 300 << 20
        with pytest.raises(bigin.InputError, match="fits in"):
            bigin.EmbeddingTable.open(path).grow(1100000, max_memory=1000)
        assert len(bigin.EmbeddingTable.open(path)) == 1000000


def test_the_table_as_a_tensor():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    table = bigin.EmbeddingTable.create("t.npy", OLD, DIM, "normal", dtype="bfloat16", **WHAT)
    tensor = table.torch()
    assert (tensor.shape, tensor.dtype) == ((OLD, DIM), torch.bfloat16)
    same(tensor.view(torch.int16).numpy(), bits(initial("bfloat16")[:OLD]).view(np.int16))


def test_the_commands(capsys, monkeypatch):
    create = ("table", "create", "users.zarr", "--num-embeddings", 200, "--embedding-dim", 4, "--method", "normal",
              "--std", 0.01, "--dtype", "bfloat16", "--padding-idx", 0, "--seed", 3)  # fmt: skip
    assert "users.zarr: 200x4 bfloat16 filled with normal, seed 3" in run(*create).stdout
    assert "users.zarr: 200x4 bfloat16 already filled with normal, seed 3" in run(*create).stdout
    assert "users.zarr: expected nothing there" in run(*create[:-1], 4, code=2).stderr

    def said_by(*command: object) -> str:
        """What a command prints, in this process."""
        cli(["table", *map(str, command)], standalone_mode=False)
        return capsys.readouterr().out

    assert "users.zarr: grown from 200 to 250 rows; 400 B in" in said_by("grow", "users.zarr", 250)
    assert said_by("grow", "users.zarr", 250) == "users.zarr already has 250 rows\n"
    values = bigin.EmbeddingTable.open("users.zarr").rows([249, 0, 249])
    lines = said_by("rows", "users.zarr", "249,0,249").splitlines()
    assert [line.split(":")[0] for line in lines] == ["249", "0", "249"]
    assert lines[1] == "0: 0 0 0 0"
    assert [float(number) for number in lines[0].split()[1:]] == pytest.approx(values[0].tolist(), rel=1e-2)
    assert json.loads(said_by("rows", "users.zarr", "249,0,249", "--json")) == values.tolist()
    assert "equal" in said_by("verify", "users.zarr")
    zarr.open_array("users.zarr", mode="r+")[7] = 1
    assert "4 elements differ, the first at [7, 0]" in run("table", "verify", "users.zarr", code=1).stdout
    assert "2 rows reset" in said_by("reset", "users.zarr", "7,9")
    assert said_by("verify", "users.zarr", "-q") == ""
    Path("ids.txt").write_text("7\n9:11, 0\n")
    np.save("ids.npy", np.array([7, 9]))
    assert said_by("rows", "users.zarr", "@ids.txt", "-o", "some.npy") == "some.npy: 4 rows of users.zarr\n"
    same(np.load("some.npy").view(values.dtype), bigin.EmbeddingTable.open("users.zarr")[[7, 9, 10, 0]])
    np.save("ones.npy", np.ones((2, 4)))
    assert "users.zarr: 2 rows written in" in said_by("update", "users.zarr", "@ids.npy", "ones.npy")
    assert said_by("stats", "users.zarr") == "users.zarr: 0.8% of rows trained (2 of 250)\n"
    assert json.loads(said_by("stats", "users.zarr", "--json"))["changed"] == 2
    differing = said_by("verify", "users.zarr", "--changed", "changed.txt")
    assert differing.startswith("2 rows of 250 differ: 7,9\n")
    assert Path("changed.txt").read_text() == "7\n9\n"
    assert json.loads(said_by("verify", "users.zarr", "--json"))["changed"]["count"] == 2
    monkeypatch.setattr(sys, "stdin", io.StringIO("7 9\n"))
    assert json.loads(said_by("reset", "users.zarr", "-", "--json"))["rows"] == 2
    assert said_by("verify", "users.zarr", "-q") == ""
    for command, message in [
        (("rows", "users.zarr", "@none.txt"), "expected a file of ids, got none.txt: No such file"),
        (("rows", "users.zarr", "@ones.npy"), "expected ids that are integers, got float64"),
        (("reset", "users.zarr", "5,x"), "expected ids such as 5,7,10 or 5:9 or @ids.txt, got '5,x'"),
        (("update", "users.zarr", "5", "ids.txt"), "ids.txt: expected a .npy file of rows"),
        (("update", "users.zarr", "5", "ones.npy"), r"expected rows of shape \(1, 4\), one for each id, got \(2, 4\)"),
        (("rows", "users.zarr", "5", "-o", "some.npy"), "some.npy: expected nothing there, got a file"),
        (("grow", "users.zarr", 100), "a table does not shrink"),
        (("reset", "users.zarr", "3,-1"), "got -1"),
        (("rows", "none.zarr", "1"), "expected a table, got nothing"),
        (("rows", "users.zarr", "a"), "expected ids such as 5,7,10"),
    ]:
        with pytest.raises((bigin.InputError, click.ClickException), match=message):
            said_by(*command)
