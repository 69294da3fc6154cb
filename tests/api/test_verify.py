"""verify: what is not as it should be is found, wherever it is; and repaired, with nothing else touched."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import zarr
from common import examples, run
from hypothesis import given
from hypothesis import strategies as st
from kills import tree
from layouts import LAYOUTS, RAW_OFFSET
from zarr.storage import MemoryStore

import bigin
from bigin.core.dtypes import DTYPES
from bigin.jobs.compare import Sample
from bigin.targets.safetensors.header import read_header

SHAPE = (14, 23)
KEPT = [layout for layout in LAYOUTS if layout.keeps and "memory" not in layout.name]
ALONE = [layout for layout in KEPT if layout.name != "safetensors"]  # nothing else is in their files
every_kept_layout = pytest.mark.parametrize("layout", KEPT, ids=lambda layout: layout.name)


@pytest.fixture
def small(monkeypatch):
    """Files have many regions."""
    monkeypatch.setattr("bigin.targets.files.BLOCK", 3 * 23 * 4)


def filled(layout, folder: Path, **options: object) -> tuple[object, dict[str, object]]:
    """A filled target, and the arguments with which it is verified."""
    target = layout.make(folder, SHAPE, "float32")
    bigin.fill(target, "normal", seed=3, **layout.arguments(SHAPE, "float32"), **options)
    again = {"raw": True, "offset": RAW_OFFSET} if layout.name == "raw" else {}
    return (target.store_path.store.root if isinstance(target, zarr.Array) else target), again


def data_files(folder: Path) -> list[Path]:
    """The files that hold values."""
    aside = ("zarr.json", ".zarray", ".zattrs")
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in aside and "bigin" not in p.name]


def span(path: Path, layout) -> tuple[int, int]:
    """Where values begin and end in a file."""
    if layout.name == "safetensors":
        header = read_header(path)
        return header.start + header.entries["w"].begin, header.start + header.entries["w"].end
    size = path.stat().st_size
    return (RAW_OFFSET if layout.name == "raw" else size - 4 * 14 * 23 if path.suffix == ".npy" else 0), size


@every_kept_layout
@examples(12)
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_found(small, layout, data):
    """Of what no element is read from (the padding of a chunk at the array's edge, bits that a codec ignores) zarr
    itself tells: then all values are what they were.
    """
    folder = Path(f"trial{len(list(Path.cwd().iterdir()))}").absolute()
    folder.mkdir()
    target, again = filled(layout, folder)
    before, values = tree(folder), layout.read(target).copy()
    path = data.draw(st.sampled_from(data_files(folder)))
    content = bytearray(path.read_bytes())
    start, stop = span(path, layout)
    place = data.draw(st.integers(start, stop - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    found = bigin.verify(target, **again)
    assert found.regions == found.total
    try:
        now = layout.read(target)
    except Exception:
        now = None
    if now is None or (now.view(np.uint32) != values.view(np.uint32)).any():
        (difference,) = found.differences
        if now is not None:
            (flipped,) = np.argwhere(now.view(np.uint32) != values.view(np.uint32))[:1].tolist()
            assert not difference.reason
            assert difference.first == tuple(flipped)
            assert difference.elements == (now.view(np.uint32) != values.view(np.uint32)).sum()
        if "zarr" in layout.name:
            assert difference.where.split(" ")[1] == str(path.relative_to(target))
    else:
        assert found.equal
        assert "zarr" in layout.name
    repaired = bigin.verify(target, **again, repair=True)
    assert repaired.differences == found.differences
    assert repaired.repaired is not found.equal
    assert bigin.verify(target, **again).equal
    if not found.equal:
        assert tree(folder) == before


def expected_place(layout, found) -> str:
    return "rows" if "npy" in layout.name or layout.name == "raw" else "shard" if "sharded" in layout.name else "chunk"


@pytest.mark.parametrize(
    ("layout", "damage"),
    [  # a file without a header that is gone, empty or a folder is no target
        (layout, damage)
        for layout in ALONE
        for damage in ("gone", "cut off", "empty", "longer", "noise", "a folder")
        if expected_place(layout, None) != "rows" or damage not in ("gone", "a folder", "empty")
    ],
    ids=lambda part: getattr(part, "name", part),
)
def test_what_is_not_as_it_was_is_found_and_repaired(small, layout, damage):
    target, again = filled(layout, Path.cwd())
    before = tree(Path.cwd())
    path = data_files(Path.cwd())[-1]
    is_file = expected_place(layout, None) == "rows"
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "gone":
        noise = content[: len(content) // 2] + bytes(len(content) - len(content) // 2)
        changed = {"cut off": content[:-5], "empty": b"", "longer": content + b"x", "noise": noise}[damage]
        path.write_bytes(changed)
    found = bigin.verify(target, **again)
    if damage == "longer" and found.equal:  # zarr and numpy read it all the same
        assert is_file or "compressed" in layout.name or "zarr v2" in layout.name or "big-endian" in layout.name
        return
    assert found.differences
    assert all(d.where.startswith(expected_place(layout, found)) for d in found.differences)
    if damage == "a folder":
        path.rmdir()  # which nothing takes away by itself
    bigin.verify(target, **again, repair=True)
    assert tree(Path.cwd()) == before


def test_what_is_repaired_is_what_differed_and_nothing_else(small, monkeypatch):
    zarr.create_array("a.zarr", shape=SHAPE, chunks=(2, 23), dtype="float32", compressors=None)
    bigin.fill("a.zarr", "normal")
    stamps = {path: path.stat().st_mtime_ns for path in data_files(Path("a.zarr"))}
    Path("a.zarr/c/2/0").write_bytes(b"")
    Path("a.zarr/c/5/0").unlink()
    bigin.verify("a.zarr", repair=True)
    now = {path: path.stat().st_mtime_ns for path in data_files(Path("a.zarr"))}
    assert {str(path) for path in now if now[path] != stamps[path]} == {"a.zarr/c/2/0", "a.zarr/c/5/0"}


@pytest.mark.parametrize("what", ["region", "padding", "constant", "big-endian memory", "Fortran memory", "memory"])
def test_every_kind_of_fill_is_verified(what):
    whole = {"seed": 4, "shape": SHAPE}
    if what == "region":
        bigin.fill("a.npy", "normal", **whole, region=[(3, 9), slice(1, 20, 3)])
        assert bigin.verify("a.npy").equal
        assert not bigin.verify("a.npy", "normal", **whole, region=[(4, 10), slice(1, 20, 3)]).equal
    elif what == "padding":
        bigin.fill("a.npy", "normal", **whole, padding_idx=-1)
        assert bigin.verify("a.npy").equal
        assert [d.elements for d in bigin.verify("a.npy", "normal", seed=4).differences] == [23]
    elif what == "constant":
        zarr.create_array("a.zarr", shape=SHAPE, chunks=(3, 5), dtype="int16")
        bigin.fill("a.zarr", "constant", val=7)
        assert bigin.verify("a.zarr").equal
    else:
        order, byteorder = ("F" if "Fortran" in what else "C"), (">" if "big" in what else "=")
        array = np.zeros(SHAPE, DTYPES["float32"].newbyteorder(byteorder), order=order)
        bigin.fill(array, "normal", seed=4)
        assert bigin.verify(array, "normal", seed=4).equal
        array[5, 6] = 0
        (difference,) = bigin.verify(array, "normal", seed=4).differences
        assert (difference.first, difference.elements) == ((5, 6), 1)
        with pytest.raises(bigin.InputError, match="expected a record of a fill, got none; give --method"):
            bigin.verify(array)


def test_a_store_in_memory_is_verified_and_repaired():
    store = MemoryStore()
    array = zarr.create_array(store, shape=SHAPE, chunks=(3, 5), dtype="float32", compressors=None)
    bigin.fill(array, "normal")
    array[3, 4] = 0
    (difference,) = bigin.verify(array).differences
    assert (difference.where, difference.first, difference.elements) == ("chunk c/1/0", (3, 4), 1)
    assert bigin.verify(array, repair=True).repaired
    assert bigin.verify(store).equal


@given(st.integers(1, 3000), st.floats(0, 1, exclude_min=True), st.integers(0, 2**32))
def test_a_sample_has_its_size_and_is_chosen_by_its_seed(count, sample, seed):
    chosen = Sample(sample, seed).of(count)
    assert len(chosen) == len(set(chosen)) == max(1, round(sample * count))
    assert list(chosen) == sorted(chosen) == list(Sample(sample, seed).of(count))
    assert 0 <= min(chosen) <= max(chosen) < count


def test_other_seeds_sample_other_chunks():
    assert Sample(0.01, 0).of(1000) != Sample(0.01, 1).of(1000)
    seen = {region for seed in range(400) for region in Sample(0.01, seed).of(1000)}
    assert len(seen) > 950  # 1 - e^-4 of them


@pytest.mark.parametrize("sample", [0, -0.1, 1.5, float("nan")])
def test_what_is_no_sample_is_refused(sample):
    bigin.fill("a.npy", "ones", shape=SHAPE)
    with pytest.raises(bigin.InputError, match="expected a sample above 0%"):
        bigin.verify("a.npy", sample=sample)


def test_a_sampled_repair_makes_no_record_of_what_nobody_looked_at():
    array = zarr.create_array("a.zarr", shape=(40, 4), chunks=(1, 4), dtype="float32", compressors=None)
    array[...] = 1
    assert bigin.verify("a.zarr", "normal", sample=0.1, repair=True).repaired
    assert "bigin" not in zarr.open_array("a.zarr").attrs
    assert not list(Path.cwd().rglob("*journal*"))
    assert bigin.verify("a.zarr", "normal", repair=True).repaired
    assert zarr.open_array("a.zarr").attrs["bigin"]["complete"] is True


def test_a_repair_to_something_else_is_refused():
    bigin.fill("a.npy", "normal", shape=SHAPE)
    with pytest.raises(bigin.InputError, match=r"is filled with normal, seed 0; leave the method out, or fill with"):
        bigin.verify("a.npy", "normal", seed=1, repair=True)
    assert bigin.verify("a.npy").equal


RECORDS = {
    "no method": {"method": None},
    "another method": {"method": "gauss"},
    "another parameter": {"parameters": {"gain": 1}},
    "another shape": {"shape": [23, 14]},
    "another dtype": {"dtype": "float16"},
    "another stream": {"stream": 2},
    "a seed that is none": {"seed": -1},
    "a name that is none": {"name": "a\0b"},
}


@pytest.mark.parametrize("edit", RECORDS)
def test_a_record_that_was_edited_is_told(edit):
    bigin.fill("a.npy", "normal", shape=SHAPE)
    place = Path("a.npy.bigin.json")
    place.write_text(json.dumps(json.loads(place.read_text()) | RECORDS[edit]))
    with pytest.raises(bigin.InputError, match=r"give --method|stream version 1") as told:
        bigin.verify("a.npy")
    assert "\n" not in str(told.value)
    assert bigin.verify("a.npy", "normal").equal


@pytest.mark.parametrize("record", [{}, {"a": 1}, {"method": None, "complete": False}])
def test_a_record_of_nothing_is_not_taken_for_an_interrupted_fill(record):
    """Its command, given again, would not go on."""
    bigin.fill("a.npy", "normal", shape=SHAPE)
    Path("a.npy.bigin.json").write_text(json.dumps(record))
    with pytest.raises(bigin.InputError, match=r"its record cannot be used: .*; give --method"):
        bigin.verify("a.npy")
    with pytest.raises(bigin.InputError, match=r"a\.npy holds data under a record that cannot be used; --overwrite"):
        bigin.fill("a.npy", "normal")
    assert bigin.verify("a.npy", "normal").equal


def test_another_seed_in_the_record_makes_everything_differ():
    bigin.fill("a.npy", "normal", shape=SHAPE)
    place = Path("a.npy.bigin.json")
    place.write_text(place.read_text().replace('"seed": 0', '"seed": 1'))
    (difference,) = bigin.verify("a.npy").differences
    assert difference.elements == 14 * 23


def test_the_command_line_tells_it_in_lines_in_json_and_by_its_exit_code():
    run("fill", "--method", "normal", "a.zarr", "--shape", "100,30", "--seed", 4)
    done = run("verify", "a.zarr")
    assert "all regions compared with normal(), seed 4, name a, 100x30 float32: equal" in done.stdout
    assert run("verify", "a.zarr", "--quiet").stdout == ""
    path = Path("a.zarr/c/0/0")
    content = bytearray(path.read_bytes())
    content[4 * (30 * 2 + 7)] ^= 1
    path.write_bytes(content)
    done = run("verify", "a.zarr", code=1)
    assert done.stdout.splitlines()[0] == "chunk c/0/0: 1 element differs, the first at [2, 7]"
    found = json.loads(run("verify", "a.zarr", "--json", code=1).stdout)
    assert found["differences"] == [{"region": 0, "where": "chunk c/0/0", "elements": 1, "first": [2, 7], "reason": ""}]
    assert found["equal"] is found["repaired"] is False
    assert "repaired" in run("verify", "a.zarr", "--repair").stdout
    run("verify", "a.zarr", "--sample", "1%")
    assert "expected a sample" in run("verify", "a.zarr", "--sample", "0%", code=2).stderr
    assert "expected a target to verify, got nothing" in run("verify", "no.npy", "--shape", "3", code=2).stderr


def test_progress_goes_up_to_the_whole():
    bigin.fill("a.npy", "normal", shape=(2000, 1000))
    seen: list[tuple[int, int]] = []
    bigin.verify("a.npy", progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (8_000_000, 8_000_000)


def test_what_can_only_be_read_is_verified():
    bigin.fill("a.npy", "normal", shape=SHAPE)
    array = zarr.create_array("a.zarr", shape=SHAPE, dtype="float32")
    bigin.fill(array, "normal")
    os.chmod("a.npy", 0o444)
    os.chmod("a.zarr", 0o555)
    assert bigin.verify("a.npy").equal
    assert bigin.verify(zarr.open_array("a.zarr", mode="r")).equal
    os.chmod("a.zarr", 0o755)


@pytest.mark.parametrize("layout", [{"dtype": "float32"}, {"dtype": ">f4", "offset": 8}], ids=["plain", "offset"])
def test_a_raw_file_is_known_by_the_record_beside_it(layout):
    bigin.fill("w.bin", "normal", shape=(6, 5), raw=True, **layout)
    assert bigin.verify("w.bin").equal
    assert bigin.show("w.bin").layout["format"] == "raw"
    with open("w.bin", "r+b") as file:
        file.seek(20)
        file.write(b"else")
    assert not bigin.verify("w.bin").equal
    assert bigin.verify("w.bin", repair=True).repaired
    Path("w.bin.bigin.json").unlink()
    with pytest.raises(bigin.InputError, match=r"--raw \(raw=True\) with --shape"):
        bigin.verify("w.bin")
