"""The methods whose values are not independent draws: eye, dirac, sparse, orthogonal and delta_orthogonal."""

from __future__ import annotations

import itertools
import json
import math
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import zarr
from common import CPUS, LIMIT, MIB, PEAK, ROOT, bits, few
from layouts import LAYOUTS
from numba import njit
from scipy import stats

import bigin
from bigin.core.dtypes import DTYPES, FLOATS
from bigin.core.regions import extent, slices
from bigin.core.threads import map_threads
from bigin.fillers import orthogonal
from bigin.fillers.families import plan
from bigin.fillers.filler import DrawnFiller, Stream
from bigin.kernels import matmul
from bigin.kernels.matmul import Product
from bigin.methods import scalars, table
from bigin.methods.distributions import Normal
from bigin.rng.halves import halves
from bigin.rng.permutation import permute_back_once, permute_once

PLENTY = 1 << 33


def filled(method: str, shape: tuple[int, ...], dtype: str = "float32", **options: Any) -> np.ndarray:
    """A fill of an array that holds something else before."""
    values = np.full(shape, 3, DTYPES[dtype])
    bigin.fill(values, method, **options)
    return values


def ready(
    method: str,
    shape: tuple[int, ...],
    dtype: str = "float32",
    seed: int = 0,
    threads: int = 2,
    max_memory: int = PLENTY,
    **parameters: Any,
) -> Any:
    """A filler whose setup is done."""
    row = table.find(method)
    filler = plan(table.resolve(row, shape, row.parse(parameters)), shape, DTYPES[dtype], seed, "")()
    filler.setup(threads, max_memory, lambda part: None)
    return filler


def region_of(filler: Any, region: tuple[tuple[int, int], ...], dtype: str = "float32") -> np.ndarray:
    out = np.full(extent(region), 3, DTYPES[dtype])
    filler(region, out)
    return out


def whole_of(filler: Any, shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    return region_of(filler, tuple((0, size) for size in shape), dtype)


def same(first: np.ndarray, second: np.ndarray) -> None:
    np.testing.assert_array_equal(bits(first), bits(second))


@pytest.fixture(name="torch", scope="module")
def _torch():
    return pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")


# eye and dirac

EYES = [(1, 1), (1, 7), (7, 1), (5, 5), (4, 9), (9, 4)]
DIRACS = [
    ((4, 4, 3), 1),
    ((4, 4, 3), 2),
    ((6, 2, 4), 3),
    ((2, 5, 1), 1),
    ((6, 4, 3, 5), 1),
    ((6, 4, 3, 5), 2),
    ((6, 4, 2, 4), 6),
    ((5, 3, 3, 1, 2), 1),
    ((9, 2, 3, 3, 3), 3),
    ((1, 1, 1, 1, 1), 1),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32"])
@pytest.mark.parametrize("shape", EYES, ids=str)
def test_eye_is_torchs(torch, shape, dtype):
    theirs = torch.nn.init.eye_(torch.empty(shape, dtype=getattr(torch, dtype))).numpy()
    same(filled("eye", shape, dtype), theirs)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32"])
@pytest.mark.parametrize(("shape", "groups"), DIRACS, ids=str)
def test_dirac_is_torchs(torch, shape, groups, dtype):
    theirs = torch.nn.init.dirac_(torch.empty(shape, dtype=getattr(torch, dtype)), groups).numpy()
    assert theirs.any()
    same(filled("dirac", shape, dtype, groups=groups), theirs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_eye_and_dirac_in_every_dtype(dtype):
    assert filled("eye", (2, 3), dtype).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert filled("dirac", (2, 2, 3), dtype).tolist() == [[[0, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0]]]


@pytest.mark.parametrize(
    ("method", "shape", "parameters", "message"),
    [
        ("eye", (3,), {}, r"expected a shape of 2 dimensions, got \(3,\)"),
        ("eye", (3, 3, 3), {}, "expected a shape of 2 dimensions"),
        ("dirac", (3, 3), {}, "expected a shape of 3 or 4 or 5 dimensions"),
        ("dirac", (1, 1, 1, 1, 1, 1), {}, "expected a shape of 3 or 4 or 5 dimensions"),
        ("dirac", (4, 4, 3), {"groups": 3}, "expected dim 0 to be divisible by groups, got 4 and groups=3"),
        ("sparse", (3,), {"sparsity": 0.5}, "expected a shape of 2 dimensions"),
        ("orthogonal", (3,), {}, "expected a shape of 2 or more dimensions"),
    ],
)
def test_what_torch_refuses_is_refused(torch, method, shape, parameters, message):
    with pytest.raises(ValueError, match=r".") as theirs:
        getattr(torch.nn.init, f"{method}_")(torch.empty(shape), **parameters)
    assert theirs.type is ValueError
    with pytest.raises(bigin.InputError, match=message):
        filled(method, shape, **parameters)


@pytest.mark.parametrize(
    ("method", "shape", "parameters", "message"),
    [
        ("dirac", (4, 4, 3), {"groups": 0}, "divisible by groups"),
        ("dirac", (4, 4, 3), {"groups": 1.5}, "expected groups to be an integer"),
        ("sparse", (3, 3), {}, "sparse needs sparsity"),
        ("sparse", (3, 3), {"sparsity": 1.1}, "expected sparsity from 0 to 1"),
        ("sparse", (3, 3), {"sparsity": -0.1}, "expected sparsity from 0 to 1"),
        ("sparse", (3, 3), {"sparsity": math.nan}, "expected a finite sparsity"),
        ("sparse", (3, 3), {"sparsity": 0.5, "std": -1}, "expected std >= 0"),
        ("orthogonal", (3, 3), {"gain": math.inf}, "expected a finite gain"),
        ("delta_orthogonal", (3, 3), {}, "expected a shape of 3 or 4 or 5 dimensions"),
        ("delta_orthogonal", (3, 4, 1), {}, "expected no more input than output channels"),
    ],
)
def test_bad_parameters_are_refused(method, shape, parameters, message):
    with pytest.raises(bigin.InputError, match=message):
        filled(method, shape, **parameters)


@pytest.mark.parametrize("dtype", [name for name, dtype in DTYPES.items() if dtype.kind in "iu"])
@pytest.mark.parametrize(("method", "parameters"), [("sparse", {"sparsity": 0.5}), ("orthogonal", {})], ids=str)
def test_integers_hold_no_random_values(method, parameters, dtype):
    with pytest.raises(bigin.InputError, match="expected a float dtype"):
        filled(method, (3, 3), dtype, **parameters)


def test_a_gain_beyond_the_dtype_is_refused():
    with pytest.raises(bigin.InputError, match="float16's range"):
        filled("orthogonal", (3, 3), "float16", gain=1e5)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0), (3, 0, 2), (0, 3, 2)], ids=str)
