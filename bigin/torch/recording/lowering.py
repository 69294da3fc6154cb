"""From what has been written into a tensor to the specification of its values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.regions import Shape, dense
from bigin.core.views import Positions, View, along_axes
from bigin.methods.distributions import Normal, TruncNormal, Uniform
from bigin.spec.layered import Layer, LayeredSpec, Single
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec
from bigin.spec.values import ValuesSpec
from bigin.torch.recording import algebra
from bigin.torch.recording.memory import Cell, Memory, read, view_of
from bigin.torch.recording.values import (
    KNOWN,
    Computed,
    Draw,
    Full,
    Held,
    Pieces,
    Refused,
    Unset,
    Value,
    Write,
    evaluate,
)

Naming = Callable[[Draw], tuple[str, str]]  # the name and the purpose of a draw's stream
# Draws of each element alone, beside the families.
ELEMENTWISE = ("log_uniform", "log_of_uniform", "inverse_softplus", "ring_decay")


class NoMethodError(InputError):
    """No method makes the values that were written. `advising` adds what the caller can do about it."""


class advising:  # noqa: N801 (used as a function)
    """Ends a NoMethodError with what to do, which depends on how the values were asked for."""

    def __init__(self, advice: str) -> None:
        self.advice = advice

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NoMethodError):
            raise InputError(f"{error}; {self.advice}") from None


def visible(memory: Memory, tensor: torch.Tensor) -> list[Write]:
    """The writes that a tensor shows, the lowest first, each by its view of the tensor."""
    if tensor.numel() == 0:
        return [Write(View.whole(tuple(tensor.shape)), Full(0))]
    if not memory.holds(tensor):
        value = Unset() if tensor.is_meta else Held(tensor.detach().clone())
        return [Write(View.whole(tuple(tensor.shape)), value)]
    cell, view = memory.cell(tensor), view_of(tensor)
    if tensor.element_size() != cell.itemsize or not view.is_whole(cell.count):
        return [Write(View.whole(tuple(tensor.shape)), read(cell, view))]
    if len(cell.writes) == 1:
        return list(cell.writes) if cell.writes[0].where.covers(cell.count) else [unset(tensor), *cell.writes]
    return uncovered(cell, tensor)


def unset(tensor: torch.Tensor) -> Write:
    """What lies below all writes."""
    return Write(View.whole(tuple(tensor.shape)), Unset())


def uncovered(cell: Cell, tensor: torch.Tensor) -> list[Write]:
    """The writes of which something is seen, as others lie above them."""
    writes = [*cell.writes] if cell.writes[0].where.covers(cell.count) else [unset(tensor), *cell.writes]
    shape = tuple(tensor.shape)
    try:
        places = [[axis for axis, _ in along_axes(shape, w.where, w.where)] for w in writes]
    except InputError:  # written across the axes, as a diagonal is
        known = all(isinstance(write.value, KNOWN) for write in writes)
        pieces = Pieces(tuple(writes), cell.count, cell.dtype, View.whole(shape))
        return [Write(View.whole(shape), pieces)] if known else writes
    groups = [grouped(size, [place[axis] for place in places]) for axis, size in enumerate(shape)]
    top = np.full([count for _, count in groups], -1)
    for number, place in enumerate(places):
        index = [np.unique(labels[np.asarray(axis)]) for (labels, _), axis in zip(groups, place, strict=True)]
        top[np.ix_(*index)] = number
    return [writes[number] for number in np.unique(top).tolist() if number >= 0]


def grouped(size: int, places: Sequence[Positions]) -> tuple[np.ndarray[Any, Any], int]:
    """For each index along an axis a label, equal where the same of the places have it; and how many labels."""
    labels = np.zeros(size, np.int64)
    for axis in places:
        if len(axis) == size:
            continue
        inside = np.zeros(size, np.int64)
        inside[np.asarray(axis)] = 1
        _, labels = np.unique(2 * labels + inside, return_inverse=True)
    return labels, int(labels.max(initial=0)) + 1


def lower(
    writes: Sequence[Write], tensor: torch.Tensor, dtype: Any, seed: int, naming: Naming, *, exact: bool = False
) -> TensorValues:
    """The specification of a tensor's values; raises NoMethodError if no method makes them.

    exact: whether the elements of a draw that were put in another order must be those in that order.
    """
    shape = tuple(tensor.shape)
    kind = dtypes.parse_dtype(dtype)
    if len(writes) == 1 and writes[0].where.covers(math.prod(shape)):
        where, value = writes[0].where, writes[0].value
        whole = single(value, where, shape, tensor.dtype, Lowering(kind, seed, naming, exact=exact))
        if whole is not None:
            return whole
    layers = [layer(write, shape, tensor.dtype, Lowering(kind, seed, naming, exact=exact)) for write in writes]
    return simplified(LayeredSpec(tuple(layers), shape, kind))


class Lowering:
    """What specifications are made with: the dtype, the seed, and the names of streams."""

    def __init__(self, dtype: np.dtype[Any], seed: int, naming: Naming, *, exact: bool = False) -> None:
        self.dtype, self.seed, self.naming, self.exact = dtype, seed, naming, exact

    def spec(self, method: str, parameters: dict[str, Any], shape: Shape, draw: Draw | None = None) -> TensorSpec:
        """The specification of a method's values."""
        name, purpose = ("", "") if draw is None else self.naming(draw)
        if draw is None:
            name = self.naming(None)[0]  # type: ignore[arg-type]
        made = TensorSpec.parse(method, parameters, self.seed, name, shape, self.dtype)
        return replace(made, purpose=purpose)


