"""The distribution of one value: its exact mean, standard deviation and kurtosis, and its CDF."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from bigin.methods import normal_cdf
from bigin.methods.distributions import (
    InverseSoftplus,
    LogOfUniform,
    LogUniform,
    Normal,
    RingDecay,
    TruncNormal,
    Uniform,
)

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Bins:
    """Equal bins from `low` to `high`, with one below and one above them."""

    low: float
    high: float
    count: int

    @property
    def scale(self) -> float:
        """The number of bins in an interval of length 1."""
        return self.count / (self.high - self.low)

    def index(self, values: Array) -> Array:
        """The bin of every value, 0 being the one below all; the same operations as in kernels.statistics.places."""
        position = (values.astype(np.float64) - self.low) * self.scale
        return (np.minimum(np.maximum(position, -1.0), self.count) + 1.0).astype(np.int64)

    def edges(self) -> Array:
        """The edges of the bins: count + 1 of them."""
        return self.low + np.arange(self.count + 1) / self.scale


class Marginal(ABC):
    """The distribution of one value. kurtosis is the fourth central moment by the square of the variance."""

    mean: float
    std: float
    kurtosis: float
    low: float = -math.inf
    high: float = math.inf

    @abstractmethod
    def below(self, x: Array) -> Array:
        """The probabilities of values below x, precise where they are small."""

    @abstractmethod
    def above(self, x: Array) -> Array:
        """The probabilities of values above x, precise where they are small."""

    def binned(self, bins: Bins) -> Array:
        """The probability of every bin, with those below and above all."""
        edges = bins.edges()
        return np.diff(self.below(edges), prepend=0.0, append=1.0)

    def upper(self, probability: float) -> float:
        """The smallest value that is exceeded with at most this probability."""
        return self._boundary(lambda x: float(self.above(np.array([x]))[0]) <= probability)

    def lower(self, probability: float) -> float:
        """The largest value that is fallen short of with at most this probability."""
        return self._boundary(lambda x: float(self.below(np.array([x]))[0]) > probability)

    def _boundary(self, holds: Callable[[float], bool]) -> float:
        """Where a condition begins to hold, by bisection: to the last of 100 halves."""
        first = self.mean - FAR * self.std if math.isinf(self.low) else self.low
        last = self.mean + FAR * self.std if math.isinf(self.high) else self.high
        if holds(first):
            return first
        for _ in range(100):
            middle = (first + last) / 2
            if not first < middle < last:
                break
            if holds(middle):
                last = middle
            else:
                first = middle
        return last


FAR = 38.0  # standard deviations, beyond which a normal's probability is 0 in float64


def normal_below(z: Array) -> Array:
    """Phi(z) = erfc(-z / sqrt(2)) / 2, precise in the lower tail."""
    return np.array([0.5 * math.erfc(-x / math.sqrt(2.0)) for x in z.ravel().tolist()]).reshape(z.shape)


class UniformMarginal(Marginal):
    """Uniform on [low, high): mean (low + high) / 2, variance (high - low)^2 / 12, kurtosis 9/5."""

    kurtosis = 1.8

    def __init__(self, distribution: Uniform) -> None:
        self.low, self.high = distribution.low, distribution.high
        self.width = self.high - self.low
        self.mean = self.low + self.width / 2
        self.std = self.width / math.sqrt(12.0)

    def below(self, x: Array) -> Array:
        return np.clip((x - self.low) / self.width, 0.0, 1.0)

    def above(self, x: Array) -> Array:
        return np.clip((self.high - x) / self.width, 0.0, 1.0)


class NormalMarginal(Marginal):
    """Normal: kurtosis 3."""

    kurtosis = 3.0

    def __init__(self, distribution: Normal) -> None:
        self.mean, self.std = distribution.mean, distribution.std

    def below(self, x: Array) -> Array:
        return normal_below((x - self.mean) / self.std)

    def above(self, x: Array) -> Array:
        return normal_below((self.mean - x) / self.std)


class MonotoneMarginal(Marginal):
    """A rising function of a uniform on [0, 1). Its moments are integrals over u, by Gauss and Legendre's rule.

    value, inverse: the function and its inverse. breaks: where in (0, 1) it has a corner.
    """

    NODES = 400

    def __init__(self, value: Callable[[Array], Array], inverse: Callable[[Array], Array], breaks: list[float]) -> None:
        self.value, self.inverse = value, inverse
        nodes, weights = np.polynomial.legendre.leggauss(self.NODES)
        edges = [0.0, *breaks, 1.0]
        u = np.concatenate([(a + b) / 2 + (b - a) / 2 * nodes for a, b in pairwise(edges)])
        w = np.concatenate([(b - a) / 2 * weights for a, b in pairwise(edges)])
        x = value(u)
        self.low, self.high = (float(end) for end in value(np.array([0.0, 1.0])))
        self.mean = float(w @ x)
        apart = x - self.mean
        variance = float(w @ apart**2)
        self.std, self.kurtosis = math.sqrt(variance), float(w @ apart**4) / variance**2

    def below(self, x: Array) -> Array:
        return np.where(x <= self.low, 0.0, np.clip(self.inverse(np.clip(x, self.low, self.high)), 0.0, 1.0))

    def above(self, x: Array) -> Array:
        return np.where(x < self.low, 1.0, 1.0 - np.clip(self.inverse(np.clip(x, self.low, self.high)), 0.0, 1.0))


def log_uniform_marginal(distribution: LogUniform | InverseSoftplus) -> Marginal:
    """exp(ln a + u ln(b / a)), at least the floor; or the inverse softplus of it."""
    a, b, floor = distribution.a, distribution.b, distribution.floor
    width = math.log(b / a)
    at_floor = [math.log(floor / a) / width] if floor > a else []
    if isinstance(distribution, LogUniform):
        return MonotoneMarginal(
            lambda u: np.maximum(a * np.exp(u * width), floor), lambda x: np.log(x / a) / width, at_floor
        )
    return MonotoneMarginal(
        lambda u: np.log(np.expm1(np.maximum(a * np.exp(u * width), floor))),
        lambda x: np.log(np.logaddexp(0.0, x) / a) / width,
        at_floor,
    )


def ring_decay_marginal(distribution: RingDecay) -> Marginal:
    """ln(1 / r - 1), which rises as r^2 falls from b^2 to a^2."""
    a, b = distribution.a, distribution.b
    width = (b - a) * (b + a)

    def value(u: Array) -> Array:
        square = a * a + (1 - u) * width
        return np.log(((1 - b) * (1 + b) + u * width) / (np.sqrt(square) + square))

    return MonotoneMarginal(value, lambda x: (b * b - (1 + np.exp(x)) ** -2.0) / width, [])


class LogOfUniformMarginal(Marginal):
    """ln of a uniform on [a, b]. The integrals of ln(t)^k are t times a polynomial in ln t."""

    def __init__(self, distribution: LogOfUniform) -> None:
        self.a, self.b = distribution.a, distribution.b
        self.low, self.high = (math.log(self.a) if self.a else -math.inf), math.log(self.b)
        # About ln b, where s = t / b: the moments of ln s.
        ratio = self.a / self.b

        def integral(k: int, s: float) -> float:
            terms = ((-1) ** j * math.perm(k, j) * math.log(s) ** (k - j) for j in range(k + 1))
            return s * sum(terms) if s else 0.0

        m = [(integral(k, 1.0) - integral(k, ratio)) / (1.0 - ratio) for k in range(5)]
        variance = m[2] - m[1] ** 2
        self.mean = math.log(self.b) + m[1]
        self.std = math.sqrt(variance)
        self.kurtosis = (m[4] - 4 * m[1] * m[3] + 6 * m[1] ** 2 * m[2] - 3 * m[1] ** 4) / variance**2

    def below(self, x: Array) -> Array:
        return np.clip((np.exp(np.minimum(x, self.high)) - self.a) / (self.b - self.a), 0.0, 1.0)

    def above(self, x: Array) -> Array:
        return 1.0 - self.below(x)


class TruncNormalMarginal(Marginal):
    """Normal on [a, b] (Johnson, Kotz and Balakrishnan 1994, Continuous univariate distributions 1, 10.1).

    In standard deviations from the normal's mean, with Z the probability of [alpha, beta] and phi the density, the
    moments about that mean follow from m_0 = 1 and m_k = (k - 1) m_(k-2) + (alpha^(k-1) phi(alpha) - beta^(k-1)
    phi(beta)) / Z. In decimal arithmetic, as the terms cancel in narrow and in far intervals.
    """

    def __init__(self, distribution: TruncNormal) -> None:
        self.low, self.high = distribution.a, distribution.b
        self.centre, self.sigma = distribution.mean, distribution.std
        with localcontext(normal_cdf.CONTEXT):
            centre, sigma = Decimal(self.centre), Decimal(self.sigma)
            alpha, beta = (Decimal(self.low) - centre) / sigma, (Decimal(self.high) - centre) / sigma
            self.width = normal_cdf.cdf(beta) - normal_cdf.cdf(alpha)
            ends = [(end, (-end * end / 2).exp() / (2 * normal_cdf.pi()).sqrt() / self.width) for end in (alpha, beta)]
            m = [Decimal(1)]
            for k in range(1, 5):
                first, last = (density * (end ** (k - 1) if k > 1 else 1) for end, density in ends)
                m.append(first - last + ((k - 1) * m[k - 2] if k > 1 else 0))
            _, m1, m2, m3, m4 = m
            variance = m2 - m1 * m1
            fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
            self.mean = float(centre + sigma * m1)
            self.std = float(sigma * variance.sqrt())
            self.kurtosis = float(fourth / variance**2)
            # In the upper tail, probabilities are counted from above.
            self.flip = alpha > 0
            self.start = float(normal_cdf.cdf(-beta if self.flip else alpha) / self.width)

    def below(self, x: Array) -> Array:
        return 1.0 - self._from(x, upward=False) if self.flip else self._from(x, upward=True)

    def above(self, x: Array) -> Array:
        return self._from(x, upward=False) if self.flip else 1.0 - self._from(x, upward=True)

    def _from(self, x: Array, *, upward: bool) -> Array:
        """The probability between the end that is counted from and x."""
        z = (np.clip(x, self.low, self.high) - self.centre) / self.sigma
        return np.clip(normal_below(z if upward else -z) / float(self.width) - self.start, 0.0, 1.0)


class SphereMarginal(Marginal):
    """An entry of a Haar-distributed orthogonal matrix: a coordinate of a random point on the sphere in `dimension`
    dimensions, of radius `gain`.

    Mean 0, variance gain^2 / dimension, kurtosis 3 dimension / (dimension + 2). With x = gain sin(t), the density of
    t is proportional to cos(t)^(dimension - 2) (Muirhead 1982, Aspects of multivariate statistical theory, 1.5).
    """

    mean = 0.0
    STEPS = 1 << 15

    def __init__(self, dimension: int, gain: float) -> None:
        assert dimension > 1
        self.dimension = dimension
        self.high = abs(gain)
        self.low = -self.high
        self.std = self.high / math.sqrt(dimension)
        self.kurtosis = 3.0 * dimension / (dimension + 2.0)

    @cached_property
    def _table(self) -> tuple[Array, Array]:
        """Angles from the lowest to the middle, and the probabilities of lower ones, by Simpson's rule."""
        ends = np.linspace(-min(math.pi / 2, 12.0 / math.sqrt(self.dimension)), 0.0, self.STEPS + 1)
        middles = (ends[1:] + ends[:-1]) / 2
        f, g = (np.exp((self.dimension - 2) * np.log(np.maximum(np.cos(t), 1e-300))) for t in (ends, middles))
        sums = np.concatenate([[0.0], np.cumsum(f[1:] + 4.0 * g + f[:-1])])
        return ends, 0.5 * sums / sums[-1]

    def below(self, x: Array) -> Array:
        angles, probabilities = self._table
        angle = np.arcsin(np.clip(x / self.high, -1.0, 1.0))
        lower = np.interp(-np.abs(angle), angles, probabilities)
        return np.where(angle < 0, lower, 1.0 - lower)

    def above(self, x: Array) -> Array:
        return self.below(-x)


