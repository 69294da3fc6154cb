"""A zarr store that is stored nowhere: every byte of it is what a fill writes into a hierarchy on a disk."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
import subprocess
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import zarr
from common import LIMIT, ROOT, bits, examples, few, narrow
from hypothesis import given
from hypothesis import strategies as st
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import LocalStore

import bigin
from bigin.core.dtypes import DTYPES, FLOATS
from bigin.targets.zarr.computed import Gate
from bigin.targets.zarr.layouts import paths

bigin.register_dtypes()
RECIPE = """
seed = 3
[[rule]]
match = "*.weight"
method = "normal"
std = 0.02
[[rule]]
match = "*.q"
method = "orthogonal"
[[rule]]
match = "*"
method = "ones"
"""
LAYOUTS = {  # shape, chunks, shards
    "whole": ((12, 10), (4, 5), None),
    "edges": ((13, 7, 3), (4, 5, 2), None),
    "shards": ((16, 12), (4, 3), (8, 12)),
    "edges of shards": ((13, 11), (4, 3), (8, 6)),
    "one chunk": ((5,), (8,), None),
    "many small chunks": ((500, 40), (1, 10), (300, 20)),
    "scalar": ((), (), None),
    "empty": ((0, 4), (2, 4), None),
}


def read(store: Any, key: str, wanted: Any = None) -> bytes | None:
    found = asyncio.run(store.get(key, default_buffer_prototype(), wanted))
    return None if found is None else found.to_bytes()


def keys(store: Any, prefix: str | None = None) -> list[str]:
    async def every() -> list[str]:
        return [key async for key in (store.list() if prefix is None else store.list_prefix(prefix))]

    return sorted(asyncio.run(every()))


def names_below(store: Any, prefix: str) -> list[str]:
    async def every() -> list[str]:
        return [name async for name in store.list_dir(prefix)]

    return sorted(asyncio.run(every()))


@pytest.mark.parametrize("name", few("bfloat16", *(name for name in DTYPES if name != "bfloat16")))
def test_arrays_have_the_very_bytes_of_a_fill(tmp_path: Path, name: str) -> None:
    for title, (shape, chunks, shards) in LAYOUTS.items():
        method = "normal" if name in FLOATS else "ones"
        group = zarr.create_group(tmp_path / f"{name} {title}")
        array = group.create_array(
            "layers/0/w", shape=shape, chunks=tuple(max(1, each) for each in chunks), shards=shards, dtype=name,
            compressors=None,
        )  # fmt: skip
        bigin.fill(array, method, seed=5)
        w = bigin.virtual(shape, method, seed=5, dtype=name, name="layers.0.w")
        store = bigin.virtual_store({"layers.0.w": w}, chunks=chunks or None, shards=shards)
        disk = LocalStore(tmp_path / f"{name} {title}", read_only=True)
        chunk_keys = [key for key in keys(disk) if not key.endswith(".json")]
        assert [key for key in keys(store) if not key.endswith("zarr.json")] == chunk_keys
        assert bool(chunk_keys) == (title != "empty")
        for key in chunk_keys:
            assert read(store, key) == read(disk, key), (name, title, key)
        found = zarr.open_group(store, mode="r")["layers/0/w"]
        assert np.array_equal(bits(np.asarray(found[...])), bits(np.asarray(w)))
        assert (found.dtype, found.chunks, found.shards) == (array.dtype, array.chunks, array.shards)
        documents = [json.loads(read(each, "layers/0/w/zarr.json") or b"") for each in (store, disk)]
        assert documents[0].pop("dimension_names") == [f"layers.0.w_{axis}" for axis in range(len(shape))]
        record = documents[1]["attributes"]["bigin"]
        assert documents[0].pop("attributes")["bigin"] == {k: v for k, v in record.items() if k != "name_from"}
        del documents[1]["attributes"]
        assert documents[0] == documents[1]


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, Path]:
    """A recipe, and a group that it is for."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    group = zarr.create_group(tmp_path / "like.zarr")
    for name, shape, dtype in (
        ("layers/0/mlp.weight", (64, 30), "bfloat16"),
        ("layers/0/mlp.bias", (64,), "float32"),
        ("layers/1/mlp.weight", (64, 30), narrow("float8_e4m3fn")),
        ("layers/1/q", (40, 20), "float32"),
        ("step", (), "float64"),
    ):
        group.create_array(name, shape=shape, dtype=dtype)
    return recipe, tmp_path / "like.zarr"


