"""Why a tensor does not look as it should, in words: what is most likely, from its statistics."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bigin.core.regions import Shape
from bigin.core.text import agree, counted
from bigin.inspect.checks import Check
from bigin.jobs.measure import Statistics
from bigin.methods.expected import Expected
from bigin.methods.marginals import WithZeros
from bigin.methods.table import find
from bigin.spec.tensor import TensorSpec

FACTORS = tuple(range(2, 65))
NEAR = 0.01  # relative, of a square of a standard deviation
HUGE = 1e4  # standard deviations from the mean that no draw reaches
TINY = 1e-4  # of a standard deviation


def cause(measured: Statistics, expected: Expected, checks: Sequence[Check], spec: TensorSpec) -> tuple[str, str]:
    """The kind of what is wrong, and what it is in words."""
    n = measured.count
    if measured.finite < n and expected.finite:
        infinite = sum(measured.infinite)
        if measured.nan == n:
            return "untouched", "never touched: all values are NaN"
        told = [f"{count} {word}" for count, word in ((measured.nan, "NaN"), (infinite, "infinite")) if count]
        return "not finite", f"{' and '.join(told)} of {counted(n, 'value')}"
    if n and not expected.finite:
        return "distribution", "expected values that are not finite, got finite ones"
    wanted = expected.marginal.mean if expected.exact and expected.marginal.std == 0 else None
    if measured.zeros == n and expected.known:
        return "untouched", "never touched: all values are 0"
    largest = max(abs(measured.minimum), abs(measured.maximum))
    reach = abs(expected.marginal.mean) + expected.marginal.std
    if reach and largest > HUGE * reach:
        return "untouched", f"memory's leftovers, or no initial values: values up to {largest:.3g}"
    if reach and largest < TINY * reach:
        return "untouched", f"memory's leftovers, or no initial values: none above {largest:.3g}"
    if wanted is not None:
        many = "all values are" if measured.minimum == measured.maximum else "values from"
        to = "" if measured.minimum == measured.maximum else f" to {measured.maximum:.6g}"
        return "distribution", f"expected {wanted:.6g}, got {many.removeprefix('all ')} {measured.minimum:.6g}{to}"
    if measured.minimum == measured.maximum and n > 1:
        return "distribution", f"all values are {measured.minimum:.6g}"
    wrong = {check.what: check for check in checks if not check.right}
    if (found := wrong.get("zeros")) is not None and found.got > found.high:
        zeros = int(found.got)
        said = f"{zeros} of {n} values {agree(zeros, 'is', 'are')} 0"
        return "untouched", f"{said}, expected {'none' if found.high < 1 else found.high}"
    if "std" in wrong or "rms" in wrong:
        return "std", of_std(measured, expected, spec)
    if "mean" in wrong:
        return "mean", f"mean {measured.mean:.4g}, expected {expected.marginal.mean:.4g}"
    if "CDF distance" in wrong:
        return "distribution", f"std {measured.std:.4g} is right, but the distribution is another one"
    told = [f"{check.what} {check.got:.4g}, expected {check.low:.4g} to {check.high:.4g}" for check in wrong.values()]
    return "distribution", "; ".join(told)


def of_std(measured: Statistics, expected: Expected, spec: TensorSpec) -> str:
    """A wrong standard deviation, and which fans it would be right for."""
    std = expected.marginal.std
    said = f"std {measured.std:.4g}, expected {std:.4g}"
    error = 2.0 * math.sqrt((expected.marginal.kurtosis - 1.0) / (4.0 * measured.finite))
    if std <= 0 or len(spec.shape) < 2 or isinstance(expected.marginal, WithZeros) or 3.0 * error > 5.0 * NEAR:
        return said
    square = (measured.std / std) ** 2
    for factor, words in fans(spec.shape, known="in_axis" in find(spec.method).defaults):
        near = max(NEAR, 3.0 * error)  # less than half of what is between a factor and the next one
        if abs(square / factor - 1.0) < near < 0.5 / max(factor, 1.0 / factor) and abs(factor - 1.0) > 4.0 * NEAR:
            return f"{said}: as {words}"
    return said


def fans(shape: Shape, *, known: bool) -> Iterator[tuple[float, str]]:
    """The factors by which wrong fans change the variance, with the mistake. known: whether the method has fans."""
    outputs, inputs = shape[0], shape[1]
    if known:
        yield inputs / outputs, "if the fans of inputs and outputs were exchanged"
        yield outputs / inputs, "if the fans of inputs and outputs were exchanged"
    for factor in FACTORS:
        yield float(factor), f"of fans that are {factor} times too small: those of a shard, or of a part?"
        yield 1.0 / factor, f"of fans that are {factor} times too large: those of a fused tensor?"
        if not known:
            continue
        both = inputs + outputs
        for size, other in ((inputs, outputs), (outputs, inputs)):
            yield both / (size / factor + other), f"of the fans of a shard, 1 of {factor}"
