"""Probable mistakes in a recipe for a model, although every tensor has a rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bigin.core.errors import InputError, RecipeWarning
from bigin.core.text import counted
from bigin.core.warning import warn
from bigin.recipes.assign import LAYER, Assignment, first_rule
from bigin.recipes.recipe import SHOWN, Recipe, RecipeRule, Tensor

LAYERS = ("n_layers", "num_layers", "num_hidden_layers", "n_layer")  # variables that count layers
WIDTHS = ("hidden_size", "width", "d_model", "n_embd")  # variables that are a size of some tensor


def check(recipe: Recipe, tensors: Sequence[Tensor], assignments: Sequence[Assignment], *, strict: bool) -> None:
    """Warn of rules that match no tensor, and of variables that contradict the model.

    With `strict`, raise InputError instead.
    """
    for doubt in doubts(recipe, tensors, assignments):
        if strict:
            raise InputError(f"{doubt}; leave out --strict (strict=True) to allow this")
        warn(doubt, RecipeWarning)


def doubts(recipe: Recipe, tensors: Sequence[Tensor], assignments: Sequence[Assignment]) -> Iterator[str]:
    """Yield a line for each probable mistake."""
    used = {assignment.rule.number for assignment in assignments}
    for rule in recipe.rules:
        if rule.number and rule.number not in used and not rule.optional:
            yield str(recipe.error(rule, "match", unused(recipe, rule, tensors)))
    yield from _layers(recipe, assignments)
    yield from _widths(recipe, assignments)


def unused(recipe: Recipe, rule: RecipeRule, tensors: Sequence[Tensor]) -> str:
    """Return why a rule applies to no tensor."""
    shown = ", ".join(glob.text for glob in rule.match[:SHOWN]) + (", ..." if len(rule.match) > SHOWN else "")
    named = [tensor for tensor in tensors if any(glob.match(tensor.name) is not None for glob in rule.match)]
    if named:
        return f"{rule.label} ({shown}) is used for no tensor: {excluded(recipe, rule, named, tensors)}"
    made_for = f"; the recipe is for: {'; '.join(recipe.architectures)}" if recipe.architectures else ""
    return f"{rule.label} ({shown}) matches no tensor{made_for}"


def excluded(recipe: Recipe, rule: RecipeRule, named: Sequence[Tensor], tensors: Sequence[Tensor]) -> str:
    """Why a rule whose patterns fit some tensors is used for none of them."""
    by_name = {tensor.name: tensor for tensor in tensors}
    for tensor in named:
        first = first_rule(recipe, tensor, by_name)
        alone = first_rule(replace(recipe, rules=[rule]), tensor, by_name)
        if first is not None and alone is not None and first.number != rule.number:
            return (
                f"{recipe.at(first)} comes first and matches {tensor.name}, and the first rule that matches a tensor "
                f"applies; move {rule.label} up"
            )
    skipped = [t.name for t in named if any(glob.match(t.name) is not None for glob in recipe.skip)]
    if skipped:
        return f"skip leaves out {skipped[0]}"
    shape = "x".join(map(str, named[0].shape)) or "scalar"
    return f"a condition of it (shape, ndim, dtype or fans_of) excludes {named[0].name}, {shape} {named[0].dtype}"


def _layers(recipe: Recipe, assignments: Sequence[Assignment]) -> Iterator[str]:
    """A number of layers that is not the one that the names tell."""
    if recipe.variables.keys().isdisjoint(LAYERS):
        return
    matches = (LAYER.search(assignment.tensor.name) for assignment in assignments)
    numbers = {int(match[1]) for match in matches if match}
    if not numbers:
        return
    count, whole = max(numbers) + 1, len(numbers) == max(numbers) + 1  # not whole: a stage of a pipeline, perhaps
    for name in LAYERS:
        value = recipe.variables.get(name)
        if value is not None and (value < count or (whole and value != count)):
            layers = counted(count, "layer")
            yield f"{recipe.source.label}: {name} = {value:g}, but the names of the tensors count {layers}"


def _widths(recipe: Recipe, assignments: Sequence[Assignment]) -> Iterator[str]:
    """A width that is no size of any tensor."""
    if recipe.variables.keys().isdisjoint(WIDTHS):
        return
    sizes = {size for assignment in assignments for size in assignment.tensor.shape}
    for name in WIDTHS:
        value = recipe.variables.get(name)
        if value is not None and value not in sizes:
            yield f"{recipe.source.label}: {name} = {value:g}, but no tensor has a dimension of that size"
