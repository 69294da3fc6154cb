"""The expected distribution of a tensor's values, as its dtype rounds them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.regions import Shape
from bigin.methods import scalars
from bigin.methods.distributions import (
    Constant,
    Dirac,
    Eye,
    IdentityPlusNoise,
    InverseSoftplus,
    LogOfUniform,
    LogUniform,
    Normal,
    Orthogonal,
    RingDecay,
    Rows,
    Sparse,
    TruncNormal,
    Uniform,
)
from bigin.methods.marginals import (
    Array,
    DiscreteMarginal,
    LogOfUniformMarginal,
    Marginal,
    NormalMarginal,
    SphereMarginal,
    TruncNormalMarginal,
    UniformMarginal,
    WithZeros,
    log_uniform_marginal,
    ring_decay_marginal,
)

FINE = 1 << 17  # numbers of a dtype above which rounding to them changes nothing that statistics could see


@dataclass(frozen=True)
class Expected:
    """What the values should be like.

    marginal: the distribution of one value. independent: the fraction of the values that are independent of each other.
    zeros: how many are 0 by structure, or None where that is not known. chance: the probability of 0 for each of the
    others. exact: nothing is random. finite: no value is infinite or NaN; else none is finite. known: the marginal
    holds (else no more than its bounds do, as for a part of an identity). resolution: how far the draws, which are
    counted in steps, may lie from the marginal, in standard deviations and in probability. reach: up to how many
    standard deviations from the mean they are as likely as the marginal says. beyond: how far outside of the
    bounds values may lie, relative to those or to the standard deviation. rms: the root mean square, where it is
    the same for every seed. orthogonal: the distribution, where the columns or rows of the whole matrix are
    orthonormal times its gain. column_zeros: how many zeros each column of the whole matrix has by structure.
    """

    marginal: Marginal
    independent: float = 1.0
    zeros: int | None = None
    chance: float = 0.0
    exact: bool = False
    finite: bool = True
    known: bool = True
    resolution: float = 0.0
    reach: float = math.inf
    beyond: float = 0.0
    rms: float | None = None
    orthogonal: Orthogonal | None = None
    column_zeros: int | None = None


def with_padding(expected: Expected, shape: Shape, *, whole: bool) -> Expected:
    """The same for a tensor of which one row is zeros."""
    elements = math.prod(shape)
    if not elements:
        return expected
    if shape[0] == 1:
        return Expected(single(0.0), exact=True)
    if not expected.finite:
        return replace(expected, known=False)
    zeros = elements // shape[0] + int((expected.zeros or 0) * (1 - 1 / shape[0]))
    return replace(
        expected,
        marginal=WithZeros(1 / shape[0], expected.marginal),
        zeros=zeros if whole else None,
        known=whole,
        rms=None,
        orthogonal=None,
        column_zeros=None,
    )


# What follows is by distribution: of a tensor of a shape and dtype, or where `whole` is false of a part of it.


def constant(distribution: Constant, shape: Shape, dtype: np.dtype[Any], *, whole: bool) -> Expected:
    """One value."""
    value = float(scalars.constant(distribution.value, dtype).real)
    if not math.isfinite(value):
        return Expected(single(0.0), exact=True, finite=False)
    return Expected(single(value), exact=True)


def uniform(distribution: Uniform, shape: Shape, dtype: np.dtype[Any], *, whole: bool) -> Expected:
    """Uniform draws, which end at the dtype's first and last number in the interval."""
    _, _, first, last = scalars.uniform(distribution, dtype).values
    return drawn(UniformMarginal(distribution), first, last, dtype)


def normal(distribution: Normal, shape: Shape, dtype: np.dtype[Any], *, whole: bool) -> Expected:
    """Normal draws, which end at the generator's reach."""
    furthest = scalars.reach(dtype)
    ends = distribution.mean + furthest * distribution.std * np.array([-1.0, 1.0])
    first, last = (float(end) + 0.0 for end in ends.astype(dtype))
    return replace(drawn(NormalMarginal(distribution), first, last, dtype), reach=0.9 * furthest)


