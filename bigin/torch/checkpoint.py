"""A model that was never in memory, as a checkpoint on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bigin.api.writing import Out, fill_model
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.text import parse_optional_size
from bigin.jobs.job import FillOptions
from bigin.jobs.report import Report
from bigin.spec.model import TensorValues
from bigin.spec.values import ValuesSpec
from bigin.targets.memory import memory_target
from bigin.targets.models import Model
from bigin.torch.defaults import scheme
from bigin.torch.filling import Asked, assigned_by, by_recipe, dtype_of, in_dtype, saved
from bigin.torch.modules import (
    Assigning,
    Member,
    Rule,
    Rules,
    Value,
    matches,
    parse_rules,
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
    """Write a checkpoint of a module's initial values; the module may be on the meta device, and larger than memory.

    The checkpoint has the parameters, each once under its first name, and the buffers of state_dict(). Parameters have
    the values that init_ gives them with the same rules and seed.

    Args:
        module: a torch.nn.Module; only names, shapes and dtypes are used.
        out: a folder for a safetensors checkpoint as Hugging Face writes it, a path that ends in .safetensors for one
            file, or in .zarr for a group.
        rules: as in init_; or a recipe, its path or the name of one that ships. Buffers without a rule have the values
            that they have in the module. On the meta device they have none and need rules, but for those of batch and
            instance norms, which begin as torch makes them. What a rule leaves as it is (None) has the module's values,
            and on the meta device is left out of the checkpoint. Or what bigin.torch.deferred has recorded, which knows
            all of them.
        seed: by default 0, or the seed of the recipe.
        default: as in init_, for rules.
        variables: for a recipe, as in bigin.initialize.
        dtype: the dtype of all float tensors, instead of their own.
        max_shard_size, overwrite, threads, max_memory, sync, progress: as in bigin.initialize.

    Returns:
        A report: the bytes of the tensors, the seconds and the record.

    Raises:
        InputError: an argument is invalid, or a tensor has no rule; nothing was changed.
        FillError: the checkpoint could not be finished; the same call continues where it stopped.

    Example:
        >>> with torch.device("meta"):
        ...     model = torch.nn.Linear(8, 4)
        >>> bigin.torch.materialize(model, "model.safetensors", bigin.torch.rules_like(model), seed=42).nbytes
        144
    """
    limits, options = Limits.parse(threads, max_memory), FillOptions(overwrite=overwrite, sync=sync, progress=progress)
    shard = parse_optional_size(max_shard_size)
    with default_modes():
        kept = saved(module)
        values = checkpoint_values(module, Asked(rules, seed, default, variables), kept, dtype)
        model = Model(type(module).__name__, {"": {m.name: (dtype_of(m, dtype), shape_of(m)) for m in kept}})
        if not values:
            raise InputError("expected parameters to write, got a module without any")
        path = Path(out) if isinstance(out, os.PathLike) else out
        return fill_model(values, Out(path, model, shard), limits, options)


def checkpoint_values(module: Any, asked: Asked, kept: list[Member], dtype: Any) -> dict[str, TensorValues]:
    """What a checkpoint holds, by name."""
    if asked.recording is not None:
        return assigned_by(module, asked, kept, dtype)
    if asked.recipe is not None:
        values, unmatched = by_recipe(module, asked.recipe, kept, dtype)
        return values | {member.name: as_it_is(member) for member in unmatched}
    names = {member.name: dtype_of(member, dtype) for member in kept}
    return {name: in_dtype(spec, names[name]) for name, spec in by_rules(module, asked, kept).items()}


def by_rules(module: Any, asked: Asked, kept: list[Member]) -> dict[str, TensorValues]:
    """What rules say of the members; raises InputError for a buffer of which nothing is said."""
    names = {member.name for member in kept}
    values: dict[str, TensorValues] = {m.name: s for m, s in asked.assigned(module) if m.name in names}
    left = [key for key, rule in parse_rules(asked.rules) if rule is None]
    for member in kept:
        if member.name in values:
            continue
        skipped = any(matches(key, member) for key in left)
        if not member.tensor.is_meta and (skipped or scheme_of_buffer(member) is None):
            values[member.name] = as_it_is(member)
        elif not skipped:
            values[member.name] = of_norm(member, asked.seed or 0)
    return values


def as_it_is(member: Member) -> ValuesSpec:
    """The values that a member has in the module."""
    lent = memory_target(member.tensor.detach().cpu().contiguous())
    assert lent is not None
    return ValuesSpec(lent.array.copy(), member.name)


def scheme_of_buffer(member: Member) -> Rule | None:
    """How torch begins the buffers of batch and instance norms; None for all other members."""
    return scheme(member) if member.is_buffer else None


def of_norm(member: Member, seed: int) -> TensorValues:
    """What batch and instance norms keep of the batches that they have seen: none yet."""
    rule = scheme_of_buffer(member)
    if rule is None:
        raise InputError(
            f"{member.name}: expected a rule for the buffer, whose values the meta device does not know; name it "
            f'in the rules, such as "*.{member.attribute}", with a method, or with None to leave it out'
        )
    return specify(member, rule, seed)
