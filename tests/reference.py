"""A slow, obvious version of every value, written from docs/stream-v1.md. It imports nothing from bigin.

Every number is a Python float. An operation is done exactly, on integers m 2^e, and rounded once to the type that is
drawn in; only division and square root are numpy's, which IEEE 754 rounds correctly. The polynomials are read from the
document, so these tests are tests of the document too.
"""

from __future__ import annotations

import decimal
import hashlib
import math
import re
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path

import ml_dtypes
import numpy as np

DOCUMENT = Path(__file__).parent.parent / "docs" / "stream-v1.md"

# dtype -> digits of the significand, exponent of the smallest subnormal, numpy type
FORMATS = {
    "float64": (53, -1074, np.float64),
    "float32": (24, -149, np.float32),
    "float16": (11, -24, np.float16),
    "bfloat16": (8, -133, ml_dtypes.bfloat16),
    "float8_e4m3fn": (4, -9, ml_dtypes.float8_e4m3fn),
    "float8_e5m2": (3, -16, ml_dtypes.float8_e5m2),
}


# Rounding


def nearest(m: int, e: int, dtype: str) -> float:
    """m 2^e, for m other than 0, rounded to a dtype: to nearest, ties to even."""
    digits, lowest, _ = FORMATS[dtype]
    size = abs(m)
    drop = max(size.bit_length() - digits, lowest - e)
    if drop > 0:
        kept, rest = size >> drop, size & ((1 << drop) - 1)
        half = 1 << (drop - 1)
        size = kept + (rest > half or (rest == half and kept % 2 == 1))
        e += drop
    value = math.ldexp(size, e)
    return value if m > 0 else -value


def dyadic(x: float) -> tuple[int, int]:
    """(m, e) with x = m 2^e."""
    numerator, denominator = x.as_integer_ratio()
    return numerator, 1 - denominator.bit_length()


def rounded(x: float, dtype: str) -> float:
    return nearest(*dyadic(x), dtype) if x else x


def floor_to(x: Fraction, dtype: str) -> float:
    """The largest number of a dtype that is not above x."""
    digits, lowest, _ = FORMATS[dtype]
    if x == 0:
        return 0.0
    exponent = lowest
    while abs(x) >= Fraction(2) ** (exponent + digits):
        exponent += 1
    return float(math.floor(x / Fraction(2) ** exponent) * Fraction(2) ** exponent)


def ceil_to(x: Fraction, dtype: str) -> float:
    """The smallest number of a dtype that is not below x."""
    return -floor_to(-x, dtype) + 0.0


# Arithmetic in the type that is drawn in, t


def fma(a: float, b: float, c: float, t: str) -> float:
    if a == 0 or b == 0:
        return a * b + c
    (ma, ea), (mb, eb), (mc, ec) = dyadic(a), dyadic(b), dyadic(c)
    product, ep = ma * mb, ea + eb
    low = min(ep, ec)
    total = (product << (ep - low)) + (mc << (ec - low))
    return nearest(total, low, t) if total else 0.0


def mul(a: float, b: float, t: str) -> float:
    if a == 0 or b == 0:
        return a * b
    (ma, ea), (mb, eb) = dyadic(a), dyadic(b)
    return nearest(ma * mb, ea + eb, t)


def add(a: float, b: float, t: str) -> float:
    return fma(a, 1.0, b, t)


def sub(a: float, b: float, t: str) -> float:
    return fma(a, 1.0, -b, t)


def div(a: float, b: float, t: str) -> float:
    kind = FORMATS[t][2]
    return float(kind(a) / kind(b))


def sqrt(a: float, t: str) -> float:
    return float(np.sqrt(FORMATS[t][2](a)))


def from_int(n: int, t: str) -> float:
    return nearest(n, 0, t) if n else 0.0


# Polynomials


@cache
def tables() -> dict[str, list[float]]:
    """The tables of the document, by name, highest power first."""
    blocks = re.findall(r"```\n([A-Z]+_(?:32|64))\n(.*?)```", DOCUMENT.read_text(), re.S)
    return {name: [float.fromhex(line) for line in lines.split()] for name, lines in blocks}


def horner(x: float, coefficients: list[float], t: str) -> float:
    value = coefficients[0]
    for c in coefficients[1:]:
        value = fma(value, x, c, t)
    return value


def polynomial(name: str, x: float, t: str) -> float:
    if t == "float32":
        return horner(x, tables()[name + "_32"], t)
    coefficients = tables()[name + "_64"]
    if name in ("SIN", "COS", "EXP"):
        return horner(x, coefficients, t)
    powers = coefficients[::-1]
    even, odd = powers[0::2][::-1], powers[1::2][::-1]
    square = mul(x, x, t)
    return fma(x, horner(square, odd, t), horner(square, even, t), t)


