"""Checks of measured statistics against what is expected; each fails for about one in a million correct fills."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

from bigin.fillers.families import family
from bigin.jobs.measure import Span, Statistics, span_of
from bigin.methods.expected import Expected, with_padding
from bigin.methods.marginals import DiscreteMarginal, Marginal, NormalMarginal, WithZeros
from bigin.spec.tensor import TensorSpec

SIGMAS = 5.0
# The probability that a normal value lies further from its mean than that, on either side.
RARE = math.erfc(SIGMAS / math.sqrt(2.0))


@dataclass(frozen=True)
class Level:
    """The probability `rare` with which a check may be wrong, on either side, of a correct fill.

    sigmas: how far a normal value lies from its mean with that probability. bits: ln(2 / rare).
    """

    rare: float

    @cached_property
    def sigmas(self) -> float:
        """How many standard deviations."""
        return -NormalDist().inv_cdf(self.rare / 2.0)

    @cached_property
    def bits(self) -> float:
        """The logarithm of 2 / rare."""
        return math.log(2.0 / self.rare)


USUAL = Level(RARE)


@dataclass(frozen=True)
class Check:
    """A statistic, and the range from `low` to `high` that it has in a correct fill.

    off: its distance from what is expected in standard errors, where it has one.
    """

    what: str
    got: float
    low: float
    high: float
    off: float | None = None

    @property
    def right(self) -> bool:
        """Whether the statistic is within the range."""
        return self.low <= self.got <= self.high


def expected_of(spec: TensorSpec, *, whole: bool) -> Expected:
    """What the values of a specified tensor should be like; where `whole` is false, those of a part of it."""
    distribution = spec.distribution
    expected = family(distribution).expected(distribution, spec.shape, spec.dtype, whole=whole)
    return expected if spec.padding_idx is None else with_padding(expected, spec.shape, whole=whole)


def checks(measured: Statistics, expected: Expected, level: Level = USUAL) -> list[Check]:
    """The checks of a target's statistics; none where it is empty. At most EVENTS things may be wrong by chance."""
    if measured.count == 0:
        return []
    others = measured.count - measured.finite
    if not expected.finite:
        return [Check("not finite", others, measured.count if expected.known else 0, measured.count)]
    lines = [Check("not finite", others, 0, 0)]
    if measured.finite == 0:
        return lines
    if expected.known:
        lines += [mean(measured, expected, level)]
        lines += [spread(measured, expected, level)] if measured.finite > 1 else []
    if expected.rms is not None:
        lines.append(Check("rms", measured.rms, expected.rms * (1 - RMS), expected.rms * (1 + RMS)))
    lines += extremes(measured, expected, level)
    if expected.zeros is not None:
        lines.append(zeros(measured, expected, level))
    if expected.known:
        lines.append(distance(measured, expected, level))
    return lines


EVENTS = 10  # mean, std (which takes two), two for each extreme, zeros, the distance of the CDFs, and two to spare
RMS = 1e-5  # relative; the columns of an orthogonal matrix have length 1 to about 1e-6
EXACT = 1e-9  # relative; what a sum in float64 may lose


def mean(measured: Statistics, expected: Expected, level: Level = USUAL) -> Check:
    """Within so many standard errors, where sums of the values have no heavier tails than a normal's.

    Of others, which may be few and far or lie to one side, within Bernstein's bound: with probability 1 - p, the mean
    of n values within b of their mean is no further off than x + sqrt(x^2 + 2 std^2 l / n), with l = ln(2 / p), x =
    b l / (3 n).
    """
    marginal, n = expected.marginal, measured.finite
    error = marginal.std / math.sqrt(n)
    slack = expected.resolution * marginal.std + EXACT * abs(marginal.mean)
    if not expected.exact:
        light = isinstance(marginal, NormalMarginal) or is_light(marginal)
        step = 0.0 if light else furthest(marginal, n, level)
        slack += level.sigmas * error if light else bernstein(step, marginal.std**2, n, level)
    off = (measured.mean - marginal.mean) / error if error > 0 and not expected.exact else None
    return Check("mean", measured.mean, marginal.mean - slack, marginal.mean + slack, off)


def is_light(marginal: Marginal) -> bool:
    """Whether a smooth marginal is symmetric, and its tails are no heavier than a normal's, as those of a uniform."""
    if isinstance(marginal, DiscreteMarginal | WithZeros):
        return False
    middle = (marginal.low + marginal.high) / 2.0
    return abs(middle - marginal.mean) <= 1e-3 * marginal.std and marginal.kurtosis <= 3.0


