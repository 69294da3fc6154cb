"""A model that was never in memory, as a checkpoint on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bigin.api.models import Out, fill_model
from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.text import parse_size
from bigin.jobs.job import FillOptions
from bigin.jobs.report import Report
from bigin.recipes.specs import Chosen, resolve_known
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec
from bigin.spec.values import ValuesSpec
from bigin.targets.memory import memory_target
from bigin.targets.models import Model
from bigin.torch.defaults import scheme
from bigin.torch.modules import (
    Assigning,
    Member,
    Rule,
    Rules,
    Value,
    assign,
    matches,
    members,
    padding_of,
    parse_rules,
    recorded,
    shape_of,
    specify,
)


def materialize(
    module: Any,
    out: str | os.PathLike[str],
    rules: Rules | Assigning | str | os.PathLike[str],
    *,
    seed: int | None = None,
    default: Value | None = None,
    variables: Mapping[str, Any] | None = None,
    dtype: Any = None,
    max_shard_size: int | str | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    max_memory: int | str | None = None,
    sync: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write a checkpoint of a module's initial values, which need never be in memory: the meta device will do.

    The checkpoint holds the parameters, each once, under its first name, and the buffers that state_dict() holds. A
    parameter has the values that init_ gives it with the same rules and seed.

    Args:
        module: a torch.nn.Module; only names, shapes and dtypes are looked at.
        out: a folder for a safetensors checkpoint as Hugging Face writes it, a path that ends in .safetensors for one
            file, or in .zarr for a group.
        rules: as in init_; or a recipe, its path or the name of one that ships. Buffers without a rule have the values
            that they have in the module. On the meta device they have none and need rules, but for those of batch and
            instance norms, which begin as torch makes them. What a rule leaves as it is (None) has the module's values,
            and on the meta device is left out of the checkpoint. Or what bigin.torch.deferred has recorded, which knows
            all of them.
        seed: 0 by default, or the recipe's.
        default: as in init_, for rules.
        variables: for a recipe, as in bigin.initialize.
        dtype: the dtype of all tensors of floats, instead of their own.
        max_shard_size, overwrite, threads, max_memory, sync, progress: as in bigin.initialize.

    Returns:
        What was done: the bytes of the tensors, the seconds, and the record.

    Raises:
        InputError: something is wrong with what was asked for, or a tensor has no rule; nothing was changed.
        FillError: the checkpoint could not be finished; the same call continues where it stopped.

    Example:
        >>> with torch.device("meta"):
        ...     model = torch.nn.Linear(8, 4)
        >>> bigin.torch.materialize(model, "model.safetensors", bigin.torch.rules_like(model), seed=42).nbytes
        144
    """
    limits, options = Limits.parse(threads, max_memory), FillOptions(overwrite, sync, progress)
    shard = None if max_shard_size is None else parse_size(max_shard_size)
    with default_modes():
        kept = saved(module)
        model = Model(type(module).__name__, {"": {m.name: (dtype_of(m, dtype), shape_of(m)) for m in kept}})
        if isinstance(rules, Assigning):
            values = {m.name: spec for m, spec in recorded(rules, kept, seed, default, dtype)}
        elif isinstance(rules, str | os.PathLike):
            if default is not None:
                raise InputError("expected no default beside a recipe, which has its own: a [default] rule in it")
            values = by_recipe(Chosen(rules, seed, variables or {}), model, kept)
        else:
            if variables is not None:
                raise InputError("expected variables only for a recipe, got them beside rules")
            values = by_rules(module, rules, 0 if seed is None else seed, default, kept)
            values = {name: in_dtype(spec, model.tensors[name][0]) for name, spec in values.items()}
        if not values:
            raise InputError("expected parameters to write, got a module without any")
        path = Path(out) if isinstance(out, os.PathLike) else out
        return fill_model(values, Out(path, model, shard), limits, options)


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
    return replace(spec, dtype=wanted) if isinstance(spec, TensorSpec) else spec


def saved(module: Any) -> list[Member]:
    """The parameters and buffers that a checkpoint of the module holds."""
    return [
        member
        for member in members(module)
        if not member.is_buffer or member.attribute not in member.owner._non_persistent_buffers_set
    ]


def by_rules(
    module: Any, rules: Rules, seed: int, default: Value | None, kept: list[Member]
) -> dict[str, TensorValues]:
    """What rules say of the members; raises InputError for a buffer of which nothing is said."""
    names = {member.name for member in kept}
    values: dict[str, TensorValues] = {m.name: s for m, s in assign(module, rules, seed, default) if m.name in names}
    left = [key for key, rule in parse_rules(rules) if rule is None]
    for member in kept:
        if member.name in values:
            continue
        skipped = any(matches(key, member) for key in left)
        if not member.tensor.is_meta and (skipped or scheme_of_buffer(member) is None):
            values[member.name] = as_it_is(member)
        elif not skipped:
            values[member.name] = of_norm(member, seed)
    return values


def by_recipe(recipe: Chosen, model: Model, kept: list[Member]) -> dict[str, TensorValues]:
    """What a recipe says of the members."""
    known = {member.name: member for member in kept if member.is_buffer and not member.tensor.is_meta}
    values, unmatched = resolve_known(recipe, model.label, model.tensors, known)
    values |= {name: as_it_is(known[name]) for name in unmatched}
    for member in kept:
        told = values.get(member.name)
        if isinstance(told, TensorSpec) and told.padding_idx is None:
            values[member.name] = replace(told, padding_idx=padding_of(member))
    return values


def as_it_is(member: Member) -> ValuesSpec:
    """The values that a member has in the module."""
    lent = memory_target(member.tensor.detach().cpu().contiguous())
    assert lent is not None
    return ValuesSpec(lent.array.copy(), member.name)


def scheme_of_buffer(member: Member) -> Rule | None:
    """How torch begins the buffers of batch and instance norms; None for all other members."""
    return scheme(member) if member.is_buffer else None


def of_norm(member: Member, seed: int) -> TensorSpec:
    """What batch and instance norms keep of the batches that they have seen: none yet."""
    rule = scheme_of_buffer(member)
    if rule is None:
        raise InputError(
            f"{member.name}: expected a rule for the buffer, whose values the meta device does not know; name it "
            f'in the rules, such as "*.{member.attribute}", with a method, or with None to leave it out'
        )
    return specify(member, rule, seed)
