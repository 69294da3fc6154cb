"""A part of a tensor has the whole's bits, however the tensor is cut: fans, std and structure are the whole's."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import zarr
from common import bits, examples, few
from hypothesis import given
from hypothesis import strategies as st
from strategies import FAN_METHODS, METHODS, NAMES, SEEDS, SHAPES, dtypes_of, specifications, structured_methods

import bigin
from bigin.core.dtypes import DTYPES
from bigin.core.regions import flat_slice, parse_region
from bigin.fillers import parts


def same(found: np.ndarray, expected: np.ndarray) -> None:
    assert found.shape == expected.shape
    np.testing.assert_array_equal(bits(found), bits(expected))


def made(method: str, shape: tuple[int, ...], dtype: str = "float32", **options: Any) -> np.ndarray:
    """The whole tensor, filled with what no method makes before."""
    whole = np.full(shape, 77, DTYPES[dtype])
    bigin.fill(whole, method, seed=5, name="w", **options)
    return whole


def split(size: int, *edges: int) -> list[slice]:
    """Slices that cut an axis; edges beyond it, or equal ones, make empty parts."""
    stops = [0, *(min(edge, size) for edge in edges), size]
    return [slice(a, b) for a, b in itertools.pairwise(stops)]


def ways(shape: tuple[int, ...]) -> dict[str, list[tuple[slice, ...]]]:
    """Ways to cut a tensor into regions, by name."""
    last = len(shape) - 1
    whole = tuple(slice(None) for _ in shape)

    def along(axis: int, cut: list[slice]) -> list[tuple[slice, ...]]:
        return [(*whole[:axis], part, *whole[axis + 1 :]) for part in cut]

    return {
        "whole": [whole],
        "rows": along(0, split(shape[0], 2, 3, 3)),
        "columns": along(last, split(shape[last], 1, 4)),
        "more ranks than rows": along(0, split(shape[0], *range(1, shape[0] + 4))),
        "a grid": list(itertools.product(*(split(size, -(-size // 2)) for size in shape))),
        "an uneven grid": list(itertools.product(*(split(size, 1, 3) for size in shape))),
        "every other row": along(0, [slice(0, None, 2), slice(1, None, 2)] if shape[0] > 1 else [slice(None)]),
        "every third column": along(last, [slice(k, None, 3) for k in range(min(3, shape[last]))]),
        "steps everywhere": list(
            itertools.product(*([slice(k, None, 2) for k in range(min(2, size))] for size in shape))
        ),
        "negative bounds": along(last, [slice(None, -1), slice(-1, None)]),
    }


CUT = [(11,), (1,), (10, 7), (7, 10), (1, 1), (6, 4, 3), (4, 3, 2, 3)]
CASES = [
    pytest.param(method, parameters, shape, id=f"{method}-{i}-{'x'.join(map(str, shape))}")
    for shape in CUT
    for i, (method, parameters) in enumerate(
        [*METHODS, *(FAN_METHODS + structured_methods(shape) if len(shape) > 1 else [])]
    )
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "parameters", "shape"), CASES)
def test_every_way_of_cutting_a_tensor_gives_the_whole(method, parameters, shape):
    whole = made(method, shape, **parameters)
    same(whole, reference.tensor(method, parameters, shape, "float32", 5, "w"))
    for way, regions in ways(shape).items():
        together = np.full(shape, 99, np.float32)
        for region in regions:
            local = np.full(whole[region].shape, 88, np.float32)
            record = bigin.fill(local, method, seed=5, name="w", shape=shape, region=region, **parameters).record
            assert record["shape"] == list(shape), way
            together[region] = local
        same(together, whole)


@pytest.mark.parametrize(("method", "parameters", "shape"), CASES)
def test_slices_of_the_flat_tensor_give_the_whole(method, parameters, shape):
    whole = made(method, shape, **parameters).reshape(-1)
    for ranks in (1, 3, 11):
        size = -(-whole.size // ranks)
        for rank in range(ranks):
            start, stop = min(rank * size, whole.size), min(rank * size + size, whole.size)
            local = np.full(stop - start, 88, np.float32)
            bigin.fill_flat(local, method, seed=5, name="w", shape=shape, offset=start, **parameters)
            same(local, whole[start:stop])


@st.composite
def regions(draw: Any, shape: tuple[int, ...]) -> tuple[slice, ...]:
    bound = {size: st.none() | st.integers(-size, size) for size in set(shape)}
    step = st.none() | st.integers(1, 4)
    return tuple(slice(draw(bound[size]), draw(bound[size]), draw(step)) for size in shape)


ORDERS = {
    "C": lambda shape, dtype: np.zeros(shape, dtype),
    "Fortran": lambda shape, dtype: np.zeros(shape, dtype, order="F"),
    "strided": lambda shape, dtype: np.zeros([2 * size + 1 for size in shape], dtype)[
        (slice(1, None, 2),) * len(shape)
    ],
}


@examples(60)
@given(specifications(), st.data(), st.sampled_from(list(ORDERS)), st.integers(1, 3))
def test_any_region_has_the_references_bits(specification, data, order, threads):
    method, parameters, shape, dtype, seed, name = specification
    region = data.draw(regions(shape))
    expected = reference.tensor(method, parameters, shape, dtype, seed, name)[region]
    local = ORDERS[order](expected.shape, DTYPES[dtype])
    given = {"seed": seed, "name": name, "threads": threads, **parameters}
    bigin.fill(local, method, shape=shape, region=region, **given)
    same(local, expected)


@examples(60)
@given(specifications(), st.data())
def test_any_flat_slice_has_the_references_bits(specification, data):
    method, parameters, shape, dtype, seed, name = specification
    size = math.prod(shape)
    start = data.draw(st.integers(0, size))
    local_shape = data.draw(st.sampled_from([(size - start,), (1, (size - start) // 2), ((size - start) // 3, 3, 1)]))
    expected = reference.tensor(method, parameters, shape, dtype, seed, name).reshape(-1)
    local = ORDERS[data.draw(st.sampled_from(list(ORDERS)))](local_shape, DTYPES[dtype])
    bigin.fill_flat(local, method, seed=seed, name=name, shape=shape, offset=start, **parameters)
    same(local, expected[start : start + local.size].reshape(local_shape))


@examples(60)
@given(specifications(), st.data(), st.integers(1, 9))
def test_parts_of_a_few_elements_at_once_change_no_bit(specification, data, batch):
    """What is placed at once is cut in halves as large parts are."""
    method, parameters, shape, dtype, seed, name = specification
    region = data.draw(regions(shape))
    expected = reference.tensor(method, parameters, shape, dtype, seed, name)[region]
    local = np.zeros(expected.shape, DTYPES[dtype])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "BATCH", batch)
        bigin.fill(local, method, seed=seed, name=name, shape=shape, region=region, **parameters)
    same(local, expected)


LARGE = [
    ("normal", {}, (2000, 1200)),
    ("normal", {}, (700_001,)),
    ("sparse", {"sparsity": 0.4}, (1500, 700)),
    ("orthogonal", {}, (1300, 600)),
    ("orthogonal", {}, (600, 1300)),
    ("eye", {}, (1200, 1300)),
]
LARGE_REGIONS = [
    (slice(3, -5), slice(100, 550)),
    (slice(None), slice(None, None, 2)),
    (slice(1, None, 7), slice(5, None)),
    (slice(2, None, 3), slice(1, None, 5)),
    (slice(None), slice(7, None, 50)),
    (slice(100, 120), slice(-1, None)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "parameters", "shape"), LARGE, ids=lambda value: str(value))
def test_parts_of_tensors_beyond_the_tiles_of_every_kernel(method, parameters, shape):
    whole = made(method, shape, **parameters)
    for region in LARGE_REGIONS:
        region = region[2 - len(shape) :]
        local = np.zeros(whole[region].shape, np.float32)
        bigin.fill(local, method, seed=5, name="w", shape=shape, region=region, **parameters)
        same(local, whole[region])
    flat = whole.reshape(-1)
    for start, stop in ((1, 600_000), (599_999, 600_001), (flat.size - 400_003, flat.size)):
        local = np.zeros(stop - start, np.float32)
        bigin.fill_flat(local, method, seed=5, name="w", shape=shape, offset=start, **parameters)
        same(local, flat[start:stop])


FAR = [(2**31, 2**31), (2**40, 2**22), (2**62, 1), (2**63 - 1,), (3, 2**60, 2)]


@pytest.mark.parametrize("dtype", few("float32", "float64", "bfloat16"))
@pytest.mark.parametrize("shape", FAR, ids=str)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_regions_at_the_end_of_tensors_of_up_to_2_to_the_63(shape, dtype, step):
    region = tuple(slice(size - min(size, 2 * step), size, step) for size in shape)
    places = [range(*s.indices(size)) for s, size in zip(region, shape, strict=True)]
    local = np.zeros([len(r) for r in places], DTYPES[dtype])
    bigin.fill(local, "trunc_normal", seed=9, shape=shape, region=region)
    indices = [reference.flat_index(place, shape) for place in itertools.product(*places)]
    assert max(indices) > 2**60
    same(local.reshape(-1), reference.elements("trunc_normal", {}, shape, dtype, 9, "", indices))
    local = np.zeros(11, DTYPES[dtype])
    size = math.prod(shape)
    bigin.fill_flat(local, "trunc_normal", seed=9, shape=shape, offset=size - 11)
    same(local, reference.elements("trunc_normal", {}, shape, dtype, 9, "", range(size - 11, size)))


def test_a_rank_needs_only_its_part():
    """A rank's rows of a matrix that no machine holds, with the fans of the whole."""
    shape = (2**36, 4)
    local = np.zeros((3, 4), np.float32)
    bigin.fill(local, "xavier_uniform", shape=shape, region=(slice(2**35, 2**35 + 3), slice(None)))
    indices = range(2**35 * 4, 2**35 * 4 + 12)
    parameters = {"gain": 1.0}
    same(local.reshape(-1), reference.elements("xavier_uniform", parameters, shape, "float32", 0, "", indices))


