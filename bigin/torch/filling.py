"""A model's parameters in place, and what decides the values of each: rules, a recipe, or what was recorded."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.jobs.job import FillOptions
from bigin.recipes.specs import Chosen, resolve_known
from bigin.spec.fused import FusedSpec
from bigin.spec.layered import LayeredSpec
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec
from bigin.spec.values import ValuesSpec
from bigin.targets.models import Model
from bigin.torch.distributed import is_distributed, part_jobs
from bigin.torch.modules import Assigning, Member, Rules, Value, assign, members, naming, padding_of, shape_of


def init_(
    module: Any,
    rules: Rules | Assigning | str | os.PathLike[str],
    seed: int | None = None,
    *,
    default: Value | None = None,
    variables: Mapping[str, Any] | None = None,
    dtype: Any = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
) -> list[TensorValues]:
    """Fill the parameters of a module in place, each by the first rule that matches it.

    The name of a parameter, as given by torch.nn.Module.named_parameters, selects its stream: adding, removing or
    reordering layers changes no other parameter. Prefixes of wrappers (torch.compile, DistributedDataParallel,
    activation checkpoints) are ignored. A parameter that several modules share is filled once, under its first name. Of
    a DTensor, this rank's part is filled. The row padding_idx of an Embedding stays zero.

    Args:
        module: a torch.nn.Module on the CPU or on CUDA devices.
        rules: a mapping, or a sequence of pairs, from what a rule is for to a method. A key is a class of modules, for
            the parameters that its modules hold themselves; a pattern of full names, such as "*.bias"; or a class and
            a pattern of the module's own names, such as (nn.LSTM, "weight_*"). Patterns are those of recipes. A value
            is a method's name, a pair of a name and a mapping of parameters, a Rule, None for what is left as it is, or
            a function that initializes a tensor in place, such as torch.nn.init.ones_ or functools.partial of one.
            Buffers are left as they are, unless a pattern that is for one ends in its own name: "*running_mean". A rule
            for a parameter that a parametrization computes is for what it is computed of; weight_norm's magnitudes are
            the norms then. Or a recipe, its path or the name of one that ships. Or what bigin.torch.deferred has
            recorded, which fills buffers as well.
        seed: an integer from 0 to 2^64 - 1, by default 0, or the recipe's. What was recorded has its own.
        default: the rule for parameters that no other rule matches; without it they are an error.
        variables: for a recipe, as in bigin.initialize.
        dtype: a float dtype, to which the module is converted first, as by module.to(dtype).
        threads, max_memory: as in bigin.fill.

    Returns:
        The specification of each parameter, in the order of the module.

    Raises:
        InputError: an argument is invalid, or a parameter has no rule; nothing was changed.

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
    with default_modes(), torch.no_grad():
        told = assigned_by(module, Asked(rules, seed, default, variables), list(members(module)), dtype)
        if dtype is not None:
            for spec in told.values():
                spec.plan()
            module.to(torch_dtype(dtype))
        jobs = []
        chosen = [member for member in members(module) if member.name in told]
        for member in chosen:
            with naming(member):
                jobs += part_jobs(member.tensor, told[member.name], limits)
        for job in jobs:
            job.fill(options)
        settle(module, told)
    return [told[member.name] for member in chosen]


@dataclass(frozen=True)
class Asked:
    """What decides the values of a model's parameters, as a caller gives it; raises InputError for what does not go
    together.

    rules: a mapping or pairs; or a recipe, its path or the name of one that ships; or a recording. seed: None for 0, or
    for the recipe's; a recording has its own. default: only beside a mapping or pairs. variables: only beside a recipe.
    """

    rules: Any
    seed: int | None = None
    default: Value | None = None
    variables: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.variables is not None and self.recipe is None:
            raise InputError("expected variables only for a recipe, got them beside rules")
        if self.default is not None and self.recipe is not None:
            raise InputError("expected no default beside a recipe, which has its own: a [default] rule in it")
        if self.recording is not None and not (self.seed is None and self.default is None):
            raise InputError(
                "expected no seed and no default beside what deferred recorded, which has a seed and rules"
            )

    @property
    def recording(self) -> Assigning | None:
        """What was recorded, if that decides."""
        return self.rules if isinstance(self.rules, Assigning) else None

    @property
    def recipe(self) -> Chosen | None:
        """The recipe, if that decides."""
        if not isinstance(self.rules, str | os.PathLike):
            return None
        return Chosen(self.rules, self.seed, self.variables or {})

    def assigned(self, module: Any) -> list[tuple[Member, TensorValues]]:
        """What a mapping or pairs of rules say of the members of a module."""
        return assign(module, self.rules, 0 if self.seed is None else self.seed, self.default)


