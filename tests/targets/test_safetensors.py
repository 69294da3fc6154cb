"""safetensors: headers, read as strictly as the format's own package does, and files that it and torch read back."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bigin
from bigin.targets.safetensors.header import CODES, DTYPES, lay_out, pack_header, parse_header, read_header

safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed: pip install 'bigin[test]'")


def file_of(header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path = Path("x.safetensors")
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


A = entry("F32", [2, 2], 0, 16)
REFUSED = [
    (b"", b"", None, "does not begin with {"),
    (b"{}", b"", 100_000_001, "header of at most 100000000 bytes, got one of 100000001"),
    (b"{}", b"", 3, "header of at most 2 bytes, got one of 3"),
    (b"{", b"", None, "not JSON from byte 1"),
    (b" {}", b"", None, "does not begin with {"),
    (b"{}x", b"", None, "something follows it"),
    (b"[]", b"", None, "does not begin with {"),
    (b'{"a":1}', b"", None, "{ is expected at byte 6"),
    (b'{"a":{"a":{"a":{}}}}', b"", None, "has a key 'a'"),
    (b'{"a":' * 100_000, b"", None, "has a key 'a'"),
    ({"a": {"dtype": "F32", "shape": [1]}}, b"", None, "lacks one of"),
    ({"a": {**A, "x": 1}}, bytes(16), None, "has a key 'x'"),
    ({"a": {**A, "dtype": "F31"}}, bytes(16), None, "has a dtype 'F31'"),
    ({"a": {**A, "dtype": 3}}, bytes(16), None, "text is expected"),
    ({"a": {**A, "shape": [2.0, 2]}}, bytes(16), None, "not JSON from byte"),
    ({"a": {**A, "shape": [-2, -2]}}, bytes(16), None, "not JSON from byte"),
    ({"a": {**A, "shape": [2, [2]]}}, bytes(16), None, "an integer is expected"),
    ({"a": {**A, "shape": [1] * 65}}, bytes(16), None, "more than 64 dimensions"),
    ({"a": {**A, "shape": [10**30]}}, bytes(16), None, "not JSON from byte"),
    ({"a": {**A, "data_offsets": [0]}}, bytes(16), None, "where a begin and an end belong"),
    ({"a": {**A, "data_offsets": [16, 0]}}, bytes(16), None, "where a begin and an end belong"),
    ({"a": entry("F32", [2, 2], 0, 12)}, bytes(12), None, "has 12 bytes, where F32 of (2, 2) takes 16"),
    ({"a": entry("F32", [2**62, 2**62], 0, 0)}, b"", None, "2^63 elements or more"),
    ({"a": entry("F32", [0, 2**62, 2], 0, 0)}, b"", None, "2^63 elements or more"),
    ({"a": entry("F4", [3], 0, 1)}, bytes(1), None, "has 1 bytes, where F4 of (3,) takes 1.5"),
    ({"a": A}, bytes(15), None, "its tensors take 16 bytes, but 15 follow it"),
    ({"a": A}, bytes(17), None, "its tensors take 16 bytes, but 17 follow it"),
    ({"a": A, "b": entry("I8", [4], 8, 12)}, bytes(16), None, "'b' overlaps the one before it"),
    ({"a": A, "b": entry("I8", [4], 20, 24)}, bytes(24), None, "'b' leaves out bytes 16 to 20"),
    ({"b": entry("I8", [4], 4, 8)}, bytes(8), None, "'b' leaves out bytes 0 to 4"),
    (b'{"a":%s,"a":%s}' % ((json.dumps(A).encode(),) * 2), bytes(16), None, "'a' appears twice"),
    (b'{"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}', bytes(4), None, "'dtype' appears twice"),
    (b'{"__metadata__":{},"__metadata__":{}}', b"", None, "__metadata__ appears twice"),
    ({"__metadata__": {"a": 1}}, b"", None, "text is expected"),
    ({"__metadata__": {"a": {"b": "c"}}}, b"", None, "text is expected"),
    ({"__metadata__": ["a"]}, b"", None, "{ is expected"),
    (b'{"\xff":1}', b"", None, "text is expected at byte 4, in UTF-8"),
    (b'{"\\ud800":1}', b"", None, "text is expected at byte 9, in UTF-8"),
    (b'{"a\n":1}', b"", None, "not JSON from byte 1"),
    (b'{"\\x":1}', b"", None, "not JSON from byte 1"),
]  # fmt: skip


# What the package takes, though the format's description does not allow it, and what no array here could hold.
LAXER = ("key 'x'", "'a' appears twice", "64 dimensions", "2^63", "not begin with {")


@pytest.mark.parametrize(("header", "data", "length", "message"), REFUSED, ids=[row[3][:40] for row in REFUSED])
def test_a_header_that_lies_is_refused_by_us_and_by_the_package(header, data, length, message):
    path = file_of(header, data, length)
    with pytest.raises(bigin.InputError) as error:
        read_header(path)
    assert message in str(error.value)
    assert str(error.value).startswith("x.safetensors: expected a safetensors file")
    assert "\n" not in str(error.value)
    if not any(laxer in message for laxer in LAXER):
        with pytest.raises(safetensors.SafetensorError):
            safetensors.safe_open(path, "np")


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 7, b"\0" * 8, b"\xff" * 8, b"PK\3\4" * 100])
def test_a_file_of_something_else_is_refused(data):
    Path("x.safetensors").write_bytes(data)
    with pytest.raises(bigin.InputError, match="expected a safetensors file"):
        read_header(Path("x.safetensors"))


def test_a_header_above_the_formats_limit_is_refused_before_it_is_read():
    path = file_of(b"{}")
    with path.open("r+b") as file:
        file.write((100_000_001).to_bytes(8, "little"))
        file.truncate(200_000_000)  # a hole
    with pytest.raises(bigin.InputError, match="header of at most 100000000 bytes, got one of 100000001"):
        read_header(path)


@pytest.mark.parametrize(
    "text", [b"[1," * 10_000_000, b'{"a":{"shape":[' + b"1," * 10_000_000, b'{"a' + b"a" * 20_000_000]
)
def test_a_large_hostile_header_takes_little_time_and_memory(text):
    import tracemalloc

    tracemalloc.start()
    with pytest.raises(bigin.InputError):
        parse_header(text, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(text) / 4


NAMES = st.text(max_size=8)
TENSORS = st.dictionaries(
    NAMES, st.tuples(st.sampled_from(sorted(CODES)), st.lists(st.integers(0, 4), max_size=3)), max_size=5
)


def whole_bytes(tensors: dict[str, Any]) -> dict[str, Any]:
    return {n: (kind, of) for n, (kind, of) in tensors.items() if math.prod(of) * DTYPES[CODES[kind]][0] % 8 == 0}


@given(TENSORS.map(whole_bytes), st.dictionaries(NAMES, st.text(max_size=8), max_size=3), st.data())
def test_no_file_is_read_that_the_package_refuses(tensors, metadata, data):
    """Whole files, and files with a byte changed, put in, or cut out."""
    tensors.pop("__metadata__", None)
    entries = lay_out((name, dtype, tuple(shape)) for name, (dtype, shape) in tensors.items())
    whole = pack_header(entries, metadata)
    end = max((e.end for e in entries.values()), default=0)
    content = bytearray(whole.rstrip(b" ") + bytes(end))
    content[:8] = (len(content) - end - 8).to_bytes(8, "little")
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.integers(0, len(content) - 1))
        replaced = data.draw(st.sampled_from([b"", b"0", b"9", b'"', b"{", b"}", b",", b" ", b"\\", b"\xff", b"[1]"]))
        content[place : place + data.draw(st.integers(0, 2))] = replaced
        if place >= 8:
            content[:8] = max(0, len(content) - end - 8).to_bytes(8, "little")
    path = Path("x.safetensors")
    path.write_bytes(content)
    try:
        header = read_header(path)
    except bigin.InputError:
        return
    with safetensors.safe_open(path, "np") as file:
        assert sorted(file.keys()) == sorted(header.entries)
        assert (file.metadata() or {}) == header.metadata
        for name, found in header.entries.items():
            assert file.get_slice(name).get_shape() == list(found.shape)
            assert file.get_slice(name).get_dtype() == found.code


@given(TENSORS.map(whole_bytes), st.dictionaries(NAMES, st.text(max_size=8), max_size=3))
def test_what_is_packed_is_read_and_its_data_is_aligned(tensors, metadata):
    tensors.pop("__metadata__", None)
    entries = lay_out((name, dtype, tuple(shape)) for name, (dtype, shape) in tensors.items())
    packed = pack_header(entries, metadata)
    header = parse_header(packed[8:], max((e.end for e in entries.values()), default=0))
    assert header.entries == entries
    assert header.metadata == metadata
    assert header.start == len(packed)
    assert len(packed) % 4096 == 0
    for found in entries.values():
        assert (header.start + found.begin) % max(1, DTYPES[found.code][0] // 8) == 0


def test_the_packages_own_files_are_read():
    from safetensors.numpy import save_file

    arrays = {name: np.zeros((2, 3), dtype) for name, dtype in [("a", "f4"), ("b/ü", "f8"), ("c", "u2"), ("d", "?")]}
    save_file(arrays, "x.safetensors", {"format": "pt", "é": "\n"})
    header = read_header(Path("x.safetensors"))
    assert {name: found.code for name, found in header.entries.items()} == {
        "a": "F32",
        "b/ü": "F64",
        "c": "U16",
        "d": "BOOL",
    }
    assert header.metadata == {"format": "pt", "é": "\n"}


def test_too_many_tensors_for_one_header_are_refused():
    with pytest.raises(bigin.InputError, match="use more files"):
        pack_header(lay_out([("x" * 100_000_000, "int8", (1,))]), {})


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("__metadata__", (1,), "__metadata__"),
        ("a", (1,) * 65, "64 dimensions"),
        ("a", (1 << 32, 1 << 31), "2\\^63"),
        ("a", (1 << 61, 1), "2\\^63"),
    ],
)
def test_a_new_file_has_no_tensor_that_a_reader_refuses(name, shape, message):
    with pytest.raises(bigin.InputError, match=message):
        lay_out([("b", "float32", (2,)), (name, "float32", shape)])