@pytest.mark.parametrize("shape", [(), (0,), (0, 3), (3, 0), (2, 0, 4)], ids=str)
@pytest.mark.parametrize("method", ["normal", "ones"])
def test_tensors_without_axes_or_elements(shape, method):
    local = np.zeros(shape, np.float32)
    bigin.fill(local, method, shape=shape, region=tuple(slice(None) for _ in shape))
    flat = np.zeros(math.prod(shape), np.float32)
    bigin.fill_flat(flat, method, shape=shape, offset=0)
    expected = reference.tensor(method, {}, shape, "float32", 0, "")
    same(local, expected)
    same(flat, expected.reshape(-1))


WRITTEN = [
    ((slice(2, 6), slice(None)), np.s_[2:6, :]),
    (((2, 6), (0, 5)), np.s_[2:6, 0:5]),
    ([[2, 6], [0, 5]], np.s_[2:6, 0:5]),
    ([slice(2, 6)], np.s_[2:6]),
    (slice(2, 6), np.s_[2:6]),
    (((2, 6),), np.s_[2:6]),
    (((None, 6), (-3, None)), np.s_[:6, -3:]),
    ((..., slice(1, 3)), np.s_[..., 1:3]),
    ((..., (1, 3)), np.s_[..., 1:3]),
    ((slice(1, 3), ...), np.s_[1:3, ...]),
    (..., np.s_[...]),
    ((slice(np.int64(2), np.uint8(6)), (np.int32(0), 5)), np.s_[2:6, :5]),
    ((slice(6, 2), slice(None)), np.s_[6:2, :]),
    ((), np.s_[...]),
]