def refuse(value: Value) -> None:
    """Raise NoMethodError for values that no method makes."""
    if isinstance(value, Refused):
        raise NoMethodError(f"expected values that a method makes, got {value.why} ({value.operation})")
    if isinstance(value, Unset):
        raise NoMethodError("expected code that initializes it, got none: torch would leave what the memory holds")
    if isinstance(value, Draw) and (operation := algebra.refusal(value)) is not None:
        raise NoMethodError(f"expected values that a method makes, got a draw ({value.method}) behind {operation}")


def single(value: Value, where: View, shape: Shape, dtype: torch.dtype, lowering: Lowering) -> TensorValues | None:
    """The values of a tensor that one write covers; None where only a layer says how they lie in it."""
    refuse(value)
    if isinstance(value, Draw):
        if value.shape == shape and value.source.is_whole(math.prod(shape)) and where.is_whole(math.prod(shape)):
            return lowering.spec(value.method, value.parameters, shape, value)
        plain = None if lowering.exact else elementwise(value)
        return None if plain is None else lowering.spec(plain.method, plain.parameters, shape, value)
    if isinstance(value, Full):
        return constant(value, shape, lowering)
    if isinstance(value, Computed) and value.method is not None and where.sizes == shape:
        return lowering.spec(*value.method, shape)
    if not where.is_whole(math.prod(shape)):
        return None
    return given(evaluate(value, where.sizes, dtype).reshape(shape), lowering)


def elementwise(draw: Draw) -> Draw | None:
    """A draw of each element alone, which has the same distribution in any arrangement; None for others.

    A part of a draw is none: another part of it may be another parameter, and must not have the same values.
    """
    if not draw.source.injective() or draw.source.count != math.prod(draw.shape):
        return None
    if draw.method in ELEMENTWISE:
        return draw
    distribution = algebra.resolved(draw)
    return algebra.as_draw(draw, distribution) if isinstance(distribution, Uniform | Normal | TruncNormal) else None


def as_drawn(write: Write, shape: Shape) -> bool:
    """Whether a draw lies in a tensor of a shape in the order in which it was drawn, as far as `lower` makes it so."""
    value = write.value
    if not isinstance(value, Draw) or elementwise(value) is None:
        return True
    if value.source.sizes != write.where.sizes:
        return False
    axes = along_axes(shape, write.where, value.source)
    if not all(isinstance(positions, range) for positions, _ in axes):
        return True  # a layer, which says where each element comes from
    sizes = tuple(len(positions) for positions, _ in axes)
    return math.prod(sizes) == math.prod(value.shape) and all(
        size == 1 or numbers == range(0, size * stride, stride)
        for (_, numbers), size, stride in zip(axes, sizes, dense(sizes), strict=True)
    )


