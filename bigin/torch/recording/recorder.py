"""Operations of torch, recorded: what each does to values that are not made.

Operations run on the meta device, which knows shapes and dtypes. What they do to values is written into `Memory`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves, tree_map

from bigin.core.errors import InputError
from bigin.core.views import View
from bigin.torch.recording import algebra
from bigin.torch.recording.memory import Memory
from bigin.torch.recording.values import (
    KNOWN,
    Argument,
    Composite,
    Computed,
    Draw,
    Full,
    Held,
    Norm,
    Refused,
    Unset,
    Value,
    Write,
    evaluate,
    numel,
)

META = torch.device("meta")
UNIFORM = {"uniform", "rand", "rand_like"}
NORMAL = {"normal", "randn", "randn_like", "normal_functional"}
RANDOM = {
    *("bernoulli", "multinomial", "poisson", "binomial", "randint", "randint_like", "random", "randperm", "dropout"),
    *("exponential", "cauchy", "log_normal", "geometric", "native_dropout", "rrelu_with_noise", "_standard_gamma"),
    *("_sample_dirichlet",),
}
FRESH = {"empty", "empty_strided", "empty_permuted"}
UNWRITTEN = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize", "empty_permuted"}
NUMBERS = {
    "zeros": 0,
    "zeros_like": 0,
    "new_zeros": 0,
    "zero": 0,
    "ones": 1,
    "ones_like": 1,
    "new_ones": 1,
}
RUNNING = {"running_mean", "running_var"}  # what normalizations write into, though their schemas do not say so
ROWS = {"index_put", "index_fill"}
MOST_ROWS = 4096  # that are written one by one
MOST_ELEMENTS = 1 << 22  # of a tensor that stands in for one without values, where only the CPU knows the shape
GIVEN = {"fill": 1, "full": 1, "full_like": 1, "new_full": 2}
COPIED = {"clone", "_to_copy", "copy", "lift_fresh", "lift_fresh_copy", "_unsafe_view", "view_copy", "alias_copy"}
NORMS = {"norm", "linalg_vector_norm"}
SINGLE = {"erfinv", "special_erfinv", "exp", "log", "expm1", "log1p"}


class Recorder(TorchDispatchMode):  # type: ignore[misc]
    """Runs operations without their values, which it keeps in `memory`."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = Memory()
        self.owner: Callable[[torch.Tensor], str] = lambda tensor: ""  # what a tensor is in a model, in words

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        schema = func._schema
        if not self._concerned(tensors, schema, kwargs):
            return func(*args, **kwargs)
        if not tensors and base_name(func) in FRESH:  # of a model's operations most, and nothing is to be kept of them
            kwargs = {key: value for key, value in kwargs.items() if key != "pin_memory"}
            return func(*args, **kwargs | {"device": META})
        aliases = [r.alias_info for r in schema.returns]
        if tensors and any(alias is not None and not alias.is_write for alias in aliases):
            return func(*args, **kwargs)  # a view, which shares its memory
        name = base_name(func)
        if name == "_local_scalar_dense":
            return self.number(args[0]).item()
        if name in ("set", "_set_storage", "record_stream", "equal", "is_nonzero"):
            return self._whole(func, args, kwargs)
        return self._run(func, name, args, kwargs)

    def _concerned(self, tensors: Sequence[torch.Tensor], schema: Any, kwargs: dict[str, Any]) -> bool:
        """Whether an operation makes a tensor, or has to do with one that is recorded."""
        if not tensors:
            return any(argument.name == "device" for argument in schema.arguments)
        return any(tensor.is_meta or self.memory.holds(tensor) for tensor in tensors) or random_name(schema)

    def _whole(self, func: Any, args: Any, kwargs: Any) -> Any:
        """An operation whose result Python needs, on values that are known."""
        if base_name(func) in ("equal", "is_nonzero"):
            return func(*tree_map(self.real, args), **kwargs)
        return func(*args, **kwargs)

    def number(self, tensor: torch.Tensor) -> torch.Tensor:
        """Known values of a tensor; raises InputError where the model's code asks for those of a draw."""
        made: torch.Tensor = self.real(tensor)
        return made

    def real(self, leaf: Any) -> Any:
        """A tensor with its values, where they are known; anything else as it is."""
        if not isinstance(leaf, torch.Tensor) or not (leaf.is_meta or self.memory.holds(leaf)):
            return leaf
        value = self.memory.read(leaf)
        if not isinstance(value, KNOWN):
            raise InputError(
                "expected code that initializes without looking at random values, got one that asks for the value of "
                f"{self.owner(leaf)}a {describe(value)}; "
                "initialize this model in memory with bigin.torch.init_ and rules"
            )
        return evaluate(value, tuple(leaf.shape), leaf.dtype)

    def argument(self, leaf: Any) -> Any:
        """A tensor among the arguments of an operation, as it is recorded."""
        if not isinstance(leaf, torch.Tensor):
            return leaf
        if self.memory.holds(leaf):
            value = self.memory.read(leaf)
        elif leaf.is_meta:
            value = Unset()
        else:
            value = Held(leaf.detach().clone())
        return Argument(value, tuple(leaf.shape), leaf.dtype)

    def _run(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        if name in ROWS and self._by_rows(name, args, kwargs):
            return args[0]
        if name.startswith("_foreach_") and not func._schema.returns:
            return self._one_by_one(name, args, kwargs)
        given = {
            argument.name: args[place] if place < len(args) else kwargs.get(argument.name)
            for place, argument in enumerate(func._schema.arguments)
        }
        running = RUNNING if given.get("training", True) else set()
        written = [
            (place, given[argument.name])
            for place, argument in enumerate(func._schema.arguments)
            if (argument.alias_info is not None and argument.alias_info.is_write) or argument.name in running
        ]
        told_args, told_kwargs = tree_map(self.argument, (tuple(args), dict(kwargs)))
        outs = [(place, tensor) for place, tensor in written if isinstance(tensor, torch.Tensor)]
        quiet = bool(outs) and all(func._schema.arguments[place].alias_info is None for place, _ in outs)
        listed = [t for _, leaf in written if isinstance(leaf, list | tuple) for t in leaf]
        returned = self._shapes(func, args, kwargs, (told_args, told_kwargs))
        told = Operation(func, name, told_args, told_kwargs)
        if listed:  # foreach operations, and others that write into lists
            for tensor in listed:
                self.memory.write(tensor, Refused(name, "an operation on a list of tensors"))
            return returned
        if outs:
            for place, tensor in outs:
                self.memory.write(tensor, told.result(tuple(tensor.shape), tensor.dtype, mutated(func, place)))
            if not quiet:
                return outs[0][1] if len(func._schema.returns) == 1 else returned
        flat = [returned] if isinstance(returned, torch.Tensor) else list(tree_leaves(returned))
        for index, tensor in enumerate(flat):
            if isinstance(tensor, torch.Tensor):
                self._write_result(told, name, tensor, returned_at(None if tensor is returned else index))
        return returned

    def _by_rows(self, name: str, args: Any, kwargs: Any) -> bool:
        """Write some rows, or columns, one by one, as their numbers are known; False where they are not."""
        tensor = args[0]
        if name == "index_fill":
            dim, index, values = int(args[1]) % max(tensor.ndim, 1), args[2], args[3]
        else:
            given = [(dim, index) for dim, index in enumerate(args[1]) if index is not None]
            if len(given) != 1 or (args[3] if len(args) > 3 else kwargs.get("accumulate", False)):
                return False
            dim, index, values = *given[0], args[2]
        held = self.argument(index)
        if index.ndim != 1 or not isinstance(held.value, KNOWN):
            return False
        rows = evaluate(held.value, held.sizes, held.dtype)
        rows = rows.nonzero().reshape(-1) if rows.dtype == torch.bool else rows
        if rows.numel() > MOST_ROWS:
            return False
        sizes = (*tensor.shape[:dim], rows.numel(), *tensor.shape[dim + 1 :])
        with self, torch.no_grad():
            spread = values.expand(sizes) if isinstance(values, torch.Tensor) and values.ndim else None
            for number, row in enumerate(rows.tolist()):
                where = tensor.select(dim, row)
                where.fill_(values) if spread is None else where.copy_(spread.select(dim, number))
        return True

    def _one_by_one(self, name: str, args: Any, kwargs: Any) -> None:
        """An operation on the tensors of a list, in place, for each of them."""
        method = name.removeprefix("_foreach_") + "_"
        with self, torch.no_grad():
            for number, tensor in enumerate(args[0]):
                each = [argument[number] if isinstance(argument, list | tuple) else argument for argument in args[1:]]
                getattr(tensor, method)(*each, **kwargs)

    def _write_result(self, told: Operation, name: str, tensor: torch.Tensor, take: Any) -> None:
        """Write what an operation makes into a new tensor: of joined tensors, each where it lies."""
        pieces = joined(name, told) if any(not isinstance(a.value, KNOWN) for a in told.tensors) else None
        if pieces is None:
            self.memory.write(tensor, told.result(tuple(tensor.shape), tensor.dtype, take))
            return
        dim, parts, stacked = pieces
        start = 0
        for piece in parts:
            size = 1 if stacked else piece.sizes[dim]
            where = tensor.select(dim, start) if stacked else tensor.narrow(dim, start, size)
            if where.numel():
                self.memory.write(where, piece.value)
            start += size

    def _shapes(self, func: Any, args: Any, kwargs: Any, told: Any) -> Any:
        """Run an operation on the meta device. Where its shape depends on values that are known, on the CPU first."""
        meta_args, meta_kwargs = tree_map(as_meta, (tuple(args), dict(kwargs)))
        if any(argument.name == "device" for argument in func._schema.arguments):
            meta_kwargs["device"] = META
        if "generator" in meta_kwargs:
            meta_kwargs["generator"] = None  # of another device
        meta_kwargs.pop("pin_memory", None)
        try:
            return func(*meta_args, **meta_kwargs)
        except (NotImplementedError, RuntimeError):
            leaves = [leaf for leaf in tree_leaves(told) if isinstance(leaf, Argument)]
            known = all(isinstance(leaf.value, KNOWN) for leaf in leaves)
            fixed = torch.Tag.dynamic_output_shape not in func.tags
            small = all(numel(leaf.sizes) <= MOST_ELEMENTS for leaf in leaves)
            if not leaves or not (known or (fixed and small)):
                raise
            real_args, real_kwargs = tree_map(self.real if known else in_place_of, (tuple(args), dict(kwargs)))
            if "device" in real_kwargs:
                real_kwargs["device"] = torch.device("cpu")
            return tree_map(as_meta, func(*real_args, **real_kwargs))

    def method(self, tensor: torch.Tensor, method: str, parameters: dict[str, Any]) -> None:
        """Record that a method fills a tensor whole."""
        shape = tuple(tensor.shape)
        number = algebra.is_constant(method, parameters, shape)
        if number is not None:
            self.memory.write(tensor, Full(number))
        elif method in ("eye", "dirac"):
            func = torch.nn.init.eye_ if method == "eye" else torch.nn.init.dirac_
            made = Computed(
                lambda *args: func(torch.empty(shape, dtype=tensor.dtype, device="cpu"), *args),
                tuple(parameters.values()),
                {},
                lambda returned, args: returned,
                (method, parameters),
            )
            self.memory.write(tensor, made)
        else:
            self.memory.write(tensor, Draw(method, parameters, shape, View.whole(shape)))


def base_name(func: Any) -> str:
    """The name of an operation, the same for its form in place."""
    name = str(func._schema.name).partition("::")[2]
    return name if name.startswith("__") else name.rstrip("_")


def random_name(schema: Any) -> bool:
    """Whether an operation draws random numbers."""
    name = str(schema.name).partition("::")[2].rstrip("_")
    return name in UNIFORM | NORMAL | RANDOM


def as_meta(leaf: Any) -> Any:
    """A tensor of the meta device like this one."""
    if not isinstance(leaf, torch.Tensor) or leaf.is_meta:
        return leaf
    return torch.empty_strided(leaf.shape, leaf.stride(), dtype=leaf.dtype, device=META)


def in_place_of(leaf: Any) -> Any:
    """A tensor of zeros on the CPU like this one."""
    return torch.zeros(leaf.shape, dtype=leaf.dtype, device="cpu") if isinstance(leaf, torch.Tensor) else leaf


def mutated(func: Any, place: int) -> Callable[[Any, Sequence[Any]], torch.Tensor]:
    """What takes an operation's result from an argument that it has written into."""
    name = func._schema.arguments[place].name

    def take(returned: Any, args: Sequence[Any]) -> torch.Tensor:
        if place < len(args):
            return args[place]  # type: ignore[no-any-return]
        return returned if isinstance(returned, torch.Tensor) else returned[name]  # type: ignore[no-any-return]

    return take


def returned_at(index: int | None) -> Callable[[Any, Sequence[Any]], torch.Tensor]:
    """What takes an operation's result from what it returns."""
    return lambda returned, args: returned if index is None else tree_leaves(returned)[index]


def joined(name: str, told: Operation) -> tuple[int, list[Argument], bool] | None:
    """What cat and stack join, along which axis, and whether each is one index of it; None for other operations."""
    if name not in ("cat", "stack", "concat"):
        return None
    parts = list(told.args[0])
    dim = int(told.args[1] if len(told.args) > 1 else told.kwargs.get("dim", 0))
    parts = [piece for piece in parts if piece.sizes != (0,)]
    return dim % (len(parts[0].sizes) + (name == "stack")), parts, name == "stack"


def describe(value: Value) -> str:
    """A value in a few words."""
    if isinstance(value, Draw):
        return f"draw ({value.method})"
    if isinstance(value, Composite):
        return "tensor that was drawn in parts"
    if isinstance(value, Refused):
        return f"random value ({value.operation})"
    return "tensor that was never written"


class Operation:
    """An operation with its arguments, and what it makes of their values."""

    def __init__(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.func, self.name, self.args, self.kwargs = func, name, args, kwargs
        self.tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Argument)]

    def result(self, sizes: tuple[int, ...], dtype: torch.dtype, take: Any) -> Value:
        """The value of the result."""
        value = self._drawn(sizes)
        if value is None:
            value = self._filled(sizes)
        if value is None:
            value = self._in_parts(sizes, dtype, take)
        if value is None:
            value = self._copied(sizes)
        if value is None:
            value = self._refused() or self._of_draws(sizes) or self._of_known(sizes, dtype, take)
        return value

    def given(self, place: int, name: str, default: Any = None) -> Any:
        """An argument by its place or its name."""
        return self.args[place] if place < len(self.args) else self.kwargs.get(name, default)

    def _drawn(self, sizes: tuple[int, ...]) -> Value | None:
        """What draws random numbers."""
        shape = tuple(sizes)
        if self.name in UNIFORM:
            low, high = (self.given(1, "from", 0.0), self.given(2, "to", 1.0)) if self.name == "uniform" else (0, 1)
            return filled_or_drawn("uniform", {"a": float(low), "b": float(high)}, shape)
        if self.name in NORMAL:
            mean: float | None = 0.0
            std: float | None = 1.0
            if self.name.startswith("normal"):
                mean, std = self.given(1, "mean", 0.0), self.given(2, "std", 1.0)
                if "Tensor" in self.func._overloadname or not isinstance(self.args[0], Argument):
                    mean, std = number_of(self.given(0, "mean")), number_of(self.given(1, "std", 1.0))
            if mean is None or std is None:
                return Refused("normal", "normal with a mean or std for each element")
            return filled_or_drawn("normal", {"mean": float(mean), "std": float(std)}, shape)
        return Refused(self.name, "a draw that no method makes") if self.name in RANDOM else None

    def _filled(self, sizes: tuple[int, ...]) -> Value | None:
        """What fills with a number, or leaves what was in memory."""
        if self.name in UNWRITTEN:
            return Unset()
        if self.name in NUMBERS:
            return Full(NUMBERS[self.name])
        if self.name not in GIVEN:
            return None
        number = self.given(GIVEN[self.name], "fill_value" if self.name != "fill" else "value")
        if not isinstance(number, Argument):
            return Full(number)
        if isinstance(number.value, KNOWN):
            return Full(evaluate(number.value, number.sizes, number.dtype).item())
        return Refused(self.name, "a random number everywhere")

    def _in_parts(self, sizes: tuple[int, ...], dtype: torch.dtype, take: Any) -> Value | None:
        """What is made of a tensor that was written in parts, part by part; None where there is none."""
        if self.name == "copy":
            source = self.given(1, "src")
            if not isinstance(source.value, Composite):
                return None
            return source.value if source.sizes == sizes else Refused("copy", "a tensor that was written in parts")
        parted = [argument for argument in self.tensors if isinstance(argument.value, Composite)]
        if not parted:
            return None
        whole, others = parted[0], [argument for argument in self.tensors if argument is not parted[0]]
        plain = numel(whole.sizes) == numel(sizes) and (self.name in COPIED or self.name in OF_DRAWS)
        if not plain or len(parted) > 1 or self.name in NORMS or any(number_of(other) is None for other in others):
            return Refused(self.name, "the result of an operation on a tensor that was written in parts")
        assert isinstance(whole.value, Composite)
        writes = []
        for write in whole.value.writes:
            if isinstance(write.value, Unset | Refused):
                writes.append(write)
                continue
            part = Argument(write.value, write.where.sizes, whole.dtype)
            args, kwargs = tree_map(lambda leaf: part if leaf is whole else leaf, (self.args, self.kwargs))  # noqa: B023
            made = Operation(self.func, self.name, args, kwargs).result(write.where.sizes, dtype, take)
            writes.append(Write(write.where, made))
        return Composite(tuple(writes))

    def _copied(self, sizes: tuple[int, ...]) -> Value | None:
        """What copies: all of the values, in another dtype or shape."""
        if self.name not in COPIED:
            return None
        source = self.given(1, "src") if self.name == "copy" else self.args[0]
        value = source.value
        if isinstance(value, Draw) and source.sizes != sizes:
            return broadcast(value, source.sizes, sizes)
        if isinstance(value, KNOWN) and not isinstance(value, Full):
            return Computed(lambda x: shaped(x, sizes), (source,), {}, first_of)
        return value  # type: ignore[no-any-return]

    def _refused(self) -> Value | None:
        """What no operation makes better."""
        for argument in self.tensors:
            if isinstance(argument.value, Refused):
                return argument.value
        if any(isinstance(argument.value, Unset) for argument in self.tensors):
            return Refused(self.name, "values that were never written")
        return None

    def _of_draws(self, sizes: tuple[int, ...]) -> Value | None:
        """What an operation makes of draws; None where there are none among its arguments."""
        draws = [argument for argument in self.tensors if isinstance(argument.value, Draw)]
        if not draws:
            return None
        value = OF_DRAWS[self.name](self, draws) if self.name in OF_DRAWS else None
        if value is None:
            value = Refused(self.name, "the result of an operation on a draw")
        if isinstance(value, Draw) and value.source.sizes != sizes:
            return broadcast(value, value.source.sizes, sizes)
        return value

    def _of_known(self, sizes: tuple[int, ...], dtype: torch.dtype, take: Any) -> Value:
        """What an operation makes of known values, which is computed later; of single numbers, at once."""
        full = [argument for argument in self.tensors if isinstance(argument.value, Full)]
        if torch.Tag.pointwise in self.func.tags and full and len(full) == len(self.tensors):
            args, kwargs = tree_map(to_single, (self.args, on_cpu(self.kwargs)))
            one = Computed(self.func, args, kwargs, take)
            return Full(one.compute().to(dtype).item())
        made = Computed(self.func, self.args, on_cpu(self.kwargs), take)
        return replace(made, method=("eye", {})) if self.name == "eye" else made


