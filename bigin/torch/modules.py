"""The parameters of a model, each by the rule that is for it."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.regions import Shape
from bigin.methods import table
from bigin.recipes.glob import Glob, parse_glob
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec
from bigin.spec.values import ValuesSpec
from bigin.torch.partitions import whole_shape
from bigin.torch.recording.calls import values_of_call
from bigin.torch.recording.values import made, norms
from bigin.torch.sharding import sharded_weights

WRAPPERS = (
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_dmp_wrapped_module",
)  # parts of names that are no layers
MENTIONED = 10  # parameters that an error about many names


@dataclass(frozen=True)
class Rule:
    """A method and its parameters, as bigin.fill takes them."""

    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """A function that initializes a tensor in place, as those of torch.nn.init do."""

    function: Callable[[Any], Any]

    def __str__(self) -> str:
        inner = self.function.func if isinstance(self.function, partial) else self.function
        return getattr(inner, "__name__", None) or repr(inner)


Key = type | str | tuple[type, str]
Value = str | tuple[str, Mapping[str, Any]] | Rule | Callable[[Any], Any] | None
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
    role: Role | None = None

    def in_role(self) -> Member:
        """What the member stands for, if it is a part of a parametrization."""
        role = self.role
        if role is None:
            return self
        return replace(self, name=role.name, attribute=role.attribute, owner=role.owner, role=None)


@dataclass(frozen=True)
class Role:
    """The parameter of a module that a parametrization computes, of what a member holds.

    norms_of: the member's sibling of which it holds the norms, as weight_norm has them. along: the axis that has a norm
    for each index, or -1 for one norm of all.
    """

    name: str
    attribute: str
    owner: Any
    norms_of: str | None = None
    along: int = 0


def assign(module: Any, rules: Rules, seed: int, default: Value | None) -> list[tuple[Member, TensorValues]]:
    """What the rules say of each member, checked; raises InputError. Buffers that no rule names are left out."""
    pairs = parse_rules(rules)
    otherwise = None if default is None else parse_value(default)
    assigned, without = [], []
    for member in members(module):
        found = first_rule(pairs, member)
        if found is not None:
            spec = specify_by(pairs, found, member, seed)
            if spec is not None:
                assigned.append((member, spec))
        elif not member.is_buffer and default is None:
            without.append(member)
        elif not member.is_buffer and otherwise is not None:
            assigned.append((member, specify(member, otherwise, seed)))
    if without:
        listed = ", ".join(f"{member.name} ({type(member.owner).__name__})" for member in without[:MENTIONED])
        more = f" and {len(without) - MENTIONED} more" if len(without) > MENTIONED else ""
        raise InputError(f"expected a rule for every parameter, got none for {listed}{more}; add rules or a default")
    return assigned


Pairs = list[tuple[Key, Rule | Call | None]]


def first_rule(pairs: Pairs, member: Member) -> int | None:
    """The number of the first rule that is for a member."""
    return next((number for number, (key, _) in enumerate(pairs) if matches(key, member)), None)


def specify_by(pairs: Pairs, number: int, member: Member, seed: int) -> TensorValues | None:
    """What a rule says of a member; None where it leaves it as it is. Raises InputError that names the rule."""
    key, rule = pairs[number]
    if rule is None:
        return None
    try:
        spec = specify(member, rule, seed, as_norms=not matches_directly(key, member))
        if isinstance(spec, TensorSpec):
            with naming(member):
                spec.distribution  # noqa: B018 (raises InputError where the shape does not do)
        return spec
    except InputError as error:
        later = [(n, k) for n, (k, _) in enumerate(pairs) if n > number and matches(k, member)]
        hint = ""
        if later:
            n, other = later[0]
            hint = (
                f"; rule {n + 1} ({key_in_words(other)}) is for it too, but the first rule that matches applies: put "
                f"it before rule {number + 1}"
            )
        raise InputError(f"{error} (rule {number + 1}, {key_in_words(key)}: {rule_in_words(rule)}){hint}") from None


def key_in_words(key: Key) -> str:
    """What a rule is for."""
    if isinstance(key, tuple):
        return f"{key[0].__name__}, {key[1]!r}"
    return repr(key) if isinstance(key, str) else key.__name__


def rule_in_words(rule: Rule | Call) -> str:
    """What a rule does."""
    return rule.method if isinstance(rule, Rule) else str(rule)


def members(module: Any) -> Iterator[Member]:
    """Parameters and buffers, each once, under its first name in the order of the modules."""
    if not isinstance(module, nn.Module):
        raise InputError(f"expected a torch.nn.Module, got {type(module).__name__}; bigin.fill takes tensors")
    seen: set[int] = set()
    names: dict[str, str] = {}
    owners: dict[str, Any] = {}
    tables: dict[str, Any] = {}  # the sharded tables of TorchRec, by the path of the module that holds this rank's part
    for path, owner in module.named_modules():
        above, _, last = path.rpartition(".")
        if path and not is_wrapped(owners[above], last):
            names[path] = f"{names[above]}{last}."
        else:
            names[path] = names.get(above, "")
        owners[path] = owner
        tables |= {f"{path}.{inner}".lstrip("."): table for inner, (_, table) in sharded_weights(owner).items()}
        if type(owner).__name__ == "FullyShardedDataParallel":
            raise InputError(
                "expected parameters that are tensors of their own, got those that FullyShardedDataParallel has "
                "flattened; fill its flat parameters with bigin.fill_flat, or use fully_shard"
            )
        for is_buffer, held in ((False, owner._parameters), (True, owner._buffers)):
            for attribute, own in held.items():
                tensor = tables.get(path, own) if attribute == "weight" else own
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    member = Member(names[path] + attribute, attribute, owner, tensor, is_buffer=is_buffer)
                    yield member if is_buffer else replace(member, role=role_of(member, path, owners, names))


def role_of(member: Member, path: str, owners: Mapping[str, Any], names: Mapping[str, str]) -> Role | None:
    """What a parameter stands for, where torch's parametrizations or their predecessors compute another of it."""
    owner, attribute = member.owner, member.attribute
    if isinstance(owner, ParametrizationList):
        above, _, computed = path.rpartition(".")
        above = above.rpartition(".")[0]
        role = Role(names[above] + computed, computed, owners[above])
        norm = next((each for each in owner if type(each).__name__ == "_WeightNorm"), None)
        return replace(role, norms_of="original1", along=norm.dim) if norm and attribute == "original0" else role
    for hook in owner._forward_pre_hooks.values():  # torch.nn.utils.weight_norm and spectral_norm
        if type(hook).__name__ in ("WeightNorm", "SpectralNorm") and attribute.rpartition("_")[0] == hook.name:
            role = Role(names[path] + hook.name, hook.name, owner)
            if attribute.endswith("_g"):
                return replace(role, norms_of=f"{hook.name}_v", along=hook.dim)
            return role
    return None


