"""The frozen bits of the stream, from the library and from the reference."""

from __future__ import annotations

import hashlib
import json
import math

import numpy as np
import pytest
import reference
from common import TESTS, few

from bigin.core import dtypes
from bigin.fillers.families import plan
from bigin.fillers.filler import Filler
from bigin.methods import table
from bigin.methods.distributions import Random
from bigin.rng.draws import DRAWS
from bigin.spec.keyed import KeyedSpec
from bigin.spec.keys import parse_keys

ALL = json.loads((TESTS / "golden" / "stream-v1.json").read_text(encoding="utf-8"))
BY_INDEX = ["arange", "linspace", "log_arange", "rotary", "sinusoidal"]  # nothing is drawn
STRUCTURED_METHODS = ["eye", "dirac", "sparse", "orthogonal", "delta_orthogonal", "identity_plus_noise", *BY_INDEX]
CASES = [case for case in ALL if case["method"] not in STRUCTURED_METHODS]
STRUCTURED = [case for case in ALL if case["method"] in STRUCTURED_METHODS]
KEYED = json.loads((TESTS / "golden" / "keyed-v1.json").read_text(encoding="utf-8"))
SMALL = 400  # elements of the largest tensor that the reference makes here, where it must make all to know one
METHODS = [*dict.fromkeys(case["method"] for case in CASES)]


def filler(case: dict) -> Filler:
    """Of a flat tensor with as many elements, whose indices are the same."""
    row = table.find(case["method"])
    distribution = table.resolve(row, tuple(case["shape"]), row.parse(case["parameters"]))
    return plan(distribution, (math.prod(case["shape"]),), dtypes.FLOATS[case["dtype"]], case["seed"], case["name"])()


def filled(fill: Filler, start: int, count: int, dtype: str) -> np.ndarray:
    out = np.empty(count, dtypes.FLOATS[dtype])
    fill(((start, start + count),), out)
    return out


def bits_of(values: np.ndarray) -> list[int]:
    return values.view(f"u{values.itemsize}").tolist()


def expected(case: dict) -> dict[int, list[int]]:
    return {int(start): [int(bits, 16) for bits in text.split()] for start, text in case["runs"].items()}


def of(method: str, dtype: str) -> list[dict]:
    cases = [case for case in CASES if (case["method"], case["dtype"]) == (method, dtype)]
    assert cases
    return cases


@pytest.mark.parametrize("dtype", dtypes.FLOATS)
@pytest.mark.parametrize("method", METHODS)
def test_library(method, dtype):
    for case in of(method, dtype):
        fill = filler(case)
        for start, bits in expected(case).items():
            assert bits_of(filled(fill, start, len(bits), dtype)) == bits, (case["parameters"], start)
        start, count, digest = case["block"]
        block = filled(fill, start, count, dtype).tobytes()
        assert hashlib.blake2b(block, digest_size=16).hexdigest() == digest, case["parameters"]


@pytest.mark.parametrize("dtype", dtypes.FLOATS)
@pytest.mark.parametrize("method", METHODS)
def test_reference(method, dtype):
    for case in of(method, dtype):
        runs = expected(case)
        indices = [start + i for start, bits in runs.items() for i in range(len(bits))]
        arguments = (method, case["parameters"], tuple(case["shape"]), dtype, case["seed"], case["name"])
        assert bits_of(reference.elements(*arguments, indices)) == [b for run in runs.values() for b in run], case[
            "parameters"
        ]


def structured(method: str, dtype: str) -> list[dict]:
    cases = [case for case in STRUCTURED if (case["method"], case["dtype"]) == (method, dtype)]
    assert cases
    return cases


@pytest.mark.parametrize("dtype", dtypes.FLOATS)
@pytest.mark.parametrize("method", STRUCTURED_METHODS)
@pytest.mark.parametrize("max_memory", [0, 1 << 32], ids=["little memory", "memory"])
def test_library_of_structured_methods(method, dtype, max_memory):
    for case in structured(method, dtype):
        row, shape = table.find(method), tuple(case["shape"])
        distribution = table.resolve(row, shape, row.parse(case["parameters"]))
        fill = plan(distribution, shape, dtypes.FLOATS[dtype], case["seed"], case["name"])()
        fill.setup(2, max_memory, lambda part: None)
        out = np.empty(shape, dtypes.FLOATS[dtype])
        fill(tuple((0, size) for size in shape), out)
        for start, bits in expected(case).items():
            assert bits_of(out.reshape(-1)[start : start + len(bits)]) == bits, (case["parameters"], start)
        assert case["block"][:2] == [0, out.size]
        assert hashlib.blake2b(out.tobytes(), digest_size=16).hexdigest() == case["block"][2], case["parameters"]