def test_a_tensor_without_elements_is_filled_with_nothing(shape):
    two = len(shape) == 2
    for method in ("eye", "sparse", "orthogonal") if two else ("dirac", "orthogonal", "delta_orthogonal"):
        if (method, shape) != ("delta_orthogonal", (0, 3, 2)):
            filled(method, shape, **({"sparsity": 0.5} if method == "sparse" else {}))


# sparse

COLUMNS = [(1, 7), (2, 30), (3, 41), (13, 50), (17, 33), (64, 20), (100, 70), (257, 65), (1000, 5), (1025, 3)]
SPARSITIES = [0.0, 1e-9, 0.1, 0.3, 0.5, 0.9, 0.999, 1.0]


@pytest.mark.parametrize("shape", COLUMNS, ids=str)
@pytest.mark.parametrize("sparsity", SPARSITIES)
def test_every_column_has_exactly_so_many_zeros(shape, sparsity):
    zeros = math.ceil(sparsity * shape[0])
    values = filled("sparse", shape, sparsity=sparsity, std=1.0, seed=4)
    assert ((values == 0).sum(axis=0) == zeros).all()
    dense = filled("normal", shape, seed=4)
    same(values[values != 0], dense[values != 0])
    assert not np.signbit(values[values == 0]).any()


# A kernel of sparse takes long to compile: in a quick run that of one dtype.
SPARSE = few("float32", *(name for name in FLOATS if name != "float32"))


@pytest.mark.parametrize("dtype", SPARSE)
@pytest.mark.parametrize("sparsity", [0.2, 0.8])
@pytest.mark.parametrize("shape", [(13, 70), (200, 3), (1, 5)], ids=str)
def test_sparse_is_the_references(shape, sparsity, dtype):
    expected = reference.tensor("sparse", {"sparsity": sparsity}, shape, dtype, 7, "w")
    same(filled("sparse", shape, dtype, sparsity=sparsity, seed=7, name="w"), expected)
    same(filled("sparse", shape, dtype, sparsity=sparsity, seed=7, name="w", max_memory=1), expected)


@pytest.mark.parametrize("dtype", SPARSE)
@pytest.mark.parametrize("sparsity", [0.2, 0.8])
def test_the_marks_give_what_every_element_decides_alone(sparsity, dtype):
    shape = (311, 201)
    marked = ready("sparse", shape, dtype, 5, sparsity=sparsity)
    alone = ready("sparse", shape, dtype, 5, max_memory=0, sparsity=sparsity)
    assert marked.marks is not None
    assert alone.marks is None
    same(whole_of(marked, shape, dtype), whole_of(alone, shape, dtype))


@pytest.mark.parametrize("max_memory", [0, PLENTY], ids=["alone", "marked"])
def test_a_region_of_sparse_is_that_of_the_whole(max_memory):
    shape = (157, 133)
    filler = ready("sparse", shape, seed=6, max_memory=max_memory, sparsity=0.4)
    whole = whole_of(filler, shape)
    for region in (((0, 1), (0, 1)), ((156, 157), (132, 133)), ((3, 99), (64, 66)), ((40, 41), (0, 133))):
        same(region_of(filler, region), whole[slices(region)])


def test_a_region_of_a_huge_sparse_tensor():
    shape = (2**40 + 3, 1000)
    row, column = 2**39 + 5, 700
    filler = ready("sparse", shape, sparsity=0.5)
    values = region_of(filler, ((row, row + 40), (column, column + 40)))
    indices = [i * 1000 + j for i in range(row, row + 40) for j in range(column, column + 40)]
    expected = reference.elements("sparse", {"sparsity": 0.5}, shape, "float32", 0, "", indices)
    same(values.reshape(-1), expected)
    assert 700 < (values == 0).sum() < 900