def shaped(x: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    """A tensor in another shape, or repeated along axes that it lacks or has once."""
    if tuple(x.shape) == sizes:
        return x
    return x.reshape(sizes) if x.numel() == numel(sizes) else x.expand(sizes)


def first_of(returned: Any, args: Sequence[Any]) -> torch.Tensor:
    """What an operation returns."""
    return returned  # type: ignore[no-any-return]


def to_single(leaf: Any) -> Any:
    """An argument of one element in place of one that is the same everywhere."""
    return Argument(leaf.value, (1,), leaf.dtype) if isinstance(leaf, Argument) else leaf


def on_cpu(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keywords of an operation that is to run on the CPU."""
    kept = {key: value for key, value in kwargs.items() if key not in ("pin_memory", "generator")}
    return kept | {"device": torch.device("cpu")} if "device" in kept else kept


def filled_or_drawn(method: str, parameters: dict[str, Any], shape: tuple[int, ...]) -> Value:
    """A draw, or the number that it always gives."""
    number = algebra.is_constant(method, parameters, shape)
    return Draw(method, parameters, shape, View.whole(shape)) if number is None else Full(number)


def broadcast(draw: Draw, sizes: tuple[int, ...], wider: tuple[int, ...]) -> Value:
    """A draw, repeated along axes that it lacks or has once."""
    source = draw.source if draw.source.sizes == sizes else None
    if source is None:
        return Refused("expand", "a part of a draw")
    if numel(sizes) == numel(wider):
        shaped = reshaped(source, wider)
        return Refused("reshape", "a draw in another order") if shaped is None else replace(draw, source=shaped)
    ahead = len(wider) - len(sizes)
    strides = [0] * ahead + [
        0 if size == 1 else stride for size, stride in zip(source.sizes, source.strides, strict=True)
    ]
    return replace(draw, source=View(source.offset, wider, tuple(strides)))


def reshaped(source: View, sizes: tuple[int, ...]) -> View | None:
    """The same elements in the same order in another shape; None where no strides say it."""
    with _disable_current_modes():
        try:
            strides = torch.empty_strided(source.sizes, source.strides, device=META).view(sizes).stride()
        except RuntimeError:
            return None
    return View(source.offset, sizes, tuple(strides))


def number_of(operand: Any) -> float | None:
    """A number, or the one that a tensor holds everywhere; None for other operands."""
    if isinstance(operand, bool | int | float):
        return float(operand)
    if not isinstance(operand, Argument) or not isinstance(operand.value, KNOWN):
        return None
    if isinstance(operand.value, Full):
        return float(operand.value.number)
    if not 0 < numel(operand.sizes) <= 1 << 20 or operand.dtype.is_complex:
        return None
    try:
        made = evaluate(operand.value, operand.sizes, operand.dtype).reshape(-1)
    except InputError:  # norms of a draw that no parameter holds yet
        return None
    return float(made[0].item()) if bool((made == made[0]).all()) else None


def times(operation: Operation, draws: Any, *, inverse: bool = False) -> Value | None:
    """mul and div."""
    left, right = operation.args[0], operation.given(1, "other")
    if isinstance(left, Argument) and isinstance(left.value, Draw):
        number = number_of(right)
        if number is None or (inverse and (number == 0 or operation.kwargs.get("rounding_mode"))):
            return None
        return algebra.scaled(left.value, 1 / number if inverse else number)
    number = number_of(left)
    return None if inverse or number is None else algebra.scaled(right.value, number)


def plus(operation: Operation, draws: Any, sign: float = 1.0) -> Value | None:
    """add and sub, with their factor alpha."""
    left, right = operation.args[0], operation.given(1, "other")
    factor = sign * float(operation.kwargs.get("alpha", operation.given(2, "alpha", 1)) or 0)
    if len(draws) == 2:
        if abs(factor) != 1:
            return None
        second = right.value if factor == 1 else algebra.scaled(right.value, -1.0)
        return algebra.added(left.value, second) if isinstance(second, Draw) else None
    if isinstance(left, Argument) and isinstance(left.value, Draw):
        number = number_of(right)
        if number is not None:
            return algebra.shifted(left.value, factor * number)
        return with_identity(left.value, right, factor)
    number = number_of(left)
    moved = algebra.scaled(right.value, factor)
    if number is not None:
        return algebra.shifted(moved, number) if isinstance(moved, Draw) else moved
    return with_identity(moved, left, 1.0) if isinstance(moved, Draw) else None


def with_identity(draw: Draw, other: Any, factor: float) -> Value | None:
    """A normal draw around 0 plus an identity."""
    value = other.value if isinstance(other, Argument) else None
    parameters = draw.parameters
    eye = isinstance(value, Computed) and value.method is not None and value.method[0] == "eye"
    if not eye or draw.steps or draw.method != "normal" or parameters["mean"] or len(other.sizes) != 2:
        return None
    return replace(draw, method="identity_plus_noise", parameters={"gain": factor, "std": parameters["std"]})


def reversed_minus(operation: Operation, draws: Any) -> Value | None:
    """rsub: the other operand minus the draw."""
    number, draw = number_of(operation.given(1, "other")), operation.args[0].value
    if number is None or not isinstance(draw, Draw):
        return None
    moved = algebra.scaled(draw, -float(operation.kwargs.get("alpha", operation.given(2, "alpha", 1))))
    return algebra.shifted(moved, number) if isinstance(moved, Draw) else moved


def within(operation: Operation, draws: Any) -> Value | None:
    """clamp, clamp_min and clamp_max."""
    low = operation.given(1, "min") if operation.name != "clamp_max" else None
    high = operation.given(2, "max") if operation.name == "clamp" else None
    if operation.name == "clamp_max":
        high = operation.given(1, "max")
    ends = [None if bound is None else number_of(bound) for bound in (low, high)]
    if any(end is None and bound is not None for end, bound in zip(ends, (low, high), strict=True)):
        return None
    return algebra.clamped(draws[0].value, ends[0], ends[1])


def norm(operation: Operation, draws: Any) -> Value | None:
    """norm and linalg_vector_norm, of order 2."""
    order = operation.given(1, "p" if operation.name == "norm" else "ord", 2)
    dims = operation.given(2, "dim", None)
    draw = draws[0].value
    plain = (
        not draw.steps
        and draw.source.sizes == draws[0].sizes
        and draws[0].dtype in (torch.float32, torch.float16, torch.bfloat16)
    )
    if (2 if order is None else order) != 2 or not plain:
        return None
    axes = range(len(draws[0].sizes)) if not dims else [dims] if isinstance(dims, int) else dims
    return Norm(draw, tuple(sorted(axis % len(draws[0].sizes) for axis in axes)), draws[0].dtype)


def single(operation: Operation, draws: Any) -> Value | None:
    """Functions of one number."""
    return algebra.transformed(draws[0].value, operation.name.removeprefix("special_"))


OF_DRAWS: dict[str, Callable[[Operation, Any], Value | None]] = {
    "mul": times,
    "div": lambda operation, draws: times(operation, draws, inverse=True),
    "add": plus,
    "sub": lambda operation, draws: plus(operation, draws, -1.0),
    **dict.fromkeys(NORMS, norm),
    "rsub": reversed_minus,
    "neg": lambda operation, draws: algebra.scaled(draws[0].value, -1.0),
    "clamp": within,
    "clamp_min": within,
    "clamp_max": within,
    **dict.fromkeys(SINGLE, single),
}

READ = {torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.__array__, torch.Tensor.item, torch.Tensor.__bool__}
DATA = {torch.tensor, torch.as_tensor, torch.asarray, torch.scalar_tensor}


class Factories(TorchFunctionMode):  # type: ignore[misc]
    """Makes new tensors on the meta device, whatever device the model's code names, but not those of given values."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in READ and args and isinstance(args[0], torch.Tensor) and args[0].is_meta:
            return func(self.recorder.real(args[0]), *args[1:], **kwargs)
        if func in DATA and not (args and isinstance(args[0], torch.Tensor)):
            kwargs["device"] = "cpu"  # given values stay in memory: they are few
            return func(*args, **kwargs)
        if func in _device_constructors():
            kwargs["device"] = META
        return func(*args, **kwargs)
