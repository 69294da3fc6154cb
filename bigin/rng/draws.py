"""Words to values: uniform, normal and truncated normal, in float32 and float64.

x is what one element draws: a word for float32, two joined words (low word first) for float64. `numbers` are the
scalars that the distribution prepared on the host, in the order in which they are unpacked here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from bigin.rng.portable import (
    clamp,
    exp_32,
    exp_64,
    expm1_32,
    expm1_64,
    f32,
    f64,
    float_64,
    fma,
    inlined,
    log_32,
    log_64,
    log_word_32,
    log_word_64,
    quantile_32,
    quantile_64,
    quantile_near_32,
    quantile_near_64,
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
    return clamp(fma(float_64(u64(x >> u64(11))) * f64(2.0**-53), width, low), first, last)


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
def trunc_tail_32(x, numbers):
    """w = -ln(4 p (1 - p)) of the probability p = (x + 1/2) 2^-32 of a normal on [a, b]; see trunc_normal_32.

    The probability below the value is counted up from a, the one above it down from b; each is precise where it is
    small. They are in units of the whole interval's side when that lies in one tail (`w_unit` puts the units back).
    """
    p_start, p_step, q_start, q_step, w_unit = numbers[:5]
    p = fma(f32(x) + f32(0.5), p_step, p_start)
    q = fma(f32(u32(~x)) + f32(0.5), q_step, q_start)
    return w_unit - log_32(p * q)


@inlined
def trunc_distance_32(x, numbers, anchor):
    """The distance d of the probability from that of the median, counted from the word nearest to it (`anchor`)."""
    d_start, d_step = numbers[5:7]
    above = x >= u32(anchor)
    distance = f32(u32(x - u32(anchor)) if above else u32(u32(anchor) - x))
    return fma(distance if above else -distance, d_step, d_start)


def trunc_value(distance: Any, quantile: Any) -> Any:
    """The value, given also w, by a quantile that serves for it: that of NEAR alone is shorter."""

    @inlined
    def value(x, w, numbers, anchor):
        mean, std, first, last = numbers[7:]
        return clamp(fma(quantile(distance(x, numbers, anchor), w), std, mean), first, last)

    return value


trunc_value_32 = trunc_value(trunc_distance_32, quantile_32)
trunc_near_32 = trunc_value(trunc_distance_32, quantile_near_32)


@inlined
def trunc_normal_32(x, numbers, anchor):
    """The inverse CDF of a normal on [a, b], at u = (x + 1/2) 2^-32."""
    return trunc_value_32(x, trunc_tail_32(x, numbers), numbers, anchor)


@inlined
def trunc_tail_64(x, numbers):
    """trunc_tail_32 in float64, at (k + 1/2) 2^-53 with k = x >> 11."""
    p_start, p_step, q_start, q_step, w_unit = numbers[:5]
    k = u64(x >> u64(11))
    p = fma(float_64(k) + f64(0.5), p_step, p_start)
    q = fma(float_64(u64(u64(0x1FFFFFFFFFFFFF) - k)) + f64(0.5), q_step, q_start)
    return w_unit - log_64(p * q)


@inlined
def trunc_distance_64(x, numbers, anchor):
    """trunc_distance_32 in float64."""
    d_start, d_step = numbers[5:7]
    k = u64(x >> u64(11))
    above = k >= u64(anchor)
    distance = float_64(u64(k - u64(anchor)) if above else u64(u64(anchor) - k))
    return fma(distance if above else -distance, d_step, d_start)


trunc_value_64 = trunc_value(trunc_distance_64, quantile_64)
trunc_near_64 = trunc_value(trunc_distance_64, quantile_near_64)


@inlined
def trunc_normal_64(x, numbers, anchor):
    """trunc_normal_32 in float64, at u = (k + 1/2) 2^-53 with k = x >> 11."""
    return trunc_value_64(x, trunc_tail_64(x, numbers), numbers, anchor)


@inlined
def log_uniform_32(x, numbers, anchor):
    """exp of a uniform between the logarithms of a and b, within the dtype's values there, and at least `floor`."""
    width, low, first, last, floor = numbers
    value = clamp(exp_32(fma(f32(u32(x >> u32(8))) * f32(2.0**-24), width, low)), first, last)
    return floor if value < floor else value