def zeros_of(rows: int, columns: int, zeros: int, seed: int) -> np.ndarray:
    return filled("sparse", (rows, columns), sparsity=(zeros - 0.5) / rows, std=1.0, seed=seed) == 0


def probable(statistic: float, degrees: int) -> None:
    """A chi-square statistic that is neither too large nor too small."""
    assert 1e-4 < stats.chi2.cdf(statistic, degrees) < 1 - 1e-4


@pytest.mark.parametrize(("rows", "zeros"), [(2, 1), (3, 1), (7, 3), (10, 9), (13, 4), (64, 20), (100, 1), (333, 50)])
def test_every_row_is_equally_likely(rows, zeros):
    """The counts of a row have the variance p (1 - p) of each column, and add up to a constant."""
    columns, p = 20_000, zeros / rows
    counts = zeros_of(rows, columns, zeros, 1).sum(axis=1)
    statistic = ((counts - columns * p) ** 2).sum() / (columns * p * (1 - p)) * (rows - 1) / rows
    probable(statistic, rows - 1)


@pytest.mark.parametrize(("rows", "zeros"), [(5, 2), (6, 3), (7, 2)])
def test_every_set_of_rows_is_equally_likely(rows, zeros):
    columns, sets = 30_000, math.comb(rows, zeros)
    codes = (1 << np.arange(rows)) @ zeros_of(rows, columns, zeros, 2)
    counts = np.unique(codes, return_counts=True)[1]
    assert len(counts) == sets
    probable(((counts - columns / sets) ** 2).sum() / (columns / sets), sets - 1)


@pytest.mark.parametrize("step", [1, 2, 64])
def test_columns_are_independent(step):
    """How many zeros two columns share is hypergeometric."""
    rows, zeros, columns = 20, 8, 40_000
    chosen = zeros_of(rows, columns, zeros, 3)
    shared = (chosen[:, :-step] & chosen[:, step:]).sum(axis=0)
    law = stats.hypergeom(rows, zeros, zeros)
    expected = np.array([law.pmf(k) for k in range(1, 6)]) * len(shared)
    counts = np.bincount(shared, minlength=zeros + 1)[1:6]
    probable(((counts - expected) ** 2 / expected).sum(), len(expected))


def test_names_and_seeds_choose_other_entries():
    options = [{}, {"seed": 1}, {"seed": 1 << 32}, {"name": "a"}, {"name": "b"}]
    chosen = [filled("sparse", (50, 50), sparsity=0.5, **option) == 0 for option in options]
    for i, first in enumerate(chosen):
        for second in chosen[:i]:
            assert 0.4 < (first == second).mean() < 0.6


