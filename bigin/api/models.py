"""Whole models: every tensor of a checkpoint or a group by the rule of a recipe that matches it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigin.api.filling import Report, fill_target
from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.text import parse_size
from bigin.methods.distributions import formula
from bigin.recipes.assign import Assignment, Part, assign
from bigin.recipes.check import check
from bigin.recipes.presets import find_recipe
from bigin.recipes.read import read_recipe
from bigin.recipes.recipe import Tensor
from bigin.spec.fused import SplitSpecification, Values
from bigin.spec.model import ModelSpecification
from bigin.spec.tensor import Specification
from bigin.targets.model import ModelTarget, model_record
from bigin.targets.models import Model, nbytes_of, plan_checkpoint, read_model
from bigin.targets.records import Record
from bigin.targets.safetensors.checkpoint import new_checkpoint


@dataclass(frozen=True)
class Row:
    """What a recipe says of a tensor: the rule that matched, what it is filled with, and how many bytes it takes."""

    tensor: str
    shape: tuple[int, ...]
    dtype: str
    rule: str
    values: str
    nbytes: int


def outline(
    recipe: str | os.PathLike[str],
    like: Any,
    *,
    seed: int | None = None,
    variables: Mapping[str, Any] | None = None,
    strict: bool = False,
) -> list[Row]:
    """What `initialize` would do, without doing any of it: a row for every tensor, in the order of the names."""
    with default_modes():
        assignments, values = resolve(recipe, read_model(like), seed, variables or {}, strict=strict)
    return [_row(assignment, values[assignment.tensor.name]) for assignment in assignments]


def initialize(
    recipe: str | os.PathLike[str],
    out: Any,
    *,
    like: Any = None,
    seed: int | None = None,
    variables: Mapping[str, Any] | None = None,
    strict: bool = False,
    max_shard_size: int | str | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    max_memory: int | str | None = None,
    sync: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Fill every tensor of a model by the rule of a recipe that matches it.

    Args:
        recipe: the path of a TOML file, or the name of a recipe that ships, such as "gpt2"; see docs/recipes.md.
        out: with `like`, where the new model goes: a folder for a safetensors checkpoint, a path that ends in
            .safetensors for one file, or in .zarr for a group. Without, an existing zarr group, filled in place.
        like: a model whose names, shapes and dtypes the new one has: a safetensors file, the folder or the index of a
            checkpoint, or a zarr group. Its values are not read.
        seed: instead of the recipe's.
        variables: numbers or expressions that stand above those under the recipe's [vars].
        strict: raise InputError, instead of warning, where a rule matches no tensor or a variable contradicts the
            model.
        max_shard_size: bytes, or a text such as "5GB", that a file of a checkpoint has at most; by default the files
            are those of `like`, and 5 GiB where it has none.
        overwrite, threads, max_memory, sync, progress: as in `fill`.

    Raises:
        InputError: something is wrong with the recipe, or with what it is asked to fill; nothing was changed.
        FillError: the fill could not be finished; the same call goes on where it stopped.
    """
    with default_modes():
        model = read_model(out, in_place=True) if like is None else read_model(like)
        _, values = resolve(recipe, model, seed, variables or {}, strict=strict)
        shard = None if max_shard_size is None else parse_size(max_shard_size)
        return fill_model(values, model, out, like is None, shard, overwrite, threads, max_memory, sync, progress)


def fill_model(
    values: Mapping[str, Values],
    model: Model,
    out: Any,
    in_place: bool,
    shard: int | None,
    overwrite: bool,
    threads: int | None,
    max_memory: int | str | None,
    sync: bool,
    progress: Callable[[int, int], None] | None,
) -> Report:
    """Write tensors of a model, each by its specification."""
    values = dict(sorted(values.items()))
    filler = ModelSpecification(values).filler()
    records = {name: told.record() for name, told in values.items()}
    record = model_record(records, False)
    assert record is not None
    with _target(out, model, records, in_place=in_place, shard=shard) as target:
        target.region_bytes = filler.sizes
        return fill_target(target, filler, record, overwrite, threads, max_memory, sync, progress)