@pytest.mark.parametrize("dtype", dtypes.FLOATS)
@pytest.mark.parametrize("method", STRUCTURED_METHODS)
def test_reference_of_structured_methods(method, dtype):
    for case in structured(method, dtype):
        if "orthogonal" in method and case["block"][1] > SMALL:
            continue
        runs = expected(case)
        indices = [start + i for start, bits in runs.items() for i in range(len(bits))]
        arguments = (method, case["parameters"], tuple(case["shape"]), dtype, case["seed"], case["name"])
        assert bits_of(reference.elements(*arguments, indices)) == [b for run in runs.values() for b in run], case[
            "parameters"
        ]


def test_the_whole_shape_has_the_indices_of_the_flat_one():
    """The cases above are filled as flat tensors; here is one in its own shape."""
    case = of("kaiming_normal", "float32")[0]
    row = table.find(case["method"])
    shape = tuple(case["shape"])
    distribution = table.resolve(row, shape, row.parse(case["parameters"]))
    fill = plan(distribution, shape, np.dtype(np.float32), case["seed"], case["name"])()
    for start, bits in expected(case).items():
        first, last = start // shape[1], (start + len(bits) - 1) // shape[1] + 1
        rows = np.empty((last - first, shape[1]), np.float32)
        fill(((first, last), (0, shape[1])), rows)
        skip = start - first * shape[1]
        assert bits_of(rows.reshape(-1)[skip : skip + len(bits)]) == bits


def test_every_method_that_draws_is_here():
    assert {case["method"] for case in STRUCTURED} == {*STRUCTURED_METHODS}
    for method, row in table.METHODS.items():
        if "val" in row.defaults or method in STRUCTURED_METHODS:
            continue
        given = {name: number for name, number in (("a", 1), ("b", 2)) if row.defaults.get(name) == table.REQUIRED}
        drawn = isinstance(table.resolve(row, (3, 4), row.parse(given)), Random)
        assert not drawn or {case["dtype"] for case in CASES if case["method"] == method} == {*dtypes.FLOATS}, method


def test_no_two_cases_share_their_values():
    """A file of zeros, or of one stream, would be golden too."""
    drawn = [
        case for case in STRUCTURED if case["method"] not in ("eye", "dirac", *BY_INDEX) and case["block"][1] > SMALL
    ]
    assert len({case["block"][2] for case in drawn}) == len(drawn) > 12
    blocks = [case["block"][2] for case in CASES]
    assert len({*blocks}) == len(blocks)
    for case in CASES:
        assert len({*case["runs"]["0"].split()}) >= 3, case["method"]


def keyed(dtype: str) -> list[dict]:
    cases = [case for case in KEYED if case["dtype"] == dtype]
    assert cases
    return cases


def key_of(text: str) -> str | int:
    """The name of a row in the file: a number, or `text` and a text."""
    return text.removeprefix("text ") if text.startswith("text ") else int(text)


def shown(row: np.ndarray) -> str:
    """What the file shows of a row: all, or both ends."""
    texts = [f"{bits:0{2 * row.itemsize}x}" for bits in bits_of(row)]
    return " ".join(texts if len(texts) <= 100 else texts[:4] + texts[-5:])


@pytest.mark.parametrize("dtype", few("float32", *(name for name in dtypes.FLOATS if name != "float32")))
@pytest.mark.parametrize("method", few("normal", *sorted({case["method"] for case in KEYED} - {"normal"})))
def test_library_of_rows_by_key(method, dtype):
    cases = [case for case in keyed(dtype) if case["method"] == method]
    assert cases
    for case in cases:
        what = (case["seed"], case["name"], case["dim"], dtype)
        fill = KeyedSpec.parse(case["method"], case["parameters"], *what).plan()()
        for text, expected_bits in case["rows"].items():
            row = np.empty((1, case["dim"]), dtypes.FLOATS[dtype])
            fill(parse_keys(key_of(text))[0], row)
            assert shown(row[0]) == expected_bits, (case["method"], text)
        first, count, digest = case["block"]
        rows = np.empty((count, case["dim"]), dtypes.FLOATS[dtype])
        fill(np.arange(count, dtype=np.uint64) + np.uint64(first), rows)
        assert hashlib.blake2b(rows.tobytes(), digest_size=16).hexdigest() == digest, case["method"]


@pytest.mark.parametrize("dtype", dtypes.FLOATS)
def test_reference_of_rows_by_key(dtype):
    for case in keyed(dtype):
        if case["dim"] > 100:
            continue
        for text, expected_bits in case["rows"].items():
            key = key_of(text)
            key = reference.key_of_text(key) if isinstance(key, str) else key
            what = (case["method"], case["parameters"], case["dim"], dtype, case["seed"], case["name"])
            assert shown(reference.keyed_row(*what, key)) == expected_bits, (case["method"], text)


@pytest.mark.slow
def test_every_draw_is_among_the_rows_by_key():
    assert {KeyedSpec.parse(c["method"], c["parameters"], 0, "", 4, "float32").plan()().kind for c in KEYED} == {*DRAWS}
    assert len({case["block"][2] for case in KEYED}) == len(KEYED)
