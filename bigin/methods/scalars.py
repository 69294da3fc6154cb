"""The scalars that a kernel takes, from a distribution and a dtype.

Functions raise InputError, one line that says why, where the dtype cannot hold the distribution's values.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Any, NamedTuple

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.methods import normal_cdf
from bigin.methods.distributions import (
    Arange,
    InverseSoftplus,
    Linspace,
    LogArange,
    LogOfUniform,
    LogUniform,
    Normal,
    RingDecay,
    Rotary,
    Rows,
    TruncNormal,
    Uniform,
)

# Half-way between two words, where every symmetric interval has its median, the last of the digits must not decide.
TIES = Context(prec=normal_cdf.DIGITS - 10, rounding=ROUND_HALF_EVEN, Emin=-999_999, Emax=999_999)

# How far a normal draw can lie from the mean, in standard deviations: sqrt(-2 ln 2^-33) and sqrt(-2 ln 2^-65).
REACH_32, REACH_64 = 6.77, 9.5


class Scalars(NamedTuple):
    """What a kernel takes beside the stream.

    kind: the key of the draw in rng.draws.DRAWS. values: the draw's numbers, in the order in which it unpacks them.
    anchor: the integer of trunc_normal; 0 for the others.
    """

    kind: str
    values: tuple[float, ...]
    anchor: int = 0


def drawn_as(dtype: np.dtype[Any]) -> type[np.floating[Any]]:
    """The type that a float dtype's values are drawn in, before they are rounded to it."""
    return np.float64 if dtype == np.float64 else np.float32


def reach(dtype: np.dtype[Any]) -> float:
    """How far a normal draw can lie from the mean, in standard deviations."""
    return REACH_64 if dtype == np.float64 else REACH_32


