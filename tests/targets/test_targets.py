"""What every target must do: the conformance suite. A new target is a row of tests/layouts.py."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from common import bits
from layouts import LAYOUTS, Layout, stored

import bigin
from bigin.core.dtypes import DTYPES, FLOATS
from bigin.targets.files import FileTarget
from bigin.targets.open import open_target
from bigin.targets.target import Scratch, Target, record_of

SHAPES = [(), (1,), (23,), (7, 11), (4, 3, 9), (2, 3, 4, 5), (0, 5)]
every_layout = pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)


def every_dtype(*dtypes: str) -> pytest.MarkDecorator:
    """Every layout with each of the dtypes that it takes."""
    pairs = [(layout, dtype) for layout in LAYOUTS for dtype in dtypes if layout.suits((7, 11), dtype)]
    return pytest.mark.parametrize(("layout", "dtype"), pairs, ids=lambda part: getattr(part, "name", part))


def expected(shape: tuple[int, ...], dtype: str, **parameters: object) -> np.ndarray:
    """The same fill of a plain array, with one thread."""
    values = np.zeros(shape, DTYPES[dtype])
    bigin.fill(values, **{"method": "normal", "seed": 5, "threads": 1, **parameters})
    return values


def filled(layout: Layout, shape: tuple[int, ...], dtype: str, **options: object) -> tuple[object, bigin.Report]:
    target = layout.make(Path.cwd(), shape, dtype)
    options = {"method": "normal", "seed": 5, "name": "", **layout.arguments(shape, dtype), **options}
    return target, bigin.fill(target, **options)


@pytest.mark.parametrize(
    ("layout", "shape"),
    [(layout, shape) for layout in LAYOUTS for shape in SHAPES if layout.suits(shape, "float32")],
    ids=lambda part: getattr(part, "name", str(part)),
)
def test_every_shape_gets_the_same_bits(layout, shape):
    target, report = filled(layout, shape, "float32")
    np.testing.assert_array_equal(bits(layout.read(target)), bits(expected(shape, "float32")))
    assert layout.read(target).shape == shape
    assert layout.read(target).all()  # no normal is 0 here: something was written everywhere
    assert report.nbytes == 4 * int(np.prod(shape))


@every_dtype(*FLOATS)
def test_every_float_dtype_gets_the_same_bits(layout, dtype):
    target, _ = filled(layout, (7, 11), dtype)
    np.testing.assert_array_equal(bits(layout.read(target)), bits(expected((7, 11), dtype)))
    assert len(np.unique(layout.read(target).astype(np.float32))) > 30


@every_dtype("int8", "uint16", "int64")
def test_integers_take_constants(layout, dtype):
    target, _ = filled(layout, (7, 11), dtype, method="constant", val=93)
    assert layout.read(target).tolist() == [[93] * 11] * 7


@every_layout
def test_zeros_are_written_over_what_was_there(layout):
    target, _ = filled(layout, (7, 11), "float32", method="ones")
    assert layout.read(target).tolist() == [[1.0] * 11] * 7
    bigin.fill(target, "zeros", **layout.arguments((7, 11), "float32"), overwrite=True)
    assert layout.read(target).tolist() == [[0.0] * 11] * 7


@every_layout
def test_what_is_filled_is_not_overwritten_unless_asked(layout):
    target, _ = filled(layout, (7, 11), "float32")
    before = bits(layout.read(target)).copy()
    again = {**layout.arguments((7, 11), "float32"), "seed": 6, "name": ""}
    if layout.keeps:
        with pytest.raises(bigin.InputError, match=r"is filled with normal, seed 5; --overwrite"):
            bigin.fill(target, "normal", **again)
        np.testing.assert_array_equal(bits(layout.read(target)), before)
    bigin.fill(target, "normal", **again, overwrite=True)
    np.testing.assert_array_equal(bits(layout.read(target)), bits(expected((7, 11), "float32", seed=6)))


@every_layout
def test_the_record_tells_what_was_filled(layout):
    target, report = filled(layout, (7, 11), "float32", std=0.5, name="layers.0")
    record = {
        "method": "normal",
        "parameters": {"mean": 0.0, "std": 0.5},
        "seed": 5,
        "name": "layers.0",
        "name_from": "caller",
        "shape": [7, 11],
        "dtype": "float32",
        "stream": 1,
        "bigin": bigin.__version__,
        "complete": True,
    }
    assert report.record == record
    if layout.keeps:
        assert record_of(opened(layout, target)) == record


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout.keeps], ids=lambda layout: layout.name)
def test_a_fill_that_fails_never_says_complete(layout, monkeypatch):
    target = layout.make(Path.cwd(), (7, 11), "float32")
    monkeypatch.setattr("bigin.fillers.filler.DrawnFiller.__call__", broken())
    with pytest.raises(RuntimeError, match="broken on purpose"):
        bigin.fill(target, "normal", **layout.arguments((7, 11), "float32"))
    record = record_of(opened(layout, target))
    assert record is not None
    assert record["complete"] is False


def broken():
    """A filler that works for the trial run of one element, and fails for the first region."""

    def call(self, region, out):
        if out.size > 1:
            raise RuntimeError("broken on purpose")

    return call


@every_layout
def test_regions_are_read_as_they_were_written(layout):
    target, _ = filled(layout, (7, 11), "float32")
    found, whole = opened(layout, target), expected((7, 11), "float32")
    for region in [((0, 7), (0, 11)), ((2, 5), (3, 4)), ((6, 7), (0, 11)), ((0, 7), (10, 11)), ((3, 3), (0, 2))]:
        part = whole[tuple(slice(*axis) for axis in region)]
        np.testing.assert_array_equal(bits(found.read(region)), bits(part))


@every_layout
def test_the_grid_covers_every_element_once(layout):
    found = opened(layout, layout.make(Path.cwd(), (7, 11), "float32"), make=True)
    seen = np.zeros((7, 11), int)
    for region in found.grid():
        seen[tuple(slice(*axis) for axis in region)] += 1
    assert (seen == 1).all()


@every_layout
def test_no_part_of_a_block_is_larger_than_the_memory_that_the_target_asks_for(layout):
    target = layout.make(Path.cwd(), (7, 11), "float32")
    bigin.fill(target, "ones", **layout.arguments((7, 11), "float32"))
    found = opened(layout, target)
    begin(found)
    covered = 0
    for region in found.grid():
        for _, part in found.block(region, Scratch()):
            part.fill(2)
            covered += part.size
            assert part.nbytes <= found.block_memory() or found.block_memory() == 0
    found.close()
    assert covered == 77
    assert layout.read(target).tolist() == [[2.0] * 11] * 7


@every_layout
def test_a_block_that_is_given_up_leaves_nothing_half_stored(layout):
    target = layout.make(Path.cwd(), (7, 11), "float32")
    bigin.fill(target, "ones", **layout.arguments((7, 11), "float32"))
    found = opened(layout, target)
    begin(found)
    parts = found.block(found.grid()[0], Scratch())
    next(parts)
    parts.close()
    found.close()
    assert not list(Path.cwd().rglob("*.partial"))
    assert layout.read(target).tolist() == [[1.0] * 11] * 7


def begin(target: Target) -> None:
    """What a fill does before the first region."""
    if target.ledger is None:
        target.start()
    else:
        target.ledger.begin({})


def opened(layout, target, make=False):
    arguments = layout.arguments((7, 11), "float32")
    if "shape" not in arguments or (not make and "raw" not in arguments):
        arguments = {}
    if "dtype" in arguments:
        arguments["dtype"] = DTYPES[arguments["dtype"]]
    return open_target(target, **arguments)


def test_a_fill_of_a_file_leaves_the_rest_of_it_alone():
    Path("raw.bin").write_bytes(bytes(range(1, 14)) + bytes(40) + b"tail")
    bigin.fill("raw.bin", "ones", raw=True, offset=13, shape=(10,), dtype="float32")
    data = Path("raw.bin").read_bytes()
    assert data[:13] == bytes(range(1, 14))
    assert data[13:53] == np.ones(10, np.float32).tobytes()
    assert data[53:] == b"tail"


def test_a_view_leaves_its_surroundings_alone():
    whole = np.zeros((9, 9), np.float32)
    bigin.fill(whole[2:7:2, 1:8:3], "ones")
    assert whole.sum() == 9
    assert (whole[2:7:2, 1:8:3] == 1).all()


def test_the_sidecar_is_json_beside_the_file():
    bigin.fill("w.npy", "normal", shape=(3, 4), seed=2**64 - 1)
    record = json.loads(Path("w.npy.bigin.json").read_text())
    assert record["seed"] == 2**64 - 1
    assert record["name_from"] == "file"
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["w.npy", "w.npy.bigin.json"]


def test_a_bfloat16_file_is_filled_again_without_its_dtype():
    bigin.fill("w.npy", "normal", shape=(3, 4), dtype="bfloat16")
    assert np.load("w.npy").dtype == "V2"
    report = bigin.fill("w.npy", "normal", seed=1, overwrite=True)
    assert report.record["dtype"] == "bfloat16"
    Path("w.npy.bigin.json").unlink()
    with pytest.raises(bigin.InputError, match="expected a dtype"):
        bigin.fill("w.npy", "normal", overwrite=True)
    bigin.fill("w.npy", "normal", dtype="float16", overwrite=True)


def test_narrow_floats_in_compressed_zarr_v2_are_refused():
    array = stored(zarr_format=2, compressors="auto")(Path.cwd(), (7, 11), "bfloat16")
    with pytest.raises(bigin.InputError, match="expected bfloat16 in zarr format 3"):
        bigin.fill(array, "normal")


def test_a_memmap_is_written_through_its_file_and_the_mapping_sees_it():
    array = np.memmap("map.bin", np.float32, "w+", 4096 + 24, (300, 70))
    found = open_target(array[3:9])
    assert isinstance(found, FileTarget)
    assert found.ledger is None  # several processes may each fill a part of one mapped file
    assert found.offset == 4096 + 24 + 3 * 70 * 4
    bigin.fill(array[3:9], "ones")
    assert array.sum() == 6 * 70
    assert (array[3:9] == 1).all()
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["map.bin"]


@pytest.mark.parametrize("change", ["replaced", "removed", "copy-on-write"])
def test_a_memmap_whose_file_is_another_now_is_filled_in_memory(change):
    array = np.memmap("map.bin", np.float32, "w+", 0, (300, 70))
    if change == "replaced":
        Path("other.bin").write_bytes(bytes(300 * 70 * 4))
        Path("other.bin").rename("map.bin")
    elif change == "removed":
        Path("map.bin").unlink()
    else:
        array = np.memmap("map.bin", np.float32, "c", 0, (300, 70))
    bigin.fill(array, "ones")
    assert (array == 1).all()
    assert change == "removed" or not np.fromfile("map.bin", np.float32).any()


def test_whatever_lends_its_memory_is_filled():
    import array
    import mmap

    whole = bytearray(48)
    bigin.fill(memoryview(whole)[8:40].cast("f", (2, 4)), "normal", seed=5)
    np.testing.assert_array_equal(np.frombuffer(whole, np.float32, 8, 8).reshape(2, 4), expected((2, 4), "float32"))
    assert not any(whole[:8] + whole[40:])
    doubles = array.array("d", bytes(80))
    bigin.fill(doubles, "normal", seed=5)
    assert doubles.tolist() == expected((10,), "float64").tolist()
    with mmap.mmap(-1, 4096) as pages:  # which cannot be closed while anyone still holds on to its memory
        bigin.fill(pages, "constant", val=7)
        assert pages[:] == b"\7" * 4096


class Jax:
    __module__ = "jaxlib._jax"


def test_memory_that_cannot_be_filled_is_refused():
    broadcast = np.lib.stride_tricks.as_strided(np.zeros(3), (4, 3), (0, 8), writeable=True)
    for target, message in [
        (b"bytes", "expected an array that can be written, got a read-only one"),
        (np.broadcast_to(np.zeros(3), (4, 3)), "expected an array that can be written, got a read-only one"),
        (broadcast, "got an array that repeats some"),
        (Jax(), "got a jax array, which cannot"),
        (memoryview(bytearray(3)).cast("c"), "expected a dtype among"),
        ([1.0, 2.0], "expected a path, .* got list"),
        (None, "expected a path, .* got NoneType"),
    ]:
        with pytest.raises(bigin.InputError, match=message) as raised:
            bigin.fill(target, "ones")
        assert "\n" not in str(raised.value)
    assert not broadcast.any()


def test_a_bound_on_the_size_of_files_is_not_told_as_a_full_disk(tmp_path, monkeypatch):
    def refuse(fd, offset, size):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(
        bigin.InputError, match=r"expected 4\.\d KiB of disk, got a bound below that: .*; raise the bound"
    ):
        bigin.fill(tmp_path / "a.npy", "normal", shape=(1024,))
    assert not [*tmp_path.iterdir()]