class DiscreteMarginal(Marginal):
    """Values (ascending, finite) with their probabilities."""

    def __init__(self, values: Array, probabilities: Array) -> None:
        self.values, self.probabilities = values, probabilities
        self.low, self.high = float(values[0]), float(values[-1])
        self.mean = self.low + float(np.dot(values - self.low, probabilities))
        apart = values - self.mean
        variance = float(np.dot(apart**2, probabilities))
        self.std = math.sqrt(variance)
        self.kurtosis = float(np.dot(apart**4, probabilities)) / variance**2 if variance > 0 else 1.0

    @cached_property
    def _cumulative(self) -> tuple[Array, Array]:
        p = self.probabilities
        return np.concatenate([[0.0], np.cumsum(p)]), np.concatenate([np.cumsum(p[::-1])[::-1], [0.0]])

    def below(self, x: Array) -> Array:
        return self._cumulative[0][np.searchsorted(self.values, x, "left")]

    def above(self, x: Array) -> Array:
        return self._cumulative[1][np.searchsorted(self.values, x, "right")]

    def binned(self, bins: Bins) -> Array:
        return np.bincount(bins.index(self.values), self.probabilities, bins.count + 2)

    def upper(self, probability: float) -> float:
        return float(self.values[np.argmax(self._cumulative[1][1:] <= probability)])

    def lower(self, probability: float) -> float:
        last = len(self.values) - 1
        return float(self.values[last - np.argmax(self._cumulative[0][:-1][::-1] <= probability)])


class WithZeros(Marginal):
    """Zero with a probability of `zeros` (above 0, below 1), else as `others`."""

    def __init__(self, zeros: float, others: Marginal) -> None:
        self.zeros, self.others = zeros, others
        share = 1.0 - zeros
        self.mean = share * others.mean
        apart = others.mean - self.mean
        variance = share * (others.std**2 + apart**2) + zeros * self.mean**2
        self.std = math.sqrt(variance)
        # The others' third central moment is left out: all that get here are symmetric about their mean.
        fourth = others.kurtosis * others.std**4 + 6 * apart**2 * others.std**2 + apart**4
        self.kurtosis = (share * fourth + zeros * self.mean**4) / variance**2 if variance > 0 else 1.0
        self.low, self.high = min(0.0, others.low), max(0.0, others.high)

    def below(self, x: Array) -> Array:
        return self.zeros * (x > 0) + (1.0 - self.zeros) * self.others.below(x)

    def above(self, x: Array) -> Array:
        return self.zeros * (x < 0) + (1.0 - self.zeros) * self.others.above(x)

    def binned(self, bins: Bins) -> Array:
        binned = (1.0 - self.zeros) * self.others.binned(bins)
        binned[bins.index(np.zeros(1))] += self.zeros
        return binned