def spread(measured: Statistics, expected: Expected, level: Level = USUAL) -> Check:
    """The variance of n normal values is a chi-square's of n - 1 degrees of freedom, whose cube root is about normal.

    (Wilson and Hilferty 1931.) Of other values the mean of their squared deviations is within Bernstein's bounds, from
    below with a step of the variance, as squares are not negative.
    """
    marginal, n = expected.marginal, measured.finite
    std, slack = marginal.std, expected.resolution + EXACT
    if expected.exact:
        return Check("std", measured.std, std * (1 - slack), std * (1 + slack))
    free = max(1.0, n * expected.independent)
    error = std * math.sqrt((marginal.kurtosis - 1.0) / (4.0 * free))
    if isinstance(marginal, NormalMarginal):
        degrees = max(1.0, free - 1.0)
        part = 2.0 / (9.0 * degrees)
        low, high = (max(0.0, 1.0 - part + sign * level.sigmas * math.sqrt(part)) ** 1.5 for sign in (-1.0, 1.0))
        shrunk = math.sqrt((n - 1) / n)
        low, high = std * shrunk * low, std * high
    else:
        step = furthest(marginal, n, level)
        variance = std**4 * (marginal.kurtosis - 1.0)
        above, below = bernstein(step**2, variance, free, level), bernstein(std**2, variance, free, level)
        shift = bernstein(step, std**2, n, level)
        low, high = math.sqrt(max(0.0, std**2 - below - shift**2)), math.sqrt(std**2 + above)
    off = (measured.std - std) / error if error > 0 else None
    return Check("std", measured.std, low * (1 - slack), high * (1 + slack), off)


def bernstein(step: float, variance: float, n: float, level: Level = USUAL) -> float:
    """How far the mean of n values may lie off; see `mean`."""
    x = step * level.bits / (3.0 * n)
    return x + math.sqrt(x * x + 2.0 * variance * level.bits / n)


def furthest(marginal: Marginal, n: int, level: Level = USUAL) -> float:
    """How far from the mean values may lie that n of them could hold, but for a thousandth of the level."""
    if isinstance(marginal, WithZeros):
        inner = furthest(marginal.others, n, level)
        return max(inner + abs(marginal.others.mean - marginal.mean), abs(marginal.mean))
    if isinstance(marginal, DiscreteMarginal):
        likely = marginal.values[marginal.probabilities * n > 1e-3 * level.rare]
        return float(abs(likely - marginal.mean).max())
    hardly = 1e-3 * level.rare / n
    low, high = max(marginal.low, marginal.lower(hardly)), min(marginal.high, marginal.upper(hardly))
    return max(high - marginal.mean, marginal.mean - low)


def extremes(measured: Statistics, expected: Expected, level: Level = USUAL) -> list[Check]:
    """Within the bounds, and neither further out nor nearer than the extremes of so many values are expected."""
    marginal, n = expected.marginal, measured.finite
    if not expected.known or expected.exact:
        return [
            Check("min", measured.minimum, marginal.low, marginal.low if expected.known else marginal.high),
            Check("max", measured.maximum, marginal.high if expected.known else marginal.low, marginal.high),
        ]
    free = max(1.0, n * expected.independent)
    # Of n values, one lies beyond a bound with the probability 1 - (1 - q)^n if each does with the probability q.
    rarely = -math.expm1(math.log1p(-level.rare) / n)
    mostly = -math.expm1(math.log(level.rare) / free)
    near = expected.reach * marginal.std if math.isfinite(expected.reach) else math.inf
    slack = expected.resolution * marginal.std
    low, high = max(marginal.low, marginal.lower(rarely) - slack), min(marginal.high, marginal.upper(rarely) + slack)
    low -= expected.beyond * max(marginal.std, abs(low))
    high += expected.beyond * max(marginal.std, abs(high))
    inner_low = max(marginal.lower(mostly), marginal.mean - near) + slack
    inner_high = min(marginal.upper(mostly), marginal.mean + near) - slack
    return [
        Check("min", measured.minimum, low, max(low, inner_low)),
        Check("max", measured.maximum, min(high, inner_high), high),
    ]


def zeros(measured: Statistics, expected: Expected, level: Level = USUAL) -> Check:
    """Those of the structure, and the others' that are 0 by chance: a binomial number."""
    assert expected.zeros is not None
    count = (measured.finite - expected.zeros) * expected.chance
    width = measured.finite * bernstein(1.0, count / measured.finite, measured.finite, level) if count > 0 else 0.0
    low = expected.zeros + math.ceil(max(0.0, count - width))
    return Check("zeros", measured.zeros, low, expected.zeros + math.floor(count + width))


def distance(measured: Statistics, expected: Expected, level: Level = USUAL) -> Check:
    """The largest distance between the CDFs, at the histogram's edges (Kolmogorov and Smirnov).

    Of n independent values it exceeds sqrt(ln(2 / p) / (2 n)) with at most the probability p (Massart 1990).
    """
    free = max(1.0, measured.finite * expected.independent)
    allowed = EXACT if expected.exact else min(1.0, math.sqrt(level.bits / (2.0 * free)) + expected.resolution)
    apart = abs((measured.histogram / measured.finite - expected.marginal.binned(measured.bins)).cumsum())
    return Check("CDF distance", float(apart.max()), 0.0, allowed)


def span_for(expected: Expected | None) -> Span | None:
    """Where most values are expected; zeros, which may be many, aside."""
    if expected is None:
        return None
    marginal = expected.marginal.others if isinstance(expected.marginal, WithZeros) else expected.marginal
    return span_of(marginal.mean, marginal.std, marginal.low, marginal.high)