@pytest.mark.parametrize(("region", "index"), WRITTEN, ids=str)
def test_a_region_as_people_write_it(region, index):
    whole = made("normal", (8, 5))
    local = np.zeros(whole[index].shape, np.float32)
    report = bigin.fill(local, "normal", seed=5, name="w", shape=(8, 5), region=region)
    same(local, whole[index])
    assert json.loads(json.dumps(report.record))["region"] == [
        [r.start, r.stop, r.step] for r in parse_region(region, (8, 5))
    ]


def test_a_pair_is_a_region_of_one_axis():
    whole = made("normal", (8,))
    local = np.zeros(4, np.float32)
    bigin.fill(local, "normal", seed=5, name="w", shape=8, region=(2, 6))
    same(local, whole[2:6])


REFUSED = [
    ({"region": (slice(4, 9), slice(None))}, r"expected slices .* within shape \(8, 5\), got \(slice\(4, 9, None\)"),
    ({"region": (slice(-9, 4), slice(None))}, r"within shape \(8, 5\)"),
    ({"region": (slice(0, 4, -1), slice(None))}, r"within shape \(8, 5\)"),
    ({"region": (slice(0, 4, 0), slice(None))}, r"within shape \(8, 5\)"),
    ({"region": (3, slice(None))}, r"expected slices"),
    ({"region": 3}, r"expected slices"),
    ({"region": (0, 4)}, r"expected slices"),
    ({"region": "0:4"}, r"expected slices .* got '0:4'"),
    ({"region": (slice(0, 4.0), slice(None))}, r"expected slices"),
    ({"region": (None, slice(None))}, r"expected slices"),
    ({"region": (..., ..., slice(None))}, r"expected slices"),
    ({"region": ((0, 4, 1), slice(None))}, r"expected slices"),
    ({"region": (slice(None),) * 3}, r"expected a region of shape \(8, 5\), got 3 axes"),
    ({"region": np.zeros((2, 2), np.int64)}, r"expected slices"),
    ({"region": (slice(0, 3), slice(None))}, r"expected shape \(3, 5\), got an existing target of shape \(4, 5\)"),
    ({"region": (slice(0, 8, 3), slice(None))}, r"expected shape \(3, 5\)"),
    ({"region": (slice(0, 4), slice(None)), "shape": None}, r"expected the global shape .* give shape="),
    ({"region": (slice(0, 4), slice(None)), "shape": (8, 5, 1)}, r"expected shape \(4, 5, 1\), got .* \(4, 5\)"),
    ({"region": (slice(0, 4), slice(None)), "shape": (2**32, 2**31)}, r"expected fewer than 2\^63 elements"),
    ({"region": (slice(0, 4), slice(None)), "dtype": "float64"}, r"expected dtype float64, got .* float32"),
    ({"region": (slice(0, 4), slice(None)), "method": "nrmal"}, r"expected a method, got 'nrmal'; did you mean normal"),
    ({"region": (slice(0, 4), slice(None)), "method": "dirac"}, r"expected a shape of 3 or 4 or 5 dimensions"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=lambda value: str(value)[:50])
def test_a_region_that_does_not_fit_is_one_line_and_changes_nothing(options, message):
    local = np.full((4, 5), 7, np.float32)
    arguments = {"method": "normal", "shape": (8, 5)} | options
    with pytest.raises(bigin.InputError, match=message) as error:
        bigin.fill(local, **arguments)
    assert "\n" not in str(error.value)
    assert (local == 7).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offset": 21}, r"expected a slice of the 40 elements of shape \(8, 5\), got 20 elements from 21 on"),
        ({"offset": 2**70}, r"got 20 elements from 1180591620717411303424 on"),
        ({"offset": -1}, r"expected an offset in elements that is not negative, got -1"),
        ({"offset": 1.0}, r"expected an offset in elements that is not negative, got 1.0"),
        ({"offset": True}, r"expected an offset in elements that is not negative, got True"),
        ({"offset": "3"}, r"expected an offset"),
        ({"shape": (2**32, 2**31)}, r"expected fewer than 2\^63 elements"),
        ({"shape": None}, r"expected a shape of integers, got None"),
        ({"method": "uniform", "mean": 3}, r"mean"),
        ({"seed": -1}, r"expected a seed from 0 to 2\^64 - 1"),
        ({"name": "a\0b"}, r"expected a name that is text without NUL"),
        ({"threads": 0}, r"expected at least 1 thread, got 0"),
    ],
    ids=str,
)
def test_a_flat_slice_that_does_not_fit_is_one_line_and_changes_nothing(options, message):
    local = np.full(20, 7, np.float32)
    arguments = {"method": "normal", "shape": (8, 5), "offset": 0} | options
    with pytest.raises(bigin.InputError, match=message) as error:
        bigin.fill_flat(local, **arguments)
    assert "\n" not in str(error.value)
    assert (local == 7).all()


