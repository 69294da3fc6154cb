"""Arithmetic that gives the same bits on every CPU and GPU.

A compiler may fuse a * b + c into one rounding or leave it as two, and each C library has its own log and sin. So
everything here is built from + - * / sqrt and an *explicit* fma, all of them correctly rounded by IEEE 754, and no
product ever feeds an addition: where one would, fma says so. Then nothing is left for a compiler to decide.

Everything is inlined at the level of Numba's IR: a call would carry Numba's error status, and LLVM does not
vectorize a loop that branches on one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from bigin.rng import coefficients as table
from bigin.rng.instructions import instruction_set

inlined = njit(inline="always", error_model="numpy")

i32, i64, u32, u64, f32, f64 = np.int32, np.int64, np.uint32, np.uint64, np.float32, np.float64


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c with one rounding; three floats of one type."""
    if not (a == b == c and isinstance(a, types.Float)):
        return None
    return a(a, b, c), lambda context, builder, signature, args: builder.fma(*args)


@intrinsic
def sqrt(typingctx: Any, x: Any) -> Any:
    """The correctly rounded square root; no check of the sign, which would stop vectorization."""
    if not isinstance(x, types.Float):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic("llvm.sqrt", [args[0].type]), args)

    return x(x), generate


@intrinsic
def low_product(typingctx: Any, a: Any, b: Any) -> Any:
    """The 64-bit product of the low halves of two uint64.

    On a GPU as the one instruction that it is: NVVM would multiply the masked operands in 64 bits, and ptxas needs one
    instruction more for that.
    """
    if not (a == b == types.uint64):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, half = ir.IntType(64), ir.IntType(32)
        if builder.module.triple.startswith("nvptx"):
            kind = ir.FunctionType(word, [half, half])
            narrow = [builder.trunc(arg, half) for arg in args]
            return builder.asm(kind, "mul.wide.u32 $0, $1, $2;", "=l,r,r", narrow, False)
        low = ir.Constant(word, 0xFFFFFFFF)
        return builder.mul(*(builder.and_(arg, low) for arg in args))

    return types.uint64(a, b), generate


@intrinsic
def float_64(typingctx: Any, x: Any) -> Any:
    """A uint64 or int64 to the nearest float64.

    AVX2 has no instruction for it, and LLVM converts lane by lane once it knows the sign (uniforms 3.3 GB/s against
    4.8). There the halves become the mantissas of 2^84 + high 2^32 and 2^52 + low; taking 2^84 + 2^52 away again is
    exact, and the addition of the halves rounds once.
    """
    if x not in (types.uint64, types.int64):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word, double = ir.IntType(64), ir.DoubleType()
        if builder.module.triple.startswith("nvptx") or instruction_set() != "avx2":
            return (builder.sitofp if x.signed else builder.uitofp)(args[0], double)
        low = builder.or_(builder.and_(args[0], word(0xFFFFFFFF)), word(0x4330000000000000))  # 2^52
        sign = 1 << 31 if x.signed else 0
        high = builder.xor(builder.lshr(args[0], word(32)), word(0x4530000000000000 | sign))  # 2^84
        bias = double(float(2**84 + 2**52 + (sign << 32)))
        return builder.fadd(builder.fsub(builder.bitcast(high, double), bias), builder.bitcast(low, double))

    return types.float64(x), generate


@intrinsic
def as_type(typingctx: Any, x: Any, kind: Any) -> Any:
    """The bits of a number as another type of its width; numpy's `view` would be a function more to compile."""
    if not (isinstance(x, types.Number) and isinstance(kind, types.NumberClass) and x.bitwidth == kind.dtype.bitwidth):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(kind.dtype))

    return kind.dtype(x, kind), generate


@intrinsic
def polynomial(typingctx: Any, x: Any, coefficients: Any) -> Any:
    """Horner's rule with fma; the highest power comes first. A loop would have to be inlined, typed and unrolled."""
    if not (isinstance(x, types.Float) and isinstance(coefficients, types.UniTuple) and coefficients.dtype == x):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, *rest = (builder.extract_value(args[1], i) for i in range(coefficients.count))
        for c in rest:
            value = builder.fma(value, args[0], c)
        return value

    return x(x, coefficients), generate


