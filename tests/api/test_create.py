"""bigin.create: empty arrays that suit a fill."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr

import bigin


def test_an_array_has_chunks_of_whole_rows_and_no_compression():
    array = bigin.create("t.zarr", shape=(10**7, 256), dtype="float32")
    assert (array.shape, array.chunks, str(array.dtype)) == ((10**7, 256), (16384, 256), "float32")
    assert array.compressors == ()
    assert array.shards is None
    assert sum(1 for path in Path("t.zarr").rglob("*") if path.is_file()) == 1  # nothing but its metadata
    assert zarr.open_array("t.zarr").shape == (10**7, 256)


def test_chunks_grow_where_there_would_be_many_and_rows_are_cut_where_one_is_large():
    assert bigin.create("a.zarr", shape=(10**10, 256), dtype="float32").chunks == (262144, 256)
    assert bigin.create("b.zarr", shape=(3, 10**9), dtype="float64").chunks == (1, 2097152)
    assert bigin.create("c.zarr", shape=(), dtype="float64").chunks == ()
    assert bigin.create("d.zarr", shape=(0, 7), dtype="float64").chunks == (1, 7)


def test_chunks_shards_and_format_can_be_given():
    array = bigin.create("s.zarr", shape="100,64", dtype="bfloat16", chunks=(10, 64), shards=(50, 64))
    assert (array.chunks, array.shards, str(array.dtype)) == ((10, 64), (50, 64), "bfloat16")
    assert bigin.create("v2.zarr", shape=100, zarr_format=2).metadata.zarr_format == 2


def test_an_array_in_a_hierarchy_gets_its_groups():
    bigin.create("m.zarr/layers/0/weight", shape=(4, 4))
    bigin.create("m.zarr/layers/1/weight", shape=(4, 4))
    group = zarr.open_group("m.zarr")
    assert sorted(name for name, _ in group.members(max_depth=None)) == [
        "layers",
        "layers/0",
        "layers/0/weight",
        "layers/1",
        "layers/1/weight",
    ]
    assert bigin.fill("m.zarr/layers/1/weight", "normal").record["name"] == "layers.1.weight"


def test_a_npy_path_becomes_a_file_of_zeros():
    array = bigin.create("w.npy", shape=(30, 20), dtype="float64")
    assert isinstance(array, np.memmap)
    assert not array.any()
    assert np.load("w.npy").shape == (30, 20)
    bigin.fill("w.npy", "normal")
    assert array.all()


@pytest.mark.parametrize("path", ["w.npy", "w.zarr"])
def test_what_exists_is_not_made_again(path):
    bigin.create(path, shape=(3, 4))
    with pytest.raises(bigin.InputError, match="expected nothing there"):
        bigin.create(path, shape=(3, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (3, -1)}, "not negative"),
        ({"shape": (3, 0.5)}, "expected a shape of integers"),
        ({"shape": None}, "expected a shape of integers"),
        ({"shape": (2**40, 2**40)}, "fewer than 2\\^63 elements"),
        ({"shape": (3, 4), "dtype": "float99"}, "expected a dtype among"),
        ({"shape": (3, 4), "chunks": (3,)}, "w.zarr"),
        ({"shape": (30, 4), "chunks": (4, 4), "shards": (6, 4)}, "w.zarr"),
        ({"shape": (3, 4), "zarr_format": 4}, "expected zarr format 2 or 3"),
    ],
)
def test_bad_input_makes_nothing(arguments, message):
    with pytest.raises(bigin.InputError, match=message):
        bigin.create("w.zarr", **arguments)
    assert list(Path.cwd().iterdir()) == []


def test_a_file_has_no_chunks():
    with pytest.raises(bigin.InputError, match=r"no chunks or shards for a \.npy file"):
        bigin.create("w.npy", shape=(3, 4), chunks=(1, 4))
