"""The parameters of a model, each by the rule that is for it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from torch import nn

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.regions import Shape
from bigin.jobs.job import FillOptions
from bigin.recipes.glob import Glob, parse_glob
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec
from bigin.torch.distributed import part_jobs

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")  # parts of names that are no layers
MENTIONED = 10  # parameters that an error about many names


@dataclass(frozen=True)
class Rule:
    """A method and its parameters, as bigin.fill takes them."""

    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


Key = type | str | tuple[type, str]
Value = str | tuple[str, Mapping[str, Any]] | Rule | None
Rules = Mapping[Key, Value] | Sequence[tuple[Key, Value]]


class Assigning(ABC):
    """What knows the values of a model's parameters, in place of rules."""

    @abstractmethod
    def assigned(self, chosen: list[Member], dtype: Any = None) -> list[tuple[Member, TensorValues]]:
        """Members of a model, each with what its values are; all of floats in a dtype, if one is given."""


@dataclass(frozen=True)
class Member:
    """A parameter or buffer of a model: its tensor, the module that holds it, and its full and its own name."""

    name: str
    attribute: str
    owner: Any
    tensor: Any
    is_buffer: bool


def init_(
    module: Any,
    rules: Rules | Assigning,
    seed: int | None = None,
    *,
    default: Value | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
) -> list[TensorValues]:
    """Fill the parameters of a module in place, each with initial values by the first rule that is for it.

    A parameter's stream comes from its own name, as torch.nn.Module.named_parameters tells it: adding, removing or
    reordering layers changes no other parameter. What wrappers (torch.compile, DistributedDataParallel, activation
    checkpoints) add to the names does not count. A parameter that several modules share is filled once, under its
    first name. A DTensor is filled with this rank's part. The row padding_idx of an Embedding stays zero.

    Args:
        module: a torch.nn.Module on the CPU or on CUDA devices.
        rules: a mapping, or a sequence of pairs, from what a rule is for to a method. A key is a class of modules, for
            the parameters that its modules hold themselves; a pattern of full names, such as "*.bias"; or a class and
            a pattern of the module's own names, such as (nn.LSTM, "weight_*"). Patterns are those of recipes. A value
            is a method's name, a pair of a name and a mapping of parameters, a Rule, or None for what is left as it is.
            Buffers are left as they are, unless a pattern that is for one ends in its own name: "*running_mean". Or
            what bigin.torch.deferred has recorded, which fills buffers as well.
        seed: an integer from 0 to 2^64 - 1, by default 0. What was recorded has its own.
        default: the rule for parameters that no rule is for, which else are an error.
        threads, max_memory: as in bigin.fill.

    Returns:
        What each parameter was filled with, in the order of the module.

    Raises:
        InputError: something is wrong with what was asked for, or a parameter has no rule; nothing was changed.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
        >>> for spec in bigin.torch.init_(model, {"*.bias": "zeros", torch.nn.Linear: "xavier_uniform"}, seed=1):
        ...     print(spec)
        xavier_uniform(), seed 1, name 0.weight, 4x8 float32
        zeros(), seed 1, name 0.bias, 4 float32
        xavier_uniform(), seed 1, name 2.weight, 2x4 float32
        zeros(), seed 1, name 2.bias, 2 float32
    """
    limits, options = Limits.parse(threads, max_memory), FillOptions()
    if isinstance(rules, Assigning):
        assigned = recorded(rules, list(members(module)), seed, default)
    else:
        assigned = [*assign(module, rules, 0 if seed is None else seed, default)]
    with default_modes(), torch.no_grad():
        jobs = []
        for member, spec in assigned:
            with naming(member):
                jobs += part_jobs(member.tensor, spec, limits)
        for job in jobs:
            job.fill(options)
    return [spec for _, spec in assigned]


def recorded(
    rules: Assigning, chosen: list[Member], seed: Any, default: Any, dtype: Any = None
) -> list[tuple[Member, TensorValues]]:
    """What was recorded of each member; raises InputError for what only rules take."""
    if seed is not None or default is not None:
        raise InputError("expected no seed and no default beside what deferred recorded, which has a seed and rules")
    return rules.assigned(chosen, dtype)


def assign(module: Any, rules: Rules, seed: int, default: Value | None) -> list[tuple[Member, TensorSpec]]:
    """What the rules say of each member, checked; raises InputError. Buffers that no rule names are left out."""
    pairs = parse_rules(rules)
    otherwise = [] if default is None else [parse_value(default)]
    assigned, without = [], []
    for member in members(module):
        said = [value for key, value in pairs if matches(key, member)] or ([] if member.is_buffer else otherwise)
        if not said and not member.is_buffer:
            without.append(member)
        elif said and said[0] is not None:
            assigned.append((member, specify(member, said[0], seed)))
    if without:
        listed = ", ".join(f"{member.name} ({type(member.owner).__name__})" for member in without[:MENTIONED])
        more = f" and {len(without) - MENTIONED} more" if len(without) > MENTIONED else ""
        raise InputError(f"expected a rule for every parameter, got none for {listed}{more}; add rules or a default")
    return assigned