def trunc_normal(distribution: TruncNormal, shape: Shape, dtype: np.dtype[Any], *, whole: bool) -> Expected:
    """Truncated normal draws; beyond an infinite bound they end at the generator's reach, at the latest."""
    mean, std, a, b = distribution.mean, distribution.std, distribution.a, distribution.b
    furthest = scalars.reach(dtype)
    low = min(mean, b) - furthest * std if a == -math.inf else a
    high = max(mean, a) + furthest * std if b == math.inf else b
    bounded = TruncNormal(mean, std, low, high)
    expected = drawn(TruncNormalMarginal(bounded), *scalars.ends(bounded, dtype), dtype)
    return expected if bounded == distribution else replace(expected, reach=0.9 * (furthest - 0.5))


def log_uniform(
    distribution: LogUniform | InverseSoftplus, shape: Shape, dtype: np.dtype[Any], *, whole: bool
) -> Expected:
    """Log-uniform draws, and their inverse softplus."""
    made = scalars.log_uniform if isinstance(distribution, LogUniform) else scalars.inverse_softplus
    numbers: Any = made(distribution, dtype).values  # type: ignore[arg-type, operator]
    marginal = log_uniform_marginal(distribution)
    if isinstance(distribution, LogUniform):
        floor = float(np.asarray(distribution.floor).astype(scalars.drawn_as(dtype)).astype(dtype))
        first, last = max(numbers[2], floor), max(numbers[3], floor)
    else:
        first, last = numbers[5:]
    if distribution.floor > distribution.a:  # values gather at the floor, which no smooth distribution says
        return replace(drawn(marginal, first, last, dtype), known=False)
    return drawn(marginal, first, last, dtype)


def log_of_uniform(distribution: LogOfUniform, shape: Shape, dtype: np.dtype[Any], *, whole: bool) -> Expected:
    """Logarithms of uniform draws; from a = 0 they end at the generator's reach."""
    _, a, first, last = scalars.log_of_uniform(distribution, dtype).values
    marginal = LogOfUniformMarginal(distribution)
    if a:
        return drawn(marginal, first, last, dtype)
    bits = 54 if dtype == np.float64 else 33
    first = dtypes.smallest_at_or_above(math.log(distribution.b) - bits * math.log(2.0) - 0.01, dtype)
    reach = (marginal.mean - first) / marginal.std
    return replace(drawn(marginal, first, last, dtype), reach=0.9 * reach)


def ring_decay(distribution: RingDecay, shape: Shape, dtype: np.dtype[Any], *, whole: bool) -> Expected:
    """Parameters of decays."""
    first, last = scalars.ring_decay(distribution, dtype).values[-2:]
    return drawn(ring_decay_marginal(distribution), first, last, dtype)


def identity_plus_noise(
    distribution: IdentityPlusNoise, shape: Shape, dtype: np.dtype[Any], *, whole: bool
) -> Expected:
    """Normal draws, around the gain on the diagonal; of their distribution the bounds alone are checked."""
    reach = scalars.reach(dtype) * distribution.std
    ends = np.array([min(0.0, distribution.gain) - reach, max(0.0, distribution.gain) + reach])
    first, last = (float(end) + 0.0 for end in ends.astype(dtype))
    expected = drawn(NormalMarginal(Normal(0.0, distribution.std or 1.0)), first, last, dtype)
    return replace(expected, known=False)


def rows(distribution: Rows, shape: Shape, dtype: np.dtype[Any], *, whole: bool) -> Expected:
    """Values that follow from the index: nothing but their bounds is checked here, `verify` compares each."""
    low, high = np.asarray(scalars.row_ends(distribution, shape[-1])).astype(scalars.drawn_as(dtype)).astype(dtype)
    if float(low) == float(high):
        return Expected(single(float(low)), exact=True, known=False)
    return Expected(DiscreteMarginal(np.array([low, high], np.float64), np.full(2, 0.5)), exact=True, known=False)


