"""The law: value = f(seed, name, method, global shape, global index), and of nothing else.

As a property: whatever the shape, the chunks, the shards, the target, the region, the number of threads and the order
of the work, the bits are those of tests/reference.py, which shares no code with bigin.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import zarr
from common import bits
from hypothesis import given
from hypothesis import strategies as st
from layouts import LAYOUTS
from strategies import FAN_METHODS, METHODS, specifications
from zarr.storage import MemoryStore

import bigin
from bigin.core.dtypes import DTYPES, FLOATS
from bigin.core.regions import Grid, Region, block_of_rows, extent, slices
from bigin.core.threads import run_threads
from bigin.fillers.families import plan
from bigin.methods import table


def filler(method: str, parameters: dict[str, Any], shape: tuple[int, ...], dtype: str, seed: int, name: str) -> Any:
    row = table.find(method)
    made = plan(table.resolve(row, shape, row.parse(parameters)), shape, DTYPES[dtype], seed, name)()
    made.setup(2, 1 << 30, lambda part: None)
    return made


@given(specifications(), st.sampled_from(LAYOUTS), st.integers(1, 4))
def test_every_target_holds_the_references_bits(tmp_path_factory, specification, layout, threads):
    method, parameters, shape, dtype, seed, name = specification
    if not layout.suits(shape, dtype):
        return
    target = layout.make(tmp_path_factory.mktemp("target"), shape, dtype)
    options = {**layout.arguments(shape, dtype), "seed": seed, "name": name, "threads": threads, "overwrite": True}
    bigin.fill(target, method, **options, **parameters)
    expected = reference.tensor(method, parameters, shape, dtype, seed, name)
    np.testing.assert_array_equal(bits(layout.read(target)), bits(expected))


@given(specifications(), st.data())
def test_the_chunks_and_shards_change_no_bit(specification, data):
    method, parameters, shape, dtype, seed, name = specification
    chunks = tuple(data.draw(st.integers(1, size + 2)) for size in shape)
    options: dict[str, Any] = {"chunks": chunks}
    if data.draw(st.booleans()):
        options["shards"] = tuple(size * data.draw(st.integers(1, 3)) for size in chunks)
    compressors = data.draw(st.sampled_from([None, "auto"]))
    array = zarr.create_array(MemoryStore(), shape=shape, dtype=dtype, compressors=compressors, **options)
    bigin.fill(array, method, seed=seed, name=name, **parameters)
    expected = reference.tensor(method, parameters, shape, dtype, seed, name)
    np.testing.assert_array_equal(bits(np.asarray(array[...])), bits(expected))


FAR = [0, 2**31, 2**32, 2**34, 2**40, 2**62]


@given(specifications(structured=False), st.sampled_from(FAR), st.integers(-60, 60), st.integers(1, 50))
def test_a_stretch_far_along_the_flat_tensor(specification, far, shift, length):
    method, parameters, _, dtype, seed, name = specification
    if method in dict(FAN_METHODS):
        return
    shape = (2**62 + 200,)
    start = max(0, far + shift)
    out = np.empty(length, DTYPES[dtype])
    filler(method, parameters, shape, dtype, seed, name)(((start, start + length),), out)
    expected = reference.elements(method, parameters, shape, dtype, seed, name, range(start, start + length))
    np.testing.assert_array_equal(bits(out), bits(expected))


@given(specifications(structured=False), st.data())
def test_any_region_of_a_huge_tensor(specification, data):
    """Rows past 2^32 and 2^40, narrow and wide last axes, from 2 to 4 axes."""
    method, parameters, _, dtype, seed, name = specification
    ndim = data.draw(st.integers(2, 4))
    rows = data.draw(st.sampled_from([11, 2**20 + 1, 2**40 + 3]))
    shape = (rows, *(data.draw(st.sampled_from([1, 2, 3, 7, 64, 1000])) for _ in range(ndim - 1)))
    region = []
    for size in shape:
        start = data.draw(st.integers(0, size - 1))
        region.append((start, min(size, start + data.draw(st.integers(1, 4)))))
    out = np.empty(extent(tuple(region)), DTYPES[dtype])
    filler(method, parameters, shape, dtype, seed, name)(tuple(region), out)
    places = np.ix_(*(np.array(range(*axis), object) for axis in region))
    indices = sum(place * int(np.prod(shape[k + 1 :], dtype=object)) for k, place in enumerate(places))
    flat = [int(index) for index in np.broadcast_to(indices, out.shape).reshape(-1)]
    expected = reference.elements(method, parameters, shape, dtype, seed, name, flat)
    np.testing.assert_array_equal(bits(out.reshape(-1)), bits(expected))


# Sizes around the kernels' tiles (4096 and 2048 elements), their short runs (512) and the blocks of four words.
EDGES = [1, 3, 4, 5, 511, 512, 513, 2047, 2048, 2049, 4095, 4096, 4097, 9001]


@pytest.mark.slow
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("method", "parameters"), [METHODS[1], METHODS[3], METHODS[5]], ids=str)
@pytest.mark.parametrize("offset", [0, 1, 2, 3, 509])
def test_every_cut_of_the_kernels_gives_the_whole(method, parameters, dtype, offset):
    """The parts against one element at a time: no offset, length or tile may matter."""
    shape = (12, 10_007)
    fill = filler(method, parameters, shape, dtype, 9, "w")
    whole = np.empty(shape, DTYPES[dtype])
    fill(((0, 12), (0, 10_007)), whole)
    for length in EDGES:
        region = ((3, 6), (offset, offset + length))
        out = np.empty(extent(region), DTYPES[dtype])
        fill(region, out)
        np.testing.assert_array_equal(bits(out), bits(whole[slices(region)]))
    for index in (0, 1, 4096, 10_006):
        single = np.empty((1, 1), DTYPES[dtype])
        fill(((5, 6), (index, index + 1)), single)
        assert bits(single)[0, 0] == bits(whole)[5, index]
    sample = random.Random(offset).sample(range(12 * 10_007), 30)
    expected = reference.elements(method, parameters, shape, dtype, 9, "w", sample)
    np.testing.assert_array_equal(bits(whole.reshape(-1)[sample]), bits(expected))


@given(
    specifications(),
    st.integers(1, 5),
    st.randoms(use_true_random=False),
    st.integers(1, 40),
)
def test_the_order_of_the_work_and_the_workers_change_no_bit(specification, threads, chance, size):
    method, parameters, shape, dtype, seed, name = specification
    fill = filler(*specification)
    out = np.zeros(shape, DTYPES[dtype])
    tasks = list(Grid(shape, block_of_rows(shape, size)))
    tasks += chance.sample(tasks, len(tasks) // 2)  # retried, as a cluster does
    chance.shuffle(tasks)

    def worker(stopping: Any) -> Any:
        def work(region: Region) -> int:
            part = np.empty(extent(region), DTYPES[dtype])
            fill(region, part)
            out[slices(region)] = part
            return part.nbytes

        return work

    run_threads(tasks, worker, threads)
    expected = reference.tensor(method, parameters, shape, dtype, seed, name)
    np.testing.assert_array_equal(bits(out), bits(expected))


def test_a_name_is_the_path_in_the_hierarchy_however_the_array_is_opened():
    bigin.fill("m.zarr/layers/0/weight", "normal", shape=(6, 5))
    bigin.fill("m.zarr/layers/1/weight", "normal", shape=(6, 5))
    group = zarr.open_group("m.zarr")
    first, second = group["layers/0/weight"][:], group["layers/1/weight"][:]
    assert (first != second).all()
    expected = reference.tensor("normal", {}, (6, 5), "float32", 0, "layers.0.weight")
    np.testing.assert_array_equal(first, expected)
    ways = [
        "m.zarr/layers/0/weight",
        Path("m.zarr/layers/0/weight").absolute(),
        "m.zarr/layers/../layers/0/weight/",
        f"file://{Path.cwd()}/m.zarr/layers/0/weight",
        group["layers/0/weight"],
        zarr.open_group("m.zarr/layers")["0/weight"],
        zarr.open_array("m.zarr/layers/0/weight"),
        zarr.storage.LocalStore("m.zarr/layers/0/weight"),
    ]
    for way in ways:
        record = bigin.fill(way, "normal", overwrite=True).record
        assert (record["name"], record["name_from"]) == ("layers.0.weight", "hierarchy"), way
        np.testing.assert_array_equal(zarr.open_array("m.zarr/layers/0/weight")[:], expected)


def test_a_name_is_the_path_in_the_hierarchy_behind_a_url():
    pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'bigin[test]'")
    url = "memory://bucket/m.zarr/layers/0/weight"
    zarr.create_group("memory://bucket/m.zarr")
    zarr.create_array(url, shape=(6, 5), dtype="float32", compressors=None)
    assert bigin.fill(url, "normal").record["name"] == "layers.0.weight"
    expected = reference.tensor("normal", {}, (6, 5), "float32", 0, "layers.0.weight")
    np.testing.assert_array_equal(zarr.open_array(url)[:], expected)


def test_a_root_array_and_a_file_are_named_by_their_file_names_and_a_given_name_stands_above():
    for path in ("w.zarr", "w.npy"):
        record = bigin.fill(path, "normal", shape=(6, 5)).record
        assert (record["name"], record["name_from"]) == ("w", "file")
    expected = reference.tensor("normal", {}, (6, 5), "float32", 0, "w")
    np.testing.assert_array_equal(zarr.open_array("w.zarr")[:], expected)
    np.testing.assert_array_equal(np.load("w.npy"), expected)
    expected = reference.tensor("normal", {}, (6, 5), "float32", 0, "")
    record = bigin.fill("g.zarr/a/b", "normal", shape=(6, 5), name="").record
    assert (record["name"], record["name_from"]) == ("", "caller")
    np.testing.assert_array_equal(zarr.open_array("g.zarr/a/b")[:], expected)
