"""The numeric core: words, functions, roundings and distributions, each against something that is not ours."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from functools import cache

import mpmath as mp
import numpy as np
import pytest
import reference
from common import TESTS, examples, is_compiled
from hypothesis import assume, example, given
from hypothesis import strategies as st
from numba import njit
from scipy import stats

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.fillers.families import plan
from bigin.fillers.filler import DrawnFiller, Stream
from bigin.methods import scalars as numbers_of
from bigin.methods import table
from bigin.methods.distributions import Normal, TruncNormal, Uniform
from bigin.rng import coefficients, draws, portable
from bigin.rng.philox import philox
from bigin.rng.streams import stream_id

VECTORS = TESTS / "vectors" / "philox4x32.txt"
DOCUMENT = reference.DOCUMENT.read_text(encoding="utf-8")
NARROW = {
    "float16": portable.bits_float16,
    "bfloat16": portable.bits_bfloat16,
    "float8_e4m3fn": portable.bits_float8_e4m3fn,
    "float8_e5m2": portable.bits_float8_e5m2,
}
RNG = np.random.default_rng


@cache
def looped(function, outputs=1):
    """A scalar function of the core as a function of arrays, compiled as the kernels compile it."""

    @njit(error_model="numpy")
    def one(x, out):
        for i in range(x.shape[0]):
            out[0][i] = function(x[i])

    @njit(error_model="numpy")
    def two(x, out):
        for i in range(x.shape[0]):
            out[0][i], out[1][i] = function(x[i])

    return one if outputs == 1 else two


def applied(function, x, dtype, outputs=1):
    out = tuple(np.empty(x.size, dtype) for _ in range(outputs))
    looped(function, outputs)(x, out)
    return out[0] if outputs == 1 else out


def ulps(got, exact) -> float:
    """How far a float is from an exact number, in units of the last place there."""
    unit = np.spacing(type(got)(abs(exact)))
    return float(abs(mp.mpf(float(got)) - exact) / mp.mpf(float(unit)))


# Words


@njit
def philox_words(blocks, streams, keys, out):
    for i in range(blocks.shape[0]):
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = philox(blocks[i], streams[i], keys[i])


def words_of(counters_and_keys) -> list[tuple[int, ...]]:
    """The library's words of (c0, c1, c2, c3, k0, k1)."""
    c = np.array(counters_and_keys, np.uint64)
    join = np.uint64(32)
    out = np.empty((len(c), 4), np.uint32)
    philox_words(c[:, 0] | c[:, 1] << join, c[:, 2] | c[:, 3] << join, c[:, 4] | c[:, 5] << join, out)
    return [tuple(map(int, row)) for row in out]


def test_philox_known_answers():
    lines = [line.split() for line in VECTORS.read_text().splitlines() if not line.startswith("#")]
    vectors = [tuple(int(word, 16) for word in line) for line in lines]
    assert [len(v) for v in vectors] == [10] * 7
    assert words_of([v[:6] for v in vectors]) == [v[6:] for v in vectors]
    assert [reference.philox(v[:4], v[4:6]) for v in vectors] == [v[6:] for v in vectors]


def test_philox_is_the_references():
    inputs = RNG(0).integers(0, 2**32, (3000, 6)).tolist()
    assert words_of(inputs) == [reference.philox(tuple(i[:4]), tuple(i[4:])) for i in inputs]


def test_stream_ids():
    assert stream_id("") == 0
    assert stream_id("layers/0/weight") == 0xAC567F331759DED2
    digest = hashlib.blake2b("été\0mask".encode(), digest_size=8, person=b"bigin-v1").digest()
    assert stream_id("été", "mask") == int.from_bytes(digest, "little") == reference.stream_id("été", "mask")
    names = ["", "a", "b", "a/b", "mask"]
    ids = {stream_id(name, purpose) for name, purpose in itertools.product(names, names)}
    assert len(ids) == len(names) ** 2


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_tensor_draws_from_the_stream_of_its_name_and_purpose(dtype):
    out = np.empty(5, dtype)
    numbers = numbers_of.uniform(Uniform(0.0, 1.0), out.dtype)
    fill = DrawnFiller((2**40,), out.dtype, numbers, Stream(2**64 - 1, "a", "mask"))
    fill(((2**33 + 1, 2**33 + 6),), out)
    stream = reference.stream_id("a", "mask")
    assert out.tolist() == [
        reference.uniform(e, stream, 2**64 - 1, dtype, 0.0, 1.0) for e in range(2**33 + 1, 2**33 + 6)
    ]