def test_a_recipe_gives_what_init_writes(model: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, like = model
    nested = zarr.create_group(tmp_path / "nested.zarr")
    for path, array in zarr.open_group(like, mode="r").members(max_depth=None):
        if isinstance(array, zarr.Array):
            nested.create_array(path.replace(".", "/"), shape=array.shape, dtype=array.dtype.name)
    bigin.initialize(recipe, tmp_path / "out.zarr", like=tmp_path / "nested.zarr")
    store, disk = bigin.virtual_store(recipe, like=like), LocalStore(tmp_path / "out.zarr", read_only=True)
    assert keys(store) == [key for key in keys(disk) if not key.startswith(".bigin")]
    for key in keys(store):
        assert key.endswith("zarr.json") or read(store, key) == read(disk, key), key
    group = zarr.open_group(store, mode="r")
    assert group.metadata.consolidated_metadata is not None
    assert sorted(path for path, _ in group.members(max_depth=None)) == [
        "layers", "layers/0", "layers/0/mlp", "layers/0/mlp/bias", "layers/0/mlp/weight",
        "layers/1", "layers/1/mlp", "layers/1/mlp/weight", "layers/1/q", "step",
    ]  # fmt: skip
    plain = zarr.open_group(store, mode="r", use_consolidated=False)
    assert sorted(path for path, _ in plain.members(max_depth=None)) == sorted(
        path for path, _ in group.members(max_depth=None)
    )
    other = bigin.virtual_store(recipe, like=like, seed=4, dtype="float16")
    assert other != store
    assert zarr.open_group(other, mode="r")["layers/0/mlp/weight"].dtype == np.float16


def test_a_recipe_that_copies_reads_its_source(tmp_path: Path) -> None:
    source = tmp_path / "source.safetensors"
    values = {"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "b": np.ones(3, np.float16)}
    safetensors.numpy.save_file(values, source)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('from = "source.safetensors"\n[[rule]]\nmatch = "*"\ncopy = "*"\n')
    store = pickle.loads(pickle.dumps(bigin.virtual_store(recipe)))
    group = zarr.open_group(store, mode="r")
    assert group["a/weight"][1:].tolist() == values["a.weight"][1:].tolist()
    assert group["b"][...].tobytes() == values["b"].tobytes()


STORES = {
    title: bigin.virtual_store(
        bigin.virtual(shape, "normal", dtype=dtype, name="w"), chunks=chunks or None, shards=shards
    )
    for title, (shape, chunks, shards) in LAYOUTS.items()
    for dtype in ["float64" if title == "edges" else "bfloat16"]
}


@examples(300)
@given(st.sampled_from([title for title in LAYOUTS if title != "empty"]), st.data())
def test_any_range_of_any_key(title: str, data: st.DataObject) -> None:
    store = STORES[title]
    key = data.draw(st.sampled_from(keys(store)))
    whole = read(store, key)
    assert whole is not None
    assert asyncio.run(store.getsize(key)) == len(whole)
    start, stop = sorted((data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, len(whole) + 3))))
    assert read(store, key, RangeByteRequest(start, stop)) == whole[start:stop]
    assert read(store, key, OffsetByteRequest(start)) == whole[start:]
    assert read(store, key, SuffixByteRequest(stop)) == whole[-stop:] if stop else True
    requests = [(key, RangeByteRequest(start, stop)), ("nothing", None), (key, None)]
    found = asyncio.run(store.get_partial_values(default_buffer_prototype(), requests))
    assert [None if each is None else each.to_bytes() for each in found] == [whole[start:stop], None, whole]


def test_keys_that_are_not_there() -> None:
    store = bigin.virtual_store({"a.b": bigin.virtual((10, 10), "normal", name="b")}, chunks=(4, 4))
    for key in (
        "", "zarr", "a", "a/b", "a/b/c", "a/b/c/0", "a/b/c/3/0", "a/b/c/0/3", "a/b/c/00/0", "a/b/c/-1/0", "a/b/c/0/0/0",
        "a/b/c/\u0661/0", "a/b/0/0", "b/c/0/0", "/zarr.json", "a/zarr.json/", "a/c/zarr.json", ".zgroup", "a/b/.zarray",
    ):  # fmt: skip
        assert read(store, key) is None, key
        assert not asyncio.run(store.exists(key))
        with pytest.raises(FileNotFoundError):
            asyncio.run(store.getsize(key))
    assert asyncio.run(store.exists("a/b/c/2/2"))


def test_listing() -> None:
    store = bigin.virtual_store({"a.b": bigin.virtual((10,), "normal", name="b")}, chunks=(4,))
    every = ["a/b/c/0", "a/b/c/1", "a/b/c/2", "a/b/zarr.json", "a/zarr.json", "zarr.json"]
    assert keys(store) == every
    assert keys(store, "a/b/c/") == every[:3]
    assert keys(store, "a/b/c/1") == ["a/b/c/1"]
    assert keys(store, "x") == []
    assert names_below(store, "") == ["a", "zarr.json"]
    assert names_below(store, "a") == names_below(store, "a/") == ["b", "zarr.json"]
    assert names_below(store, "a/b") == ["c", "zarr.json"]
    assert names_below(store, "a/b/c") == ["0", "1", "2"]
    assert names_below(store, "nothing") == []
    assert asyncio.run(store.is_empty("x"))
    assert asyncio.run(store.getsize_prefix("a/b/c")) == 48


