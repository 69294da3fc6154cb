"""bigin show: statistics against numpy, marginals against scipy, and checks of right and wrong values."""

from __future__ import annotations

import io
import json
import math
import signal
import struct
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import scipy.stats
import zarr
from common import all_run, command, examples
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import bigin
from bigin.core.dtypes import DTYPES, FLOATS
from bigin.core.regions import extent
from bigin.inspect.checks import RARE, SIGMAS, expected_of
from bigin.jobs.journal import progress
from bigin.jobs.resume import identity
from bigin.methods.distributions import Normal, TruncNormal, Uniform
from bigin.methods.expected import lattice, rounded
from bigin.methods.marginals import (
    Bins,
    DiscreteMarginal,
    Marginal,
    NormalMarginal,
    SphereMarginal,
    TruncNormalMarginal,
    UniformMarginal,
    WithZeros,
)
from bigin.spec.tensor import TensorSpec
from bigin.targets.open import open_target
from bigin.targets.target import Scratch
from tests.layouts import LAYOUTS, Layout


def run(*arguments: object, code: int = 0) -> str:
    """What the command prints to the standard output, or else to the standard error; in this process, which is fast."""
    from bigin.cli import main

    out, err, handler = io.StringIO(), io.StringIO(), signal.getsignal(signal.SIGTERM)
    with (
        mock.patch.object(sys, "argv", ["bigin", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
            found: object = 0
        except SystemExit as done:
            found = done.code
        finally:
            signal.signal(signal.SIGTERM, handler)
    assert found == code, out.getvalue() + err.getvalue()
    return out.getvalue() or err.getvalue()


def filled(method: str, shape: tuple[int, ...], dtype: str = "float32", **arguments: Any) -> np.ndarray:
    values = np.zeros(shape, DTYPES[dtype])
    bigin.fill(values, method, **arguments)
    return values


def wrong(overview: bigin.Overview) -> list[str]:
    assert overview.looks_right is not None
    return [check.what for check in overview.checks if not check.right]


# Statistics


def check_against_numpy(overview: bigin.Overview, values: np.ndarray) -> None:
    found = overview.statistics
    assert found is not None
    with np.errstate(invalid="ignore", over="ignore"):
        wide = values.ravel().astype(np.float64)
        finite = wide[np.isfinite(wide)]
        assert found.count == values.size
        assert found.finite == finite.size
        assert found.nan == np.count_nonzero(np.isnan(wide))
        assert found.infinite == (np.count_nonzero(wide == np.inf), np.count_nonzero(wide == -np.inf))
        assert found.zeros == np.count_nonzero(finite == 0)
        np.testing.assert_array_equal(
            found.histogram, np.bincount(found.bins.index(finite), minlength=found.bins.count + 2)
        )
        if not finite.size:
            assert math.isnan(found.mean)
            return
        kept = values.ravel()[np.isfinite(wide)]  # of the dtype: int64 is wider than float64
        assert (found.minimum, found.maximum) == (kept.min(), kept.max())
        mean, std = finite.mean(), finite.std()
        if np.isfinite(std):
            scale = float(abs(finite).max())
            assert found.mean == pytest.approx(mean, rel=1e-12, abs=1e-12 * scale)
            assert found.std == pytest.approx(std, rel=1e-9, abs=1e-12 * scale)


# Each has kernels of its own.
COUNTED = sorted(name for name in DTYPES if not name.startswith("complex")) if all_run() else ["bfloat16", "float32"]


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Any bits of any dtype, or values that lie close together far from 0, in any size around the kernels' steps."""
    dtype = DTYPES[draw(st.sampled_from(COUNTED))]
    size = draw(st.sampled_from([1, 2, 3, 17, 2047, 2048, 2049, 5000]))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    if draw(st.booleans()):
        return random.integers(0, 256, size * dtype.itemsize, np.uint8).view(dtype)
    values = (random.standard_normal(size) * draw(st.sampled_from([1e-3, 1.0, 30])) + 64).astype(dtype)
    places = draw(st.lists(st.integers(0, size - 1), max_size=5))
    if dtype.name in FLOATS:
        values[places] = draw(hnp.arrays(np.float64, len(places))).astype(dtype)
    return values


@examples(150)
@given(arrays())
@example(np.array([np.nan, np.inf, -np.inf, -0.0, 0.0], np.float32))
@example(np.full(4096, np.nan, np.float64))
@example(np.array([2**63 - 1, -(2**63)], np.int64))
@example(np.array([2**64 - 1, 0], np.uint64))
@example(np.array([1.7e308, -1.7e308], np.float64))
@pytest.mark.filterwarnings("ignore:overflow encountered")
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_statistics_are_numpys(values):
    if values.dtype.name not in COUNTED:
        return
    overview = bigin.show(values)
    check_against_numpy(overview, values)
    text = json.dumps(overview.as_dict(), allow_nan=False)
    assert json.loads(text)["statistics"]["count"] == values.size


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_layout(layout: Layout, tmp_path):
    shape, dtype = (7, 11), "float32"
    target = layout.make(tmp_path, shape, dtype)
    arguments = layout.arguments(shape, dtype)
    bigin.fill(target, "normal", **arguments)
    overview = bigin.show(target, **arguments)
    check_against_numpy(overview, layout.read(target))
    assert overview.layout["format"].split()[0] in ("memory", "npy", "raw", "zarr", "safetensors")
    assert overview.looks_right is (True if layout.keeps else None)
    if "stored" in overview.layout:
        assert overview.layout["stored"] == overview.layout["of"] == len(open_target(target).grid())
    json.dumps(overview.as_dict(), allow_nan=False)


def test_layouts_are_told():
    base = {"shape": (8, 6), "dtype": "float64"}
    zarr.create_array("a.zarr", **base, chunks=(2, 3), shards=(4, 6))
    zarr.create_array("b.zarr", **base, chunks=(4, 6), zarr_format=2, order="F", compressors=None)
    np.save("c.npy", np.zeros((8, 6), ">f8", order="F"))
    a, b, c = (bigin.show(path).layout for path in ("a.zarr", "b.zarr", "c.npy"))
    assert a["format"] == "zarr 3"
    assert (a["chunks"], a["shards"], a["stored"], a["of"]) == ([2, 3], [4, 6], 0, 2)
    assert a["codecs"][0].startswith("zstd(level=")
    assert (b["format"], b["shards"], b["codecs"]) == ("zarr 2", None, ["Fortran order"])
    assert c == {"format": "npy", "order": "Fortran", "byte_order": "big", "offset": 128}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_threads_change_no_digit(dtype):
    path = Path("array.zarr")
    bigin.create(path, shape=(500, 300), dtype=dtype, chunks=(17, 300))
    bigin.fill(path, "normal", std=0.02)
    found = [bigin.show(path, threads=threads, sample=sample).as_dict() for sample in (1, 0.5) for threads in (1, 2, 7)]
    for overview in found:
        del overview["seconds"]
    assert found[0] == found[1] == found[2]
    assert found[3] == found[4] == found[5]
    assert found[3]["regions"] == 15
    assert found[3]["statistics"]["count"] == pytest.approx(75000, rel=0.05)


# Promises

SCIPY: list[tuple[Marginal, Any]] = [
    (UniformMarginal(Uniform(-3.0, 5.0)), scipy.stats.uniform(-3, 8)),
    (NormalMarginal(Normal(2.0, 0.3)), scipy.stats.norm(2, 0.3)),
    *(
        (
            TruncNormalMarginal(TruncNormal(mean, std, a, b)),
            scipy.stats.truncnorm((a - mean) / std, (b - mean) / std, mean, std),
        )
        for mean, std, a, b in [(0, 1, -2, 2), (0, 0.02, -0.04, 0.04), (1, 2, 0, 9), (0, 1, 4, 6), (0, 1, -36, -30)]
    ),
    *(
        (
            SphereMarginal(size, gain),
            scipy.stats.beta((size - 1) / 2, (size - 1) / 2, -gain, 2 * gain),  # (1 + x / gain) / 2
        )
        for size, gain in [(2, 1.0), (3, 1.0), (5, 2.0), (64, 0.5), (5000, 1.0)]
    ),
]


@pytest.mark.parametrize(("ours", "theirs"), SCIPY, ids=lambda value: type(value).__name__)
def test_marginals_are_scipys(ours: Marginal, theirs: Any):
    assert ours.mean == pytest.approx(theirs.mean(), rel=1e-6, abs=1e-12)
    assert ours.std == pytest.approx(theirs.std(), rel=1e-5)
    # Its fourth moment of a far interval is lost to rounding, so there ours is the integral's.
    far = isinstance(ours, TruncNormalMarginal) and abs(ours.mean - ours.centre) > 3 * ours.sigma
    kurtosis = integrated_kurtosis(theirs) if far else float(theirs.stats("k")) + 3.0
    assert ours.kurtosis == pytest.approx(kurtosis, rel=1e-3)
    x = theirs.ppf(np.linspace(0.001, 0.999, 301))
    np.testing.assert_allclose(ours.below(x), theirs.cdf(x), atol=1e-6)
    np.testing.assert_allclose(ours.above(x), theirs.sf(x), atol=1e-6)
    bins = Bins(float(x[0]), float(x[-1]), 50)
    expected = np.diff(theirs.cdf(bins.edges()), prepend=0, append=1)
    np.testing.assert_allclose(ours.binned(bins), expected, atol=1e-6)
    for probability in (0.5, 1e-3, 1e-6):
        spread = max(ours.std * 1e-2, 1e-9)
        assert ours.upper(probability) == pytest.approx(theirs.isf(probability), abs=spread)
        assert ours.lower(probability) == pytest.approx(theirs.ppf(probability), abs=spread)


def integrated_kurtosis(law: Any) -> float:
    x = np.linspace(*law.support(), 200_001)
    p = law.pdf(x)
    p /= p.sum()
    d = x - np.dot(x, p)
    return float(np.dot(d**4, p) / np.dot(d**2, p) ** 2)


def test_tails_are_precise():
    normal = NormalMarginal(Normal(0.0, 1.0))
    assert normal.above(np.array([8.0]))[0] == pytest.approx(scipy.stats.norm.sf(8.0), rel=1e-9)
    truncated = TruncNormalMarginal(TruncNormal(0.0, 1.0, 30.0, 36.0))
    assert truncated.above(np.array([30.5]))[0] == pytest.approx(
        scipy.stats.norm.sf(30.5) / scipy.stats.norm.sf(30.0), rel=1e-6
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize(
    ("distribution", "marginal", "law", "bounds"),
    [
        (Normal(0.0, 0.3), NormalMarginal, scipy.stats.norm(0, 0.3), (-2.0, 2.0)),
        (Normal(0.1, 0.004), NormalMarginal, scipy.stats.norm(0.1, 0.004), (0.07, 0.13)),
        (Uniform(-1.0, 1.0), UniformMarginal, scipy.stats.uniform(-1, 2), (-1.0, 0.9)),
        (TruncNormal(0, 1, -2, 2), TruncNormalMarginal, scipy.stats.truncnorm(-2, 2), (-2.0, 2.0)),
    ],
)
def test_rounding_is_allowed_for(distribution, marginal, law, bounds, dtype):
    first, last = (float(np.asarray(bound).astype(DTYPES[dtype])) for bound in bounds)
    ours = rounded(marginal(distribution), first, last, DTYPES[dtype])
    drawn = law.ppf((np.arange(400_000) + 0.5) / 400_000).astype(np.float32).astype(DTYPES[dtype]).astype(np.float64)
    drawn = np.clip(drawn, first, last)
    assert isinstance(ours, DiscreteMarginal)
    assert ours.mean == pytest.approx(drawn.mean(), abs=2e-4 * drawn.std())
    assert ours.std == pytest.approx(drawn.std(), rel=2e-4)
    assert ours.probabilities.sum() == pytest.approx(1)
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_allclose(ours.probabilities[np.searchsorted(ours.values, values)], counts / drawn.size, atol=1e-5)


@pytest.mark.parametrize("dtype", sorted(FLOATS))
def test_lattice_is_all_numbers_between(dtype):
    kind = DTYPES[dtype]
    values = lattice(-1.0, 1.0, kind)
    if kind.itemsize > 2:
        assert values is None
        values = lattice(float(kind.type(1000) - 100 * np.finfo(kind).eps * 512), 1000.0, kind)
    ascending = values.astype(kind)
    np.testing.assert_array_equal(ascending.astype(np.float64), values)
    if kind.itemsize <= 2:
        every = np.arange(1 << (8 * kind.itemsize)).astype(f"u{kind.itemsize}").view(kind)
        with np.errstate(invalid="ignore"):
            every = every.astype(np.float64)
        np.testing.assert_array_equal(values, np.unique(every[abs(every) <= 1]))
    else:
        np.testing.assert_array_equal(np.nextafter(ascending[:-1], kind.type(2000)), ascending[1:])


def test_zeros_among_others():
    ours = WithZeros(0.25, NormalMarginal(Normal(0.0, 2.0)))
    assert ours.std == pytest.approx(math.sqrt(0.75) * 2)
    assert ours.kurtosis == pytest.approx(3 / 0.75)
    np.testing.assert_allclose(ours.below(np.array([-1e-9, 0.0, 1e-9])), [0.375, 0.375, 0.625], atol=1e-6)
    assert ours.binned(Bins(-8.0, 8.0, 16)).sum() == pytest.approx(1)


def test_a_verdict_is_wrong_about_once_in_a_million():
    assert scipy.stats.norm.sf(SIGMAS) * 2 == pytest.approx(RARE)
    assert RARE < 1e-6


# Verdicts

RIGHT: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("uniform", {}, (300, 200)),
    ("uniform", {"a": 100, "b": 150}, (3000,)),
    ("uniform", {}, (1,)),
    ("normal", {"std": 0.02}, (300, 200)),
    ("normal", {"std": 1e-3}, (300, 200)),
    ("normal", {"mean": 100.0}, (300, 20)),
    ("normal", {}, (2,)),
    ("normal", {}, (5,)),
    ("trunc_normal", {"std": 0.02, "a": -0.04, "b": 0.04}, (300, 200)),
    ("trunc_normal", {"a": 4, "b": 6}, (300, 20)),
    ("xavier_uniform", {}, (64, 50)),
    ("kaiming_normal", {}, (64, 50, 3)),
    ("lecun_normal", {}, (64, 50)),
    ("constant", {"val": 3}, (30, 20)),
    ("zeros", {}, (30, 20)),
    ("eye", {}, (30, 20)),
    ("dirac", {"groups": 2}, (30, 20, 3)),
    ("sparse", {"sparsity": 0.9}, (300, 200)),
    ("sparse", {"sparsity": 0.05, "std": 1e-3}, (300, 20)),
    ("orthogonal", {}, (150, 150)),
    ("orthogonal", {"gain": 2}, (3, 700)),
    ("orthogonal", {}, (2, 2)),
    ("orthogonal", {}, (1, 1)),
    ("delta_orthogonal", {}, (30, 20, 3)),
]


@pytest.mark.parametrize(("method", "parameters", "shape"), RIGHT, ids=lambda value: str(value))
def test_right_values_look_right(method, parameters, shape):
    for dtype in ("float32", "float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"):
        for seed in range(3):
            values = filled(method, shape, dtype, seed=seed, **parameters)
            overview = bigin.show(values, method, seed=seed, **parameters)
            assert wrong(overview) == [], (dtype, seed, overview.checks)
            assert overview.looks_right


def test_a_row_of_padding_and_parts_look_right():
    values = filled("normal", (300, 20), padding_idx=7, mean=0.5)
    assert bigin.show(values, "normal", padding_idx=7, mean=0.5).looks_right
    assert "zeros" in wrong(bigin.show(values, "normal", mean=0.5)) or not bigin.show(values, "normal").looks_right
    np.save("eye.npy", np.zeros((30, 400), np.float32))
    bigin.fill("eye.npy", "eye", region=(slice(0, 30), slice(300, 700)), shape=(900, 900))
    assert bigin.show("eye.npy").looks_right
    assert bigin.show("eye.npy").record["region"]
    np.save("part.npy", np.zeros((300, 40), np.float32))
    bigin.fill("part.npy", "sparse", sparsity=0.3, region=(slice(0, 300), slice(20, 60)), shape=(300, 100))
    assert bigin.show("part.npy").looks_right


WRONG = {
    "another std": (lambda x: x * 1.03, {"std"}),
    "another mean": (lambda x: x + 0.002, {"mean"}),
    "another shape": (lambda x: filled("uniform", x.shape, a=-0.02 * 3**0.5, b=0.02 * 3**0.5), {"CDF distance", "max"}),
    "trained": (lambda x: x + 0.01 * np.sin(np.arange(x.shape[1])), {"std"}),
    "clipped": (lambda x: np.clip(x, -0.06, 0.06), {"min", "max"}),
    "an outlier": (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 5, 0.2, x), {"max"}),
    "a NaN": (lambda x: np.where(np.arange(x.size).reshape(x.shape) == 5, np.nan, x), {"not finite"}),
    "lost rows": (lambda x: np.where(np.arange(len(x))[:, None] < 60, 0, x), {"std", "CDF distance"}),
    "one sign": (abs, {"mean", "min"}),
}


@pytest.mark.parametrize("change", WRONG)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_wrong_values_look_wrong(change, dtype):
    values = filled("normal", (1000, 200), dtype, std=0.02)
    function, expected = WRONG[change]
    changed = np.asarray(function(values.astype(np.float64)), np.float64).astype(DTYPES[dtype])
    assert expected <= set(wrong(bigin.show(changed, "normal", std=0.02)))
    assert wrong(bigin.show(np.random.default_rng(0).permutation(values), "normal", std=0.02)) == []


def test_broken_structure_is_seen():
    eye = filled("eye", (40, 40))
    eye[3, 4] = 1.0
    assert {"mean", "zeros"} <= set(wrong(bigin.show(eye, "eye")))
    constant = filled("constant", (40, 40), val=2)
    constant[3, 4] = 2.0000002
    assert "max" in wrong(bigin.show(constant, "constant", val=2))
    q = filled("orthogonal", (64, 64))
    q[:, 3] = q[:, 4]
    assert wrong(bigin.show(q, "orthogonal")) == ["max |Q'Q - I|"]
    assert "rms" in wrong(bigin.show(1.001 * filled("orthogonal", (64, 64)), "orthogonal"))
    sparse = filled("sparse", (100, 30), sparsity=0.5)
    zero, other = np.argmax(sparse[:, 0] == 0), np.argmax(sparse[:, 1] != 0)
    sparse[zero, 0], sparse[other, 1] = sparse[other, 1], 0  # as many zeros and others as before
    found = bigin.show(sparse, "sparse", sparsity=0.5)
    assert wrong(found) == ["fewest zeros in a column"]
    assert found.checks[-1].got == 51


@examples(25)
@given(st.sampled_from(["normal", "uniform", "sparse", "eye"]), st.integers(0, 40), st.integers(0, 40))
def test_any_shape_may_be_shown(method, rows, columns):
    parameters = {"sparsity": 0.4} if method == "sparse" else {}
    overview = bigin.show(filled(method, (rows, columns), **parameters), method, **parameters)
    assert overview.looks_right is (True if rows * columns else None)


# What is not whole


def half_filled(path: Path, regions: int) -> None:
    """A fill that has come so far, as a killed one leaves it."""
    specification = TensorSpec.parse("normal", {"std": 0.5}, 3, "", (600, 1000), DTYPES["float32"])
    target = open_target(path, shape=specification.shape, dtype=specification.dtype)
    record = specification.record() | {"complete": False, "name_from": "unnamed"}
    target.ledger.begin(record)
    filler = specification.plan()()
    grid = target.grid(filler.region_bytes)
    for region in list(grid)[:regions]:
        for part, out in target.block(region, Scratch()):
            filler(part, out)
    target.ledger.checkpoint(progress(target, grid, regions, identity(record)))
    target.close()


@pytest.mark.parametrize("name", ["half.npy", "half.zarr"])
def test_an_incomplete_fill(name):
    path = Path(name)
    if name.endswith("zarr"):
        bigin.create(path, shape=(600, 1000), chunks=(100, 1000))
    half_filled(path, 2)
    overview = bigin.show(path)
    grid = open_target(path).grid()
    elements = sum(math.prod(extent(grid[i])) for i in range(2))
    assert overview.done == 2 / len(grid)
    assert overview.regions == 2
    assert overview.statistics.count == elements
    assert overview.looks_right
    assert f"{200 / len(grid):.1f}% has reached the disk" in run("show", path)
    assert json.loads(run("show", path, "--json"))["done"] == overview.done
    bigin.fill(path, "normal", std=0.5, seed=3, name="")
    assert bigin.show(path).done is None
    assert bigin.show(path).statistics.count == 600_000


def test_a_fill_that_has_only_begun():
    half_filled(Path("begun.npy"), 0)
    overview = bigin.show("begun.npy")
    assert (overview.done, overview.statistics, overview.looks_right) == (0.0, None, None)
    assert "0.0% has reached the disk" in run("show", "begun.npy")


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_a_pipe_takes_columns_and_breaks_no_number(columns, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    bigin.fill("a_file_with_a_long_name.npy", "trunc_normal", std=0.02, shape=(100, 100))
    facts, statistics, chart, conclusion = run("show", "a_file_with_a_long_name.npy").strip("\n").split("\n\n")
    assert all(len(line) <= columns for line in facts.splitlines())
    assert len(statistics.splitlines()) == 7
    assert all(line.endswith("ok") for line in statistics.splitlines()[1:])
    first, *rows = chart.splitlines()
    assert all(line.count("%") == 2 for line in rows)
    assert max(map(len, rows)) <= min(max(columns, 50), 76)
    assert first.split()[0] == "from"
    assert " ".join(conclusion.split()).startswith("looks like trunc_normal(std=0.02) (by its statistics; ")
    assert all(len(line) <= columns for line in conclusion.splitlines())


def test_without_a_record():
    np.save("plain.npy", np.arange(6.0).reshape(2, 3))
    overview = bigin.show("plain.npy")
    assert (overview.record, overview.wanted, overview.reason, overview.looks_right) == (None, "", "no record", None)
    text = run("show", "plain.npy")
    assert "not compared: no record" in text
    assert "mean    2.5" in text.replace("      2.5", "    2.5")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stream": 9}, "stream version 1"),
        ({"shape": [2, 2]}, "its record is of 2x2 float32"),
        ({"method": 5}, "cannot be used"),
        ({"dtype": "float64"}, "its record is of 20x30 float64"),
        ({"parameters": {"std": -1}}, "cannot be used"),
    ],
)
def test_nothing_is_expected_of_a_record_that_was_edited(change, said):
    bigin.fill("edited.npy", "normal", shape=(20, 30))
    sidecar = Path("edited.npy.bigin.json")
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | change))
    overview = bigin.show("edited.npy")
    assert said in overview.reason
    assert overview.statistics.count == 600
    assert said in run("show", "edited.npy").replace("\n", " ")