def test_a_flat_slice_is_for_memory_alone(tmp_path):
    for path in ("a.npy", tmp_path / "a.zarr"):
        with pytest.raises(bigin.InputError, match=r"expected an array or tensor in memory, got the path .*a\."):
            bigin.fill_flat(path, "normal", shape=(8, 5), offset=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["rank1.npy", "model.zarr/w/rank1", "rank1.bin"])
@pytest.mark.parametrize("method", ["kaiming_normal", "orthogonal"])
def test_a_ranks_part_is_a_file_of_its_own(path, method):
    shape, region = (10, 6), (slice(3, 9, 2), slice(None))
    if path.startswith("model"):
        zarr.create_group("model.zarr")
    raw = {"raw": True, "dtype": "float32"} if path.endswith("bin") else {}
    record = bigin.fill(path, method, seed=5, name="w", shape=shape, region=region, **raw).record
    kept = zarr.open_array(path).attrs["bigin"] if path.startswith("model") else None
    kept = kept or json.loads(Path(f"{path}.bigin.json").read_text())
    assert kept == record
    assert (kept["shape"], kept["region"], kept["complete"]) == ([10, 6], [[3, 9, 2], [0, 6, 1]], True)
    found = zarr.open_array(path)[...] if kept and path.startswith("model") else None
    if found is None:
        found = np.load(path) if path.endswith("npy") else np.fromfile(path, np.float32).reshape(3, 6)
    same(np.asarray(found), made(method, shape)[region])