def members(module: Any) -> Iterator[Member]:
    """Parameters and buffers, each once, under its first name in the order of the modules."""
    if not isinstance(module, nn.Module):
        raise InputError(f"expected a torch.nn.Module, got {type(module).__name__}; bigin.fill takes tensors")
    seen: set[int] = set()
    names: dict[str, str] = {}
    owners: dict[str, Any] = {}
    for path, owner in module.named_modules():
        above, _, last = path.rpartition(".")
        if path and not is_wrapped(owners[above], last):
            names[path] = f"{names[above]}{last}."
        else:
            names[path] = names.get(above, "")
        owners[path] = owner
        if type(owner).__name__ == "FullyShardedDataParallel":
            raise InputError(
                "expected parameters that are tensors of their own, got those that FullyShardedDataParallel has "
                "flattened; fill its flat parameters with bigin.fill_flat, or use fully_shard"
            )
        for is_buffer, held in ((False, owner._parameters), (True, owner._buffers)):
            for attribute, tensor in held.items():
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield Member(names[path] + attribute, attribute, owner, tensor, is_buffer)


def is_wrapped(owner: Any, attribute: str) -> bool:
    """Whether a module is there for the one that it holds under this name, and is no layer itself."""
    parallel = isinstance(owner, nn.parallel.DistributedDataParallel | nn.DataParallel)
    return attribute in WRAPPERS or (parallel and attribute == "module")


def parse_rules(rules: Any) -> list[tuple[Key, Rule | None]]:
    """Pairs of a key and a rule, checked."""
    pairs = list(rules.items()) if isinstance(rules, Mapping) else rules
    if not isinstance(pairs, list | tuple) or not all(isinstance(pair, list | tuple) for pair in pairs):
        raise InputError(f"expected rules as a mapping or a sequence of pairs, got {rules!r}")
    parsed: list[tuple[Key, Rule | None]] = []
    for pair in pairs:
        if len(pair) != 2:
            raise InputError(f"expected rules as pairs of what a rule is for and a method, got {pair!r}")
        parsed.append((parse_key(pair[0]), parse_value(pair[1])))
    return parsed


def parse_key(key: Any) -> Key:
    """What a rule is for."""
    match key:
        case str() if key:
            parse(key)
            return key
        case (of, str(pattern)) if _is_module_class(of) and pattern:
            parse(pattern)
            return of, pattern
        case of if _is_module_class(of):
            return of  # type: ignore[no-any-return]
    raise InputError(
        f'expected a rule for a class of modules, a pattern such as "*.bias", or a pair of both, got {key!r}'
    )


def _is_module_class(value: Any) -> bool:
    return inspect.isclass(value) and issubclass(value, nn.Module)


def parse_value(value: Any) -> Rule | None:
    """What a rule does; None for one that leaves a tensor as it is."""
    match value:
        case None | Rule():
            return value
        case str():
            return Rule(value)
        case (str(method), Mapping() as parameters) if all(isinstance(name, str) for name in parameters):
            return Rule(method, parameters)
    raise InputError(f"expected a method's name, a pair of a name and a mapping of parameters, or None, got {value!r}")


@lru_cache(4096)
def parse(pattern: str) -> Glob:
    """Return a pattern of names, which a model asks of every parameter."""
    return parse_glob(pattern)


def matches(key: Key, member: Member) -> bool:
    """Whether a rule is for a member; for a buffer only if its pattern ends in the own name."""
    if isinstance(key, str):
        pattern, found = key, parse(key).match(member.name) is not None
    else:
        of, pattern = key if isinstance(key, tuple) else (key, "*")
        found = isinstance(member.owner, of) and parse(pattern).match(member.attribute) is not None
    return found and (not member.is_buffer or pattern.endswith(member.attribute))


def specify(member: Member, rule: Rule, seed: int) -> TensorSpec:
    """What decides the values of a member."""
    shape, padding = shape_of(member), padding_of(member)
    with naming(member):
        return TensorSpec.parse(
            rule.method, rule.parameters, seed, member.name, shape, dtypes.parse_dtype(member.tensor.dtype), padding
        )


def shape_of(member: Member) -> Shape:
    """A member's shape, the global one of a DTensor."""
    if nn.parameter.is_lazy(member.tensor):
        raise InputError(f"{member.name}: expected a shape, got a lazy parameter; run the module on an input first")
    return tuple(member.tensor.shape)


def padding_of(member: Member) -> int | None:
    """The row of an Embedding that stays zero, counted from the first."""
    if not isinstance(member.owner, nn.Embedding | nn.EmbeddingBag) or member.attribute != "weight":
        return None
    row: int | None = member.owner.padding_idx
    return row


class naming:  # noqa: N801 (used as a function)
    """Puts a member's name before what is wrong with it."""

    def __init__(self, member: Member) -> None:
        self.member = member

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InputError):
            raise InputError(f"{self.member.name}: {error}") from None