def test_a_chunk_that_cannot_be_read_is_one_line():
    zarr.create_array("torn.zarr", shape=(40, 40), dtype="float32", chunks=(10, 40))
    bigin.fill("torn.zarr", "normal")
    Path("torn.zarr/c/1/0").write_bytes(b"damaged")
    error = run("show", "torn.zarr", code=1)
    assert error.startswith("bigin: torn.zarr: cannot be read: ")
    assert error.endswith("; `bigin verify` names the part, and its --repair fills it again\n")
    assert error.count("\n") == 1


# The command


def test_what_is_printed():
    run("fill", "-m", "normal", "--std", 0.02, "-q", "g.zarr/a/b", "--shape", "2000,100", "--seed", 7)
    text = command("show", "g.zarr/a/b").stdout
    assert text.splitlines()[6:] == run("show", "g.zarr/a/b").splitlines()[6:]
    assert max(map(len, text.splitlines())) <= 100
    assert not any(line.endswith(" ") for line in text.splitlines())
    assert "\x1b" not in text
    assert "values  2000x100 float32, 781.2 KiB\n" in text
    assert "layout  zarr 3, chunks of 2000x100, no codec\n" in text
    assert "record  normal(std=0.02), seed 7, name a.b, stream 1" in text
    assert "looks like normal(std=0.02)" in text
    for statistic in ("not finite", "mean", "std", "min", "max", "CDF distance"):
        (line,) = [line for line in text.splitlines() if line.startswith(statistic + " ")]
        assert line.endswith(" ok")
    assert text.count("│") > 12  # one mark in the head, one for each bar
    assert "mean" not in run("show", "g.zarr/a/b", "--no-statistics")
    assert run("show", "g.zarr/a/b", "-q") == ""