def test_nothing_can_be_written() -> None:
    store = bigin.virtual_store({"w": bigin.virtual((10,), "normal", name="w")})
    value = default_buffer_prototype().buffer.from_bytes(b"x")
    for call in (lambda: store.set("w/c/0", value), lambda: store.delete("w/c/0"), lambda: store.clear()):
        with pytest.raises((ValueError, NotImplementedError)):
            asyncio.run(call())
    with pytest.raises(ValueError, match="expected no write to a virtual store"):
        zarr.open_group(store, mode="r")["w"][0] = 1
    with pytest.raises(ValueError, match="expected no write to a virtual store"):
        store.with_read_only(read_only=False)
    assert store.with_read_only(read_only=True) == store
    assert zarr.open_group(store, mode="r")["w"].read_only


def test_one_array_alone_is_the_root() -> None:
    w = bigin.virtual((30, 20), "xavier_normal", dtype="bfloat16")
    store = bigin.virtual_store(w, chunks="400B")
    array = zarr.open_array(store, mode="r")
    assert array.chunks == (10, 20)
    assert array[...].tobytes() == w[...].tobytes()
    assert keys(store) == ["c/0/0", "c/1/0", "c/2/0", "zarr.json"]
    assert names_below(store, "") == ["c", "zarr.json"]


def test_sizes_of_chunks_and_shards_are_bytes_shapes_or_given_by_name() -> None:
    arrays = {name: bigin.virtual((100, 50), "normal", name=name) for name in ("a", "b")}
    group = zarr.open_group(bigin.virtual_store(arrays, chunks={"a": (30, 50)}, shards="10 kB"), mode="r")
    assert (group["a"].chunks, group["a"].shards) == ((30, 50), (30, 50))
    assert (group["b"].chunks, group["b"].shards) == ((100, 50), (100, 50))
    group = zarr.open_group(bigin.virtual_store(arrays, chunks=1000, shards="10 kB"), mode="r")
    assert (group["a"].chunks, group["a"].shards) == ((5, 50), (50, 50))


def test_a_part_of_a_shard_takes_no_memory_for_the_whole() -> None:
    w = bigin.virtual((1 << 20, 1 << 12), "uniform", name="w")  # 16 GiB
    store = bigin.virtual_store({"w": w}, chunks=(1, 1 << 12), shards=(1 << 18, 1 << 12), max_memory="1 MiB")
    assert asyncio.run(store.getsize("w/c/0/0")) == (1 << 32) + (16 << 18) + 4
    first = zarr.open_group(store, mode="r")["w"]
    assert first[5, :3].tolist() == w[5, :3].tolist()
    tracemalloc.start()
    row = read(store, "w/c/3/0", RangeByteRequest(16384 * 1000 + 8, 16384 * 1001))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert row == w[3 * (1 << 18) + 1000, 2:].tobytes()
    assert peak < 1 << 20


def test_names_of_hierarchies() -> None:
    assert paths(["h.0.w", "h.0.b", "x"]) == {"h.0.w": "h/0/w", "h.0.b": "h/0/b", "x": "x"}
    assert paths(["w", "w.absmax", "w.q.map"]) == {"w": "w", "w.absmax": "w.absmax", "w.q.map": "w.q/map"}
    assert paths(["a/b", "a.c"]) == {"a/b": "a/b", "a.c": "a/c"}
    for wrong, message in (
        (["a..b"], "every part between dots"),
        ([""], "every part between dots"),
        (["a/b", "a.b"], "different paths"),
    ):
        with pytest.raises(bigin.InputError, match=message):
            paths(wrong)
    arrays = {"w": bigin.virtual((3,), "normal", name="w"), "w.absmax": bigin.virtual((2,), "ones", name="w.absmax")}
    group = zarr.open_group(bigin.virtual_store(arrays), mode="r")
    assert sorted(path for path, _ in group.members(max_depth=None)) == ["w", "w.absmax"]
    assert group["w.absmax"][...].tolist() == [1, 1]