def constant(value: int | float, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The value in a dtype; floats narrower than float32 take the float32 value, rounded once."""
    if dtype.kind in "bui":
        low, high = dtypes.integer_range(dtype)
        if not math.isfinite(value) or value != int(value) or not low <= value <= high:
            raise InputError(f"expected an integer from {low} to {high} for {dtype.name}, got {value}")
        return np.asarray(int(value), dtype)
    if dtype.kind == "c":
        part = np.dtype(np.float32 if dtype.itemsize == 8 else np.float64)
        return np.asarray(constant(value, part), dtype)
    if math.isfinite(value):
        fits(value, value, dtype)
    elif math.isinf(value) and not dtypes.has_infinity(dtype):
        raise InputError(f"expected a finite value, got {value}: {dtype.name} has no infinity")
    return np.asarray(drawn_as(dtype)(value)).astype(dtype)


def fits(low: float, high: float, dtype: np.dtype[Any]) -> None:
    """Raise InputError where values from low to high would become infinities or NaNs in the dtype."""
    most = dtypes.largest(dtype)
    if low < -most or high > most:
        raise InputError(
            f"expected values within {dtype.name}'s range of +-{most:.6g}, got values from {low:.6g} to {high:.6g}; "
            "choose smaller numbers or a wider dtype"
        )


def uniform(distribution: Uniform, dtype: np.dtype[Any]) -> Scalars:
    """width, low, and the first and last number of the dtype in [low, high)."""
    low, high = distribution.low, distribution.high
    fits(low, high, dtype)
    fits(0, high - low, np.dtype(drawn_as(dtype)))
    first, last = dtypes.smallest_at_or_above(low, dtype), dtypes.largest_below(high, dtype)
    if first > last:
        raise InputError(f"expected [a, b) to hold a {dtype.name}, got [{low!r}, {high!r}), which holds none")
    return Scalars("uniform", (high - low, low, first, last))


def normal(distribution: Normal, dtype: np.dtype[Any]) -> Scalars:
    """mean and std."""
    mean, std = distribution.mean, distribution.std
    fits(mean - reach(dtype) * std, mean + reach(dtype) * std, dtype)
    return Scalars("normal", (mean, std))


def ln(value: float) -> Decimal:
    """The natural logarithm."""
    return Decimal(value).ln()


def log_uniform(distribution: LogUniform, dtype: np.dtype[Any]) -> Scalars:
    """The width and the start of the logarithms, the first and last number of the dtype in [a, b), and the floor."""
    a, b = distribution.a, distribution.b
    fits(a, b, dtype)
    normal_number(a, dtype)
    first, last = dtypes.smallest_at_or_above(a, dtype), dtypes.largest_below(b, dtype)
    if first > last:
        raise InputError(f"expected [a, b) to hold a {dtype.name}, got [{a!r}, {b!r}), which holds none")
    with localcontext(normal_cdf.CONTEXT):
        return Scalars("log_uniform", (float(ln(b) - ln(a)), float(ln(a)), first, last, distribution.floor))


def log_of_uniform(distribution: LogOfUniform, dtype: np.dtype[Any]) -> Scalars:
    """One step of the uniform, its start, and the first and last number of the dtype in [ln a, ln b]."""
    a, b = distribution.a, distribution.b
    bits = 53 if dtype == np.float64 else 32
    step = (b - a) * 2.0**-bits
    normal_number(a or step / 2, dtype)
    normal_number(step / 2, dtype)
    fits(0, b, np.dtype(drawn_as(dtype)))
    with localcontext(normal_cdf.CONTEXT):
        low, high = (float(ln(a)) if a else -math.inf), float(ln(b))
    first = -dtypes.largest(dtype) if low == -math.inf else dtypes.smallest_at_or_above(low, dtype)
    last = dtypes.largest_at_or_below(high, dtype)
    if first > last:
        raise InputError(f"expected [ln a, ln b] to hold a {dtype.name}, got [{low!r}, {high!r}], which holds none")
    return Scalars("log_of_uniform", (step, a, first, last))


def inverse_softplus(distribution: InverseSoftplus, dtype: np.dtype[Any]) -> Scalars:
    """The width and the start of the logarithms, the first and last t, the floor, and the first and last value."""
    a, b, floor = distribution.a, distribution.b, distribution.floor
    normal_number(a, dtype)
    drawn = np.dtype(drawn_as(dtype))
    least, most = dtypes.smallest_at_or_above(a, drawn), dtypes.largest_below(b, drawn)
    with localcontext(normal_cdf.CONTEXT):
        low, high = (float((Decimal(t).exp() - 1).ln()) for t in (max(a, floor), b))
        first, last = dtypes.smallest_at_or_above(low, dtype), dtypes.largest_at_or_below(high, dtype)
        if first > last:
            raise InputError(f"expected values that a {dtype.name} holds, got [{low!r}, {high!r}], which holds none")
        return Scalars("inverse_softplus", (float(ln(b) - ln(a)), float(ln(a)), least, most, floor, first, last))


def ring_decay(distribution: RingDecay, dtype: np.dtype[Any]) -> Scalars:
    """One step of the square, the start of 1 - r^2 and of r^2, and the first and last value."""
    a, b = distribution.a, distribution.b
    bits = 53 if dtype == np.float64 else 32
    step = (b - a) * (b + a) * 2.0**-bits
    normal_number(step / 2, dtype)
    normal_number(a * a, dtype)
    with localcontext(normal_cdf.CONTEXT):
        low, high = (float((1 / Decimal(r) - 1).ln()) for r in (b, a))
    first, last = dtypes.smallest_at_or_above(low, dtype), dtypes.largest_at_or_below(high, dtype)
    if first > last:
        raise InputError(f"expected values that a {dtype.name} holds, got [{low!r}, {high!r}], which holds none")
    return Scalars("ring_decay", (step, (1 - b) * (1 + b), a * a, first, last))


def normal_number(value: float, dtype: np.dtype[Any]) -> None:
    """Raise InputError where a positive number is too small for the logarithm of the type that is drawn."""
    tiny = float(np.finfo(drawn_as(dtype)).tiny)
    if value < tiny:
        raise InputError(f"expected numbers from {tiny:.3g} on for logarithms in {dtype.name}, got {value:g}")


def ends(distribution: TruncNormal, dtype: np.dtype[Any]) -> tuple[float, float]:
    """The smallest and the largest number of a dtype in [a, b]."""
    most = dtypes.largest(dtype)
    a, b = distribution.a, distribution.b
    first = -most if a == -math.inf else dtypes.smallest_at_or_above(a, dtype)
    last = most if b == math.inf else dtypes.largest_at_or_below(b, dtype)
    return first, last


def trunc_normal(distribution: TruncNormal, dtype: np.dtype[Any]) -> Scalars:
    """The scalars of rng.draws.trunc_normal_32 and _64, in their order; computed in decimal arithmetic."""
    mean, std, a, b = distribution.mean, distribution.std, distribution.a, distribution.b
    # Beyond an infinite bound no value is further from the mean, or from the other bound, than a normal draw is.
    furthest = reach(dtype) * std
    low = min(mean, b) - furthest if a == -math.inf else a
    fits(low, max(mean, a) + furthest if b == math.inf else b, dtype)
    fits(mean, mean + std, np.dtype(drawn_as(dtype)))
    first, last = ends(distribution, dtype)
    if first > last:
        raise InputError(f"expected [a, b] to hold a {dtype.name}, got [{a!r}, {b!r}], which holds none")
    bits = 53 if dtype == np.float64 else 32
    with localcontext(normal_cdf.CONTEXT):
        alpha = (Decimal(a) - Decimal(mean)) / Decimal(std)
        beta = (Decimal(b) - Decimal(mean)) / Decimal(std)
        below, above = normal_cdf.cdf(alpha), normal_cdf.cdf(-beta)
        width = normal_cdf.cdf(beta) - below
        # An interval in one tail is counted in units of that tail's probability, which may be 1e-300.
        p_unit = normal_cdf.cdf(beta) if beta < 0 else Decimal(1)
        q_unit = normal_cdf.cdf(-alpha) if alpha > 0 else Decimal(1)
        step = width / 2**bits
        if float(max(step / p_unit, step / q_unit)) < np.finfo(drawn_as(dtype)).tiny:
            raise InputError(
                f"expected [a, b] to be wider against std={std!r}, got [{a!r}, {b!r}], where {dtype.name} cannot tell "
                "the normal from a constant; use uniform"
            )
        # Element x has the probability below + (x + 1/2) step, which is 1/2 at x = centre.
        centre = (Decimal("0.5") - below) / step - Decimal("0.5")
        anchor = max(0, min(2**bits - 1, int(TIES.plus(centre).to_integral_value())))
        numbers = (
            below / p_unit,
            step / p_unit,
            above / q_unit,
            step / q_unit,
            -(4 * p_unit * q_unit).ln(),
            (anchor - centre) * step,
            step,
        )
        return Scalars("trunc_normal", (*map(float, numbers), mean, std, first, last), anchor)


def row_ends(distribution: Rows, count: int) -> tuple[float, float]:
    """The least and the largest value of so many that follow from the index along the last axis."""
    last = max(0, count - 1)
    match distribution:
        case Arange(start, step):
            ends = (float(start), float(start + step * last))
        case Linspace(a, b):
            ends = (a, b if last else a)
        case LogArange(start):
            ends = (math.log(start), math.log(start + last))
        case Rotary(base):
            ends = (base ** -(last / max(1, count)), 1.0)
        case _:
            ends = (-1.0, 1.0)
    return min(ends), max(ends)