def test_exit_codes():
    bigin.fill("a.npy", "normal", shape=(100, 100))
    run("show", "a.npy", "-m", "normal")
    text = " ".join(run("show", "a.npy", "--method", "normal", "--std", 2, code=1).split())
    assert "does not look like normal(std=2.0): std, min, max and CDF distance are not as expected" in text
    run("show", "a.npy", "--method", "normal", "--std", 2, "-q", code=1)
    assert json.loads(run("show", "a.npy", "-m", "uniform", "--json", code=1))["looks_right"] is False
    assert run("show", "none.npy", code=2) == "bigin: none.npy: expected a target to show, got nothing\n"
    assert "give --method" in run("show", "a.npy", "--std", 2, code=2)
    assert "sample" in run("show", "a.npy", "--sample", "0", code=2)
    assert "at least 1 thread" in run("show", "a.npy", "--threads", "0", code=2)
    assert "expected a float dtype" in run(
        "show", "--raw", "a.npy", "--shape", "10", "--dtype", "int8", "-m", "normal", code=2
    )


def test_raw_takes_shape_and_dtype_from_the_record():
    run("fill", "-m", "uniform", "--raw", "w.bin", "--shape", "30,40", "--dtype", "bfloat16", "--offset", "8", "-q")
    found = json.loads(run("show", "--raw", "w.bin", "--offset", 8, "--json"))
    assert (found["shape"], found["dtype"], found["looks_right"]) == ([30, 40], "bfloat16", True)
    assert found["layout"] == {"format": "raw", "order": "C", "byte_order": "little", "offset": 8}


