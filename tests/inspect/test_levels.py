"""A check is wrong about what is right no more often than its level says, down to the levels of a whole model.

`bigin check` is wrong once in 10^6 models, so that a check of one of 1000 tensors has a level of 5e-11, which no
simulation reaches. Bernstein's, Massart's and the binomial bounds are theorems for every n. What is not: quantiles of
a normal for means of values with light tails, and of Wilson and Hilferty for variances. They are compared here with
exact distributions, and with tails by exponential tilting (importance sampling; S. Asmussen and P. Glynn, "Stochastic
Simulation", 2007, ch. VI).
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from bigin.inspect.checks import Check, Level, checks, expected_of, extremes, mean, spread
from bigin.inspect.examining import tolerant
from bigin.jobs.measure import Bins, Statistics
from bigin.methods.distributions import Normal, Uniform
from bigin.methods.expected import Expected
from bigin.methods.marginals import NormalMarginal, UniformMarginal
from bigin.spec.tensor import TensorSpec

stats = pytest.importorskip("scipy.stats", reason="scipy is not installed: pip install 'bigin[test]'")
LEVELS = [1e-3, 1e-5, 1e-6, 1e-8, 1e-10, 1e-12, 1e-14]
COUNTS = [*range(2, 40), 50, 64, 100, 250, 1000, 10**4, 10**5, 10**6, 10**8]


def of_count(n: int) -> Statistics:
    """Statistics of n values, for the range of a check."""
    return Statistics(n, 0, (0, 0), 0, 0.0, 1.0, 0.0, 1.0, Bins(0, 1, 4), np.zeros(6))


@pytest.mark.parametrize("rare", LEVELS)
def test_the_spread_of_normal_values_is_within_its_level(rare):
    """The variance of n values is a chi-square's of n - 1 degrees of freedom by n, to which its bounds are compared."""
    for n in COUNTS:
        check = spread(of_count(n), Expected(NormalMarginal(Normal(0.0, 1.0))), Level(rare))
        below, above = stats.chi2.cdf(n * check.low**2, n - 1), stats.chi2.sf(n * check.high**2, n - 1)
        assert below + above <= rare, (n, below / rare, above / rare)


def below(n: int, y: Fraction) -> Fraction:
    """The probability that a sum of n uniform values is below y (Irwin 1927, Hall 1927)."""
    terms = ((-1) ** k * math.comb(n, k) * (y - k) ** n for k in range(int(y) + 1))
    return Fraction(sum(terms)) / math.factorial(n)


@pytest.mark.parametrize("rare", LEVELS)
def test_the_mean_of_uniform_values_is_within_its_level(rare):
    for n in [*range(1, 40), 50, 64, 100]:
        check = mean(of_count(n), Expected(UniformMarginal(Uniform(0.0, 1.0))), Level(rare))
        y = n * Fraction(check.low)
        assert y <= 0 or 2 * float(below(n, y)) <= rare * (1 + 1e-6), n


@pytest.mark.parametrize("bounds", [(-2.0, 2.0), (-0.5, 0.5), (-3.0, 3.0)])
@pytest.mark.slow
@pytest.mark.parametrize("rare", [1e-5, 1e-8, 1e-12])
def test_the_mean_of_truncated_values_is_within_its_level(bounds, rare):
    """A tilted truncated normal is one whose normal has another mean: the weights are bounded where it counts."""
    spec = TensorSpec.parse("trunc_normal", {"a": bounds[0], "b": bounds[1]}, 0, "", (64,), np.dtype(np.float32))
    rng, trials = np.random.default_rng(2), 20000
    phi = stats.norm.cdf
    for n in (1, 2, 5, 20, 64):
        check = mean(of_count(n), expected_of(spec, whole=True), Level(rare))
        if check.high >= bounds[1]:
            continue
        # exp(tilt x) times the density on [a, b] is the normal of mean `tilt` there; tilt it to the mean of the bound
        low, high = 0.0, 500.0
        for _ in range(60):
            tilt = (low + high) / 2
            moved = stats.truncnorm.mean(bounds[0] - tilt, bounds[1] - tilt, loc=tilt)
            low, high = (tilt, high) if moved < check.high else (low, tilt)
        cumulant = tilt**2 / 2 + math.log(
            (phi(bounds[1] - tilt) - phi(bounds[0] - tilt)) / (phi(bounds[1]) - phi(bounds[0]))
        )
        draws = stats.truncnorm.rvs(bounds[0] - tilt, bounds[1] - tilt, loc=tilt, size=(trials, n), random_state=rng)
        total = draws.sum(1)
        weights = np.where(total > n * check.high, np.exp(n * cumulant - tilt * total), 0.0)
        tail, error = weights.mean(), weights.std() / math.sqrt(trials)
        assert 2 * (tail - 4 * error) <= rare, (n, 2 * tail / rare)


def test_extremes_are_within_their_level():
    """That none of n values lies beyond a bound, or that all do, is a power of one probability."""
    normal = Expected(NormalMarginal(Normal(0.0, 1.0)))
    for rare in LEVELS:
        for n in COUNTS:
            least, most = extremes(of_count(n), normal, Level(rare))
            for check in (least, most):
                inner, outer = (check.high, check.low) if check is least else (check.low, check.high)
                beyond = -np.expm1(n * np.log1p(-stats.norm.sf(abs(outer))))
                within = np.exp(n * stats.norm.logcdf(inner if check is most else -inner))
                assert beyond <= rare * 1.001, (rare, n, beyond)
                assert within <= rare * 1.001, (rare, n, within)


METHODS = {
    "normal": ({"std": 0.02}, "float32", lambda rng, shape: rng.normal(0, 0.02, shape)),
    "uniform": ({"a": -1.0, "b": 1.0}, "float32", lambda rng, shape: rng.uniform(-1, 1, shape)),
    "trunc_normal": (
        {"std": 1.0, "a": 4.0, "b": 6.0},
        "float32",
        lambda rng, shape: stats.norm.isf(stats.norm.sf(4) - rng.random(shape) * (stats.norm.sf(4) - stats.norm.sf(6))),
    ),
    "log_uniform": (
        {"a": 0.001, "b": 0.1},
        "float32",
        lambda rng, shape: np.exp(rng.uniform(-6.907755, -2.302586, shape)),
    ),
}


def outside(check: Check, values: np.ndarray) -> int:
    return int(np.count_nonzero((values < check.low) | (values > check.high)))


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_a_million_small_tensors_at_a_level_of_one_in_100_000(method):
    """All checks of statistics together, of tensors of a few values, by methods of every shape."""
    parameters, dtype, draw = METHODS[method]
    rare, trials, rng = 1e-5, 1_000_000, np.random.default_rng(4)
    most = rare * trials + 5 * math.sqrt(rare * trials)
    for n in (2, 5, 16):
        spec = TensorSpec.parse(method, parameters, 0, "", (n,), np.dtype(dtype))
        expected = tolerant(expected_of(spec, whole=True), spec.dtype)
        ranges = {check.what: check for check in checks(of_count(n), expected, Level(rare))}
        values = draw(rng, (trials, n)).astype(dtype).astype(np.float64)
        measured = {
            "mean": values.mean(1),
            "std": values.std(1),
            "min": values.min(1),
            "max": values.max(1),
        }
        wrong = {what: outside(ranges[what], each) for what, each in measured.items()}
        allowed = {what: (2 if what in ("min", "max", "std") else 1) * most for what in wrong}
        print(method, n, wrong)
        assert all(count <= allowed[what] for what, count in wrong.items()), (n, wrong)