# Functions

ROOT_HALF = {"float32": float.fromhex("0x1.6a09e6p-1"), "float64": float.fromhex("0x1.6a09e667f3bcdp-1")}
LN2 = {"float32": float.fromhex("0x1.62e430p-1"), "float64": float.fromhex("0x1.62e42fefa39efp-1")}
WORD_BITS = {"float32": 32, "float64": 64}


def split(x: float, t: str) -> tuple[int, float]:
    """(k, m) with x = 2^k m and ROOT_HALF <= m < 2 ROOT_HALF."""
    m, k = math.frexp(x)
    return (k, m) if m >= ROOT_HALF[t] else (k - 1, 2 * m)


def log_parts(k: int, f: float, t: str) -> float:
    tail = fma(mul(f, f, t), polynomial("LOG", f, t), f, t)
    return fma(from_int(k, t), LN2[t], tail, t)


def log(x: float, t: str) -> float:
    k, m = split(x, t)
    return log_parts(k, sub(m, 1.0, t), t)


def log_word(x: int, t: str) -> float:
    n = WORD_BITS[t]
    k, m = split(add(from_int(x, t), 0.5, t), t)
    k -= n
    f = mul(add(from_int(2**n - 1 - x, t), 0.5, t), -(2.0**-n), t) if k == 0 else sub(m, 1.0, t)
    return log_parts(k, f, t)


LN2_REST = {"float32": float.fromhex("-0x1.05c610p-29"), "float64": float.fromhex("0x1.abc9e3b39803fp-56")}
LN2_INVERSE = {"float32": float.fromhex("0x1.715476p+0"), "float64": float.fromhex("0x1.71547652b82fep+0")}


def exp_parts(x: float, t: str) -> tuple[float, float]:
    """(2^k, e^r - 1) with e^x = 2^k e^r."""
    magic = 1.5 * 2.0 ** (23 if t == "float32" else 52)
    k = sub(fma(x, LN2_INVERSE[t], magic, t), magic, t)
    r = fma(-k, LN2_REST[t], fma(-k, LN2[t], x, t), t)
    return 2.0 ** int(k), fma(mul(r, r, t), polynomial("EXP", r, t), r, t)


def exp(x: float, t: str) -> float:
    scale, rest = exp_parts(x, t)
    return fma(scale, rest, scale, t)


def expm1(x: float, t: str) -> float:
    scale, rest = exp_parts(x, t)
    return fma(scale, rest, sub(scale, 1.0, t), t)


def sincos_word(x: int, t: str) -> tuple[float, float]:
    n = WORD_BITS[t]
    quadrant = (x + 2 ** (n - 3)) % 2**n // 2 ** (n - 2)
    rest = (x - quadrant * 2 ** (n - 2)) % 2**n
    if rest >= 2 ** (n - 1):
        rest -= 2**n
    y = mul(from_int(rest, t), 2.0 ** -(n - 2), t)
    z = mul(y, y, t)
    s, c = mul(y, polynomial("SIN", z, t), t), polynomial("COS", z, t)
    return [(s, c), (c, -s), (-s, -c), (-c, s)][quadrant]


def quantile(d: float, w: float, t: str) -> float:
    if w < 6.0:
        return mul(d, polynomial("CENTRE", sub(w, 3.0, t), t), t)
    r = div(1.0, sqrt(w, t), t)
    tail = polynomial("MIDDLE", sub(r, 0.296875, t), t) if w < 32.0 else polynomial("FAR", sub(r, 0.1015625, t), t)
    return mul(d, div(tail, r, t), t)


# Words

MASK = 0xFFFFFFFF


