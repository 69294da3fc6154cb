"""What a method resolves to: a distribution with its numbers, as float64, before any dtype is chosen."""

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
    """1 where a convolution's kernel passes a channel on, in each of `groups` groups; 0 elsewhere."""

    groups: int


@dataclass(frozen=True)
class Sparse:
    """Exactly `zeros` zeros in every column of a matrix, the rest normal around 0."""

    zeros: int
    std: float


@dataclass(frozen=True)
class Orthogonal:
    """Orthonormal columns (or rows) times `gain`; with `delta`, at the centre of a kernel of zeros."""

    gain: float
    delta: bool


Random = Uniform | Normal | TruncNormal
Distribution = Constant | Random | Eye | Dirac | Sparse | Orthogonal


def uniform(low: float, high: float) -> Distribution:
    """A uniform distribution, or the constant that one of no width is."""
    finite("a", low)
    finite("b", high)
    if low > high:
        raise InputError(f"expected a <= b, got a={low:g} and b={high:g}; swap them")
    return Constant(low) if low == high else Uniform(low, high)


def normal(mean: float, std: float) -> Distribution:
    """A normal distribution, or the constant that one without spread is."""
    finite("mean", mean)
    finite("std", std)
    if std < 0:
        raise InputError(f"expected std >= 0, got std={std:g}; give a standard deviation that is not negative")
    return Constant(mean) if std == 0 else Normal(mean, std)


def trunc_normal(mean: float, std: float, a: float, b: float) -> Distribution:
    """A truncated normal distribution."""
    for name, value in (("mean", mean), ("std", std), ("a", a), ("b", b)):
        finite(name, value)
    if std <= 0:
        raise InputError(f"expected std > 0, got std={std:g}; give a positive standard deviation")
    if a >= b:
        raise InputError(f"expected a < b, got a={a:g} and b={b:g}; give an interval with a width")
    nearest = max(a - mean, mean - b) / std
    if nearest > FARTHEST:
        raise InputError(
            f"expected [a, b] to come within {FARTHEST} standard deviations of the mean, got one {nearest:.4g} away; "
            "move the interval or the mean, or raise std"
        )
    return TruncNormal(mean, std, a, b)


FARTHEST = 37  # the inverse CDF's polynomials reach a little further than this


def finite(name: str, value: float) -> None:
    """Refuses an infinity and a NaN."""
    if not math.isfinite(value):
        raise InputError(f"expected a finite {name}, got {name}={value}; give a number")


def formula(distribution: Distribution) -> str:
    """A distribution with its numbers, as people write it."""
    match distribution:
        case Constant(value):
            return f"{value:g}"
        case Uniform(low, high):
            return f"U[{low:.6g}, {high:.6g})"
        case Normal(mean, std):
            return f"N({mean:.6g}, {std:.6g}^2)"
        case TruncNormal(mean, std, a, b):
            return f"N({mean:.6g}, {std:.6g}^2) on [{a:.6g}, {b:.6g}]"
        case Eye():
            return "1 on the diagonal"
        case Dirac(groups):
            return f"1 where a channel passes, {groups} group{'' if groups == 1 else 's'}"
        case Sparse(zeros, std):
            return f"{zeros} zeros in every column, else N(0, {std:.6g}^2)"
        case Orthogonal(gain, delta):
            return f"{gain:g} Q" + (" at the centre" if delta else "")