# The document


def test_the_documents_tables_are_the_librarys():
    names = [name for name in vars(coefficients) if re.fullmatch(r"[A-Z_]+_(32|64)", name)]
    assert len(names) == 14
    library = {name.removeprefix("QUANTILE_"): list(getattr(coefficients, name)) for name in names}
    assert reference.tables() == library


def document_rows(first_word: str) -> list[list[str]]:
    block = next(b for b in re.findall(r"```\n(.*?)```", DOCUMENT, re.S) if b.split()[0] == first_word)
    return [line.split() for line in block.splitlines()[1:]]


def bits_of(values: np.ndarray) -> int:
    """The bits of the one value."""
    return int(values.view(f"u{values.itemsize}")[0])


def test_the_documents_values():
    rows = document_rows("method")
    assert len(rows) > 50
    for method, *pairs, dtype, seed, name, index, value in rows:
        parameters = {key: float(number) for key, number in (pair.split("=") for pair in pairs)}
        name, seed, index = name.strip("-"), int(seed, 16), int(index)
        made = reference.elements(method, parameters, (2**62 + 8,), dtype, seed, name, [index])
        assert bits_of(made) == int(value, 16), (method, dtype, index)
        if not is_compiled(dtype):
            continue
        distribution = {"uniform": Uniform, "normal": Normal, "trunc_normal": TruncNormal}[method]
        out = np.empty(1, dtypes.FLOATS[dtype])
        plan(distribution(*parameters.values()), (2**62 + 8,), out.dtype, seed, name)()(((index, index + 1),), out)
        assert bits_of(out) == int(value, 16), (method, dtype, index)


def test_the_documents_streams():
    rows = [["" if cell == "(empty)" else cell for cell in row] for row in document_rows("name")]
    assert len(rows) == 4
    for name, purpose, stream in rows:
        assert stream_id(name, purpose) == int(stream, 0)


def test_the_documents_steps():
    """Those of the worked examples that the reference has a name for."""
    (normal, trunc) = [
        b for b in re.findall(r"```\n(.*?)```", DOCUMENT, re.S) if b.split()[:2] == ["float32", "float64"]
    ]
    rows = {row[0]: row[1:] for row in map(str.split, normal.splitlines()[1:])}
    numbers = {row[0]: row[1:] for row in map(str.split, trunc.splitlines()[1:])}
    for column, t in enumerate(("float32", "float64")):
        even, odd = (reference.drawn_bits(e, 0, 0, t) for e in (0, 1))
        assert [int(rows[f"x({e})"][column], 0) for e in (0, 1)] == [even, odd]
        log = reference.log_word(even, t)
        steps = [log, reference.sqrt(-2 * log, t), *reference.sincos_word(odd, t)]
        steps += [reference.normal(e, 0, 0, t, 0.0, 1.0) for e in (0, 1)]
        labels = ["log_word", "radius", "sin", "cos", "value(0)", "value(1)"]
        assert [float.fromhex(rows[label][column]) for label in labels] == steps
        seven, anchor, _, _ = reference.trunc_normal_numbers(0.0, 0.5, 2.0, 3.0, t)
        labels = ["p_start", "p_step", "q_start", "q_step", "w_unit", "d_start", "d_step"]
        assert [float.fromhex(numbers[label][column]) for label in labels] == seven
        assert int(numbers["anchor"][column]) == anchor


# Functions, against mpmath

mp.mp.dps = 50


def words(bits: int, count: int) -> np.ndarray:
    """Both ends, both sides of sqrt(1/2), of the eighths of a turn, and random words."""
    edges = [0, 2**bits, math.isqrt(2 ** (2 * bits - 1)), *(i << (bits - 3) for i in range(8))]
    near = {(edge + i) % 2**bits for edge in edges for i in range(-20, 20)}
    kind = np.uint32 if bits == 32 else np.uint64
    return np.concatenate([np.array(sorted(near), kind), RNG(bits).integers(0, 2**bits, count, dtype=kind)])