def test_json():
    bigin.fill("a.zarr", "sparse", sparsity=0.5, shape=(100, 50), dtype="bfloat16")
    found = json.loads(run("show", "a.zarr", "--json"))
    assert list(found) == [
        "target", "shape", "dtype", "layout", "nbytes", "stored_bytes", "record", "done", "wanted", "reason", "regions",
        "total", "seconds", "statistics", "verdicts", "looks_right",
    ]  # fmt: skip
    assert list(found["statistics"]) == [
        "count", "finite", "nan", "zeros", "mean", "std", "minimum", "maximum", "inf", "histogram",
    ]  # fmt: skip
    histogram = found["statistics"]["histogram"]
    counted = sum(histogram["counts"]) + histogram["below"] + histogram["above"]
    assert counted + found["statistics"]["zeros"] == 5000
    assert len(histogram["edges"]) == len(histogram["counts"]) + 1 == len(histogram["expected"]) + 1
    assert sum(histogram["expected"]) == pytest.approx(2500, rel=0.01)
    for check in found["verdicts"]:
        assert list(check) == ["what", "got", "low", "high", "off", "right"]
        assert check["right"] is (check["low"] <= check["got"] <= check["high"])
    assert found["record"]["method"] == "sparse"
    assert found["looks_right"] is True