def test_wrong_input_is_refused(model: tuple[Path, Path]) -> None:
    recipe, like = model
    w = bigin.virtual((4, 4), "normal", name="w")
    for arguments, options, message in (
        ((recipe,), {}, "expected like="),
        ((recipe,), {"like": like, "chunks": "many"}, "expected a size"),
        ((recipe,), {"like": like, "chunks": {"nothing": 5}}, "got those of 'nothing'"),
        ((recipe,), {"like": like, "chunks": (4, 4)}, "layers/0/mlp.bias: expected a chunk with a size above 0"),
        ((3,), {}, "expected a recipe, virtual arrays"),
        (({},), {}, "got none"),
        (({"w": 3},), {}, "got 'w' and int"),
        (({"w": bigin.virtual((4,), "normal")},), {}, r"w: expected a virtual array with a name"),
        (({"w": w},), {"seed": 3}, "expected no seed beside virtual arrays"),
        (({"w": w},), {"chunks": (2, 0)}, "size above 0"),
        (({"w": w},), {"chunks": (2, 2), "shards": (3, 2)}, r"w: expected a shard of whole chunks of \(2, 2\)"),
    ):
        with pytest.raises(bigin.InputError, match=message):
            bigin.virtual_store(*arguments, **options)


def test_threads_and_other_processes(model: tuple[Path, Path]) -> None:
    store = bigin.virtual_store(model[0], like=model[1], chunks=500, threads=2, max_memory="16MiB")
    expected = {key: read(store, key) for key in keys(store)}
    copied = pickle.loads(pickle.dumps(store))
    assert copied == store
    assert hash(copied) == hash(store)
    with ThreadPoolExecutor(8) as pool:
        for each in (store, copied):
            assert (
                dict(zip(expected, pool.map(lambda key, each=each: read(each, key), expected), strict=True)) == expected
            )


@pytest.mark.slow
def test_another_process_reads_the_same() -> None:
    store = bigin.virtual_store({"q": bigin.virtual((40, 20), "orthogonal", name="q")})
    child = "import asyncio, pickle, sys; from zarr.core.buffer import default_buffer_prototype as p\n"
    child += "store = pickle.load(sys.stdin.buffer)\n"
    child += "sys.stdout.buffer.write(asyncio.run(store.get('q/c/0/0', p())).to_bytes())"
    done = subprocess.run(
        [sys.executable, "-c", child], input=pickle.dumps(store), capture_output=True, timeout=LIMIT, check=True
    )
    assert done.stdout == read(store, "q/c/0/0")


def test_a_gate_bounds_threads_and_memory() -> None:
    gate = Gate(2, 100)
    inside, most, bytes_inside, most_bytes = 0, 0, 0, 0
    lock = threading.Lock()

    def enter(size: int) -> None:
        nonlocal inside, most, bytes_inside, most_bytes
        with gate.entered(size):
            with lock:
                inside, bytes_inside = inside + 1, bytes_inside + size
                most, most_bytes = max(most, inside), max(most_bytes, bytes_inside)
            threading.Event().wait(0.002)
            with lock:
                inside, bytes_inside = inside - 1, bytes_inside - size

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, [40, 50, 60, 70] * 10))
        assert (most, most_bytes) == (2, 100)
        list(pool.map(enter, [500, 10, 500]))  # more than there is: alone
    assert most_bytes == 500


def test_the_page_about_it_runs() -> None:
    page = (ROOT / "docs" / "virtual.md").read_text()
    code = "\n".join(re.findall(r"```python\n(.*?)```", page, re.S))
    assert code.count("bigin.virtual_store(") >= 4
    held: dict[str, Any] = {}
    exec(compile(code, "virtual.md", "exec"), held)
    assert held["group"]["layers/0/weight"].shape == (4096, 1024)
    assert zarr.open_group(held["store"], mode="r")["q"].shards == (512, 512)


@pytest.mark.slow
def test_xarray_and_dask_read_it(model: tuple[Path, Path]) -> None:
    xr = pytest.importorskip("xarray", reason="xarray is not installed: pip install 'bigin[test-zarr]'")
    da = pytest.importorskip("dask.array", reason="dask is not installed: pip install 'bigin[bench]'")
    store = bigin.virtual_store(model[0], like=model[1], chunks=500)
    expected = bigin.virtual((64, 30), "normal", std=0.02, seed=3, dtype="bfloat16", name="layers.0.mlp.weight")[...]
    data = xr.open_zarr(store, group="layers/0/mlp", consolidated=True)
    assert data["weight"].dims == ("layers.0.mlp.weight_0", "layers.0.mlp.weight_1")
    assert data["weight"].values.tobytes() == expected.tobytes()
    tree = xr.open_datatree(store, engine="zarr")
    assert tree["layers/0/mlp/weight"].shape == (64, 30)
    array = da.from_zarr(zarr.open_group(store, mode="r")["layers/0/mlp/weight"])
    assert array.numblocks[0] > 1
    assert array.compute().tobytes() == expected.tobytes()