FUNCTIONS = [
    (32, np.float32, portable.log_word_32, portable.sincos_word_32),
    (64, np.float64, portable.log_word_64, portable.sincos_word_64),
]


@pytest.mark.parametrize(("bits", "kind", "log", "_"), FUNCTIONS)
def test_log_word(bits, kind, log, _):
    """3 units in the last place, also next to 1, where the logarithm is next to 0."""
    x = words(bits, 3000)
    for w, got in zip(x.tolist(), applied(log, x, kind), strict=True):
        exact = mp.log((2 * mp.mpf(w) + 1) / 2 ** (bits + 1))
        assert ulps(got, exact) < 3, hex(w)
        assert float(got) == reference.log_word(w, np.dtype(kind).name), hex(w)


@pytest.mark.parametrize(("bits", "kind", "_", "sincos"), FUNCTIONS)
def test_sincos_word(bits, kind, _, sincos):
    """2.5 units in the last place, also next to the zeros of the sine and the cosine, which are exact."""
    x = words(bits, 3000)
    got = applied(sincos, x, kind, outputs=2)
    for w, *pair in zip(x.tolist(), *got, strict=True):
        assert [float(v) for v in pair] == [*reference.sincos_word(w, np.dtype(kind).name)], hex(w)
        for value, exact in zip(pair, (mp.sinpi, mp.cospi), strict=True):
            exact = exact(mp.mpf(w) / 2 ** (bits - 1))
            assert value == 0 if exact == 0 else ulps(value, exact) < 2.5, hex(w)


@pytest.mark.parametrize(("kind", "log"), [(np.float32, portable.log_32), (np.float64, portable.log_64)])
def test_log(kind, log):
    """1.5 units in the last place, or of 1/4 next to 1, over all exponents."""
    exponents = RNG(5).uniform(-85, 85, 3000) if kind == np.float32 else RNG(5).uniform(-700, 700, 3000)
    x = np.concatenate([np.exp(exponents), 1 + RNG(6).uniform(-0.3, 0.42, 1000)]).astype(kind)
    for value, got in zip(x, applied(log, x, kind), strict=True):
        exact = mp.log(mp.mpf(float(value)))
        unit = max(np.spacing(kind(abs(exact))), np.spacing(kind(0.25)))
        assert abs(mp.mpf(float(got)) - exact) < 1.5 * float(unit), value


def upper(x: mp.mpf) -> mp.mpf:
    """Phi(-x)"""
    return mp.erfc(x / mp.sqrt(2)) / 2


def exact_quantile(p: mp.mpf, q: mp.mpf) -> mp.mpf:
    """x with Phi(x) = p and Phi(-x) = q, by Newton's method on the logarithm of the smaller one."""
    if p < q:
        return -exact_quantile(q, p)
    x = mp.sqrt(-2 * mp.log(q)) * mp.mpf("0.95") if q < mp.mpf("0.4") else (p - q) * mp.sqrt(mp.pi / 2)
    for _ in range(100):
        now = upper(x)
        step = mp.log(now / q) * now * mp.sqrt(2 * mp.pi) * mp.exp(x * x / 2)
        x += step
        if abs(step) <= mp.mpf(10) ** -35 * abs(x):
            return x
    raise AssertionError("no convergence")


INTERVALS = [
    (-2.0, 2.0),
    (0.0, 1.0),
    (-1.0, 3.0),
    (4.0, 6.0),
    (-6.0, -4.0),
    (20.0, 20.1),
    (-20.1, -20.0),
    (36.0, 40.0),
    (-40.0, -36.0),
    (-38.0, 38.0),
    (-1e-3, 2e-3),
    (0.5, 0.50001),
]
TRUNCATED = [(32, np.float32, draws.trunc_normal_32), (53, np.float64, draws.trunc_normal_64)]


@njit(inline="always")
def unchanged(x):
    return x


@cache
def drawing(draw, store=unchanged):
    """A draw of the core as a function of arrays."""

    @njit(error_model="numpy")
    def loop(drawn, out, numbers, anchor):
        for i in range(drawn.shape[0]):
            out[i] = store(draw(drawn[i], numbers, anchor))

    return loop


