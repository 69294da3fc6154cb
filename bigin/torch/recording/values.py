"""What a tensor holds while a model's code runs: values that are known, draws, or what no method makes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.regions import Shape
from bigin.core.views import View
from bigin.spec.tensor import TensorSpec


class Value:
    """What some elements hold."""


@dataclass(frozen=True, eq=False)
class Unset(Value):
    """Nothing has been written: torch.empty leaves whatever the memory holds."""


@dataclass(frozen=True, eq=False)
class Refused(Value):
    """What no method makes: the operation that made it, and what to do instead."""

    operation: str
    why: str


@dataclass(frozen=True, eq=False)
class Full(Value):
    """One number everywhere."""

    number: Any


@dataclass(eq=False)
class Token:
    """One draw, which copies of its values share. stream: its seed, name and purpose, once they are known."""

    stream: tuple[int, str, str] | None = None


@dataclass(frozen=True, eq=False)
class Draw(Value):
    """A method's random values: those of a tensor of `shape`, of which `source` says which elements these are.

    token: the draw itself, which copies of the values share. steps: what has been done to each value since, that the
    method does not say.
    """

    method: str
    parameters: dict[str, Any]
    shape: Shape
    source: View
    token: Token = field(default_factory=Token)
    steps: tuple[tuple[Any, ...], ...] = ()


@dataclass(frozen=True, eq=False)
class Held(Value):
    """The values of a tensor that is in memory."""

    tensor: torch.Tensor


@dataclass(eq=False)
class Computed(Value):
    """What an operation makes of values that are all known. It is computed when it is asked for.

    take: from what the operation returns, or from its arguments, to the tensor in question.
    """

    func: Callable[..., Any]
    args: Sequence[Any]
    kwargs: dict[str, Any]
    take: Callable[[Any, Sequence[Any]], torch.Tensor]
    method: tuple[str, dict[str, Any]] | None = None  # a method that makes the same values
    result: torch.Tensor | None = None

    def compute(self) -> torch.Tensor:
        """The values, on the CPU."""
        if self.result is None:
            args, kwargs = tree_map(evaluated, (self.args, self.kwargs))
            returned = self.func(*args, **kwargs)
            self.result = self.take(returned, args).detach().clone()
        return self.result


@dataclass(frozen=True, eq=False)
class Write:
    """A value, and where in a tensor's memory it was written."""

    where: View
    value: Value


@dataclass(frozen=True, eq=False)
class Pieces(Value):
    """Values that are known, from several writes."""

    writes: tuple[Write, ...]
    count: int
    dtype: torch.dtype
    view: View


@dataclass(frozen=True, eq=False)
class Composite(Value):
    """Several writes, the lowest first, in a dense tensor: draws in some parts of it, and anything in others."""

    writes: tuple[Write, ...]


@dataclass(frozen=True, eq=False)
class Argument:
    """A tensor among the arguments of an operation: its value, sizes and dtype."""

    value: Value
    sizes: Shape
    dtype: torch.dtype


@dataclass(frozen=True, eq=False)
class Norm(Value):
    """Euclidean norms of a draw along some axes, as weight_norm begins with.

    The squares of float32 are exact in float64, and the sum and its root are rounded once: no machine differs.
    """

    draw: Draw
    dims: tuple[int, ...]
    dtype: torch.dtype

    def compute(self) -> torch.Tensor:
        """The norms, with the axes that they are taken along of length 1."""
        draw = self.draw
        if draw.token.stream is None:
            raise InputError("expected a draw that a parameter holds, got norms of one that none does")
        seed, name, purpose = draw.token.stream
        kind = str(self.dtype).removeprefix("torch.")
        spec = TensorSpec.parse(draw.method, draw.parameters, seed, name, draw.shape, dtypes.parse_dtype(kind))
        flat = made(replace(spec, purpose=purpose)).reshape(-1)
        source = draw.source
        values = np.lib.stride_tricks.as_strided(
            flat[source.offset :], source.sizes, tuple(flat.itemsize * stride for stride in source.strides)
        )
        return torch.from_numpy(norms(values, self.dims))


def made(spec: Any) -> np.ndarray[Any, Any]:
    """The values of a specification, in memory."""
    values = np.empty(spec.shape, spec.dtype)
    filler = spec.plan()()
    filler.setup(1, 1 << 30, lambda part: None)
    filler(tuple((0, size) for size in spec.shape), values)
    return values


def norms(values: np.ndarray[Any, Any], dims: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Euclidean norms along some axes, which have length 1 then."""
    kept = [axis for axis in range(values.ndim) if axis not in dims]
    wide = values.astype(np.float64)
    rows = np.transpose(wide, (*kept, *dims)).reshape(*(values.shape[axis] for axis in kept), -1)
    sums = np.array([math.sqrt(math.fsum((row * row).tolist())) for row in rows.reshape(-1, rows.shape[-1])])
    return sums.reshape([1 if axis in dims else size for axis, size in enumerate(values.shape)])


KNOWN = (Full, Held, Computed, Pieces, Norm)


def evaluate(value: Value, sizes: Shape, dtype: torch.dtype) -> torch.Tensor:
    """Known values as a tensor on the CPU, which may share memory with others."""
    with _disable_current_modes(), torch.no_grad():
        return _evaluate(value, sizes, dtype)


def _evaluate(value: Value, sizes: Shape, dtype: torch.dtype) -> torch.Tensor:
    if isinstance(value, Full):
        return torch.full(sizes, value.number, dtype=dtype, device="cpu")
    if isinstance(value, Held):
        made = value.tensor.detach().cpu()
    elif isinstance(value, Computed | Norm):
        made = value.compute()
    else:
        assert isinstance(value, Pieces)
        flat = torch.zeros(value.count, dtype=value.dtype, device="cpu")
        for write in value.writes:
            where = write.where
            part = flat.as_strided(where.sizes, where.strides, where.offset)
            part.copy_(_evaluate(write.value, where.sizes, value.dtype))
        made = flat.as_strided(value.view.sizes, value.view.strides, value.view.offset)
    made = made.to(dtype)
    return (
        made
        if tuple(made.shape) == sizes
        else made.reshape(sizes)
        if made.numel() == numel(sizes)
        else made.expand(sizes)
    )


def numel(sizes: Shape) -> int:
    """The number of elements."""
    count = 1
    for size in sizes:
        count *= size
    return count


def evaluated(argument: Any) -> Any:
    """An argument as an operation takes it on the CPU."""
    if isinstance(argument, Argument):
        return evaluate(argument.value, argument.sizes, argument.dtype).clone()
    return torch.device("cpu") if isinstance(argument, torch.device) else argument
