"""Words to values: uniform, normal and truncated normal, in float32 and float64.

x is what one element draws: a word for float32, two joined words (low word first) for float64. `numbers` are the
scalars that the distribution prepared on the host, in the order in which they are unpacked here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from bigin.rng.portable import (
    clamp,
    f32,
    f64,
    fma,
    inlined,
    log_32,
    log_64,
    log_word_32,
    log_word_64,
    quantile_32,
    quantile_64,
    sincos_word_32,
    sincos_word_64,
    sqrt,
    u32,
    u64,
)


@inlined
def uniform_32(x, numbers, anchor):
    """low + u (high - low) with u = (x >> 8) 2^-24, kept within the dtype's values in [low, high)."""
    width, low, first, last = numbers
    return clamp(fma(f32(u32(x >> u32(8))) * f32(2.0**-24), width, low), first, last)


@inlined
def uniform_64(x, numbers, anchor):
    """low + u (high - low) with u = (x >> 11) 2^-53, kept within the dtype's values in [low, high)."""
    width, low, first, last = numbers
    return clamp(fma(f64(u64(x >> u64(11))) * f64(2.0**-53), width, low), first, last)


@inlined
def normal_32(even, odd, numbers):
    """Box-Muller on a pair of elements: the even one's word makes the radius, the odd one's the angle."""
    mean, std = numbers
    radius = sqrt(f32(-2.0) * log_word_32(even))
    sine, cosine = sincos_word_32(odd)
    return fma(radius * cosine, std, mean), fma(radius * sine, std, mean)


@inlined
def normal_64(even, odd, numbers):
    """normal_32 in float64."""
    mean, std = numbers
    radius = sqrt(f64(-2.0) * log_word_64(even))
    sine, cosine = sincos_word_64(odd)
    return fma(radius * cosine, std, mean), fma(radius * sine, std, mean)


@inlined
def trunc_normal_32(x, numbers, anchor):
    """The inverse CDF of a normal on [a, b], at u = (x + 1/2) 2^-32.

    The probability below the value is counted up from a, the one above it down from b, and its distance d from the
    median from the word nearest to the median (`anchor`): each is precise where it is small. The first two are in
    units of the whole interval's side when that lies in one tail (`w_unit` puts the units back).
    """
    p_start, p_step, q_start, q_step, w_unit, d_start, d_step, mean, std, first, last = numbers
    p = fma(f32(x) + f32(0.5), p_step, p_start)
    q = fma(f32(u32(~x)) + f32(0.5), q_step, q_start)
    w = w_unit - log_32(p * q)
    above = x >= u32(anchor)
    distance = f32(u32(x - u32(anchor)) if above else u32(u32(anchor) - x))
    d = fma(distance if above else -distance, d_step, d_start)
    return clamp(fma(quantile_32(d, w), std, mean), first, last)


@inlined
def trunc_normal_64(x, numbers, anchor):
    """trunc_normal_32 in float64, at u = (k + 1/2) 2^-53 with k = x >> 11."""
    p_start, p_step, q_start, q_step, w_unit, d_start, d_step, mean, std, first, last = numbers
    k = u64(x >> u64(11))
    p = fma(f64(k) + f64(0.5), p_step, p_start)
    q = fma(f64(u64(u64(0x1FFFFFFFFFFFFF) - k)) + f64(0.5), q_step, q_start)
    w = w_unit - log_64(p * q)
    above = k >= u64(anchor)
    distance = f64(u64(k - u64(anchor)) if above else u64(u64(anchor) - k))
    d = fma(distance if above else -distance, d_step, d_start)
    return clamp(fma(quantile_64(d, w), std, mean), first, last)


class Draw(NamedTuple):
    """How a distribution is drawn.

    loop: "each" where every element draws alone, from (x, numbers, anchor); "pairs" where an even element and the odd
    one behind it draw together, from (even, odd, numbers). single, double: the functions in float32 and in float64.
    """

    loop: str
    single: Any
    double: Any


DRAWS = {
    "uniform": Draw("each", uniform_32, uniform_64),
    "normal": Draw("pairs", normal_32, normal_64),
    "trunc_normal": Draw("each", trunc_normal_32, trunc_normal_64),
}