def truncated(bits, kind, draw, low, high, k):
    """The standard normal on [low, high] at u = (k + 1/2) 2^-bits, and its numbers."""
    _, numbers, anchor = numbers_of.trunc_normal(TruncNormal(0.0, 1.0, low, high), np.dtype(kind))
    drawn = np.array(k, np.uint64)
    drawn = drawn.astype(np.uint32) if bits == 32 else drawn << np.uint64(11)
    out = np.empty(drawn.size, kind)
    drawing(draw)(drawn, out, tuple(map(kind, numbers)), np.uint64(anchor))
    return out, anchor


@pytest.mark.parametrize(("low", "high"), INTERVALS)
@pytest.mark.parametrize(("bits", "kind", "draw"), TRUNCATED)
def test_trunc_normal_is_the_inverse_cdf(bits, kind, draw, low, high):
    """4 units in the last place of the value: at both ends, at the median (where it is near 0) and between."""
    last = 2**bits - 1
    _, anchor = truncated(bits, kind, draw, low, high, [0])
    near = [min(last, max(0, anchor + i)) for i in range(-10, 10)]
    k = [*range(10), *(last - i for i in range(10)), *near, *RNG(3).integers(0, 2**bits, 60).tolist()]
    got, _ = truncated(bits, kind, draw, low, high, k)
    a, b = mp.mpf(low), mp.mpf(high)
    width = upper(a) - upper(b) if a > 0 else upper(-b) - upper(-a)
    for i, value in zip(k, got, strict=True):
        u = (2 * mp.mpf(i) + 1) / 2 ** (bits + 1)
        assert ulps(value, exact_quantile(upper(-a) + u * width, upper(b) + (1 - u) * width)) < 4, i


@pytest.mark.parametrize(("low", "high"), [pair for pair in INTERVALS if pair != (0.5, 0.50001)])
def test_trunc_normal_has_no_atoms_at_its_bounds(low, high):
    """No more words fall on a bound than on a few numbers' worth of its neighbourhood."""
    count = 2**22
    ends = np.arange(count)
    first, _ = truncated(*TRUNCATED[0], low, high, ends)
    last, _ = truncated(*TRUNCATED[0], low, high, 2**32 - 1 - ends)
    a, b = mp.mpf(low), mp.mpf(high)
    width = upper(a) - upper(b) if a > 0 else upper(-b) - upper(-a)
    for bound, values in ((low, first), (high, last)):
        number = np.float32(bound)
        expected = mp.npdf(mp.mpf(bound)) * float(np.spacing(abs(number))) / width * 2**32
        assert expected < count / 3
        assert np.count_nonzero(values == number) <= 3 * expected + 4


@pytest.mark.parametrize(("bits", "kind", "_"), TRUNCATED)
def test_the_median_of_a_symmetric_interval_is_a_tie(bits, kind, _):
    """Whatever the last of the decimal digits: half-way between two words, and the even one is the anchor."""
    for std in (k / 16 for k in range(1, 60)):
        _, numbers, anchor = numbers_of.trunc_normal(TruncNormal(0.0, std, -2.0, 2.0), np.dtype(kind))
        assert (anchor, numbers[5]) == (2 ** (bits - 1), numbers[6] / 2)


@pytest.mark.parametrize(("dtype", "std", "a", "b"), [("float32", 1e38, 1.0, 2.0), ("float64", 1e200, 0.0, 1e-300)])
def test_an_interval_too_narrow_for_its_dtype_is_refused(dtype, std, a, b):
    with pytest.raises(InputError, match="wider"):
        numbers_of.trunc_normal(TruncNormal(0.0, std, a, b), np.dtype(dtype))


# Roundings, against numpy's and ml_dtypes' own


