"""Chunks that bigin encodes itself: byte for byte what zarr writes, and as carefully read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import zarr
from zarr.codecs import GzipCodec, ZstdCodec

import bigin
from bigin.targets.zarr.chunks import AssignWriter, EncodedWriter, writer

OPTIONS = {"shape": (23, 17), "chunks": (8, 5)}
CODECS = {"default": "auto", "checksum": ZstdCodec(level=3, checksum=True), "gzip": GzipCodec(level=2)}


def files(folder: str) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder, "c").rglob("*") if path.is_file()}


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("codec", CODECS)
def test_the_bytes_are_those_that_zarr_writes(codec, dtype):
    array = zarr.create_array("a.zarr", dtype=dtype, compressors=CODECS[codec], fill_value=3, **OPTIONS)
    assert isinstance(writer(array, local=True), EncodedWriter)
    bigin.fill("a.zarr", "normal")
    other = zarr.create_array("b.zarr", dtype=dtype, compressors=CODECS[codec], fill_value=3, **OPTIONS)
    other[...] = zarr.open_array("a.zarr")[...]
    mine, theirs = files("a.zarr"), files("b.zarr")
    if codec == "gzip":  # whose header holds the time
        mine, theirs = ({key: data[10:] for key, data in each.items()} for each in (mine, theirs))
    assert mine == theirs
    assert len(mine) == 12
    assert bigin.verify("a.zarr").equal


@pytest.mark.parametrize("damage", ["cut", "other values", "other size", "gone", "garbage"])
def test_damage_is_told_and_repaired(damage):
    zarr.create_array("a.zarr", dtype="float32", **OPTIONS)
    bigin.fill("a.zarr", "normal")
    before = files("a.zarr")
    path = Path("a.zarr/c/2/3")
    codec = writer(zarr.open_array("a.zarr"), local=True).codec
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:-9])
        case "other values":
            path.write_bytes(codec.encode(np.ones((8, 5), np.float32)))
        case "other size":
            path.write_bytes(codec.encode(np.ones((7, 5), np.float32)))
        case "gone":
            path.unlink()
        case "garbage":
            path.write_bytes(b"x")
    (difference,) = bigin.verify("a.zarr").differences
    assert difference.where == "chunk c/2/3"
    assert difference.elements == 7 * 2
    bigin.verify("a.zarr", repair=True)
    assert files("a.zarr") == before


def test_other_layouts_are_left_to_zarr():
    for number, given in enumerate(
        (
            {"serializer": zarr.codecs.BytesCodec(endian="big")},
            {"compressors": zarr.codecs.BloscCodec()},
            {"shards": (16, 10)},
            {"filters": zarr.codecs.TransposeCodec(order=(1, 0))},
            {"zarr_format": 2},
        )
    ):
        array = zarr.create_array(f"{number}.zarr", dtype="float32", **{**OPTIONS, **given})
        assert isinstance(writer(array, local=True), AssignWriter)