def philox(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """Philox4x32-10."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & MASK, (p0 >> 32) ^ c3 ^ k1, p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


@cache
def stream_id(name: str, purpose: str = "") -> int:
    if name == "" and purpose == "":
        return 0
    text = name.encode() + b"\0" + purpose.encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8, person=b"bigin-v1").digest(), "little")


def table_key(seed: int, name: str) -> int:
    """The Philox key of a keyed table."""
    return drawn_bits(0, stream_id(name, "keys"), seed, "float64")


def key_of_text(text: str) -> int:
    """The key of a row that a text names."""
    digest = hashlib.blake2b(text.encode() + b"\0\0", digest_size=8, person=b"bigin-v1").digest()
    return int.from_bytes(digest, "little")


def block_words(block: int, stream: int, seed: int) -> tuple[int, ...]:
    return philox((block & MASK, block >> 32, stream & MASK, stream >> 32), (seed & MASK, seed >> 32))


def drawn_bits(e: int, stream: int, seed: int, t: str) -> int:
    """What element e draws: a word, or two joined ones, low word first."""
    if t == "float32":
        return block_words(e >> 2, stream, seed)[e & 3]
    words = block_words(e >> 1, stream, seed)
    return words[2 * (e & 1)] + (words[2 * (e & 1) + 1] << 32)


# Distributions: (kind, numbers in float64) -> the value of an element, in the type that is drawn in


def clamp(x: float, first: float, last: float) -> float:
    if x < first:
        return first
    return last if x > last else x


def uniform(e: int, stream: int, seed: int, dtype: str, low: float, high: float) -> float:
    t = drawn_type(dtype)
    first, last = uniform_ends(low, high, dtype)
    x = drawn_bits(e, stream, seed, t)
    u = (x >> 8) * 2.0**-24 if t == "float32" else (x >> 11) * 2.0**-53
    return clamp(fma(u, rounded(high - low, t), rounded(low, t), t), first, last)


@cache
def uniform_ends(low: float, high: float, dtype: str) -> tuple[float, float]:
    """The first and the last number of the dtype in [low, high)."""
    tiny = Fraction(2) ** -2000
    return ceil_to(Fraction(low), dtype), floor_to(Fraction(high) - tiny, dtype)


def normal(e: int, stream: int, seed: int, dtype: str, mean: float, std: float) -> float:
    t = drawn_type(dtype)
    even, odd = e - e % 2, e - e % 2 + 1
    radius = sqrt(mul(-2.0, log_word(drawn_bits(even, stream, seed, t), t), t), t)
    sine, cosine = sincos_word(drawn_bits(odd, stream, seed, t), t)
    return fma(mul(radius, cosine if e == even else sine, t), rounded(std, t), rounded(mean, t), t)


def trunc_normal(e: int, stream: int, seed: int, dtype: str, mean: float, std: float, a: float, b: float) -> float:
    t = drawn_type(dtype)
    numbers, anchor, first, last = trunc_normal_numbers(mean, std, a, b, dtype)
    p_start, p_step, q_start, q_step, w_unit, d_start, d_step = numbers
    bits = trunc_normal_bits(dtype)
    x = drawn_bits(e, stream, seed, t) >> (WORD_BITS[t] - bits)
    p = fma(add(from_int(x, t), 0.5, t), p_step, p_start, t)
    q = fma(add(from_int(2**bits - 1 - x, t), 0.5, t), q_step, q_start, t)
    w = sub(w_unit, log(mul(p, q, t), t), t)
    d = fma(from_int(x - anchor, t), d_step, d_start, t)
    return clamp(fma(quantile(d, w, t), rounded(std, t), rounded(mean, t), t), first, last)


def ln(x: float) -> Decimal:
    with decimal.localcontext(DECIMAL):
        return Decimal(x).ln()


@cache
def logarithms(a: float, b: float, t: str) -> tuple[float, float]:
    """ln b - ln a, and ln a."""
    with decimal.localcontext(DECIMAL):
        return rounded(float(ln(b) - ln(a)), t), rounded(float(ln(a)), t)


def between_logarithms(e: int, stream: int, seed: int, t: str, a: float, b: float) -> float:
    """exp of a uniform from ln a to ln b."""
    width, low = logarithms(a, b, t)
    x = drawn_bits(e, stream, seed, t)
    u = (x >> 8) * 2.0**-24 if t == "float32" else (x >> 11) * 2.0**-53
    return exp(fma(u, width, low, t), t)


def log_uniform(e: int, stream: int, seed: int, dtype: str, a: float, b: float, floor: float) -> float:
    t = drawn_type(dtype)
    value = clamp(between_logarithms(e, stream, seed, t, a, b), *uniform_ends(a, b, dtype))
    return max(value, rounded(floor, t))


def log_of_uniform(e: int, stream: int, seed: int, dtype: str, a: float, b: float) -> float:
    t = drawn_type(dtype)
    bits = trunc_normal_bits(dtype)
    x = drawn_bits(e, stream, seed, t) >> (WORD_BITS[t] - bits)
    value = log(fma(add(from_int(x, t), 0.5, t), rounded((b - a) * 2.0**-bits, t), rounded(a, t), t), t)
    largest = float(ml_dtypes.finfo(FORMATS[dtype][2]).max)
    return clamp(
        value, ceil_to(Fraction(float(ln(a))), dtype) if a else -largest, floor_to(Fraction(float(ln(b))), dtype)
    )


@cache
def inverse_softplus_ends(a: float, b: float, floor: float, dtype: str) -> tuple[float, float]:
    with decimal.localcontext(DECIMAL):
        low, high = (float((Decimal(x).exp() - 1).ln()) for x in (max(a, floor), b))
    return ceil_to(Fraction(low), dtype), floor_to(Fraction(high), dtype)


def inverse_softplus(e: int, stream: int, seed: int, dtype: str, a: float, b: float, floor: float) -> float:
    t = drawn_type(dtype)
    x = clamp(between_logarithms(e, stream, seed, t, a, b), *uniform_ends(a, b, t))
    value = log(expm1(max(x, rounded(floor, t)), t), t)
    return clamp(value, *inverse_softplus_ends(a, b, floor, dtype))


def ring_decay(e: int, stream: int, seed: int, dtype: str, a: float, b: float) -> float:
    """ln(1 / r - 1) where r^2 is uniform on [a^2, b^2] and falls with the draw."""
    t = drawn_type(dtype)
    bits = trunc_normal_bits(dtype)
    x = drawn_bits(e, stream, seed, t) >> (WORD_BITS[t] - bits)
    step = rounded((b - a) * (b + a) * 2.0**-bits, t)
    q = fma(add(from_int(x, t), 0.5, t), step, rounded((1 - b) * (1 + b), t), t)
    square = fma(add(from_int(2**bits - 1 - x, t), 0.5, t), step, rounded(a * a, t), t)
    value = log(div(q, add(sqrt(square, t), square, t), t), t)
    with decimal.localcontext(DECIMAL):
        low, high = (float((1 / Decimal(r) - 1).ln()) for r in (b, a))
    return clamp(value, ceil_to(Fraction(low), dtype), floor_to(Fraction(high), dtype))


DISTRIBUTIONS = {
    "uniform": uniform,
    "normal": normal,
    "trunc_normal": trunc_normal,
    "log_uniform": log_uniform,
    "log_of_uniform": log_of_uniform,
    "inverse_softplus": inverse_softplus,
    "ring_decay": ring_decay,
}


def drawn_type(dtype: str) -> str:
    return "float64" if dtype == "float64" else "float32"


def trunc_normal_bits(dtype: str) -> int:
    return 53 if dtype == "float64" else 32


# The numbers of trunc_normal, in decimal arithmetic

DECIMAL = decimal.Context(prec=410, rounding=decimal.ROUND_HALF_EVEN, Emin=-999999, Emax=999999)


@cache
def pi() -> Decimal:
    """pi to 430 digits, by the arithmetic-geometric mean of Gauss and Legendre."""
    with decimal.localcontext(DECIMAL) as context:
        context.prec = 430
        a, g, s, k = Decimal(1), 1 / Decimal(2).sqrt(), Decimal("0.25"), 1
        for _ in range(10):
            mean = (a + g) / 2
            g = (a * g).sqrt()
            s -= k * (a - mean) ** 2
            a, k = mean, 2 * k
        return a * a / s


@cache
def cdf(x: Decimal) -> Decimal:
    x = max(Decimal(-40), min(Decimal(40), x))
    square = x * x
    term = total = x
    k = 1
    while abs(term) > abs(total) * Decimal("1e-410"):
        k += 2
        term = term * square / k
        total = total + term
    return Decimal("0.5") + total * (-square / 2).exp() / (2 * pi()).sqrt()


@cache
def trunc_normal_numbers(
    mean: float, std: float, a: float, b: float, dtype: str
) -> tuple[list[float], int, float, float]:
    """The seven rounded numbers, the anchor, and the first and the last value."""
    n = 2 ** trunc_normal_bits(dtype)
    with decimal.localcontext(DECIMAL):
        alpha = (Decimal(a) - Decimal(mean)) / Decimal(std)
        beta = (Decimal(b) - Decimal(mean)) / Decimal(std)
        below, above = cdf(alpha), cdf(-beta)
        width = cdf(beta) - below
        p_unit = cdf(beta) if beta < 0 else Decimal(1)
        q_unit = cdf(-alpha) if alpha > 0 else Decimal(1)
        step = width / n
        centre = (Decimal("0.5") - below) / step - Decimal("0.5")
        near = decimal.Context(prec=400, rounding=decimal.ROUND_HALF_EVEN, Emin=-999999, Emax=999999).plus(centre)
        anchor = max(0, min(n - 1, int(near.to_integral_value(decimal.ROUND_HALF_EVEN))))
        numbers = [
            below / p_unit,
            step / p_unit,
            above / q_unit,
            step / q_unit,
            -(4 * p_unit * q_unit).ln(),
            (anchor - centre) * step,
            step,
        ]
    rounded_numbers = [rounded(float(number), drawn_type(dtype)) for number in numbers]
    largest = float(ml_dtypes.finfo(FORMATS[dtype][2]).max)
    first = -largest if a == -math.inf else ceil_to(Fraction(a), dtype)
    last = largest if b == math.inf else floor_to(Fraction(b), dtype)
    return rounded_numbers, anchor, first, last


# Methods

ALIASES = {
    "glorot_uniform": "xavier_uniform",
    "glorot_normal": "xavier_normal",
    "he_uniform": "kaiming_uniform",
    "he_normal": "kaiming_normal",
}


def fans(shape: tuple[int, ...], p: dict) -> tuple[int, int]:
    groups = []
    for key, default in (("in_axis", 1), ("out_axis", 0), ("batch_axis", ())):
        axes = p.get(key, default)
        groups.append([axis % len(shape) for axis in ([axes] if isinstance(axes, int) else axes)])
    inputs, outputs, batch = groups
    field = math.prod(size for axis, size in enumerate(shape) if axis not in inputs + outputs + batch)
    return math.prod(shape[i] for i in inputs) * field, math.prod(shape[i] for i in outputs) * field


def gain_of(nonlinearity: str, slope: float = 0.01) -> float:
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1.0 + slope * slope))
    return {"tanh": 5.0 / 3.0, "relu": math.sqrt(2.0), "selu": 0.75}.get(nonlinearity, 1.0)


def parsed_gain(gain: float | str) -> float:
    if not isinstance(gain, str):
        return float(gain)
    if gain[0].isdigit():
        return float(gain)
    nonlinearity, _, slope = gain.partition(":")
    return gain_of(nonlinearity, float(slope)) if slope else gain_of(nonlinearity)


def xavier_std(shape: tuple[int, ...], p: dict) -> float:
    fan_in, fan_out = fans(shape, p)
    return parsed_gain(p.get("gain", 1.0)) * math.sqrt(2.0 / (fan_in + fan_out))


def kaiming_std(shape: tuple[int, ...], p: dict) -> float:
    fan_in, fan_out = fans(shape, p)
    fan = fan_in if p.get("mode", "fan_in") == "fan_in" else fan_out
    return gain_of(p.get("nonlinearity", "leaky_relu"), float(p.get("a", 0.0))) / math.sqrt(fan)


def scaled(shape: tuple[int, ...], p: dict, scale: float, mode: str, distribution: str) -> tuple:
    fan_in, fan_out = map(float, fans(shape, p))
    fan = {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": (fan_in + fan_out) / 2.0,
        "fan_geo_avg": math.sqrt(fan_in * fan_out),
    }[mode]
    variance = scale / fan
    if distribution == "uniform":
        bound = math.sqrt(3.0 * variance)
        return "uniform", -bound, bound
    if distribution == "normal" or variance == 0:
        return "normal", 0.0, math.sqrt(variance)
    std = math.sqrt(variance) / 0.87962566103423978
    return "trunc_normal", 0.0, std, -2.0 * std, 2.0 * std


def truncated(p: dict) -> tuple:
    mean, std = float(p.get("mean", 0.0)), float(p.get("std", 1.0))
    a, b = p.get("a"), p.get("b")
    if a is None:
        a = -2.0 if p.get("lower") is None else mean + float(p["lower"]) * std
    if b is None:
        b = 2.0 if p.get("upper") is None else mean + float(p["upper"]) * std
    return "trunc_normal", mean, std, float(a), float(b)


def resolve(method: str, parameters: dict, shape: tuple[int, ...]) -> tuple:
    """(kind, numbers...) of a method; ("constant", value) where every value is one."""
    p = parameters
    method = ALIASES.get(method, method)
    root = math.sqrt(3.0)
    if method == "constant":
        return "constant", p["val"]
    if method in ("ones", "zeros"):
        return "constant", 1 if method == "ones" else 0
    if method == "uniform":
        row = "uniform", float(p.get("a", 0.0)), float(p.get("b", 1.0))
    elif method == "normal":
        row = "normal", float(p.get("mean", 0.0)), float(p.get("std", 1.0))
    elif method == "trunc_normal":
        row = truncated(p)
    elif method in ("log_uniform", "inverse_softplus"):
        row = method, float(p["a"]), float(p["b"]), float(p.get("floor", 0.0))
    elif method in ("log_of_uniform", "ring_decay"):
        row = method, float(p["a"]), float(p["b"])
    elif method == "xavier_uniform":
        row = "uniform", -(root * xavier_std(shape, p)), root * xavier_std(shape, p)
    elif method == "xavier_normal":
        row = "normal", 0.0, xavier_std(shape, p)
    elif method == "kaiming_uniform":
        row = "uniform", -(root * kaiming_std(shape, p)), root * kaiming_std(shape, p)
    elif method == "kaiming_normal":
        row = "normal", 0.0, kaiming_std(shape, p)
    elif method == "lecun_uniform":
        row = scaled(shape, p, 1.0, "fan_in", "uniform")
    elif method == "lecun_normal":
        row = scaled(shape, p, 1.0, "fan_in", "truncated_normal")
    elif method == "variance_scaling":
        mode, distribution = p.get("mode", "fan_in"), p.get("distribution", "truncated_normal")
        row = scaled(shape, p, float(p.get("scale", 1.0)), mode, distribution)
    else:
        raise KeyError(f"the reference does not know the method {method!r}")
    kind, *numbers = row
    if (kind == "uniform" and numbers[0] == numbers[1]) or (kind == "normal" and numbers[1] == 0):
        return "constant", numbers[0] + 0.0  # never -0
    return row


# The methods whose values are not independent draws: each returns a function from a place to its value


def eye(p: dict, shape: tuple[int, ...], dtype: str, seed: int, name: str) -> Callable:
    return lambda place: 1 if place[0] == place[1] else 0


def dirac(p: dict, shape: tuple[int, ...], dtype: str, seed: int, name: str) -> Callable:
    outputs = shape[0] // p.get("groups", 1)
    centre = tuple(size // 2 for size in shape[2:])
    return lambda place: 1 if place[0] % outputs == place[1] and place[2:] == centre else 0


def sparse(p: dict, shape: tuple[int, ...], dtype: str, seed: int, name: str) -> Callable:
    rows, columns = shape
    std = float(p.get("std", 0.01))
    zeros = math.ceil(p["sparsity"] * rows)

    def value(place: tuple[int, ...]) -> float:
        row, column = place
        if std == 0 or permuted(row, rows, block_words(column, stream_id(name, "sparse"), seed)) < zeros:
            return 0.0
        return normal(row * columns + column, stream_id(name), seed, dtype, 0.0, std)

    return value


def identity_plus_noise(p: dict, shape: tuple[int, ...], dtype: str, seed: int, name: str) -> Callable:
    def value(place: tuple[int, ...]) -> float:
        mean = float(p.get("gain", 1.0)) if place[0] == place[1] else 0.0
        return normal(flat_index(place, shape), stream_id(name), seed, dtype, mean, float(p["std"]))

    return value


def along_rows(value: Callable) -> Callable:
    """A method whose value follows from the index along the last axis, in float64, and is rounded to what is drawn."""

    def method(p: dict, shape: tuple[int, ...], dtype: str, seed: int, name: str) -> Callable:
        if dtype not in FORMATS:
            return lambda place: int(value(p, place[-1], shape[-1]))
        return lambda place: rounded(float(value(p, place[-1], shape[-1])), drawn_type(dtype))

    return method


def arange(p: dict, i: int, n: int) -> float:
    return p.get("start", 0) + i * p.get("step", 1)


def linspace(p: dict, i: int, n: int) -> float:
    a, b = float(p["a"]), float(p["b"])
    return b if n > 1 and i == n - 1 else a + i * ((b - a) / max(1, n - 1))


FORTY = decimal.Context(prec=40, rounding=decimal.ROUND_HALF_EVEN, Emin=-999999, Emax=999999)


def log_arange(p: dict, i: int, n: int) -> Decimal:
    with decimal.localcontext(FORTY):
        return (Decimal(float(p.get("start", 1.0))) + i).ln()


def rotary(p: dict, i: int, n: int) -> Decimal:
    with decimal.localcontext(FORTY):
        return (-Decimal(float(p.get("base", 1e4))).ln() * i / n).exp()


def sinusoidal(p: dict, shape: tuple[int, ...], dtype: str, seed: int, name: str) -> Callable:
    half = shape[1] // 2

    def value(place: tuple[int, ...]) -> float:
        row, column = place
        i, odd = (column % half, column // half) if p.get("order") == "halves" else divmod(column, 2)
        with decimal.localcontext(FORTY):
            turns = float(rotary(p, i, half) * (1 / (2 * pi())))
        part = row * turns
        word = int((Fraction(part) - round(Fraction(part))) * 2**64) % 2**64
        return rounded(sincos_word(word, "float64")[odd], drawn_type(dtype))

    return value


def permuted(place: int, size: int, key: tuple[int, ...]) -> int:
    """Where a keyed permutation of 0 ... size - 1 sends a place."""
    a = next(a for a in range(math.isqrt(size), size + 1) if a * a >= size)
    b = next(b for b in range(size // a, size + 1) if a * b >= size)
    while True:
        left, right = divmod(place, b)
        for turn in range(24):
            k = (key[turn % 4] + turn // 4 * 0x9E3779B9) & MASK
            product = 0xD2511F53 * (right & MASK ^ k)
            modulus = a if turn % 2 == 0 else b
            step = (((product >> 32) ^ product) & MASK) * modulus >> 32
            left, right = right, (left + step) % modulus
        place = left * b + right
        if place < size:
            return place


def axes_of(axes: int | list[int], ndim: int) -> list[int]:
    return [axis % ndim for axis in ([axes] if isinstance(axes, int) else axes)]


def orthogonal(p: dict, shape: tuple[int, ...], dtype: str, seed: int, name: str) -> Callable:
    outputs = axes_of(p.get("out_axis", 0), len(shape))
    others = [axis for axis in range(len(shape)) if axis not in outputs]
    row_sizes, column_sizes = (tuple(shape[axis] for axis in axes) for axes in (outputs, others))
    rows, columns = math.prod(row_sizes), math.prod(column_sizes)
    matrix = orthonormal(max(rows, columns), min(rows, columns), drawn_type(dtype), seed, name)
    gain = parsed_gain(p.get("gain", 1.0))

    def value(place: tuple[int, ...]) -> float:
        i = flat_index(tuple(place[axis] for axis in outputs), row_sizes)
        j = flat_index(tuple(place[axis] for axis in others), column_sizes)
        if rows < columns:
            i, j = j, i
        return rounded(mul(matrix[i][j], gain, "float64"), drawn_type(dtype))

    return value


def delta_orthogonal(p: dict, shape: tuple[int, ...], dtype: str, seed: int, name: str) -> Callable:
    (output,) = axes_of(p.get("out_axis", 0), len(shape))
    (into,) = axes_of(p.get("in_axis", 1), len(shape))
    kernel = [axis for axis in range(len(shape)) if axis not in (output, into)]
    matrix = orthogonal({"gain": p.get("gain", 1.0)}, (shape[output], shape[into]), dtype, seed, name)

    def value(place: tuple[int, ...]) -> float:
        centred = all(place[axis] == (shape[axis] - 1) // 2 for axis in kernel)
        return matrix((place[output], place[into])) if centred else 0.0

    return value


STRUCTURED = {
    "identity_plus_noise": identity_plus_noise,
    "arange": along_rows(arange),
    "linspace": along_rows(linspace),
    "log_arange": along_rows(log_arange),
    "rotary": along_rows(rotary),
    "sinusoidal": sinusoidal,
    "eye": eye,
    "dirac": dirac,
    "sparse": sparse,
    "orthogonal": orthogonal,
    "delta_orthogonal": delta_orthogonal,
}

DEPTH, TILE, STRIP = 256, 512, 8192  # products in a block, rows of a tile, rows of a strip


def contraction(a: Callable, b: Callable, first: int, last: int, t: str) -> float:
    """The sum of a(k) b(k): blocks by fma in t, added in float64."""
    total = 0.0
    for start in range(first, last, DEPTH):
        part = 0.0
        for k in range(start, min(start + DEPTH, last)):
            part = fma(a(k), b(k), part, t)
        total += part
    return total


@cache
def orthonormal(m: int, n: int, t: str, seed: int, name: str) -> list[list[float]]:
    """Q with the signs of R's diagonal, m x n, in float64: what is left is the gain and the rounding."""
    stream, f = stream_id(name, "orthogonal"), "float64"
    X = [[normal(i * n + j, stream, seed, t, 0.0, 1.0) if i >= j else 0.0 for j in range(n)] for i in range(m)]
    S = [[gram(X, i, j, t) if i <= j else 0.0 for j in range(n)] for i in range(n)]
    heads, steps, scales, signs = [], [], [], []
    for k in range(n):
        x, square = X[k][k], S[k][k]
        sign = -1.0 if x < 0 else 1.0
        head = rounded(fma(sign, sqrt(square, f), x, f), t)
        length = fma(head, head, max(fma(-x, x, square, f), 0.0), f)
        if length == 0:
            head = length = 1.0
        heads.append(head)
        steps.append(sub(head, x, f))
        scales.append(div(1.0, sqrt(length, f), f))
        signs.append(-sign)

    def inverse_entry(j: int, k: int) -> float:
        if k <= j:
            return 0.5 if k == j else 0.0
        return mul(fma(X[k][j], steps[k], S[j][k], f), mul(scales[j], scales[k], f), f)

    T_inverse = [[inverse_entry(j, k) for k in range(n)] for j in range(n)]
    V = [[heads[j] if i == j else X[i][j] for j in range(n)] for i in range(m)]  # not yet scaled
    W = solved(T_inverse, [[mul(V[j][i], scales[i], f) for j in range(n)] for i in range(n)])
    scaled_W = [[rounded(mul(W[i][j], scales[i], f), t) for j in range(n)] for i in range(n)]

    def entry(i: int, j: int) -> float:
        product = contraction(lambda k: V[i][k], lambda k: scaled_W[k][j], 0, n, t)
        return mul(sub(1.0 if i == j else 0.0, product, f), signs[j], f)

    return [[entry(i, j) for j in range(n)] for i in range(m)]


def gram(x: list[list[float]], i: int, j: int, t: str) -> float:
    """An entry of x'x: the strips' sums, added in float64."""
    total = 0.0
    for strip in range(0, len(x), STRIP):
        total += contraction(lambda k: x[k][i], lambda k: x[k][j], strip, min(strip + STRIP, len(x)), t)
    return total


def solved(upper: list[list[float]], right_side: list[list[float]]) -> list[list[float]]:
    """W with upper W = right_side, both upper triangular, tile of rows by tile of rows from the last."""
    n, f = len(upper), "float64"
    W = [[0.0] * n for _ in range(n)]
    for first in reversed(range(0, n, TILE)):
        last = min(first + TILE, n)
        inverse = inverted([row[first:last] for row in upper[first:last]])
        right = [[0.0] * n for _ in range(n)]
        for i in range(first, last):
            for j in range(first, n):
                known = contraction(lambda k: upper[i][k], lambda k: W[k][j], last, n, f)  # noqa: B023 (called at once)
                right[i][j] = sub(right_side[i][j], known, f)
        for i in range(first, last):
            row = inverse[i - first]
            for j in range(first, n):
                W[i][j] = contraction(lambda k: row[k - first], lambda k: right[k][j], first, last, f)  # noqa: B023
    return W


def inverted(upper: list[list[float]]) -> list[list[float]]:
    """The inverse of an upper triangular tile, by back substitution from the last row."""
    size, f = len(upper), "float64"
    inverse = [[1.0 if i == j else 0.0 for j in range(size)] for i in range(size)]
    for r in reversed(range(size)):
        inverse[r] = [mul(value, div(1.0, upper[r][r], f), f) for value in inverse[r]]
        for q in range(r):
            inverse[q] = [
                fma(-upper[q][r], below, value, f) for value, below in zip(inverse[q], inverse[r], strict=True)
            ]
    return inverse


# What the tests call


def elements(
    method: str, parameters: dict, shape: tuple[int, ...], dtype: str, seed: int, name: str, indices: object
) -> np.ndarray:
    """The values at flat C-order indices of a tensor."""
    indices = [int(e) for e in indices]
    if 0 in shape:
        return np.empty(0, numpy_type(dtype))
    if method in STRUCTURED:
        value = STRUCTURED[method](parameters, tuple(shape), dtype, seed, name)
        return stored([value(place_of(e, shape)) for e in indices], dtype)
    kind, *numbers = resolve(method, parameters, tuple(shape))
    if kind == "constant":
        return np.full(len(indices), constant(numbers[0], dtype), numpy_type(dtype))
    stream = stream_id(name)
    return stored([DISTRIBUTIONS[kind](e, stream, seed, dtype, *numbers) for e in indices], dtype)


def keyed_row(method: str, parameters: dict, dim: int, dtype: str, seed: int, name: str, key: int) -> np.ndarray:
    """The row of a key in a keyed table."""
    kind, *numbers = resolve(method, parameters, (1, dim))
    if kind == "constant":
        return np.full(dim, constant(numbers[0], dtype), numpy_type(dtype))
    draw, table = DISTRIBUTIONS[kind], table_key(seed, name)
    return stored([draw(column, key, table, dtype, *numbers) for column in range(dim)], dtype)


def stored(values: list, dtype: str) -> np.ndarray:
    """Values that were drawn, in the tensor's dtype."""
    if dtype not in FORMATS:
        return np.array(values, dtype)
    return np.array([rounded(float(value), dtype) for value in values], np.float64).astype(numpy_type(dtype))


def place_of(e: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index along each axis of a flat C-order index."""
    place = []
    for size in reversed(shape):
        e, index = divmod(e, size)
        place.append(index)
    return tuple(reversed(place))


def flat_index(place: tuple[int, ...], shape: tuple[int, ...]) -> int:
    e = 0
    for index, size in zip(place, shape, strict=True):
        e = e * size + index
    return e


def tensor(method: str, parameters: dict, shape: tuple[int, ...], dtype: str, seed: int, name: str) -> np.ndarray:
    """All values of a tensor."""
    indices = range(math.prod(shape))
    return elements(method, parameters, shape, dtype, seed, name, indices).reshape(shape)


def numpy_type(dtype: str) -> np.dtype:
    return np.dtype(FORMATS[dtype][2]) if dtype in FORMATS else np.dtype(dtype)


def constant(value: float, dtype: str) -> float | int:
    """An integer stays one in an integer dtype; a narrow float is rounded by way of float32."""
    if dtype not in FORMATS:
        return value if dtype.startswith("complex") else int(value)
    if not math.isfinite(value):
        return float(value)
    return rounded(rounded(float(value), drawn_type(dtype)), dtype)
