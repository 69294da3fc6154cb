"""What is probably wrong with a recipe for a model, although every tensor has a rule."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence

from bigin.core.errors import InputError, RecipeWarning
from bigin.core.text import counted
from bigin.recipes.assign import LAYER, Assignment
from bigin.recipes.recipe import Recipe, Rule, Tensor

LAYERS = ("n_layers", "num_layers", "num_hidden_layers", "n_layer")  # variables that count layers
WIDTHS = ("hidden_size", "width", "d_model", "n_embd")  # variables that are a size of some tensor
SHOWN = 3  # patterns of a rule


def check(recipe: Recipe, tensors: Sequence[Tensor], assignments: Sequence[Assignment], *, strict: bool) -> None:
    """Warn of rules that match no tensor, and of variables that contradict the model.

    With `strict`, raise InputError instead.
    """
    for doubt in doubts(recipe, tensors, assignments):
        if strict:
            raise InputError(f"{doubt}; leave out --strict (strict=True) to allow this")
        warnings.warn(doubt, RecipeWarning, stacklevel=4)  # of whoever called bigin.initialize


def doubts(recipe: Recipe, tensors: Sequence[Tensor], assignments: Sequence[Assignment]) -> Iterator[str]:
    """Yield a line for everything that is probably wrong."""
    used = {assignment.rule.number for assignment in assignments}
    for rule in recipe.rules:
        if rule.number and rule.number not in used and not rule.optional:
            yield str(recipe.error(rule, "match", unused(recipe, rule, tensors)))
    yield from _layers(recipe, assignments)
    yield from _widths(recipe, assignments)


def unused(recipe: Recipe, rule: Rule, tensors: Sequence[Tensor]) -> str:
    """Return why a rule is for no tensor."""
    shown = ", ".join(glob.text for glob in rule.match[:SHOWN]) + (", ..." if len(rule.match) > SHOWN else "")
    named = [tensor.name for tensor in tensors if any(glob.match(tensor.name) is not None for glob in rule.match)]
    if named:
        return (
            f"{rule.label} ({shown}) is used for no tensor: an earlier rule, a skip or a condition excludes {named[0]}"
        )
    made_for = f"; the recipe is for: {'; '.join(recipe.architectures)}" if recipe.architectures else ""
    return f"{rule.label} ({shown}) matches no tensor{made_for}"


def _layers(recipe: Recipe, assignments: Sequence[Assignment]) -> Iterator[str]:
    """A number of layers that is not the one that the names tell."""
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
    sizes = {size for assignment in assignments for size in assignment.tensor.shape}
    for name in WIDTHS:
        value = recipe.variables.get(name)
        if value is not None and value not in sizes:
            yield f"{recipe.source.label}: {name} = {value:g}, but no tensor has a dimension of that size"