def is_wrapped(owner: Any, attribute: str) -> bool:
    """Whether a module is there for the one that it holds under this name, and is no layer itself."""
    parallel = isinstance(owner, nn.parallel.DistributedDataParallel | nn.DataParallel)
    return attribute in WRAPPERS or (parallel and attribute == "module")


def parse_rules(rules: Any) -> Pairs:
    """Pairs of a key and a rule, checked."""
    pairs = list(rules.items()) if isinstance(rules, Mapping) else rules
    if not isinstance(pairs, list | tuple) or not all(isinstance(pair, list | tuple) for pair in pairs):
        raise InputError(f"expected rules as a mapping or a sequence of pairs, got {rules!r}")
    parsed: Pairs = []
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


def parse_value(value: Any) -> Rule | Call | None:
    """What a rule does; None for one that leaves a tensor as it is."""
    match value:
        case None | Rule():
            return value
        case str():
            return Rule(value)
        case (str(method), Mapping() as parameters) if all(isinstance(name, str) for name in parameters):
            return Rule(method, parameters)
    if callable(value) and not inspect.isclass(value):
        return bigins_own(value) or Call(value)
    raise InputError(
        "expected a method's name, a pair of a name and a mapping of parameters, a function such as "
        f"torch.nn.init.ones_, or None, got {value!r}"
    )