def ties_and_neighbours(dtype: np.dtype) -> np.ndarray:
    """Every finite number of a dtype, every midpoint of two, and their float32 neighbours; both signs."""
    codes = np.arange(2 ** (8 * dtype.itemsize - 1)).astype(f"u{dtype.itemsize}").view(dtype)
    with np.errstate(invalid="ignore"):  # of the NaNs among them
        codes = codes.astype(np.float64)
    numbers = codes[np.isfinite(codes)]
    points = np.concatenate([numbers, (numbers[1:] + numbers[:-1]) / 2])
    singles = points.astype(np.float32)
    assert (singles == points).all()
    up, down = (np.nextafter(singles, np.float32(to)) for to in (np.inf, -np.inf))
    near = np.concatenate([singles, up, down, np.float32([1e-45, 1.1754944e-38, 1.17549421e-38])])
    near = near[(near >= 0) & (near <= numbers.max())]
    return np.concatenate([near, -near])


def reference_bits(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    exact = [reference.rounded(float(v), dtype.name) for v in x]
    return np.array(exact).astype(dtype).view(f"u{dtype.itemsize}")


@pytest.mark.parametrize("name", NARROW)
def test_rounding_to_narrow_floats(name):
    dtype = dtypes.FLOATS[name]
    storage = f"u{dtype.itemsize}"
    random = RNG(11).integers(0, 2**32, 2_000_000, dtype=np.uint32).view(np.float32)
    random = random[np.abs(random) <= dtypes.largest(dtype)]
    x = np.concatenate([ties_and_neighbours(dtype), random])
    got = applied(NARROW[name], x, storage)
    assert x.size > 500_000
    np.testing.assert_array_equal(got, x.astype(dtype).view(storage))
    assert np.count_nonzero(x == 0) == 2 or name == "bfloat16"
    some = RNG(12).integers(0, x.size, 5000)
    np.testing.assert_array_equal(got[some], reference_bits(x[some], dtype))
    if dtype.itemsize == 1:
        ties = ties_and_neighbours(dtype)
        np.testing.assert_array_equal(applied(NARROW[name], ties, storage), reference_bits(ties, dtype))


# Uniform: [low, high) in every dtype


def uniform_extremes(low: float, high: float, name: str) -> np.ndarray:
    """The values at the least and greatest words, and some others."""
    dtype = dtypes.FLOATS[name]
    drawn = np.float64 if name == "float64" else np.float32
    _, numbers, anchor = numbers_of.uniform(Uniform(low, high), dtype)
    x = words(64 if name == "float64" else 32, 50)
    out = np.empty(x.size, dtype)
    draw = draws.uniform_64 if name == "float64" else draws.uniform_32
    drawing(draw, NARROW.get(name, unchanged))(
        x, out.view(dtypes.storage(dtype)), tuple(map(drawn, numbers)), np.uint64(anchor)
    )
    return out.astype(np.float64)


BOUNDS = st.one_of(
    st.floats(-400, 400),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(-1e-3, 1e-3),
    st.floats(1 - 1e-6, 1 + 1e-6),
    st.sampled_from([0.0, -0.0, 5e-324, 1e-45, 448.0, -448.0, 57344.0, 65504.0, 2.0**-9, 2.0**-16, 2.0**-24]),
)


@pytest.mark.parametrize("name", dtypes.FLOATS)
@given(a=BOUNDS, b=BOUNDS)
@example(a=0.0, b=1.0)
@example(a=-1.0, b=0.0)
@example(a=0.1, b=0.3)
@example(a=1.0, b=1.0 + 2**-8)
@example(a=-448.0, b=448.0)
@example(a=1e-45, b=1e-44)
@example(a=0.099999999, b=100.00000001)
def test_uniform_stays_within_its_bounds(name, a, b):
    low, high = min(a, b), max(a, b)
    assume(low < high)
    try:
        values = uniform_extremes(low, high, name)
    except InputError:  # beyond the dtype's range, or no number of it between them
        return
    assert np.isfinite(values).all()
    assert low <= values.min()
    assert values.max() < high


@pytest.mark.parametrize("name", dtypes.FLOATS)
def test_uniform_comes_near_its_bounds(name):
    """A clamp to one number would pass the test above."""
    values = uniform_extremes(-1.0, 1.0, name)
    step = float(dtypes.largest_below(1.0, dtypes.FLOATS[name]))
    assert values.min() == -1.0
    assert values.max() >= min(step, 1 - 2.0**-22)
    assert len({*values}) > 5


# Distributions, at fixed seeds

COUNT = 1_000_000


@cache
def sample(distribution, dtype, count=COUNT, seed=2024, name="", start=0):
    out = np.empty(count, dtypes.FLOATS[dtype])
    plan(distribution, (start + count,), out.dtype, seed, name)()(((start, start + count),), out)
    out.flags.writeable = False
    return out


SHAPES = {
    "uniform": (Uniform(-1.5, 0.5), stats.uniform(-1.5, 2.0)),
    "normal": (Normal(0.5, 2.0), stats.norm(0.5, 2.0)),
    "trunc_normal": (TruncNormal(0.0, 1.0, -2.0, 2.0), stats.truncnorm(-2, 2)),
    "one side": (TruncNormal(1.0, 2.0, 0.0, 1.5), stats.truncnorm(-0.5, 0.25, 1.0, 2.0)),
    "right tail": (TruncNormal(0.0, 1.0, 4.0, 6.0), stats.truncnorm(4, 6)),
    "left tail": (TruncNormal(0.0, 1.0, -9.0, -5.0), stats.truncnorm(-9, -5)),
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_distribution(shape, dtype):
    """Kolmogorov and Smirnov's test of all values, and of the even and the odd ones alone."""
    distribution, law = SHAPES[shape]
    values = sample(distribution, dtype).astype(np.float64)
    for part in (values, values[0::2], values[1::2]):
        assert stats.kstest(law.cdf(part), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("shape", ["uniform", "normal", "trunc_normal"])
def test_narrow_floats_are_the_float32_values_rounded(shape, dtype):
    distribution, _ = SHAPES[shape]
    want = sample(distribution, "float32", 100_000).copy()
    if shape == "uniform":  # which is kept off its upper bound before it is rounded
        want = np.minimum(want, np.float32(dtypes.largest_below(distribution.high, dtypes.FLOATS[dtype])))
    got = sample(distribution, dtype, 100_000)
    assert got.tobytes() == want.astype(got.dtype).tobytes()


def plausible(count: int, n: int, p: float) -> bool:
    """Whether a binomial count lies within the central 1 - 2e-6 of its distribution."""
    law = stats.binom(n, p)
    return law.cdf(count) > 1e-6 and law.sf(count - 1) > 1e-6


def chunks(distribution, dtype, count, chunk=10_000_000):
    out = np.empty(chunk, dtype)
    fill = plan(distribution, (count,), out.dtype, 99, "tails")()
    for start in range(0, count, chunk):
        fill(((start, start + chunk),), out)
        yield out


@pytest.mark.parametrize(("dtype", "count"), [("float32", 100_000_000), ("float64", 30_000_000)])
def test_tails_of_the_normal(dtype, count):
    levels = np.array([2.0, 3.0, 4.0, 4.5, 5.0, 5.5])
    above, below = np.zeros(levels.size, int), np.zeros(levels.size, int)
    for values in chunks(Normal(0.0, 1.0), dtype, count):
        far = values[np.abs(values) > 2]
        above += [np.count_nonzero(far > level) for level in levels]
        below += [np.count_nonzero(far < -level) for level in levels]
    for level, counts in zip(levels, zip(above, below, strict=True), strict=True):
        assert all(plausible(c, count, stats.norm.sf(level)) for c in counts), (level, counts)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tails_of_the_truncated_normal(dtype):
    """How many values lie next to the bounds, and in slices of the interval."""
    count = 10_000_000
    law = stats.truncnorm(-2, 3)
    edges = np.array([-2, -2 + 1e-5, -2 + 1e-3, -1.5, 0, 1e-4, 2.5, 2.999, 2.9999, 3])
    (values,) = chunks(TruncNormal(0.0, 1.0, -2.0, 3.0), dtype, count)
    for low, high in itertools.pairwise(edges):
        found = np.count_nonzero((values >= low) & (values < high))
        assert plausible(found, count, law.cdf(high) - law.cdf(low)), (low, high, found)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_ends_of_the_uniform(dtype):
    count = 10_000_000
    (values,) = chunks(Uniform(0.0, 1.0), dtype, count)
    for level in (2.0**-20, 2.0**-16, 2.0**-8, 0.5):
        assert plausible(np.count_nonzero(values < level), count, level)
        assert plausible(np.count_nonzero(values >= 1 - level), count, level)


@pytest.mark.parametrize(("dtype", "reach"), [("float32", 6.7637), ("float64", 9.4926)])
def test_how_far_a_normal_reaches(dtype, reach):
    """The words that make the largest radius, and the reach that the fill checks dtypes against."""
    kind = np.dtype(dtype).type
    bits = 32 if dtype == "float32" else 64
    draw = draws.normal_32 if bits == 32 else draws.normal_64

    @njit
    def pair(even, odd, numbers):
        return draw(even, odd, numbers)

    def normals(even, odd):
        word = np.dtype(f"u{np.dtype(dtype).itemsize}").type
        return pair(word(even), word(odd), (kind(0.0), kind(1.0)))

    farthest, sine = normals(0, 0)
    assert sine == 0
    assert farthest == pytest.approx(reach, abs=1e-4)
    assert normals(0, 2 ** (bits - 1)) == (-farthest, 0)
    assert normals(2**bits - 1, 0)[0] == 2.0 ** (-bits / 2)  # the smallest radius
    assert farthest < (numbers_of.REACH_32 if bits == 32 else numbers_of.REACH_64)


# Independence, as far as correlations show it


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """In units of its own standard deviation under independence."""
    return float(np.corrcoef(x, y)[0, 1]) * math.sqrt(x.size)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", ["uniform", "normal", "trunc_normal"])
def test_elements_streams_and_seeds_are_uncorrelated(shape, dtype):
    distribution, _ = SHAPES[shape]

    def made(**where):
        return sample(distribution, dtype, **where).astype(np.float64)

    x = made()
    pairs = {f"lag {lag}": (x[:-lag], x[lag:]) for lag in (1, 2, 3, 4, 5, 8, 1024, 4096)}
    pairs["within a pair"] = (x[0::2], x[1::2])
    pairs["streams"] = (made(name="a"), made(name="b"))
    pairs["unnamed and named"] = (x, made(name="a"))
    pairs["seeds"] = (x, made(seed=2025))
    pairs["seeds' high words"] = (x, made(seed=2024 + 2**32))
    pairs["far"] = (x, made(start=2**34))
    for where, (u, v) in pairs.items():
        centre_u, centre_v = np.abs(u - u.mean()), np.abs(v - v.mean())
        for r in (correlation(u, v), correlation(centre_u, centre_v), correlation(centre_u, v)):
            assert abs(r) < 4.9, where


# The whole, against the reference

METHODS = [
    ("uniform", st.fixed_dictionaries({"a": st.floats(-2, 0), "b": st.floats(0.125, 3)})),
    ("normal", st.fixed_dictionaries({"mean": st.floats(-2, 2), "std": st.floats(0, 2)})),
    (
        "trunc_normal",
        st.fixed_dictionaries({"mean": st.floats(-2, 2), "std": st.floats(0.125, 2), "a": st.floats(-4, 1)}),
    ),
    ("trunc_normal", st.fixed_dictionaries({"lower": st.floats(-37, 36), "upper": st.floats(48, 400)})),
]


@pytest.mark.parametrize("dtype", dtypes.FLOATS)
@pytest.mark.parametrize(("method", "parameters"), METHODS)
@given(data=st.data())
@examples(15)
def test_every_value_is_the_references(method, parameters, dtype, data):
    p = data.draw(parameters)
    seed = data.draw(st.integers(0, 2**64 - 1))
    name = data.draw(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8))
    start = data.draw(st.integers(0, 2**63 - 100) | st.integers(0, 5000) | st.integers(2**32 - 50, 2**32 + 50))
    count = data.draw(st.integers(1, 40))
    row = table.find(method)
    shape = (2**63 - 1,)
    out = np.empty(count, dtypes.FLOATS[dtype])
    fill = plan(table.resolve(row, shape, row.parse(p)), shape, out.dtype, seed, name)()
    fill(((start, start + count),), out)
    want = reference.elements(method, p, shape, dtype, seed, name, range(start, start + count))
    assert out.tobytes() == want.tobytes()