def assigned_by(module: Any, asked: Asked, chosen: list[Member], dtype: Any = None) -> dict[str, TensorValues]:
    """What the values of members are, by name, in a dtype if one is given; raises InputError."""
    if dtype is not None:
        torch_dtype(dtype)
    if asked.recording is not None:
        return {member.name: spec for member, spec in asked.recording.assigned(chosen, dtype)}
    if asked.recipe is not None:
        return by_recipe(module, asked.recipe, saved(module), dtype)[0]
    names = {member.name: dtype_of(member, dtype) for member in chosen}
    pairs = asked.assigned(module)
    return {member.name: in_dtype(spec, names[member.name]) for member, spec in pairs if member.name in names}


def torch_dtype(dtype: Any) -> torch.dtype:
    """torch's dtype of floats; raises InputError for others."""
    kind = getattr(torch, dtypes.name_of(dtypes.parse_dtype(dtype)), None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise InputError(f"expected a dtype of floats that torch has, got {dtype}")
    return kind


def settle(module: Any, told: Mapping[str, Any]) -> None:
    """Begin what spectral_norm keeps of a weight that was filled: 15 steps of the power method, as torch begins."""
    for path, owner in module.named_modules():
        if isinstance(owner, ParametrizationList) and f"{path}.original" in told:
            weight = owner.original
            for each in owner:
                if isinstance(each, _SpectralNorm) and weight.ndim > 1 and not is_distributed(weight):
                    each._power_method(each._reshape_weight_to_matrix(weight), 15)


def dtype_of(member: Member, dtype: Any) -> str:
    """The name of the dtype that a member is written in."""
    own = member.tensor.dtype
    wanted = dtypes.parse_dtype(dtype).name if dtype is not None and own.is_floating_point else str(own)
    return wanted.removeprefix("torch.")


def in_dtype(spec: TensorValues, dtype: str) -> TensorValues:
    """The same values in another dtype."""
    wanted = dtypes.parse_dtype(dtype)
    if isinstance(spec, ValuesSpec):
        return replace(spec, values=spec.values.astype(wanted))
    if isinstance(spec, LayeredSpec):
        layers = tuple(replace(each, spec=in_dtype(each.spec, dtype)) for each in spec.layers)  # type: ignore[arg-type]
        return replace(spec, layers=layers, dtype=wanted)
    if isinstance(spec, FusedSpec):
        return replace(spec, parts=tuple(replace(part, dtype=wanted) for part in spec.parts), dtype=wanted)
    return replace(spec, dtype=wanted)


def saved(module: Any) -> list[Member]:
    """The parameters and buffers that a checkpoint of the module holds."""
    return [
        member
        for member in members(module)
        if not member.is_buffer or member.attribute not in member.owner._non_persistent_buffers_set
    ]


def by_recipe(
    module: Any, recipe: Chosen, kept: list[Member], dtype: Any = None
) -> tuple[dict[str, TensorValues], list[Member]]:
    """What a recipe says of members, and the buffers with values of their own that no rule of it is for."""
    model = Model(type(module).__name__, {"": {m.name: (dtype_of(m, dtype), shape_of(m)) for m in kept}})
    known = {member.name: member for member in kept if member.is_buffer and not member.tensor.is_meta}
    values, unmatched = resolve_known(recipe, model.label, model.tensors, known)
    for member in kept:
        told = values.get(member.name)
        if isinstance(told, TensorSpec) and told.padding_idx is None:
            values[member.name] = replace(told, padding_idx=padding_of(member))
    return values, [known[name] for name in unmatched]