def test_the_record_of_a_flat_slice_says_where_it_lies():
    report = bigin.fill_flat(np.zeros(3, np.float32), "normal", shape=(8, 5), offset=np.int64(7))
    assert (report.record["shape"], report.record["flat_slice"]) == ([8, 5], [7, [3]])
    json.dumps(report.record)


@given(SHAPES, st.data())
def test_a_flat_slice_is_regions_that_follow_each_other(shape, data):
    size = math.prod(shape)
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.integers(start, size))
    flat = np.arange(size).reshape(shape)
    found = list(flat_slice(shape, start, stop))
    assert len(found) <= 2 * len(shape)
    places = [flat[tuple(slice(*span) for span in region)].reshape(-1) for region in found]
    assert np.concatenate([*places, []]).tolist() == list(range(start, stop))


@examples(50)
@given(
    st.sampled_from([(m, dtype) for m in ("normal", "uniform", "trunc_normal") for dtype in dtypes_of(m)]),
    SEEDS,
    NAMES,
    st.integers(1, 3000),
    st.lists(st.integers(0, 2**62), min_size=1, max_size=40),
)
def test_runs_from_anywhere_are_those_of_the_tensor(values, seed, name, run, starts):
    """The kernel that gathers, with runs below and above the length that makes tiles of their own."""
    from bigin.spec.tensor import TensorSpec

    method, dtype = values
    filler = TensorSpec.parse(method, {}, seed, name, (2**63 - 1,), DTYPES[dtype]).plan()()
    out = np.zeros((len(starts), run), DTYPES[dtype])
    filler.gather(np.array(starts, np.uint64), out)
    for start, row in zip(starts, out, strict=True):
        alone = np.zeros(run, DTYPES[dtype])
        filler(((start, start + run),), alone)
        same(row, alone)
    last = starts[-1] + run - 1
    same(out[-1, -1:], reference.elements(method, {}, (2**63 - 1,), dtype, seed, name, [last]))


@pytest.mark.parametrize(("method", "parameters", "shape"), CASES)
def test_runs_from_anywhere_of_every_method(method, parameters, shape):
    """Starts in any order, runs that cross rows, and runs right below each other, some beyond the end of a row."""
    from bigin.spec.tensor import TensorSpec

    flat = made(method, shape, **parameters).reshape(-1)
    filler = TensorSpec.parse(method, parameters, 5, "w", shape, np.dtype(np.float32)).plan()()
    filler.setup(1, 1 << 30, lambda part: None)
    chance = np.random.default_rng(0)
    for run in (1, 3, shape[-1], shape[-1] + 2):
        if run > flat.size:
            continue
        below = np.arange(chance.integers(0, shape[-1]), flat.size - run + 1, shape[-1])
        for starts in (chance.integers(0, flat.size - run + 1, 9), below):
            out = np.zeros((len(starts), run), np.float32)
            filler.gather(starts.astype(np.uint64), out)
            same(out, flat[starts[:, None] + np.arange(run)])
