"""zarr arrays whose codecs change values are refused before anything is written; stores that take no other key."""

from __future__ import annotations

import warnings
from pathlib import Path

import numcodecs
import numpy as np
import pytest
import zarr
from common import bits

import bigin

SHAPE = (40, 12)


def v2(*filters: object, compressor: object = None, dtype: str = "float32") -> zarr.Array:
    return zarr.create_array(
        "w.zarr",
        shape=SHAPE,
        chunks=(9, 12),
        dtype=dtype,
        filters=filters or None,
        compressors=compressor,
        zarr_format=2,
    )


def v3(*filters: object, compressors: object = None, dtype: str = "float32", **options: object) -> zarr.Array:
    return zarr.create_array(
        "w.zarr", shape=SHAPE, chunks=(8, 12), dtype=dtype, filters=filters or None, compressors=compressors, **options
    )


def numcodec(name: str, **configuration: object) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from numcodecs import zarr3

        return getattr(zarr3, name)(**configuration)


LOSSY = {
    "format 2, BitRound": lambda: v2(numcodecs.BitRound(keepbits=8)),
    "format 2, Quantize": lambda: v2(numcodecs.Quantize(3, "f4")),
    "format 2, FixedScaleOffset": lambda: v2(numcodecs.FixedScaleOffset(0, 100, "f4", "i2")),
    "format 2, AsType": lambda: v2(numcodecs.AsType("f2", "f4")),
    "format 2, Delta of floats": lambda: v2(numcodecs.Delta("f4")),
    "format 3, BitRound": lambda: v3(numcodec("BitRound", keepbits=8)),
    "format 3, BitRound in shards": lambda: v3(numcodec("BitRound", keepbits=8), shards=(16, 12)),
    "format 3, Quantize": lambda: v3(numcodec("Quantize", digits=3, dtype="f4")),
}
LOSSLESS = {
    "format 2, Delta of integers": lambda: v2(numcodecs.Delta("i4"), dtype="int32"),
    "format 2, Shuffle and Zstd": lambda: v2(numcodecs.Shuffle(4), compressor=numcodecs.Zstd()),
    "format 2, AsType to wider": lambda: v2(numcodecs.AsType("f8", "f4")),
    "format 2, CRC32": lambda: v2(numcodecs.CRC32()),
    "format 3, transposed": lambda: v3(zarr.codecs.TransposeCodec(order=(1, 0)), compressors="auto"),
    "format 3, Blosc in shards": lambda: v3(compressors=zarr.codecs.BloscCodec(), shards=(16, 12)),
    "format 3, big-endian bfloat16": lambda: v3(serializer=zarr.codecs.BytesCodec(endian="big"), dtype="float16"),
    "format 3, Shuffle": lambda: v3(compressors=[numcodec("Shuffle", elementsize=4), zarr.codecs.ZstdCodec()]),
}


@pytest.mark.parametrize("kind", LOSSY)
@pytest.mark.filterwarnings("ignore")
def test_codecs_that_change_values_are_refused_before_anything_is_written(kind):
    LOSSY[kind]()
    before = {path: path.read_bytes() for path in Path("w.zarr").rglob("*") if path.is_file()}
    with pytest.raises(bigin.InputError, match=r"expected codecs that keep every bit, got .*, which change values"):
        bigin.fill("w.zarr", "normal")
    with pytest.raises(bigin.InputError, match="expected codecs that keep every bit"):
        bigin.verify("w.zarr", "normal", repair=True)
    assert {path: path.read_bytes() for path in Path("w.zarr").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.filterwarnings("ignore")
def test_codecs_that_keep_values_are_filled(kind):
    array = LOSSLESS[kind]()
    options = {"val": 7} if array.dtype.kind == "i" else {}
    bigin.fill("w.zarr", "constant" if options else "normal", **options)
    assert bigin.verify("w.zarr").equal


@pytest.mark.filterwarnings("ignore")
def test_a_group_with_a_codec_that_changes_values_is_refused():
    group = zarr.open_group("g.zarr", mode="w")
    group.create_array("a", shape=SHAPE, dtype="float32")
    group.create_array("b", shape=SHAPE, dtype="float32", filters=numcodec("BitRound", keepbits=8))
    Path("recipe.toml").write_text('[[rule]]\nmatch = "*"\nmethod = "normal"\n')
    with pytest.raises(bigin.InputError, match=r"g.zarr/b: expected codecs that keep every bit"):
        bigin.initialize("recipe.toml", "g.zarr")
    assert not dict(zarr.open_group("g.zarr").attrs)


# Stores that take no keys but zarr's (icechunk#2180)


def test_icechunk_is_filled_and_read_back():
    icechunk = pytest.importorskip("icechunk", reason="icechunk is not installed: pip install 'bigin[test]'")
    repository = icechunk.Repository.create(icechunk.in_memory_storage())
    session = repository.writable_session("main")
    root = zarr.create_group(session.store)
    for name, compressors in (("w", None), ("layers/v", "auto")):
        root.create_array(name, shape=SHAPE, chunks=(8, 12), dtype="float32", compressors=compressors)
        array = zarr.open_array(session.store, path=name)
        report = bigin.fill(array, "normal", seed=3)
        assert report.record["name"] == name.replace("/", ".")
        assert report.retries == 0
        assert bigin.verify(array).equal
    session.commit("initial values")
    read_only = repository.readonly_session("main").store
    for name in ("w", "layers/v"):
        array = zarr.open_array(read_only, path=name, mode="r")
        values = np.zeros(SHAPE, np.float32)
        bigin.fill(values, "normal", seed=3, name=name.replace("/", "."))
        np.testing.assert_array_equal(bits(np.asarray(array[...])), bits(values))
        assert bigin.verify(array).equal
        with pytest.raises(bigin.TargetError, match="got a read-only one"):
            bigin.fill(array, "normal", seed=4, overwrite=True)


def test_a_model_in_icechunk():
    icechunk = pytest.importorskip("icechunk", reason="icechunk is not installed: pip install 'bigin[test]'")
    session = icechunk.Repository.create(icechunk.in_memory_storage()).writable_session("main")
    like = zarr.open_group("like.zarr", mode="w")
    like.create_array("a/weight", shape=SHAPE, dtype="float32")
    like.create_array("b", shape=(7,), dtype="float32")
    Path("recipe.toml").write_text('[[rule]]\nmatch = "*"\nmethod = "normal"\n')
    bigin.initialize("recipe.toml", session.store, like="like.zarr")
    group = zarr.open_group(session.store, mode="r")
    values = np.zeros(SHAPE, np.float32)
    bigin.fill(values, "normal", name="a.weight")
    np.testing.assert_array_equal(group["a/weight"][...], values)
