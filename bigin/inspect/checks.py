"""Statistics beside what is promised: a verdict for each, wrong about once in a million right fills."""

from __future__ import annotations

import math
from dataclasses import dataclass

from bigin.jobs.measure import Statistics
from bigin.methods.expected import Promise
from bigin.methods.marginals import DiscreteMarginal, Marginal, WithZeros

SIGMAS = 5.0
# The probability that a normal value lies further from its mean than that, on either side; and ln(2 / it).
RARE = math.erfc(SIGMAS / math.sqrt(2.0))
BITS = math.log(2.0 / RARE)


@dataclass(frozen=True)
class Verdict:
    """A statistic, and the range from `low` to `high` that a right fill stays in. off: its distance from what is
    expected in standard errors, where it has one.
    """

    what: str
    got: float
    low: float
    high: float
    off: float | None = None

    @property
    def right(self) -> bool:
        """Whether it is within the range."""
        return self.low <= self.got <= self.high


def verdicts(found: Statistics, promise: Promise) -> list[Verdict]:
    """All that can be said of the statistics of a target that should keep a promise; nothing of an empty one."""
    if found.count == 0:
        return []
    lines = [Verdict("not finite", found.count - found.finite, 0, 0)]
    if found.finite == 0:
        return lines
    if promise.known:
        lines += [mean(found, promise)]
        lines += [spread(found, promise)] if found.finite > 1 else []
    if promise.rms is not None:
        lines.append(Verdict("rms", found.rms, promise.rms * (1 - RMS), promise.rms * (1 + RMS)))
    lines += extremes(found, promise)
    if promise.zeros is not None:
        lines.append(zeros(found, promise))
    if promise.known:
        lines.append(distance(found, promise))
    return lines


RMS = 1e-5  # relative; the columns of an orthogonal matrix have length 1 to about 1e-6
EXACT = 1e-9  # relative; what a sum in float64 may lose


def mean(found: Statistics, promise: Promise) -> Verdict:
    """Within 5 standard errors.

    Of rounded values, which may be few and far, within Bernstein's bound: with probability 1 - p, the mean of n values
    within b of their mean is no further off than x + sqrt(x^2 + 2 std^2 l / n), with l = ln(2 / p), x = b l / (3 n).
    """
    marginal, n = promise.marginal, found.finite
    error = marginal.std / math.sqrt(n)
    step = furthest(marginal, n)
    slack = promise.resolution * marginal.std + EXACT * abs(marginal.mean)
    if not promise.exact:
        slack += SIGMAS * error if step is None else bernstein(step, marginal.std**2, n)
    off = (found.mean - marginal.mean) / error if error > 0 and not promise.exact else None
    return Verdict("mean", found.mean, marginal.mean - slack, marginal.mean + slack, off)


def spread(found: Statistics, promise: Promise) -> Verdict:
    """The variance of n values is about a chi-square's, of 2 (n - 1) / (kurtosis - 1) degrees of freedom.

    Its cube root is about normal (Wilson and Hilferty 1931). Of rounded values, within Bernstein's bound.
    """
    marginal, n = promise.marginal, found.finite
    std, slack = marginal.std, promise.resolution + EXACT
    if promise.exact:
        return Verdict("std", found.std, std * (1 - slack), std * (1 + slack))
    free = max(1.0, n * promise.independent)
    step = furthest(marginal, n)
    error = std * math.sqrt((marginal.kurtosis - 1.0) / (4.0 * free))
    if step is None:
        degrees = 2.0 * max(1.0, free - 1.0) / (marginal.kurtosis - 1.0)
        part = 2.0 / (9.0 * degrees)
        low, high = (max(0.0, 1.0 - part + sign * SIGMAS * math.sqrt(part)) ** 1.5 for sign in (-1.0, 1.0))
        shrunk = math.sqrt((n - 1) / n)
        low, high = std * shrunk * low, std * high
    else:
        width = bernstein(step**2, std**4 * (marginal.kurtosis - 1.0), free)
        shift = bernstein(step, std**2, n)
        low, high = math.sqrt(max(0.0, std**2 - width - shift**2)), math.sqrt(std**2 + width)
    off = (found.std - std) / error if error > 0 else None
    return Verdict("std", found.std, low * (1 - slack), high * (1 + slack), off)


def bernstein(step: float, variance: float, n: float) -> float:
    """How far the mean of n values may lie off; see `mean`."""
    x = step * BITS / (3.0 * n)
    return x + math.sqrt(x * x + 2.0 * variance * BITS / n)


def furthest(marginal: Marginal, n: int) -> float | None:
    """How far from the mean values may lie that n of them could hold; None where no values are few and far."""
    if isinstance(marginal, WithZeros):
        inner = furthest(marginal.others, n)
        return None if inner is None else max(inner + abs(marginal.others.mean - marginal.mean), abs(marginal.mean))
    if not isinstance(marginal, DiscreteMarginal):
        return None
    likely = marginal.values[marginal.probabilities * n > 1e-3 * RARE]
    return float(abs(likely - marginal.mean).max())


def extremes(found: Statistics, promise: Promise) -> list[Verdict]:
    """Within the bounds, and neither further out nor nearer than the extremes of so many values are expected."""
    marginal, n = promise.marginal, found.finite
    if not promise.known or promise.exact:
        return [
            Verdict("min", found.minimum, marginal.low, marginal.low if promise.known else marginal.high),
            Verdict("max", found.maximum, marginal.high if promise.known else marginal.low, marginal.high),
        ]
    free = max(1.0, n * promise.independent)
    # Of n values, one lies beyond a bound with the probability 1 - (1 - q)^n if each does with the probability q.
    rarely = -math.expm1(math.log1p(-RARE) / n)
    mostly = -math.expm1(math.log(RARE) / free)
    near = promise.reach * marginal.std if math.isfinite(promise.reach) else math.inf
    slack = promise.resolution * marginal.std
    low, high = max(marginal.low, marginal.lower(rarely) - slack), min(marginal.high, marginal.upper(rarely) + slack)
    inner_low = max(marginal.lower(mostly), marginal.mean - near) + slack
    inner_high = min(marginal.upper(mostly), marginal.mean + near) - slack
    return [
        Verdict("min", found.minimum, low, max(low, inner_low)),
        Verdict("max", found.maximum, min(high, inner_high), high),
    ]


def zeros(found: Statistics, promise: Promise) -> Verdict:
    """Those of the structure, and the others' that are 0 by chance: a binomial number."""
    assert promise.zeros is not None
    expected = (found.finite - promise.zeros) * promise.chance
    width = found.finite * bernstein(1.0, expected / found.finite, found.finite) if expected > 0 else 0.0
    low = promise.zeros + math.ceil(max(0.0, expected - width))
    return Verdict("zeros", found.zeros, low, promise.zeros + math.floor(expected + width))


def distance(found: Statistics, promise: Promise) -> Verdict:
    """The largest distance between the CDFs, at the histogram's edges (Kolmogorov and Smirnov).

    Of n independent values it exceeds sqrt(ln(2 / p) / (2 n)) with at most the probability p (Massart 1990).
    """
    free = max(1.0, found.finite * promise.independent)
    allowed = EXACT if promise.exact else min(1.0, math.sqrt(BITS / (2.0 * free)) + promise.resolution)
    expected = promise.marginal.binned(found.bins)
    apart = abs((found.histogram / found.finite - expected).cumsum())
    return Verdict("CDF distance", float(apart.max()), 0.0, allowed)