def resolve(
    recipe: str | os.PathLike[str],
    model: Model,
    seed: int | None,
    variables: Mapping[str, Any],
    *,
    strict: bool = False,
) -> tuple[list[Assignment], dict[str, Values]]:
    """What a recipe says of the tensors of a model, and the specifications that follow, by name."""
    read = read_recipe(find_recipe(recipe), variables)
    tensors = [Tensor(name, shape, dtype) for name, (dtype, shape) in sorted(model.tensors.items())]
    assignments = assign(read, tensors)
    check(read, tensors, assignments, strict=strict)
    if not assignments:
        raise InputError(f"{model.label}: expected tensors to fill, found none")
    chosen = read.seed if seed is None else seed
    return assignments, {a.tensor.name: _values(a, chosen) for a in assignments}


def _values(assignment: Assignment, seed: int) -> Values:
    """The specification of a tensor."""
    tensor = assignment.tensor
    if tensor.dtype not in dtypes.DTYPES:
        raise InputError(
            f"{tensor.name}: expected a dtype among {', '.join(dtypes.DTYPES)}, got {tensor.dtype}; leave it out with "
            f'skip = ["{tensor.name}"] in the recipe'
        )
    dtype = dtypes.parse_dtype(tensor.dtype)
    try:
        parts = tuple(
            Specification.parse(
                part.method, part.parameters, seed, part.name, part.shape, dtype, assignment.rule.padding_idx
            )
            for part in assignment.parts
        )
    except InputError as error:
        raise InputError(f"{tensor.name}: {error}") from None
    if assignment.axis is None:
        return parts[0]
    stack = assignment.rule.split is not None and assignment.rule.split.stack
    return SplitSpecification(assignment.axis, stack, parts, tensor.shape, dtype)


@contextmanager
def _target(
    out: Any, model: Model, records: Mapping[str, Record], in_place: bool, shard: int | None
) -> Iterator[ModelTarget]:
    """The target of a new checkpoint or group, or of an existing group, for as long as it is needed."""
    path = Path(out) if isinstance(out, str | os.PathLike) and "://" not in str(out) else None
    target: ModelTarget
    if in_place:
        target = _filled_group(str(out), model, records)
    elif path is None or path.suffix == ".zarr":
        target = _made_group(path or out, str(out), records)
    else:
        target = new_checkpoint(str(out), plan_checkpoint(model, records, path, shard), records)
    try:
        yield target
    finally:
        target.close()


def _filled_group(label: str, model: Model, records: Mapping[str, Record]) -> ModelTarget:
    from bigin.targets.zarr.groups import group_target

    if model.group is None:
        raise InputError(
            f"{label}: expected a zarr group; a checkpoint is made anew, of the form that --like (like=) has"
        )
    return group_target(model.group, label, model.arrays, records)


def _made_group(place: Any, label: str, records: Mapping[str, Record]) -> ModelTarget:
    """A group that is still to be made, or that an earlier fill has begun."""
    from bigin.targets.zarr.groups import group_arrays, group_target, missing_group, open_group

    group = open_group(place, label)
    if group is None:
        tensors = {name: (dtypes.parse_dtype(told["dtype"]), tuple(told["shape"])) for name, told in records.items()}
        return missing_group(place, label, tensors)
    target = group_target(group, label, group_arrays(group), records)
    if not target.matches(target.shape, {"tensors": records}):
        raise InputError(f"{label}: expected nothing, or a group of the same arrays, got another group")
    return target


def _row(assignment: Assignment, values: Values) -> Row:
    tensor = assignment.tensor
    return Row(
        tensor.name,
        tensor.shape,
        tensor.dtype,
        assignment.rule.label,
        _told(assignment.parts),
        nbytes_of(tensor.dtype, tensor.shape),
    )


def _told(parts: tuple[Part, ...]) -> str:
    """What the parts are filled with, in a few words."""
    formulas = [f"{part.method}: {formula(part.distribution)}" for part in parts]
    if len(parts) == 1:
        return formulas[0]
    same = len(set(formulas)) == 1
    told = formulas[0] if same else "; ".join(f"{p.name} {f}" for p, f in zip(parts[:4], formulas[:4], strict=True))
    more = "; ..." if not same and len(parts) > 4 else ""
    return f"{len(parts)} parts ({parts[0].name}, ...): {told}{more}" if same else f"{len(parts)} parts: {told}{more}"