def bigins_own(function: Any) -> Rule | None:
    """The rule of a function of bigin.init, which may have its parameters by functools.partial."""
    inner, parameters = (function.func, function.keywords) if isinstance(function, partial) else (function, {})
    if getattr(inner, "__module__", None) != "bigin.init" or (isinstance(function, partial) and function.args):
        return None
    return Rule(table.find(inner.__name__.rstrip("_")).name, dict(parameters))


@lru_cache(4096)
def parse(pattern: str) -> Glob:
    """Return a pattern of names, which a model asks of every parameter."""
    return parse_glob(pattern)


def matches(key: Key, member: Member) -> bool:
    """Whether a rule is for a member; for a buffer only if its pattern ends in the own name.

    A rule for a parameter that a parametrization computes is for what it computes it of.
    """
    return matches_directly(key, member) or (member.role is not None and matches_directly(key, member.in_role()))


def matches_directly(key: Key, member: Member) -> bool:
    """The same, for a member as it is."""
    if isinstance(key, str):
        pattern, found = key, parse(key).match(member.name) is not None
    else:
        of, pattern = key if isinstance(key, tuple) else (key, "*")
        found = isinstance(member.owner, of) and parse(pattern).match(member.attribute) is not None
        if isinstance(member.owner, ParametrizationList) and not issubclass(of, ParametrizationList):
            found = False  # a rule for all modules means the module whose parameter it is
        if not isinstance(key, tuple) and member.role is not None and member.role.owner is member.owner:
            found = False  # one for a class means what the module computes
    return found and (not member.is_buffer or pattern.endswith(member.attribute))


def specify(member: Member, rule: Rule | Call, seed: int, *, as_norms: bool = False) -> TensorValues:
    """What decides the values of a member. as_norms: of one that holds norms, they are taken of what the rule makes."""
    if as_norms and member.role is not None and member.role.norms_of is not None:
        return norms_by(member, rule, seed)
    shape, padding = shape_of(member), padding_of(member.in_role())
    with naming(member):
        dtype = dtypes.parse_dtype(member.tensor.dtype)
        if isinstance(rule, Call):
            return values_of_call(rule.function, shape, dtype, (seed, member.name), padding)
        return TensorSpec.parse(rule.method, rule.parameters, seed, member.name, shape, dtype, padding)


def norms_by(member: Member, rule: Rule | Call, seed: int) -> TensorValues:
    """The norms of what a rule makes of the sibling of a member, as weight_norm begins with."""
    role = member.role
    assert role is not None
    assert role.norms_of is not None
    of = member.owner._parameters[role.norms_of]
    name = member.name.removesuffix(member.attribute) + role.norms_of
    values = made(specify(replace(member, name=name, attribute=role.norms_of, tensor=of), rule, seed))
    dims = tuple(axis for axis in range(values.ndim) if role.along == -1 or axis != role.along % values.ndim)
    taken = norms(values, dims).reshape(shape_of(member))
    return ValuesSpec(taken.astype(dtypes.parse_dtype(member.tensor.dtype)), member.name, seed)


def shape_of(member: Member) -> Shape:
    """A member's shape, the global one of a tensor of which a part lies here."""
    if nn.parameter.is_lazy(member.tensor):
        raise InputError(f"{member.name}: expected a shape, got a lazy parameter; run the module on an input first")
    return whole_shape(member.tensor)


def padding_of(member: Member) -> int | None:
    """The row of an Embedding that stays zero, counted from the first."""
    if not isinstance(member.owner, nn.Embedding | nn.EmbeddingBag) or member.attribute != "weight":
        return None
    row: int | None = member.owner.padding_idx
    return row


class naming:  # noqa: N801 (used as a function)
    """Puts a member's name before what is wrong with it."""

    def __init__(self, member: Member | str) -> None:
        self.name = member if isinstance(member, str) else member.name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InputError) and not str(error).startswith(f"{self.name}: "):
            raise InputError(f"{self.name}: {error}") from None
