"""The distributions that methods resolve to, with their numbers in float64, before a dtype is chosen.

Everything that the rest of the package knows about a distribution is its row in fillers/families.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bigin.core.errors import InputError


@dataclass(frozen=True)
class Constant:
    """Every value is `value`."""

    value: int | float


@dataclass(frozen=True)
class Uniform:
    """Uniform on [low, high)."""

    low: float
    high: float


@dataclass(frozen=True)
class Normal:
    """Normal with this mean and standard deviation."""

    mean: float
    std: float


@dataclass(frozen=True)
class TruncNormal:
    """Normal with this mean and standard deviation (before the truncation), on [a, b]."""

    mean: float
    std: float
    a: float
    b: float


@dataclass(frozen=True)
class Eye:
    """1 on the diagonal of a matrix, 0 elsewhere."""


@dataclass(frozen=True)
class Dirac:
    """1 where a convolution's kernel passes a channel through, in each of `groups` groups; 0 elsewhere."""

    groups: int


@dataclass(frozen=True)
class Sparse:
    """Exactly `zeros` zeros in every column of a matrix, the rest normal around 0."""

    zeros: int
    std: float


@dataclass(frozen=True)
class Orthogonal:
    """Orthonormal columns (or rows) times `gain`; with `delta`, at the centre of a kernel of zeros.

    The output axes are the rows of the matrix. Its columns are all other axes, flattened in C order; with `delta` they
    are the input axis alone.
    """

    gain: float
    delta: bool
    out_axes: tuple[int, ...] = (0,)
    in_axes: tuple[int, ...] = (1,)

    def matrix(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """(rows, columns) of the matrix in a tensor of this shape, which has elements."""
        rows = math.prod(shape[axis] for axis in self.out_axes)
        columns = math.prod(shape[axis] for axis in self.in_axes) if self.delta else math.prod(shape) // rows
        return rows, columns

    def columns(self, ndim: int) -> tuple[int, ...]:
        """All axes that are no rows, in the order in which they are flattened; with `delta` the input axis first."""
        first = self.in_axes if self.delta else ()
        return *first, *(axis for axis in range(ndim) if axis not in (*self.out_axes, *first))


@dataclass(frozen=True)
class LogUniform:
    """The exponential of a uniform between ln a and ln b; values below `floor` are `floor`."""

    a: float
    b: float
    floor: float


@dataclass(frozen=True)
class LogOfUniform:
    """The logarithm of a uniform on [a, b]."""

    a: float
    b: float


@dataclass(frozen=True)
class InverseSoftplus:
    """ln(e^t - 1) of a log-uniform t from a to b, at least `floor`: softplus of it is t."""

    a: float
    b: float
    floor: float


@dataclass(frozen=True)
class RingDecay:
    """ln(1 / r - 1) of a radius r from a to b whose square is uniform: e^-softplus of it is r."""

    a: float
    b: float


@dataclass(frozen=True)
class IdentityPlusNoise:
    """`gain` on the diagonal of a matrix and 0 elsewhere, plus a normal around 0."""

    gain: float
    std: float


@dataclass(frozen=True)
class Arange:
    """start + step i along the last axis."""

    start: int | float
    step: int | float


@dataclass(frozen=True)
class Linspace:
    """Equal steps from a to b along the last axis."""

    a: float
    b: float


@dataclass(frozen=True)
class LogArange:
    """ln(start + i) along the last axis."""

    start: float


@dataclass(frozen=True)
class Rotary:
    """base^(-i / n) along the last axis, of n elements."""

    base: float


@dataclass(frozen=True)
class Sinusoidal:
    """Of position p and column pair i of d / 2: sin and cos of p base^(-2 i / d), side by side or in two halves."""

    base: float
    order: str


Random = Uniform | Normal | TruncNormal | LogUniform | LogOfUniform | InverseSoftplus | RingDecay
Rows = Arange | Linspace | LogArange | Rotary | Sinusoidal
Distribution = Constant | Random | Eye | Dirac | Sparse | Orthogonal | IdentityPlusNoise | Rows


def uniform(low: float, high: float) -> Distribution:
    """A uniform distribution, or a constant where low and high are equal: +0.0 where they are zero."""
    finite("a", low)
    finite("b", high)
    if low > high:
        raise InputError(f"expected a <= b, got a={low:g} and b={high:g}; swap them")
    return Constant(low + 0.0) if low == high else Uniform(low, high)


def normal(mean: float, std: float) -> Distribution:
    """A normal distribution, or a constant where std is 0: +0.0 where the mean is zero."""
    finite("mean", mean)
    finite("std", std)
    if std < 0:
        raise InputError(f"expected std >= 0, got std={std:g}; give a standard deviation that is not negative")
    return Constant(mean + 0.0) if std == 0 else Normal(mean, std)


def trunc_normal(mean: float, std: float, a: float, b: float) -> Distribution:
    """A truncated normal distribution; a may be -inf, and b inf."""
    finite("mean", mean)
    finite("std", std)
    if std <= 0:
        raise InputError(f"expected std > 0, got std={std:g}; give a positive standard deviation")
    if not a < b:
        raise InputError(f"expected a < b, got a={a:g} and b={b:g}; give an interval with a width")
    nearest = max(a - mean, mean - b) / std
    if nearest > FARTHEST:
        raise InputError(
            f"expected [a, b] to come within {FARTHEST} standard deviations of the mean, got one {nearest:.4g} away; "
            "move the interval or the mean, or raise std"
        )
    return TruncNormal(mean, std, a, b)


def log_uniform(a: float, b: float, floor: float) -> LogUniform:
    """A log-uniform distribution."""
    positive_bounds(a, b)
    if not 0 <= floor < b:
        raise InputError(f"expected a floor from 0 to b, got floor={floor:g} and b={b:g}")
    return LogUniform(a, b, floor)


def log_of_uniform(a: float, b: float) -> LogOfUniform:
    """The logarithm of a uniform distribution."""
    finite("a", a)
    finite("b", b)
    if not 0 <= a < b:
        raise InputError(f"expected 0 <= a < b, got a={a:g} and b={b:g}; logarithms are of positive numbers")
    return LogOfUniform(a, b)


LARGEST_SOFTPLUS = 80  # e^80 is a float32


def inverse_softplus(a: float, b: float, floor: float) -> InverseSoftplus:
    """The inverse softplus of a log-uniform distribution."""
    log_uniform(a, b, floor)
    if b > LARGEST_SOFTPLUS:
        raise InputError(f"expected b up to {LARGEST_SOFTPLUS}, got b={b:g}")
    return InverseSoftplus(a, b, floor)


def ring_decay(a: float, b: float) -> RingDecay:
    """The parameter of decays that are uniform on a ring."""
    if not 0 < a < b < 1:
        raise InputError(f"expected 0 < a < b < 1, got a={a:g} and b={b:g}; they are the least and the largest decay")
    return RingDecay(a, b)


def positive_bounds(a: float, b: float) -> None:
    """Raise InputError where a and b are not positive and in order."""
    finite("a", a)
    finite("b", b)
    if not 0 < a < b:
        raise InputError(f"expected 0 < a < b, got a={a:g} and b={b:g}; logarithms are of positive numbers")


FARTHEST = 37  # standard deviations; the polynomials of the inverse CDF reach a little further than this


def finite(name: str, value: float) -> None:
    """Raise InputError where a number is infinite or NaN."""
    if not math.isfinite(value):
        raise InputError(f"expected a finite {name}, got {name}={value}; give a finite number")