def constant(value: Full, shape: Shape, lowering: Lowering) -> TensorSpec:
    """One number everywhere."""
    number = value.number
    number = int(number) if isinstance(number, bool) else number
    if isinstance(number, float) and lowering.dtype.kind in "iub" and math.isfinite(number):
        number = int(number)
    if isinstance(number, complex):
        number = number.real
    method = {0: "zeros", 1: "ones"}.get(number if math.isfinite(number) else 2, "constant")
    negative = isinstance(number, float) and math.copysign(1, number) < 0
    if method == "zeros" and negative:
        method = "constant"
    return lowering.spec(method, {"val": number} if method == "constant" else {}, shape)


def given(tensor: torch.Tensor, lowering: Lowering) -> Single:
    """Values one by one; or the number, where all are the same."""
    flat = tensor.reshape(-1)
    if flat.numel() and not flat.is_complex() and bool((flat == flat[0]).all()) and float(flat[0]) != 0:
        return constant(Full(flat[0].item()), tuple(tensor.shape), lowering)
    if flat.numel() and not flat.is_complex() and not bool(flat.to(torch.float64).ne(0).any()):
        return constant(Full(0), tuple(tensor.shape), lowering)
    name = lowering.naming(None)[0]  # type: ignore[arg-type]
    return ValuesSpec(as_numpy(tensor).astype(lowering.dtype), name, lowering.seed)


def as_numpy(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    """A tensor of the CPU as an array, in the dtypes that numpy lacks too."""
    name = str(tensor.dtype).removeprefix("torch.")
    tensor = tensor.detach().contiguous()
    if name in dtypes.ML_DTYPES:
        bits = tensor.view(torch.int16 if tensor.element_size() == 2 else torch.uint8)
        return np.asarray(bits.numpy()).view(dtypes.parse_dtype(name))
    return np.asarray(tensor.numpy())


def layer(write: Write, shape: Shape, dtype: torch.dtype, lowering: Lowering) -> Layer:
    """One write as a layer."""
    value, where = write.value, write.where
    refuse(value)
    try:
        along = [axis for axis, _ in along_axes(shape, where, View.whole(where.sizes))]
    except InputError:
        raise NoMethodError(
            "expected values that are written along the axes, got some across them, as a diagonal is"
        ) from None
    straight = straight_view(shape, along)
    if isinstance(value, Draw):
        plain = None if lowering.exact else elementwise(value)
        if plain is not None and straight is not None:
            spec = lowering.spec(plain.method, plain.parameters, straight.sizes, value)
            return Layer(spec, straight, View.whole(straight.sizes))
        return Layer(lowering.spec(value.method, value.parameters, value.shape, value), where, value.source)
    if isinstance(value, Full):
        sizes = where.sizes if straight is None else straight.sizes
        return Layer(constant(value, sizes, lowering), straight or where, View.whole(sizes))
    return Layer(given(evaluate(value, where.sizes, dtype), lowering), where, View.whole(where.sizes))


def straight_view(shape: Shape, along: Sequence[Positions]) -> View | None:
    """The view that has these indices along the axes, in their order; None where they are no ranges."""
    strides = dense(shape)
    if not all(isinstance(axis, range) for axis in along):
        return None
    ranges = [axis for axis in along if isinstance(axis, range)]
    offset = sum(axis.start * stride for axis, stride in zip(ranges, strides, strict=True))
    steps = tuple(axis.step * stride for axis, stride in zip(ranges, strides, strict=True))
    return View(offset, tuple(map(len, ranges)), steps)


def simplified(spec: LayeredSpec) -> TensorValues:
    """A method with a row of zeros on top, as an embedding's padding is, in one specification."""
    if len(spec.layers) != 2 or len(spec.shape) < 1:
        return spec
    base, top = spec.layers
    rows = top.axes(spec.shape)[0][0]
    others = [positions for positions, _ in top.axes(spec.shape)[1:]]
    whole_rows = len(rows) == 1 and all(len(p) == size for p, size in zip(others, spec.shape[1:], strict=True))
    fits = isinstance(base.spec, TensorSpec) and base.spec.shape == spec.shape and base.where.offset == 0
    if whole_rows and fits and isinstance(top.spec, TensorSpec) and top.spec.method == "zeros":
        return replace(base.spec, padding_idx=int(rows[0]))  # type: ignore[arg-type]
    return spec
