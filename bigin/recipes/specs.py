"""From what a recipe says of the tensors of a model to their specifications."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bigin.core import dtypes
from bigin.core.collector import paused
from bigin.core.errors import InputError
from bigin.core.names import dotted
from bigin.core.packed import PACKED
from bigin.core.regions import Shape
from bigin.core.source import Source
from bigin.methods.distributions import Constant
from bigin.recipes.assign import Assignment, assign, unmatched_by
from bigin.recipes.check import check
from bigin.recipes.copies import spec_of_copy
from bigin.recipes.presets import find_recipe
from bigin.recipes.read import read_recipe
from bigin.recipes.recipe import Recipe, Tensor
from bigin.spec.fused import FusedSpec
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec, parse_name


@dataclass(frozen=True)
class Chosen:
    """A recipe for a model: its path or name, the seed instead of its own, and variables that override its own.

    strict: whether a rule that matches no tensor is an error instead of a warning. sources: what rules copy.
    """

    recipe: str | os.PathLike[str]
    seed: int | None
    variables: Mapping[str, Any]
    strict: bool = False
    sources: Mapping[str, Source] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.variables, Mapping):
            raise InputError(f"expected variables as a mapping from names to values, got {self.variables!r}")


def check_recipe(recipe: Any) -> None:
    """Raises InputError where there is no such recipe: before a model is looked for, which may lie on a network."""
    path = find_recipe(recipe)
    if not path.is_file():
        read_recipe(path, {})


def resolve(
    chosen: Chosen, label: str, tensors: Mapping[str, tuple[str, Shape]]
) -> tuple[list[Assignment], dict[str, TensorValues]]:
    """What a recipe says of tensors (name -> dtype, shape), and the specifications that follow, by name."""
    return _resolve(read_recipe(find_recipe(chosen.recipe), chosen.variables), chosen, label, tensors)


def resolve_known(
    chosen: Chosen, label: str, tensors: Mapping[str, tuple[str, Shape]], known: Iterable[str]
) -> tuple[dict[str, TensorValues], list[str]]:
    """The specifications that follow, and which of the tensors whose values are known no rule matches."""
    read = read_recipe(find_recipe(chosen.recipe), chosen.variables)
    described = [Tensor(name, shape, dtype) for name, (dtype, shape) in sorted(tensors.items())]
    unmatched = sorted(set(known) & set(unmatched_by(read, described)))
    filled = {name: tensor for name, tensor in tensors.items() if name not in unmatched}
    return _resolve(read, chosen, label, filled)[1], unmatched


@dataclass(frozen=True)
class Covered:
    """What a recipe says of tensors that are there: their specifications, those it skips, those no rule is for."""

    specs: dict[str, TensorValues]
    skipped: list[str]
    unmatched: list[str]


@paused()
def cover(chosen: Chosen, label: str, tensors: Mapping[str, tuple[str, Shape]]) -> Covered:
    """What a recipe says of tensors that are there (name -> dtype, shape); raises InputError where it fits none."""
    read = read_recipe(find_recipe(chosen.recipe), chosen.variables)
    described = [Tensor(name, shape, dtype) for name, (dtype, shape) in sorted(tensors.items())]
    unmatched = sorted(unmatched_by(read, described))
    specs = _resolve(read, chosen, label, {name: told for name, told in tensors.items() if name not in set(unmatched)})
    return Covered(specs[1], sorted(set(tensors) - set(specs[1]) - set(unmatched)), unmatched)


@paused()
def _resolve(
    read: Recipe, chosen: Chosen, label: str, tensors: Mapping[str, tuple[str, Shape]]
) -> tuple[list[Assignment], dict[str, TensorValues]]:
    described = [Tensor(name, shape, dtype) for name, (dtype, shape) in sorted(tensors.items())]
    assignments = assign(read, described)
    check(read, described, assignments, strict=chosen.strict)
    if not assignments:
        raise InputError(f"{label}: expected tensors to fill, got none")
    seed = read.seed if chosen.seed is None else chosen.seed
    known: dict[Any, TensorSpec] = {}
    return assignments, {a.tensor.name: _like_others(a, seed, chosen.sources, known) for a in assignments}


def _like_others(
    assignment: Assignment, seed: int, sources: Mapping[str, Source] | None, known: dict[Any, TensorSpec]
) -> TensorValues:
    """`spec_of_assignment`, and at once where a tensor is known that differs in its name alone."""
    if assignment.axis is not None or assignment.copying is not None:
        return spec_of_assignment(assignment, seed, sources)
    tensor, part = assignment.tensor, assignment.parts[0]
    # Parts that are assigned alike have one dict of parameters, which the list of assignments keeps.
    key = (part.method, id(part.parameters), part.shape, tensor.dtype, assignment.rule.padding_idx)
    if key in known:
        try:
            return known[key].named(parse_name(dotted(part.name)))
        except InputError:  # raised again below, with the tensor's name
            pass
    spec = spec_of_assignment(assignment, seed, sources)
    if isinstance(spec, TensorSpec) and tensor.dtype not in PACKED:
        known[key] = spec
    return spec


def spec_of_assignment(assignment: Assignment, seed: int, sources: Mapping[str, Source] | None = None) -> TensorValues:
    """The specification of a tensor; `sources` are those that rules copy."""
    tensor = assignment.tensor
    if assignment.copying is not None:
        return spec_of_copy(assignment, seed, sources)
    if tensor.dtype in PACKED:
        return spec_of_packed(assignment, seed)
    if tensor.dtype not in dtypes.DTYPES:
        raise InputError(
            f"{tensor.name}: expected a dtype among {', '.join(dtypes.DTYPES)}, got {tensor.dtype}; leave it out with "
            f'skip = ["{tensor.name}"] in the recipe'
        )
    dtype = dtypes.parse_dtype(tensor.dtype)
    try:
        parts = tuple(
            TensorSpec.parse(
                part.method, part.parameters, seed, dotted(part.name), part.shape, dtype, assignment.rule.padding_idx
            )
            for part in assignment.parts
        )
    except InputError as error:
        raise InputError(f"{tensor.name}: {error}") from None
    if assignment.axis is None:
        return parts[0]
    stack = assignment.rule.split is not None and assignment.rule.split.stack
    return FusedSpec(assignment.axis, stack=stack, parts=parts, shape=tensor.shape, dtype=dtype)


def spec_of_packed(assignment: Assignment, seed: int) -> TensorSpec:
    """The bytes of a tensor of packed values, which hold one number alone."""
    tensor, part = assignment.tensor, assignment.parts[0]
    if assignment.axis is not None or not isinstance(part.distribution, Constant):
        raise InputError(
            f"{tensor.name}: expected one number for a tensor of {tensor.dtype}, got {part.method}; use ones, zeros or "
            "constant"
        )
    return packed_spec(tensor, part.distribution.value, seed)


def packed_spec(tensor: Tensor, value: float, seed: int) -> TensorSpec:
    """The bytes of a tensor of packed values that are all one number."""
    row = PACKED[tensor.dtype]
    try:
        byte = row.byte(float(value))
    except InputError as error:
        raise InputError(f"{tensor.name}: {error}") from None
    shape = row.stored(tensor.shape)
    return TensorSpec.parse("constant", {"val": byte}, seed, dotted(tensor.name), shape, dtypes.parse_dtype("uint8"))