def test_plot():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'bigin[test]'")
    bigin.fill("a.npy", "normal", shape=(300, 100))
    run("show", "a.npy", "--plot", "a.png", "-q")
    data = Path("a.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (1500, 630)
    assert "expected an existing folder" in run("show", "a.npy", "--plot", "none/a.png", code=2)
    assert "not supported" in run("show", "a.npy", "--plot", "a.txt", code=2)
    bigin.fill("b.npy", "zeros", shape=(3,))
    assert "expected values that differ" in run("show", "b.npy", "--plot", "b.png", code=2)


def test_without_matplotlib(monkeypatch):
    from bigin.inspect.plot import check_plot

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(bigin.InputError, match=r"pip install 'bigin\[plot\]'"):
        check_plot("a.png")


def test_the_picture_shows_the_histogram():
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'bigin[test]'")
    values = filled("normal", (300, 100))
    histogram = bigin.show(values, "normal").histogram(64)
    counts, _ = np.histogram(values.astype(np.float64), histogram.edges)
    assert abs(counts - histogram.counts).max() <= 1  # values on an edge
    assert histogram.counts.sum() + histogram.below[0] + histogram.above[0] == values.size
    assert histogram.expected.sum() + histogram.below[1] + histogram.above[1] == pytest.approx(values.size)
    expected = values.size * np.diff(scipy.stats.norm.cdf(histogram.edges))
    np.testing.assert_allclose(histogram.expected, expected, atol=1e-6 * values.size)


def test_what_is_expected_of_the_whole_needs_the_whole():
    eye = TensorSpec.parse("eye", {}, 0, "", (30, 30), DTYPES["float32"])
    assert expected_of(eye, whole=True).zeros == 870
    assert expected_of(eye, whole=False).zeros is None
    assert not expected_of(eye, whole=False).known