def eye(distribution: Eye, shape: Shape, dtype: np.dtype[Any], *, whole: bool) -> Expected:
    """Ones on the diagonal."""
    return ones(min(shape), math.prod(shape), whole=whole)


def dirac(distribution: Dirac, shape: Shape, dtype: np.dtype[Any], *, whole: bool) -> Expected:
    """A one for each channel that passes."""
    groups = distribution.groups
    return ones(groups * min(shape[0] // groups, shape[1]), math.prod(shape), whole=whole)


def sparse(distribution: Sparse, shape: Shape, dtype: np.dtype[Any], *, whole: bool) -> Expected:
    """Normal draws among zeros."""
    others = normal(Normal(0.0, distribution.std), shape, dtype, whole=whole)
    expected = among_zeros(others, distribution.zeros * shape[1], math.prod(shape), whole=whole)
    return replace(expected, chance=at_zero(others.marginal), column_zeros=distribution.zeros if whole else None)


def ones(count: int, elements: int, *, whole: bool) -> Expected:
    """A number of ones among zeros."""
    if not 0 < count < elements:
        return Expected(single(1.0 if count else 0.0), exact=True)
    share = count / elements
    marginal = DiscreteMarginal(np.array([0.0, 1.0]), np.array([1.0 - share, share]))
    return Expected(marginal, zeros=elements - count if whole else None, exact=True, known=whole)


def orthogonal(distribution: Orthogonal, shape: Shape, dtype: np.dtype[Any], *, whole: bool) -> Expected:
    """Entries of an orthogonal matrix, of which a triangle follows from the others."""
    gain, delta = distribution.gain, distribution.delta
    if gain == 0:
        return Expected(single(0.0), exact=True)
    elements = math.prod(shape)
    matrix = distribution.matrix(shape)
    size, columns = max(matrix), min(matrix)
    last = float(np.asarray(abs(gain)).astype(dtype))
    if size == 1:
        return Expected(DiscreteMarginal(np.array([-last, last]), np.array([0.5, 0.5])))
    fine = dtype.name in ("float64", "float32")
    if fine:
        last *= 1.0 + 1e-6  # entries of the smallest matrices are rounded to just above 1
    expected = drawn(SphereMarginal(size, gain), -last, last, dtype)
    free = size * columns - columns * (columns + 1) / 2
    expected = replace(expected, independent=max(1.0, free) / (size * columns))
    if fine and whole:
        rms = abs(gain) * math.sqrt(columns / elements)
        expected = replace(expected, rms=rms, orthogonal=None if delta else distribution)
    zeros = elements - size * columns
    return replace(among_zeros(expected, zeros, elements, whole=whole), known=whole or not delta)


def among_zeros(expected: Expected, zeros: int, elements: int, *, whole: bool) -> Expected:
    """The expected values of the others, among a number of zeros."""
    if not zeros:
        return expected
    share = zeros / elements
    return replace(
        expected,
        marginal=WithZeros(share, expected.marginal),
        independent=expected.independent * (1 - share) if expected.independent < 1 else 1.0,
        zeros=zeros if whole else None,
        chance=at_zero(expected.marginal),
    )


def single(value: float) -> Marginal:
    """One value."""
    return DiscreteMarginal(np.array([value]), np.ones(1))


def at_zero(marginal: Marginal) -> float:
    """The probability of 0: that of one step of a draw where the dtype is fine."""
    if isinstance(marginal, DiscreteMarginal):
        return float(marginal.probabilities[marginal.values == 0].sum())
    return 2.0**-24


def drawn(marginal: Marginal, first: float, last: float, dtype: np.dtype[Any]) -> Expected:
    """Draws from a distribution, rounded to the nearest number of the dtype from the first to the last."""
    # A draw counts its words in steps, and is rounded to the type that is drawn before it is rounded to the dtype.
    steps = float(np.finfo(scalars.drawn_as(dtype)).eps)
    offset = max(abs(first), abs(last)) / marginal.std
    return Expected(rounded(marginal, first, last, dtype), resolution=steps * (1.0 + 0.5 * offset))


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
