"""Small inner chunks of a shard are made in groups: the same bytes as one by one, and as zarr reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from common import bits
from hypothesis import given
from hypothesis import strategies as st

import bigin
from bigin.core.regions import Grid
from bigin.targets.zarr import shards

SHAPE = (70, 53)
OPTIONS = {"shape": SHAPE, "chunks": (4, 3), "shards": (32, 21), "dtype": "float32", "compressors": None}


@pytest.fixture(params=[1, 100, 1000, 1 << 20])
def _group(request, monkeypatch):
    """Groups of one chunk, of a part of a row of chunks, of some rows, and of whole shards."""
    monkeypatch.setattr(shards, "GROUP", request.param)


@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize("store", ["local", "memory"])
def test_shards_hold_the_values_and_the_fill_value_beyond_the_edge(store):
    whole = np.zeros(SHAPE, np.float32)
    bigin.fill(whole, "normal", seed=3)
    place = zarr.storage.MemoryStore() if store == "memory" else "a.zarr"
    array = zarr.create_array(place, fill_value=7, **OPTIONS)
    bigin.fill(array, "normal", seed=3, name="")
    stored = zarr.open_array(array.store_path.store)
    assert np.array_equal(bits(stored[...]), bits(whole))
    stored.resize((96, 63))
    assert (stored[70:72, :51] == 7).all()
    assert (stored[:70, 53:54] == 7).all()


@pytest.mark.usefixtures("_group")
def test_verify_finds_and_repairs_an_element():
    zarr.create_array("a.zarr", **OPTIONS)
    bigin.fill("a.zarr", "normal")
    before = {path: path.read_bytes() for path in Path("a.zarr/c").rglob("*") if path.is_file()}
    path = Path("a.zarr/c/1/2")
    data = bytearray(before[path])
    data[4 * 12 * 9 + 5] ^= 1  # an element of the tenth inner chunk, which is the second of the third row of four
    path.write_bytes(data)
    (difference,) = bigin.verify("a.zarr").differences
    assert difference.elements == 1
    assert difference.first == (40, 46)  # the second of a chunk whose first element is (40, 45)
    bigin.verify("a.zarr", repair=True)
    assert {path: path.read_bytes() for path in before} == before


@given(st.data())
def test_values_go_into_chunks_and_back(data):
    ndim = data.draw(st.integers(1, 4))
    inner = tuple(data.draw(st.integers(1, 4)) for _ in range(ndim))
    shape = tuple(data.draw(st.integers(1, 9)) for _ in range(ndim))
    counts = Grid(shape, inner).counts
    values = np.arange(np.prod(shape)).reshape(shape)
    chunks = np.empty((*counts, *inner), values.dtype)
    shards.split(values, inner, chunks, -1)
    for number, chunk in enumerate(Grid(shape, inner)):
        expected = np.full(inner, -1)
        part = values[tuple(slice(*bounds) for bounds in chunk)]
        expected[tuple(slice(0, size) for size in part.shape)] = part
        assert np.array_equal(chunks.reshape(-1, *inner)[number], expected)
    back = np.empty_like(values)
    shards.join(chunks, inner, back)
    assert np.array_equal(back, values)