@inlined
def polynomial_by_halves(x, halves):
    """p(x) = even(x^2) + x odd(x^2), each by Horner's rule, for the long polynomials of float64.

    When the order of operations was fixed, Horner's rule was a loop, of which LLVM unrolls at most 16 steps before it
    vectorizes. Two chains also wait less than one.
    """
    even, odd = halves
    square = x * x
    return fma(x, polynomial(square, odd), polynomial(square, even))


def _single(values: tuple[float, ...]) -> tuple[Any, ...]:
    return tuple(f32(v) for v in values)


def _double(values: tuple[float, ...]) -> tuple[Any, ...]:
    return tuple(f64(v) for v in values)


def _halves(values: tuple[float, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The coefficients of the even powers, and those of the odd ones."""
    return _double(values[::-1][0::2][::-1]), _double(values[::-1][1::2][::-1])


LOG_32, LOG_64 = _single(table.LOG_32), _halves(table.LOG_64)
SIN_32, SIN_64 = _single(table.SIN_32), _double(table.SIN_64)
COS_32, COS_64 = _single(table.COS_32), _double(table.COS_64)
CENTRE_32, CENTRE_64 = _single(table.QUANTILE_CENTRE_32), _halves(table.QUANTILE_CENTRE_64)
MIDDLE_32, MIDDLE_64 = _single(table.QUANTILE_MIDDLE_32), _halves(table.QUANTILE_MIDDLE_64)
FAR_32, FAR_64 = _single(table.QUANTILE_FAR_32), _halves(table.QUANTILE_FAR_64)

EXP_32, EXP_64 = _single(table.EXP_32), _double(table.EXP_64)

LN2 = 0.6931471805599453
LN2_REST_32 = f32(float.fromhex("-0x1.05c610p-29"))  # ln 2 - float32(ln 2)
LN2_REST_64 = f64(float.fromhex("0x1.abc9e3b39803fp-56"))
ROUND_32, ROUND_64 = f32(1.5 * 2.0**23), f64(1.5 * 2.0**52)  # added and taken away: the nearest integer
# The bits of sqrt(1/2): x = 2^k m with m in [sqrt(1/2), sqrt(2)), so that k = 0 on both sides of x = 1.
ROOT_HALF_32 = i32(0x3F3504F3)
ROOT_HALF_64 = i64(0x3FE6A09E667F3BCD)
BIAS_64 = i64(1024 << 52)


@inlined
def split_32(x):
    """(k, m) with x = 2^k m and m in [sqrt(1/2), sqrt(2)), for a positive normal float32 x."""
    bits = as_type(f32(x), np.int32)
    k = i32(i32(bits - ROOT_HALF_32) >> i32(23))
    return k, as_type(i32(bits - i32(k << i32(23))), np.float32)


@inlined
def split_64(x):
    """split_32 for a float64."""
    bits = as_type(f64(x), np.int64)
    k = i64(i64(u64(i64(bits - ROOT_HALF_64) + BIAS_64) >> u64(52)) - i64(1024))  # AVX2 shifts no signs of 64 bits
    return k, as_type(i64(bits - i64(k << i64(52))), np.float64)


@inlined
def log_parts_32(k, f):
    """ln(2^k (1 + f))"""
    return fma(f32(k), f32(LN2), fma(f * f, polynomial(f, LOG_32), f))


@inlined
def log_parts_64(k, f):
    """ln(2^k (1 + f))"""
    return fma(float_64(k), f64(LN2), fma(f * f, polynomial_by_halves(f, LOG_64), f))


@inlined
def log_32(x):
    """ln x of a positive normal float32, with an absolute error of a rounding or two near x = 1."""
    k, m = split_32(x)
    return log_parts_32(k, m - f32(1.0))


@inlined
def log_64(x):
    """ln x of a positive normal float64, with an absolute error of a rounding or two near x = 1."""
    k, m = split_64(x)
    return log_parts_64(k, m - f64(1.0))


@inlined
def log_word_32(w):
    """ln((w + 1/2) 2^-32) of a word, with a small *relative* error also where the logarithm is near 0.

    Above sqrt(1/2) the distance to 1 is taken from the complement of the word, which has no cancellation.
    """
    k, m = split_32(f32(w) + f32(0.5))
    k = i32(k - i32(32))
    below_one = (f32(i32(u32(~w))) + f32(0.5)) * f32(-(2.0**-32))  # ~w < 2^31 where it serves: no unsigned conversion
    f = below_one if k == i32(0) else m - f32(1.0)
    return log_parts_32(k, f)


@inlined
def log_word_64(x):
    """ln((x + 1/2) 2^-64) of two words joined; see log_word_32."""
    k, m = split_64(float_64(x) + f64(0.5))
    k = i64(k - i64(64))
    below_one = (float_64(u64(~x)) + f64(0.5)) * f64(-(2.0**-64))
    f = below_one if k == i64(0) else m - f64(1.0)
    return log_parts_64(k, f)


@inlined
def exp_parts_32(x):
    """(2^k, e^r - 1) with e^x = 2^k e^r and |r| at most about ln 2 / 2, for 2^k within float32's normal numbers."""
    k = fma(f32(x), f32(1 / LN2), ROUND_32) - ROUND_32
    r = fma(-k, f32(LN2), f32(x))
    r = fma(-k, LN2_REST_32, r)
    scale = as_type(i32(i32(i32(k) + i32(127)) << i32(23)), np.float32)
    return scale, fma(r * r, polynomial(r, EXP_32), r)


@inlined
def exp_parts_64(x):
    """exp_parts_32 for a float64."""
    k = fma(f64(x), f64(1 / LN2), ROUND_64) - ROUND_64
    r = fma(-k, f64(LN2), f64(x))
    r = fma(-k, LN2_REST_64, r)
    scale = as_type(i64(i64(i64(k) + i64(1023)) << i64(52)), np.float64)
    return scale, fma(r * r, polynomial(r, EXP_64), r)


@inlined
def exp_32(x):
    """e^x, where it is a normal float32."""
    scale, rest = exp_parts_32(x)
    return fma(scale, rest, scale)


@inlined
def exp_64(x):
    """e^x, where it is a normal float64."""
    scale, rest = exp_parts_64(x)
    return fma(scale, rest, scale)


@inlined
def expm1_32(x):
    """e^x - 1 of a float32 that is not negative, with a small relative error also near 0."""
    scale, rest = exp_parts_32(x)
    return fma(scale, rest, scale - f32(1.0))


@inlined
def expm1_64(x):
    """e^x - 1 of a float64 that is not negative, with a small relative error also near 0."""
    scale, rest = exp_parts_64(x)
    return fma(scale, rest, scale - f64(1.0))


@inlined
def sincos_word_32(w):
    """(sin, cos) of 2 pi w 2^-32. The reduction to an eighth of a turn is done on the integer, exactly."""
    quadrant = u32(u32(w + u32(0x20000000)) >> u32(30))
    y = f32(i32(u32(w - u32(quadrant << u32(30))))) * f32(2.0**-30)
    z = y * y
    s = y * polynomial(z, SIN_32)
    c = polynomial(z, COS_32)
    swap = u32(quadrant & u32(1)) == u32(1)
    sine = as_type(f32(c if swap else s), np.uint32)
    cosine = as_type(f32(s if swap else c), np.uint32)
    sine = u32(sine ^ u32(u32(quadrant & u32(2)) << u32(30)))
    cosine = u32(cosine ^ u32(u32(u32(quadrant + u32(1)) & u32(2)) << u32(30)))
    return as_type(sine, np.float32), as_type(cosine, np.float32)


@inlined
def sincos_word_64(x):
    """(sin, cos) of 2 pi x 2^-64; see sincos_word_32."""
    quadrant = u64(u64(x + u64(0x2000000000000000)) >> u64(62))
    y = float_64(i64(u64(x - u64(quadrant << u64(62))))) * f64(2.0**-62)
    z = y * y
    s = y * polynomial(z, SIN_64)
    c = polynomial(z, COS_64)
    swap = u64(quadrant & u64(1)) == u64(1)
    sine = as_type(f64(c if swap else s), np.uint64)
    cosine = as_type(f64(s if swap else c), np.uint64)
    sine = u64(sine ^ u64(u64(quadrant & u64(2)) << u64(62)))
    cosine = u64(cosine ^ u64(u64(u64(quadrant + u64(1)) & u64(2)) << u64(62)))
    return as_type(sine, np.float64), as_type(cosine, np.float64)


CENTRE_W, CENTRE_MIDDLE, CENTRE_FAR = table.QUANTILE_CENTRES
NEAR = 6.0  # the quantile's first piece serves for w below it


@inlined
def quantile_near_32(d, w):
    """quantile_32 for w below NEAR, by its first piece alone."""
    return d * polynomial(w - f32(CENTRE_W), CENTRE_32)


@inlined
def quantile_near_64(d, w):
    """quantile_near_32 in float64."""
    return d * polynomial_by_halves(w - f64(CENTRE_W), CENTRE_64)


@inlined
def quantile_32(d, w):
    """x with Phi(x) = 1/2 + d, given also w = -ln(4 Phi(x) Phi(-x)), for |x| below 38.

    d carries the sign and, near 0, the precision; w carries it in the tails. This is the split of M. Giles,
    "Approximating the erfinv function" (2010), with pieces for w below 6, below 32 and above.
    """
    t = f32(1.0) / sqrt(w if w > f32(NEAR) else f32(NEAR))
    near = polynomial(w - f32(CENTRE_W), CENTRE_32)
    middle = polynomial(t - f32(CENTRE_MIDDLE), MIDDLE_32)
    far = polynomial(t - f32(CENTRE_FAR), FAR_32)
    tail = (middle if w < f32(32.0) else far) / t
    return d * (near if w < f32(NEAR) else tail)


@inlined
def quantile_64(d, w):
    """quantile_32 in float64."""
    t = f64(1.0) / sqrt(w if w > f64(NEAR) else f64(NEAR))
    near = polynomial_by_halves(w - f64(CENTRE_W), CENTRE_64)
    middle = polynomial_by_halves(t - f64(CENTRE_MIDDLE), MIDDLE_64)
    far = polynomial_by_halves(t - f64(CENTRE_FAR), FAR_64)
    tail = (middle if w < f64(32.0) else far) / t
    return d * (near if w < f64(NEAR) else tail)


@inlined
def clamp(value, first, last):
    """value, or the bound that it lies beyond."""
    raised = first if value < first else value
    return last if raised > last else raised


@inlined
def bits_bfloat16(x):
    """The bfloat16 nearest to a finite float32, ties to even, as uint16 bits."""
    bits = as_type(f32(x), np.uint32)
    even = u32(u32(bits >> u32(16)) & u32(1))
    return np.uint16(u32(u32(bits + u32(0x7FFF)) + even) >> u32(16))


def _narrow(mantissa: int, exponent_bias: int, storage: Any) -> Any:
    """A function that rounds a float32 once, ties to even, to a narrower float, as bits in `storage`.

    Normal results are rounded on the integer bits. For subnormal ones a power of two is added whose last place is
    the format's smallest number, so that the addition itself does the rounding. No infinity is made: the fill has
    checked that the largest value fits.
    """
    shift = u32(23 - mantissa)
    half = u32((1 << (22 - mantissa)) - 1)
    rebias = u32((127 - exponent_bias) << mantissa)
    smallest_normal = u32((128 - exponent_bias) << 23)
    magic = f32(2.0 ** (24 - exponent_bias - mantissa))
    magic_bits = u32(int(magic.view(np.uint32)))
    sign_shift = u32(32 - 8 * np.dtype(storage).itemsize)

    @inlined
    def narrow(x):
        bits = as_type(f32(x), np.uint32)
        size = u32(bits & u32(0x7FFFFFFF))
        even = u32(u32(size >> shift) & u32(1))
        normal = u32(u32(u32(u32(size + half) + even) >> shift) - rebias)
        subnormal = u32(as_type(f32(as_type(size, np.float32) + magic), np.uint32) - magic_bits)
        code = subnormal if size < smallest_normal else normal
        return storage(code | u32(u32(bits & u32(0x80000000)) >> sign_shift))

    return narrow


bits_float16 = _narrow(10, 15, np.uint16)
bits_float8_e5m2 = _narrow(2, 15, np.uint8)
bits_float8_e4m3fn = _narrow(3, 7, np.uint8)