@inlined
def log_uniform_64(x, numbers, anchor):
    """log_uniform_32 in float64."""
    width, low, first, last, floor = numbers
    value = clamp(exp_64(fma(float_64(u64(x >> u64(11))) * f64(2.0**-53), width, low)), first, last)
    return floor if value < floor else value


@inlined
def log_of_uniform_32(x, numbers, anchor):
    """ln of a uniform on [a, b], at u = (x + 1/2) 2^-32, so that a may be 0; `step` is (b - a) 2^-32."""
    step, low, first, last = numbers
    return clamp(log_32(fma(f32(x) + f32(0.5), step, low)), first, last)


@inlined
def log_of_uniform_64(x, numbers, anchor):
    """log_of_uniform_32 in float64, at u = (k + 1/2) 2^-53 with k = x >> 11."""
    step, low, first, last = numbers
    return clamp(log_64(fma(float_64(u64(x >> u64(11))) + f64(0.5), step, low)), first, last)


@inlined
def inverse_softplus_32(x, numbers, anchor):
    """ln(e^t - 1) of a log-uniform t between `least` and `most`, and at least `floor`."""
    width, low, least, most, floor, first, last = numbers
    t = clamp(exp_32(fma(f32(u32(x >> u32(8))) * f32(2.0**-24), width, low)), least, most)
    t = floor if t < floor else t
    return clamp(log_32(expm1_32(t)), first, last)


@inlined
def inverse_softplus_64(x, numbers, anchor):
    """inverse_softplus_32 in float64."""
    width, low, least, most, floor, first, last = numbers
    t = clamp(exp_64(fma(float_64(u64(x >> u64(11))) * f64(2.0**-53), width, low)), least, most)
    t = floor if t < floor else t
    return clamp(log_64(expm1_64(t)), first, last)


@inlined
def ring_decay_32(x, numbers, anchor):
    """ln(1 / r - 1) of a radius r whose square is uniform, at u = (x + 1/2) 2^-32; it rises with q = 1 - r^2.

    q is counted up from where r is largest, r^2 from where it is least: each is precise where it is small. With them
    1 / r - 1 is q / (r (1 + r)), without a cancellation.
    """
    step, q_start, r_start, first, last = numbers
    q = fma(f32(x) + f32(0.5), step, q_start)
    square = fma(f32(u32(~x)) + f32(0.5), step, r_start)
    return clamp(log_32(q / (sqrt(square) + square)), first, last)


@inlined
def ring_decay_64(x, numbers, anchor):
    """ring_decay_32 in float64, at u = (k + 1/2) 2^-53 with k = x >> 11."""
    step, q_start, r_start, first, last = numbers
    k = u64(x >> u64(11))
    q = fma(float_64(k) + f64(0.5), step, q_start)
    square = fma(float_64(u64(u64(0x1FFFFFFFFFFFFF) - k)) + f64(0.5), step, r_start)
    return clamp(log_64(q / (sqrt(square) + square)), first, last)


class Draw(NamedTuple):
    """How a distribution is drawn.

    loop: "each" where every element draws alone, from (x, numbers, anchor); "pairs" where an even element and the odd
    one behind it draw together, from (even, odd, numbers). single, double: the functions in float32 and in float64.
    steps: the same in two steps, y = first(x, numbers) and second(x, y, numbers, anchor), where a CPU is faster so;
    and what gives the same as the second where y is below NEAR.
    """

    loop: str
    single: Any
    double: Any
    steps: tuple[tuple[Any, Any, Any], tuple[Any, Any, Any]] | None = None


DRAWS = {
    "uniform": Draw("each", uniform_32, uniform_64),
    "normal": Draw("pairs", normal_32, normal_64),
    "log_uniform": Draw("each", log_uniform_32, log_uniform_64),
    "log_of_uniform": Draw("each", log_of_uniform_32, log_of_uniform_64),
    "inverse_softplus": Draw("each", inverse_softplus_32, inverse_softplus_64),
    "ring_decay": Draw("each", ring_decay_32, ring_decay_64),
    "trunc_normal": Draw(
        "each",
        trunc_normal_32,
        trunc_normal_64,
        ((trunc_tail_32, trunc_value_32, trunc_near_32), (trunc_tail_64, trunc_value_64, trunc_near_64)),
    ),
}
