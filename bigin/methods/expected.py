"""What a specification promises of the values that a target holds, as its dtype rounds them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.regions import Shape
from bigin.methods import scalars as numbers
from bigin.methods.distributions import (
    Constant,
    Dirac,
    Distribution,
    Eye,
    Normal,
    Orthogonal,
    Sparse,
    TruncNormal,
    Uniform,
)
from bigin.methods.marginals import (
    Array,
    DiscreteMarginal,
    Marginal,
    NormalMarginal,
    SphereMarginal,
    TruncNormalMarginal,
    UniformMarginal,
    WithZeros,
)
from bigin.spec.tensor import TensorSpec

FINE = 1 << 17  # numbers of a dtype above which rounding to them changes nothing that statistics could see


@dataclass(frozen=True)
class Promise:
    """What the values should be like.

    marginal: the distribution of one value. independent: which part of them are independent of each other. zeros: how
    many are 0 by structure, or None where that is not known; chance: the probability of 0 for each of the others.
    exact: nothing is random. known: the marginal holds (else no more than its bounds do, as of a part of an identity).
    resolution: how far the draws, which are counted in steps, may lie from the marginal, in standard deviations and in
    probability; reach: how many standard deviations from the mean they are as likely as the marginal says. rms: the
    root of the mean square, where it is the same for every seed.
    """

    marginal: Marginal
    independent: float = 1.0
    zeros: int | None = None
    chance: float = 0.0
    exact: bool = False
    known: bool = True
    resolution: float = 0.0
    reach: float = math.inf
    rms: float | None = None


def promise_of(specification: TensorSpec, whole: bool) -> Promise:
    """What the specification promises of its tensor, or of some of it."""
    distribution, shape, dtype = specification.distribution, specification.shape, specification.dtype
    elements = math.prod(shape)
    promise = promise_of_distribution(distribution, shape, dtype, whole)
    if specification.padding_idx is None or not elements:
        return promise
    if shape[0] == 1:
        return Promise(single(0.0), exact=True)
    zeros = elements // shape[0] + int((promise.zeros or 0) * (1 - 1 / shape[0]))
    return replace(
        promise,
        marginal=WithZeros(1 / shape[0], promise.marginal),
        zeros=zeros if whole else None,
        known=whole,
        rms=None,
    )


def promise_of_distribution(distribution: Distribution, shape: Shape, dtype: np.dtype[Any], whole: bool) -> Promise:
    """The same for a tensor without a row of padding."""
    match distribution:
        case Constant(value):
            return Promise(single(float(numbers.constant(value, dtype))), exact=True)
        case Eye():
            return of_ones(min(shape), math.prod(shape), whole)
        case Dirac(groups):
            return of_ones(groups * min(shape[0] // groups, shape[1]), math.prod(shape), whole)
        case Sparse(zeros, std):
            normal = of_normal(Normal(0.0, std), dtype)
            return among_zeros(normal, zeros * shape[1], math.prod(shape), whole)
        case Orthogonal(gain, delta):
            return of_orthogonal(gain, delta, shape, dtype, whole)
        case Uniform():
            _, scalars, _ = numbers.uniform(distribution, dtype)
            return drawn(UniformMarginal(distribution), scalars[2], scalars[3], dtype)
        case Normal():
            return of_normal(distribution, dtype)
        case TruncNormal(_, _, a, b):
            first, last = dtypes.smallest_at_or_above(a, dtype), dtypes.largest_at_or_below(b, dtype)
            return drawn(TruncNormalMarginal(distribution), first, last, dtype)


def of_normal(distribution: Normal, dtype: np.dtype[Any]) -> Promise:
    """Normal draws, which end at numbers.REACH."""
    furthest = numbers.REACH_64 if dtype.name == "float64" else numbers.REACH_32
    ends = distribution.mean + furthest * distribution.std * np.array([-1.0, 1.0])
    first, last = (float(end) + 0.0 for end in ends.astype(dtype))
    return replace(drawn(NormalMarginal(distribution), first, last, dtype), reach=0.9 * furthest)


def of_ones(ones: int, elements: int, whole: bool) -> Promise:
    """So many ones among zeros."""
    if not 0 < ones < elements:
        return Promise(single(1.0 if ones else 0.0), exact=True)
    share = ones / elements
    marginal = DiscreteMarginal(np.array([0.0, 1.0]), np.array([1.0 - share, share]))
    return Promise(marginal, zeros=elements - ones if whole else None, exact=True, known=whole)


def of_orthogonal(gain: float, delta: bool, shape: Shape, dtype: np.dtype[Any], whole: bool) -> Promise:
    """Entries of an orthogonal matrix, of which a triangle follows from the others."""
    if gain == 0:
        return Promise(single(0.0), exact=True)
    elements = math.prod(shape)
    matrix = shape[:2] if delta else (shape[0], elements // shape[0])
    size, columns = max(matrix), min(matrix)
    last = float(np.asarray(abs(gain)).astype(dtype))
    if size == 1:
        return Promise(DiscreteMarginal(np.array([-last, last]), np.array([0.5, 0.5])))
    if dtype.name in ("float64", "float32"):
        last *= 1.0 + 1e-6  # entries of the smallest matrices are rounded to just above 1
    promise = drawn(SphereMarginal(size, gain), -last, last, dtype)
    free = size * columns - columns * (columns + 1) / 2
    promise = replace(promise, independent=max(1.0, free) / (size * columns))
    if dtype.name in ("float64", "float32") and whole:
        promise = replace(promise, rms=abs(gain) * math.sqrt(columns / elements))
    return replace(among_zeros(promise, elements - size * columns, elements, whole), known=whole or not delta)


def among_zeros(promise: Promise, zeros: int, elements: int, whole: bool) -> Promise:
    """What is promised of the others, among so many zeros."""
    if not zeros:
        return promise
    share = zeros / elements
    return replace(
        promise,
        marginal=WithZeros(share, promise.marginal),
        independent=promise.independent * (1 - share) if promise.independent < 1 else 1.0,
        zeros=zeros if whole else None,
        chance=at_zero(promise.marginal),
    )


def single(value: float) -> Marginal:
    """One value."""
    return DiscreteMarginal(np.array([value]), np.ones(1))


def at_zero(marginal: Marginal) -> float:
    """The probability of 0: that of one step of a draw where the dtype is fine."""
    if isinstance(marginal, DiscreteMarginal):
        return float(marginal.probabilities[marginal.values == 0].sum())
    return 2.0**-24


def drawn(marginal: Marginal, first: float, last: float, dtype: np.dtype[Any]) -> Promise:
    """Draws from a distribution, rounded to the nearest number of the dtype from the first to the last."""
    # A draw counts its words in steps, and is rounded to the type that is drawn before it is rounded to the dtype.
    steps = float(np.finfo(numbers.drawn_as(dtype)).eps)
    offset = max(abs(first), abs(last)) / marginal.std
    return Promise(rounded(marginal, first, last, dtype), resolution=steps * (1.0 + 0.5 * offset))


def rounded(marginal: Marginal, first: float, last: float, dtype: np.dtype[Any]) -> Marginal:
    """The distribution of a value that is rounded to the nearest number of the dtype from the first to the last."""
    values = lattice(first, last, dtype)
    if values is None:
        marginal.low, marginal.high = first, last
        return marginal
    middles = values[:-1] + (values[1:] - values[:-1]) / 2
    lower = np.diff(marginal.below(middles), prepend=0.0, append=1.0)
    upper = -np.diff(marginal.above(middles), prepend=1.0, append=0.0)
    return DiscreteMarginal(values, np.where(values < marginal.mean, lower, upper))


def lattice(first: float, last: float, dtype: np.dtype[Any]) -> Array | None:
    """All numbers of a float dtype from the first to the last, as float64; None where they are many."""
    bits = dtypes.unsigned(dtype)
    sign = 1 << (8 * dtype.itemsize - 1)

    def number(value: float) -> int:
        """How many numbers of the dtype lie between 0 and a value, with its sign."""
        pattern = int(np.asarray(value, np.float64).astype(dtype).view(bits))
        return pattern if pattern < sign else sign - pattern

    low, high = number(first), number(last)
    if high - low > FINE:
        return None
    steps = np.arange(low, high + 1, dtype=np.int64)
    patterns = np.abs(steps).astype(bits) | np.where(steps < 0, sign, 0).astype(bits)
    return np.asarray(patterns.view(dtype).astype(np.float64)) + 0.0