@njit
def there_and_back(places, a, b, key, there, back):
    for i in range(places.size):
        place = places[i]
        x, y = permute_once(place // b, place % b, a, b, key[0], key[1], key[2], key[3])
        there[i] = x * b + y
        x, y = permute_back_once(x, y, a, b, key[0], key[1], key[2], key[3])
        back[i] = x * b + y


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 12, 13, 100, 101, 65_537, 100_003, 2**33 + 7, 2**62 + 11])
def test_the_inverse_permutation_inverts(size):
    a, b = halves(size)
    assert a * b >= size > a * b - a
    assert (a - 1) ** 2 < size <= a * a
    places = np.arange(a * b, dtype=np.uint64) if size < 10**6 else np.arange(5000, dtype=np.uint64) * (size // 5000)
    places = places.astype(np.uint64)
    there, back = np.empty_like(places), np.empty_like(places)
    key = np.array([0x89ABCDEF, 5, 0xFFFFFFFF, 0], np.uint64)
    there_and_back(places, np.uint64(a), np.uint64(b), key, there, back)
    np.testing.assert_array_equal(back, places)
    assert there.max() < a * b
    assert len(np.unique(there)) == len(places)


# The matrix product


def exact_product(a: np.ndarray, b: np.ndarray, i: int, j: int) -> float:
    x, y = a[:, i].astype(float).tolist(), b[:, j].astype(float).tolist()
    return reference.contraction(x.__getitem__, y.__getitem__, 0, len(x), a.dtype.name)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    total = np.zeros((a.shape[1], b.shape[1]))
    Product(a.shape[1], b.shape[1], a.dtype).add(a, b, total)
    return total


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("depth", [1, 2, 255, 256, 257, 511, 512, 513])
@pytest.mark.parametrize("size", [(1, 1), (12, 32), (11, 31), (13, 33), (25, 17), (5, 70)], ids=str)
def test_a_product_is_the_exact_reference(dtype, depth, size):
    chance = np.random.default_rng(depth)
    a, b = (chance.standard_normal((depth, columns)).astype(dtype) for columns in size)
    total = product(a, b)
    np.testing.assert_allclose(total, a.astype(float).T @ b, rtol=1e-3, atol=1e-3)
    places = [(0, 0), (size[0] - 1, size[1] - 1), *zip(*(chance.integers(0, s, 4) for s in size), strict=True)]
    for i, j in places:
        assert total[i, j] == exact_product(a, b, i, j)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_tiling_of_a_product_changes_a_bit(dtype):
    chance = np.random.default_rng(0)
    a, b = (chance.standard_normal((700, columns)).astype(dtype) for columns in (101, 93))
    whole = product(a, b)
    for rows, columns in (((0, 1), (0, 1)), ((7, 20), (0, 93)), ((50, 101), (31, 64)), ((0, 101), (92, 93))):
        part = product(a[:, slice(*rows)].copy(), b[:, slice(*columns)].copy())
        same(part, whole[slices((rows, columns))])
    blocks = np.zeros_like(whole)
    for k in range(0, 700, 256):
        Product(101, 93, a.dtype).add(a[k : k + 256], b[k : k + 256], blocks)
    same(blocks, whole)
    other = sum(product(a[k : k + 128], b[k : k + 128]) for k in range(0, 700, 128))
    assert (other != whole).any(), "blocks of another depth are another order"


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_instruction_sets_tile_gives_the_same_bits(dtype):
    """All tiles on this machine, by both layouts of the left factor, with sizes that leave part of a tile."""
    chance = np.random.default_rng(1)
    depth, rows, columns = 300, 61, 101
    a, b = (chance.standard_normal((depth, size)).astype(dtype) for size in (rows, columns))
    expected = product(a, b)
    for tiles in matmul.TILES.values():
        worker = Product(rows, columns, a.dtype, tiles[8 * a.itemsize])
        by_k, by_rows = np.zeros((rows, columns)), np.zeros((rows, columns + 8))
        worker.add(a, b, by_k)
        same(by_k, expected)
        for i, block in enumerate(worker.pack(b)):
            worker.add_block(np.ascontiguousarray(a.T), i * matmul.DEPTH, block, by_rows)
        same(np.ascontiguousarray(by_rows[:, :columns]), expected)
        assert not by_rows[:, columns:].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounds_leave_out_zeros_alone(dtype):
    """Triangular factors, with and without their bounds."""
    chance = np.random.default_rng(2)
    size = 530
    a, b = (chance.standard_normal((size, size)).astype(dtype) for _ in range(2))
    k, i = np.ogrid[:size, :size]
    for zero, bounds in (
        ((k < i - 7, k < i + 3), matmul.Bounds(left_first=-7, right_first=3)),
        ((k > i + 5, k > i - 9), matmul.Bounds(left_last=5, right_last=-9)),
    ):
        left, right = (np.where(where, 0, x).astype(dtype) for where, x in zip(zero, (a, b), strict=True))
        expected, found = product(left, right), np.zeros((size, size))
        worker = Product(size, size, a.dtype)
        worker.add(left, right, found, bounds)
        same(found, expected)
        half = np.zeros((size, size))
        worker.add(left, right, half, bounds._replace(diagonal=0))
        same(np.triu(half), np.triu(expected))


def test_narrow_chunks_of_columns_share_their_bands(monkeypatch):
    """Every band is made once for all the chunks that cross it, whatever their order and the threads."""
    made = []
    original = orthogonal.Reflections._band
    monkeypatch.setattr(
        orthogonal.Reflections, "_band", lambda self, piece, left: made.append(piece) or original(self, piece, left)
    )
    for shape, chunk, bands in (((3000, 40), (3000, 1), 2), ((1000, 600), (500, 7), 8), ((40, 3000), (1, 3000), 2)):
        whole = ready("orthogonal", shape)
        expected = np.empty(shape, np.float32)
        whole(tuple((0, size) for size in shape), expected)
        made.clear()
        found = np.zeros(shape, np.float32)
        places = itertools.product(*(range(0, size, step) for size, step in zip(shape, chunk, strict=True)))

        def fill(place, found=found, filler=whole, shape=shape, chunk=chunk):
            region = tuple((p, min(p + c, s)) for p, c, s in zip(place, chunk, shape, strict=True))
            part = np.empty(extent(region), np.float32)
            filler(region, part)
            found[slices(region)] = part

        map_threads(fill, list(places), 3)
        same(found, expected)
        assert len(made) <= bands, (shape, len(made))


# orthogonal

SMALL = [(1, 1), (1, 6), (6, 1), (5, 5), (9, 4), (4, 9), (6, 2, 2), (3, 4, 2), (31, 13)]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SMALL, ids=str)
def test_orthogonal_is_the_references(shape, dtype):
    same(
        filled("orthogonal", shape, dtype, gain=0.7, seed=2**40 + 1, name="w"),
        reference.tensor("orthogonal", {"gain": 0.7}, shape, dtype, 2**40 + 1, "w"),
    )


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize("shape", [(4, 3, 3), (4, 4, 2), (5, 2, 1, 4), (3, 3, 3, 3, 3)], ids=str)
def test_delta_orthogonal_is_the_references(shape, dtype):
    values = filled("delta_orthogonal", shape, dtype, gain=2.0, seed=3)
    same(values, reference.tensor("delta_orthogonal", {"gain": 2.0}, shape, dtype, 3, ""))
    centre = values[..., *((size - 1) // 2 for size in shape[2:])]
    same(centre, filled("orthogonal", shape[:2], dtype, gain=2.0, seed=3))
    assert np.count_nonzero(values) == np.count_nonzero(centre)


def departure(values: np.ndarray) -> float:
    """max |Q'Q - I|"""
    tall = values.reshape(len(values), -1).astype(np.float64)
    tall = tall if tall.shape[0] >= tall.shape[1] else tall.T
    return np.abs(tall.T @ tall - np.eye(tall.shape[1])).max()


# Around the tiles (512), the product's depth (256) and its register tile (12 x 32), the strips (8192).
SIZES = [(n + more, n) for n in (2, 12, 33, 255, 256, 257, 511, 512, 513) for more in (0, 1, 40)]
SIZES += [(8191, 7), (8192, 300), (8193, 3), (16_500, 12), (1, 700), (900, 1), (300, 700), (20_000, 256)]


@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_columns_are_orthonormal(shape):
    assert departure(filled("orthogonal", shape)) <= 3e-6
    if max(shape) < 10_000:
        assert departure(filled("orthogonal", shape, "float64")) <= 1e-13


def test_columns_of_a_large_square_are_orthonormal():
    assert departure(filled("orthogonal", (2048, 2048))) <= 3e-6


def test_columns_of_a_large_square_are_orthonormal_in_float64():
    assert departure(filled("orthogonal", (1030, 1030), "float64")) <= 1e-13


@pytest.mark.parametrize("dtype", [name for name in FLOATS if not name.startswith("float64")])
def test_narrow_dtypes_are_float32_rounded(dtype):
    whole = filled("orthogonal", (90, 70), gain=1.5)
    same(filled("orthogonal", (90, 70), dtype, gain=1.5), whole.astype(DTYPES[dtype]))


def test_float64_draws_its_own_matrix():
    assert np.abs(filled("orthogonal", (9, 9)) - filled("orthogonal", (9, 9), "float64")).max() > 0.1


@pytest.mark.parametrize("shape", [(700, 300), (90, 13), (5, 1)], ids=str)
def test_wide_is_tall_transposed(shape):
    same(filled("orthogonal", shape[::-1]), np.ascontiguousarray(filled("orthogonal", shape).T))


@pytest.mark.parametrize("shape", [(7, 3, 5), (30, 2, 3, 4), (40, 2, 3), (600, 5, 120)], ids=str)
def test_trailing_axes_are_flattened(shape):
    flat = (shape[0], math.prod(shape[1:]))
    same(filled("orthogonal", shape).reshape(flat), filled("orthogonal", flat))


@pytest.mark.parametrize("gain", [0.5, 2.0, 4.0])
def test_a_gain_scales(gain):
    same(filled("orthogonal", (60, 40), gain=gain), np.float32(gain) * filled("orthogonal", (60, 40)))


def test_a_gain_of_zero_and_of_a_nonlinearity():
    assert not filled("orthogonal", (6, 4), gain=0).any()
    same(filled("orthogonal", (6, 4), gain="relu"), filled("orthogonal", (6, 4), gain=math.sqrt(2)))


def test_a_vector_has_length_one_and_a_number_is_a_sign():
    assert np.linalg.norm(filled("orthogonal", (1, 9), "float64")) == pytest.approx(1, abs=1e-15)
    numbers = np.array([filled("orthogonal", (1, 1), seed=seed)[0, 0] for seed in range(20)])
    np.testing.assert_allclose(np.abs(numbers), 1, atol=1e-6)
    assert {*np.sign(numbers)} == {1.0, -1.0}


def test_names_and_seeds_give_other_matrices():
    options = [{}, {"seed": 1}, {"seed": 1 << 32}, {"name": "a"}, {"name": "b"}]
    made = [filled("orthogonal", (50, 50), **option) for option in options]
    for i, first in enumerate(made):
        for second in made[:i]:
            assert np.abs(first - second).max() > 0.1


# The distribution of orthogonal

DRAWS = 1000


@pytest.fixture(name="drawn", scope="module", params=few(3, 2, 5, 10))
def _drawn(request):
    """Many matrices, and the same without D, the signs of R's diagonal."""
    n = request.param
    made, signs = np.empty((DRAWS, n, n)), np.empty((DRAWS, n))
    for seed in range(DRAWS):
        filler = ready("orthogonal", (n, n), seed=seed, threads=1)
        made[seed], signs[seed] = whole_of(filler, (n, n)), filler.reflections.signs
    return made, made * signs[:, None, :]


def entry_law(n: int) -> Any:
    """Of an entry of a Haar-distributed matrix: that of a coordinate of a uniform point of the sphere."""
    return stats.beta((n - 1) / 2, (n - 1) / 2, loc=-1, scale=2)


def entries(made: np.ndarray) -> list[float]:
    """The p-values of some entries' distribution."""
    places = [(0, 0), (0, -1), (-1, 0), (-1, -1)]
    return [stats.kstest(made[:, i, j], entry_law(made.shape[1]).cdf).pvalue for i, j in places]


def turned(made: np.ndarray) -> list[float]:
    """The same of entries of a fixed rotation's product from the left, from the right and from both sides."""
    n = made.shape[1]
    rotation = stats.ortho_group.rvs(n, random_state=1)
    law = entry_law(n)
    rotated = [rotation @ made, made @ rotation, rotation @ made @ rotation.T]
    return [stats.kstest(values[:, i, i], law.cdf).pvalue for values in rotated for i in (0, n - 1)]


def traces(made: np.ndarray) -> list[float]:
    """The distribution of the trace, and of the distance of two matrices, against scipy's Haar-distributed ones.

    An improper rotation of the plane has trace 0, but for its rounding.
    """
    theirs = stats.ortho_group.rvs(made.shape[1], size=4 * DRAWS, random_state=2)
    trace = [np.trace(values, axis1=1, axis2=2).round(4) for values in (made, theirs)]
    distance = [np.linalg.norm(values[::2] - values[1::2], axis=(1, 2)).round(4) for values in (made, theirs)]
    return [stats.ks_2samp(*trace).pvalue, stats.ks_2samp(*distance).pvalue]


@pytest.mark.slow
def test_entries_have_the_exact_distribution(drawn):
    assert min(entries(drawn[0])) > 1e-4


def test_rotations_change_no_distribution(drawn):
    assert min(turned(drawn[0])) > 1e-4
    assert min(traces(drawn[0])) > 1e-4


def test_without_the_signs_these_tests_fail(drawn):
    assert min(entries(drawn[1])) < 1e-9
    assert min(turned(drawn[1])) < 1e-9
    assert min(traces(drawn[1])) < 1e-9


def test_signs_and_determinants_are_balanced(drawn):
    made, unsigned = drawn
    determinants = np.linalg.det(made)
    np.testing.assert_allclose(np.abs(determinants), 1, atol=1e-5)
    near = 5 * math.sqrt(DRAWS) / 2
    assert abs((determinants > 0).sum() - DRAWS / 2) < near
    assert (np.abs((made > 0).sum(axis=0) - DRAWS / 2) < near).all()
    assert np.unique(np.sign(np.linalg.det(unsigned))).size == 1, "without D every determinant has one sign"


@pytest.mark.parametrize(
    "shape", [(7, 7), (40, 13), (60, 60), pytest.param((530, 520), marks=pytest.mark.slow)], ids=str
)
def test_it_is_the_qr_of_a_gaussian(shape):
    """A = Q R, with |x_k| on R's diagonal, has the drawn columns x_k as the columns of its Householder QR.

    LAPACK's reflectors are x_k with the head x_kk + sign(x_kk) |x_k|, scaled to a head of 1, and -sign(x_kk) |x_k| is
    the diagonal of its R.
    """
    m, n = shape
    filler = ready("orthogonal", shape, "float64", seed=11)
    Q = whole_of(filler, shape, "float64")
    X = np.empty(shape)
    numbers = scalars.normal(Normal(0.0, 1.0), X.dtype)
    DrawnFiller(shape, X.dtype, numbers, Stream(11, "", "orthogonal"))(((0, m), (0, n)), X)
    X = np.tril(X)
    lengths = np.linalg.norm(X, axis=0)
    R = np.triu(np.random.default_rng(0).standard_normal((n, n)), 1) + np.diag(lengths)
    raw = np.linalg.qr(Q @ R, mode="raw")[0].T
    signs = np.where(np.diagonal(X) < 0, 1.0, -1.0)
    last = n if m > n else n - 1  # LAPACK does not reflect a last column of one element
    np.testing.assert_allclose(np.diagonal(raw)[:last], (signs * lengths)[:last], rtol=1e-9)
    heads = np.diagonal(X) - signs * lengths
    reflectors = np.tril(X / heads, -1)[:, :last]
    np.testing.assert_allclose(np.tril(raw, -1)[:, :last], reflectors, atol=1e-9)
    theirs, triangle = np.linalg.qr(Q @ R)
    np.testing.assert_allclose(theirs * np.sign(np.diagonal(triangle)), Q, atol=1e-10)
    np.testing.assert_array_equal(filler.reflections.signs, signs)


# The law, of orthogonal

LARGE = [(1100, 700), (9000, 40), (530, 1060)]  # two tiles and a part; two strips; transposed


@pytest.fixture(name="whole", scope="module", params=LARGE, ids=str)
def _whole(request):
    return whole_of(ready("orthogonal", request.param, threads=1), request.param)


@pytest.mark.parametrize("max_memory", [0, PLENTY], ids=["scratch file", "memory"])
@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_neither_threads_nor_memory_change_a_bit(whole, threads, max_memory):
    filler = ready("orthogonal", whole.shape, threads=threads, max_memory=max_memory)
    assert (filler.reflections.triangle._file is None) == (max_memory > 0)
    assert bool(filler.reflections.packed) == (max_memory > 0)
    same(whole_of(filler, whole.shape), whole)


@pytest.mark.parametrize("max_memory", [0, PLENTY], ids=["scratch file", "memory"])
def test_any_region_alone(whole, max_memory):
    filler = ready("orthogonal", whole.shape, max_memory=max_memory)
    m, n = whole.shape
    corners = [((i, i + 1), (j, j + 1)) for i in (0, m // 2, m - 1) for j in (0, n // 2, n - 1)]
    chance = np.random.default_rng(0)
    spans = [tuple(sorted(chance.choice(size + 1, 2, replace=False))) for _ in range(12) for size in whole.shape]
    edges = [((0, m), (n // 2, n // 2 + 1)), ((m - 1, m), (0, n)), ((479, 481), (0, n)), ((500, 520), (7, n))]
    regions = [*corners, *zip(spans[::2], spans[1::2], strict=True), *edges]
    for region in regions:
        same(region_of(filler, region), whole[slices(region)])


def test_any_region_of_a_folded_tensor():
    shape = (40, 6, 5, 7)
    filler = ready("orthogonal", shape)
    whole = whole_of(filler, shape)
    chance = np.random.default_rng(1)
    for _ in range(40):
        region = tuple(tuple(sorted(chance.choice(size + 1, 2, replace=False))) for size in shape)
        same(region_of(filler, region), whole[slices(region)])


def test_a_region_of_a_matrix_that_no_disk_holds():
    """The preparation reads every row of what is drawn; rows are then made alone."""
    shape = (2_000_003, 5)
    filler = ready("orthogonal", shape)
    values = region_of(filler, ((0, shape[0]), (0, 5)))
    assert departure(values) < 3e-6
    same(region_of(filler, ((1_999_990, 2_000_003), (1, 4))), values[1_999_990:, 1:4])


CHUNKED = {
    "plain": {"chunks": (100, 64), "compressors": None},
    "sharded": {"chunks": (50, 70), "shards": (200, 140), "compressors": None},
    "compressed": {"chunks": (333, 1)},
    "sharded compressed": {"chunks": (64, 64), "shards": (512, 512)},
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("chunks", CHUNKED)
def test_no_chunks_change_a_bit(chunks, threads):
    expected = filled("orthogonal", (650, 530))
    array = zarr.create_array("a.zarr", shape=(650, 530), dtype="float32", **CHUNKED[chunks])
    bigin.fill(array, "orthogonal", threads=threads, name="")
    same(array[:], expected)


@pytest.mark.parametrize("method", ["eye", "dirac", "sparse", "orthogonal", "delta_orthogonal"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_target_gets_the_same_bits(layout, method):
    shape = (7, 4, 3, 2) if method in ("dirac", "delta_orthogonal") else (23, 17)
    parameters = {"sparsity": 0.3} if method == "sparse" else {}
    target = layout.make(Path.cwd(), shape, "float32")
    options = {**layout.arguments(shape, "float32"), "seed": 5, "name": "w", "overwrite": True, "threads": 2}
    bigin.fill(target, method, **options, **parameters)
    same(np.asarray(layout.read(target)), reference.tensor(method, parameters, shape, "float32", 5, "w"))


# In floats of both widths; prints {"shape dtype": digest}
PROGRAM = """
import hashlib, json
import numpy as np
import bigin

digests = {}
for dtype in ("float32", "float64"):
    for shape in ((1, 1), (40, 30), (300, 7), (37, 530)):
        out = np.empty(shape, dtype)
        bigin.fill(out, "orthogonal", seed=4, gain=1.25)
        digests[f"orthogonal {shape} {dtype}"] = hashlib.blake2b(out.tobytes(), digest_size=8).hexdigest()
for options in ({}, {"max_memory": 1}):
    out = np.empty((300, 130), np.float32)
    bigin.fill(out, "sparse", seed=4, sparsity=0.3, **options)
    digests[f"sparse {options}"] = hashlib.blake2b(out.tobytes(), digest_size=8).hexdigest()
print(json.dumps(digests))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="these CPUs are x86-64 machines")
def test_bits_are_equal_on_other_cpus():
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)

    def run(variables):
        environment = {**os.environ, "PYTHONPATH": path, **variables}
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=LIMIT, check=True)
        return json.loads(done.stdout)

    with ThreadPoolExecutor(2) as pool:
        host, *others = pool.map(run, CPUS.values())
    assert len({digest for key, digest in host.items() if key.startswith("orthogonal")}) == 8
    for other in others:
        assert other == host


# Memory, progress and the faces


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(600_000, 512), (3000, 6000)], ids=str)
def test_the_peak_stays_below_the_bound(shape):
    """A matrix of 1.2 GB, and one whose preparation alone would take more than what the bound leaves."""
    for max_memory in (0, PLENTY):  # the kernels are in the cache then: what a compiler takes is not the fill's
        whole_of(ready("orthogonal", (600, 600), max_memory=max_memory), (600, 600))
    command = ["fill", "--method", "orthogonal", "q.npy", "--shape", f"{shape[0]},{shape[1]}", "--max-memory", "64MiB"]
    command += ["--threads", "2", "--no-sync", "--quiet"]
    done = subprocess.run([sys.executable, "-c", PEAK, *command], capture_output=True, text=True, check=True)
    peak = int(done.stdout.split()[-2]) * 1024
    print(f"{shape}: peak {peak / MIB:.0f} MiB of 288 MiB for {4 * shape[0] * shape[1] / MIB:.0f} MiB")
    assert peak < 288 * MIB
    rows = np.load("q.npy", mmap_mode="r")[:1000].astype(np.float64)
    assert 0.5 < (rows**2).mean() * max(shape) < 2
    Path("q.npy").unlink()


@pytest.mark.parametrize(
    ("method", "shape", "parameters"),
    [("orthogonal", (1600, 1600), {}), ("orthogonal", (40_000, 64), {}), ("sparse", (3000, 2000), {"sparsity": 0.5})],
    ids=str,
)
def test_progress_goes_over_all_passes_and_never_back(method, shape, parameters):
    seen: list[tuple[int, int]] = []
    size = 4 * math.prod(shape)
    filled(method, shape, progress=lambda done, total: seen.append((done, total)), **parameters)
    assert {total for _, total in seen} == {size}
    done = [part for part, _ in seen]
    assert done == sorted(done)
    assert done[0] >= 0
    assert done[-1] == size
    assert any(0 < part <= size // 2 for part in done), "the preparation is a part of the work"


def test_init_has_them_all():
    matrix, kernel = np.empty((6, 4), np.float32), np.empty((6, 4, 3), np.float32)
    assert bigin.init.eye_(matrix) is matrix
    same(matrix, np.eye(6, 4, dtype=np.float32))
    assert bigin.init.sparse_(matrix, 0.4, std=2.0, seed=1) is matrix
    same(matrix, filled("sparse", (6, 4), sparsity=0.4, std=2.0, seed=1))
    assert bigin.init.orthogonal_(matrix, gain=3, seed=1) is matrix
    same(matrix, filled("orthogonal", (6, 4), gain=3.0, seed=1))
    assert bigin.init.dirac_(kernel, 2) is kernel
    same(kernel, filled("dirac", (6, 4, 3), groups=2))
    assert bigin.init.delta_orthogonal_(kernel, 3.0, seed=1) is kernel
    same(kernel, filled("delta_orthogonal", (6, 4, 3), gain=3, seed=1))


@pytest.mark.slow
def test_the_command_line_has_them_all():
    rows = [
        ("orthogonal", "300,200", {"gain": 2.0}),
        ("sparse", "300,200", {"sparsity": 0.25}),
        ("eye", "30,20", {}),
        ("dirac", "8,4,3", {"groups": 2}),
        ("delta_orthogonal", "8,4,3", {}),
    ]

    def run(row):
        method, shape, parameters = row
        options = [word for key, value in parameters.items() for word in (f"--{key}", str(value))]
        command = [
            sys.executable,
            "-m",
            "bigin",
            "fill",
            "--method",
            method,
            f"{method}.npy",
            "--shape",
            shape,
            *options,
            "--name=",
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 0, done.stderr
        assert f"filled with {method}, seed 0" in done.stdout

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, rows))
    for method, shape, parameters in rows:
        expected = filled(method, tuple(map(int, shape.split(","))), **parameters)
        same(np.load(f"{method}.npy"), expected)


@pytest.mark.parametrize("method", ["orthogonal", "delta_orthogonal"])
@pytest.mark.parametrize(
    ("shape", "layout", "order"),
    [
        ((3, 5, 4, 6), {"in_axis": -2, "out_axis": -1}, (3, 0, 1, 2)),
        ((3, 4, 6), {"in_axis": 1, "out_axis": 2}, (2, 0, 1)),
        ((4, 6, 3), {"in_axis": 0, "out_axis": 1}, (1, 0, 2)),
        ((7, 3, 2, 5), {"in_axis": 2, "out_axis": 0}, (0, 1, 2, 3)),
    ],
)
def test_orthogonal_in_another_layout_is_the_matrix_of_torchs_layout(method, shape, layout, order):
    """orthogonal: rows along the output axis, and columns in the C order of all other axes."""
    values = filled(method, shape, "float32", **layout)
    if method == "delta_orthogonal":
        inputs, outputs = (axis % len(shape) for axis in layout.values())
        kernel = [axis for axis in range(len(shape)) if axis not in (inputs, outputs)]
        order = (outputs, inputs, *kernel)
    plain = filled(method, tuple(shape[axis] for axis in order), "float32")
    same(values.transpose(order), plain)
    filler = ready(method, shape, **layout)
    for region in (tuple((size // 3, size) for size in shape), tuple((0, size - 1) for size in shape)):
        same(region_of(filler, region), values[tuple(slice(*axis) for axis in region)])


def test_orthogonal_with_several_output_axes():
    values = filled("orthogonal", (10, 3, 4), "float64", in_axis=0, out_axis=[1, 2])
    plain = filled("orthogonal", (12, 10), "float64")
    same(values.transpose(1, 2, 0).reshape(12, 10), plain)
    filler = ready("orthogonal", (10, 3, 4), "float64", in_axis=0, out_axis=[1, 2])
    same(region_of(filler, ((2, 9), (1, 3), (1, 3)), "float64"), values[2:9, 1:3, 1:3])
    matrix = values.reshape(10, 12)
    assert abs(matrix @ matrix.T - np.eye(10)).max() < 1e-13


def test_a_shape_that_looks_like_jaxs_is_told():
    with pytest.warns(UserWarning, match="in_axis=-2, out_axis=-1"):
        filled("orthogonal", (3, 3, 16, 32), "float32")
    with pytest.warns(UserWarning, match="in_axis=-2, out_axis=-1"):
        filled("delta_orthogonal", (3, 3, 8, 16), "float32")
    with pytest.raises(bigin.InputError, match=r"got 5 .axis 1. and 3 .axis 0. in shape .3, 5, 8, 16.$"):
        filled("delta_orthogonal", (3, 5, 8, 16), "float32")
    for shape in ((64, 3, 7, 7), (3, 3, 7, 7), (1, 1, 5, 5)):
        filled("orthogonal", shape, "float32")
    for method in ("orthogonal", "delta_orthogonal"):
        filled(method, (3, 3, 16, 32), "float32", in_axis=-2, out_axis=-1)


def test_orthogonal_with_a_negative_gain():
    same(filled("orthogonal", (9, 5), "float32", gain=-1), -filled("orthogonal", (9, 5), "float32"))
