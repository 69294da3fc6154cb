"""What operations on single values make of a draw: another method, where there is one that says it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from bigin.core.errors import InputError
from bigin.methods import table
from bigin.methods.distributions import Constant, Normal, Orthogonal, Sparse, TruncNormal, Uniform
from bigin.torch.recording.values import Draw, Full, Refused, Value

NEAR = 1e-5  # relative distance at which a bound that was computed in float32 is the one that was meant

RARE = 2.0**-34  # values that are rarer need not gather at a bound: a draw of float32 has 2^-32 at the least

# What turns ln(r^2) into ln(1 / r - 1), the inverse of softplus at -ln r.
DECAYS = {
    (("mul", -0.5), ("expm1",), ("log",)),
    (("mul", -0.5), ("exp",), ("add", -1.0), ("log",)),
}

# What turns dt into log(-expm1(-dt)): with dt added, log(expm1(dt)), the inverse of softplus.
TAILS = {
    (("mul", -1.0), ("expm1",), ("mul", -1.0), ("log",)),
    (("mul", -1.0), ("exp",), ("mul", -1.0), ("add", 1.0), ("log",)),
    (("mul", -1.0), ("exp",), ("mul", -1.0), ("log1p",)),
}


def resolved(draw: Draw) -> Any:
    """The distribution of a draw, without its steps."""
    return table.resolve(table.find(draw.method), draw.shape, table.find(draw.method).parse(draw.parameters))


def as_draw(draw: Draw, distribution: Any) -> Draw | None:
    """The draw by the method that says no more than a distribution; None where there is none."""
    match distribution:
        case Uniform(low, high):
            return replace(draw, method="uniform", parameters={"a": low, "b": high})
        case Normal(mean, std):
            return replace(draw, method="normal", parameters={"mean": mean, "std": std})
        case TruncNormal(mean, std, a, b):
            return replace(draw, method="trunc_normal", parameters={"mean": mean, "std": std, "a": a, "b": b})
        case Orthogonal() | Sparse():
            return draw
    return None


def scaled(draw: Draw, factor: float) -> Value:
    """The values times a number."""
    if not math.isfinite(factor):
        return Refused("mul", f"a draw times {factor}")
    if factor == 1:
        return draw
    if factor == 0:
        return Full(0.0)
    if draw.steps or (draw.method in LOGARITHMIC and not (draw.method == "log_uniform" and factor > 0)):
        return stepped(draw, ("mul", factor))
    size = abs(factor)
    match resolved(draw):
        case Uniform(low, high):
            low, high = sorted((low * factor, high * factor))
            return replace(draw, method="uniform", parameters={"a": low, "b": high})
        case Normal(mean, std):
            return replace(draw, method="normal", parameters={"mean": mean * factor, "std": std * size})
        case TruncNormal(mean, std, a, b):
            a, b = sorted((a * factor, b * factor))
            parameters = {"mean": mean * factor, "std": std * size, "a": a, "b": b}
            return replace(draw, method="trunc_normal", parameters=parameters)
        case Orthogonal(gain):
            return replace(draw, parameters={**draw.parameters, "gain": gain * factor})
        case Sparse(_, std):
            return replace(draw, parameters={**draw.parameters, "std": std * size})
    if draw.method == "log_uniform":
        return replace(draw, parameters={key: value * factor for key, value in draw.parameters.items()})
    return stepped(draw, ("mul", factor))


LOGARITHMIC = ("log_uniform", "log_of_uniform", "inverse_softplus", "ring_decay", "identity_plus_noise")


def shifted(draw: Draw, number: float) -> Value:
    """The values plus a number."""
    if not math.isfinite(number):
        return Refused("add", f"a draw plus {number}")
    if number == 0:
        return draw
    if draw.steps or draw.method in LOGARITHMIC:
        return stepped(draw, ("add", number))
    match resolved(draw):
        case Uniform(low, high):
            return replace(draw, method="uniform", parameters={"a": low + number, "b": high + number})
        case Normal(mean, std):
            return replace(draw, method="normal", parameters={"mean": mean + number, "std": std})
        case TruncNormal(mean, std, a, b):
            parameters = {"mean": mean + number, "std": std, "a": a + number, "b": b + number}
            return replace(draw, method="trunc_normal", parameters=parameters)
    return stepped(draw, ("add", number))


def stepped(draw: Draw, step: tuple[Any, ...]) -> Draw:
    """The draw with one more step. Two factors are one, and none where they undo each other."""
    if draw.steps and step[0] == "mul" == draw.steps[-1][0]:
        factor = draw.steps[-1][1] * step[1]
        return replace(draw, steps=draw.steps[:-1] + ((("mul", factor),) if factor != 1 else ()))
    return replace(draw, steps=(*draw.steps, step))


def clamped(draw: Draw, low: float | None, high: float | None) -> Value:
    """The values within bounds.

    A truncated normal that is written out ends with this: its bounds are those that were computed, to within rounding,
    and the clamp says them exactly.
    """
    low, high = (-math.inf if low is None else low), (math.inf if high is None else high)
    if draw.steps:
        return Refused("clamp", "a draw that was transformed, within bounds")
    if draw.method == "log_uniform" and high == math.inf:
        return draw if low <= draw.parameters["a"] else replace(draw, parameters={**draw.parameters, "floor": low})
    match resolved(draw):
        case Uniform(a, b) if low <= a and b <= high:
            return draw
        case TruncNormal(mean, std, a, b):
            span = NEAR * max(abs(low) if math.isfinite(low) else 0, abs(high) if math.isfinite(high) else 0, std)
            lower = low <= a + span or tail((low - mean) / std) < RARE
            upper = b - span <= high or tail((mean - high) / std) < RARE
            if lower and upper:
                parameters = {"mean": mean, "std": std, "a": max(a, low), "b": min(b, high)}
                return replace(draw, method="trunc_normal", parameters=parameters)
    return Refused("clamp", "a draw whose values gather at the bounds")


def tail(x: float) -> float:
    """The probability that a standard normal is below x."""
    return math.erfc(-x / math.sqrt(2)) / 2


def transformed(draw: Draw, operation: str) -> Value:
    """What a function of one number makes of the values."""
    if not draw.steps:
        match operation, resolved(draw):
            case "erfinv", Uniform(low, high) if low >= -1 and high <= 1:
                # x = erfinv(u) sqrt(2) is a standard normal between the quantiles of low and high.
                ends = {"a": inverse_erf(low), "b": inverse_erf(high)}
                return replace(draw, method="trunc_normal", parameters={"mean": 0.0, "std": math.sqrt(0.5), **ends})
            case "exp", Uniform(low, high):
                parameters = {"a": math.exp(low), "b": math.exp(high)}
                return replace(draw, method="log_uniform", parameters=parameters)
            case "log", Uniform(low, high) if low >= 0:
                return replace(draw, method="log_of_uniform", parameters={"a": low, "b": high})
        if (operation, draw.method) == ("log", "log_uniform") and "floor" not in draw.parameters:
            ends = {key: math.log(draw.parameters[key]) for key in ("a", "b")}
            return replace(draw, method="uniform", parameters=ends)
    made = stepped(draw, (operation,))
    if draw.method == "log_uniform" and made.steps == (("expm1",), ("log",)):
        return replace(draw, method="inverse_softplus", steps=())
    if draw.method == "log_of_uniform" and made.steps in DECAYS:
        a, b = (math.sqrt(draw.parameters[key]) for key in ("a", "b"))
        if 0 < a < b < 1:
            return replace(draw, method="ring_decay", parameters={"a": a, "b": b}, steps=())
    return made


def inverse_erf(x: float) -> float:
    """The inverse error function, to float64: -inf and inf at the ends."""
    if abs(x) >= 1:
        return math.copysign(math.inf, x)
    from statistics import NormalDist

    y = NormalDist().inv_cdf((1 + x) / 2) / math.sqrt(2)
    for _ in range(3):  # Newton's steps on erf(y) = x, which settle what the quantile lost near the middle
        y -= (math.erf(y) - x) * math.sqrt(math.pi) / 2 * math.exp(y * y)
    return y


def added(left: Draw, right: Draw) -> Value:
    """The sum of two draws: of dt and log(-expm1(-dt)), the inverse of softplus."""
    for base, tail in ((left, right), (right, left)):
        same = base.token is tail.token and base.method == tail.method == "log_uniform"
        if same and not base.steps and tail.steps in TAILS:
            return replace(base, method="inverse_softplus")
    return Refused("add", "a sum of two draws")


def refusal(draw: Draw) -> str | None:
    """The operation of a draw that no method says, or None."""
    if draw.steps:
        return str(draw.steps[-1][0])
    try:
        resolved(draw)
    except InputError as error:
        return f"{draw.method}, {error}"
    return None


def is_constant(method: str, parameters: dict[str, Any], shape: Any) -> float | None:
    """The number that a method resolves to; None for draws."""
    row = table.find(method)
    distribution = table.resolve(row, shape, row.parse(parameters))
    return distribution.value if isinstance(distribution, Constant) else None
