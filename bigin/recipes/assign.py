"""Apply a recipe to the tensors of a model: which rule, method and parameters each of them gets."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from bigin.core.errors import InputError
from bigin.core.text import counted
from bigin.methods import table
from bigin.methods.distributions import Distribution
from bigin.methods.fans import fans
from bigin.recipes.expression import Expression, Value
from bigin.recipes.recipe import AXES, Recipe, RecipeRule, Split, Tensor
from bigin.recipes.tables import whole

LAYER = re.compile(r"(?:^|[./])(\d{1,9})(?=[./]|$)")  # the first part of a name that is a number
MOST_PARTS = 100_000
MENTIONED = 10  # tensors that an error about many names


class AssignedPart(NamedTuple):  # and not a dataclass, which takes three times as long to make: of 100,000 tensors
    """The whole tensor, or a part of a fused one: its name, shape and method."""

    name: str
    shape: tuple[int, ...]
    method: str
    parameters: Mapping[str, Any]
    distribution: Distribution


@dataclass(frozen=True)
class Copying:
    """What the rule of a copy needs: what the stars matched, and the value of an expression for a rule's key."""

    stars: tuple[str, ...]
    value: Callable[[str, Expression], float]
    error: Callable[[str | None, str], InputError]


class Assignment(NamedTuple):
    """What a recipe says about a tensor. `axis` is the one that is split into the parts, or None for a single part.

    Of a tensor that is copied from another checkpoint there are no parts, but what its rule needs to be carried out.
    """

    tensor: Tensor
    rule: RecipeRule
    axis: int | None
    parts: tuple[AssignedPart, ...]
    copying: Copying | None = None


def assign(recipe: Recipe, tensors: Iterable[Tensor]) -> list[Assignment]:
    """Return what a recipe says about every tensor, in their order, without those that it skips.

    Raises InputError for tensors that no rule matches, and for a rule that does not fit a tensor.
    """
    by_name = {tensor.name: tensor for tensor in tensors}
    assignments = []
    unmatched = []
    known: dict[Any, AssignedPart] = {}
    for tensor in by_name.values():
        if _is_skipped(recipe, tensor):
            continue
        match = _find(recipe, tensor, by_name)
        if match is None:
            unmatched.append(tensor.name)
        else:
            assignments.append(_like_others(recipe, *match, tensor, by_name, known))
    if unmatched:
        more = f" and {len(unmatched) - MENTIONED} more" if len(unmatched) > MENTIONED else ""
        raise InputError(
            f"{recipe.source.label}: expected a rule for every tensor, got none for {', '.join(unmatched[:MENTIONED])}"
            f"{more}; add a [[rule]] or a [default], or skip them"
        )
    return assignments


def _like_others(
    recipe: Recipe,
    rule: RecipeRule,
    stars: tuple[str, ...],
    tensor: Tensor,
    by_name: Mapping[str, Tensor],
    known: dict[Any, AssignedPart],
) -> Assignment:
    """`_assigned`, and at once where another tensor is known to which the rule gives the same: one of the same shape,
    in the same layer if the rule asks for that.
    """
    if rule.method is None or rule.split is not None or rule.fans_of is not None or len(tensor.shape) > 2:
        return _assigned(recipe, rule, stars, tensor, by_name)  # of more axes, a method may warn of each tensor
    layer = LAYER.search(tensor.name) if rule.asks_for_layer else None
    key = (id(rule), tensor.shape, layer and layer[1])
    if (part := known.get(key)) is not None:
        return Assignment(tensor, rule, None, (AssignedPart(tensor.name, *part[1:]),))
    made = _assigned(recipe, rule, stars, tensor, by_name)
    known[key] = made.parts[0]
    return made


def _assigned(
    recipe: Recipe, rule: RecipeRule, stars: tuple[str, ...], tensor: Tensor, by_name: Mapping[str, Tensor]
) -> Assignment:
    """What a rule says about a tensor. Where it fails, the error names a later rule that matches the tensor, too."""
    try:
        return _Assigner(recipe, rule, stars, tensor, by_name).assignment()
    except InputError as error:
        later = _find(replace(recipe, rules=recipe.rules[recipe.rules.index(rule) + 1 :]), tensor, by_name)
        if later is None or not later[0].number:
            raise
        raise InputError(
            f"{error}; {recipe.at(later[0])} matches it too, but the first rule that matches a tensor applies: move "
            "that rule up"
        ) from None


def first_rule(recipe: Recipe, tensor: Tensor, by_name: Mapping[str, Tensor]) -> RecipeRule | None:
    """The rule that applies to a tensor: the first that matches."""
    match = _find(recipe, tensor, by_name)
    return None if match is None else match[0]


def unmatched_by(recipe: Recipe, tensors: Iterable[Tensor]) -> list[str]:
    """Return the names of the tensors that no rule matches and that are not skipped."""
    by_name = {tensor.name: tensor for tensor in tensors}
    return [
        name
        for name, tensor in by_name.items()
        if not _is_skipped(recipe, tensor) and _find(recipe, tensor, by_name) is None
    ]


def _is_skipped(recipe: Recipe, tensor: Tensor) -> bool:
    return bool(recipe.skip) and any(glob.match(tensor.name) is not None for glob in recipe.skip)


def _find(recipe: Recipe, tensor: Tensor, by_name: Mapping[str, Tensor]) -> tuple[RecipeRule, tuple[str, ...]] | None:
    """Return the first rule that matches, and the text that each star of its pattern matches."""
    for rule in recipe.rules:
        if not _conditions(rule, tensor):
            continue
        for glob in rule.match:
            stars = glob.match(tensor.name)
            if stars is not None and (rule.fans_of is None or _weight(rule, tensor, stars, by_name) is not None):
                return rule, stars
    return None


def _conditions(rule: RecipeRule, tensor: Tensor) -> bool:
    if rule.ndim is not None and len(tensor.shape) not in rule.ndim:
        return False
    if rule.dtype is not None and tensor.dtype not in rule.dtype:
        return False
    if rule.shape is None:
        return True
    return len(rule.shape) == len(tensor.shape) and all(
        expected is None or expected == size for expected, size in zip(rule.shape, tensor.shape, strict=True)
    )


def _weight(rule: RecipeRule, tensor: Tensor, stars: tuple[str, ...], by_name: Mapping[str, Tensor]) -> Tensor | None:
    """Return the tensor whose fans the rule uses, or None if there is none: then the rule does not match."""
    assert rule.fans_of is not None
    weight = by_name.get(rule.fans_of.name(tensor.name, stars))
    return weight if weight is not None and len(weight.shape) >= 2 else None


class _Assigner:
    """Makes one assignment."""

    def __init__(
        self, recipe: Recipe, rule: RecipeRule, stars: tuple[str, ...], tensor: Tensor, by_name: Mapping[str, Tensor]
    ) -> None:
        self.recipe = recipe
        self.rule = rule
        self.stars = stars
        self.tensor = tensor
        self.weight = _weight(rule, tensor, stars, by_name) if rule.fans_of is not None else None

    def assignment(self) -> Assignment:
        if self.rule.method is None:
            name, shape = self.tensor.name, self.tensor.shape
            copying = Copying(self.stars, lambda key, given: self.value(key, given, name, shape), self.error)
            return Assignment(self.tensor, self.rule, None, (), copying)
        if self.rule.split is None:
            return Assignment(self.tensor, self.rule, None, (self.part(self.tensor.name, self.tensor.shape),))
        split = self.rule.split
        axis, sizes = self.sizes(split)
        shape = self.tensor.shape
        parts = []
        for i, size in enumerate(sizes):
            inside = () if split.stack else (size,)
            name = (split.names[0] if len(split.names) == 1 else split.names[i]).name(self.tensor.name, self.stars, i)
            parts.append(self.part(name, (*shape[:axis], *inside, *shape[axis + 1 :])))
        if len({part.name for part in parts}) < len(parts):
            raise self.error("split", f"expected a different name for every part, got {parts[0].name} for several")
        return Assignment(self.tensor, self.rule, axis, tuple(parts))

    def error(self, key: str | None, message: str) -> InputError:
        return self.recipe.error(self.rule, key, message, self.tensor.name)

    # The parts of a fused tensor

    def sizes(self, split: Split) -> tuple[int, list[int]]:
        """Return the axis, counted from 0, and the sizes of the parts along it."""
        shape = self.tensor.shape
        if not -len(shape) <= split.axis < len(shape):
            raise self.error("split", f"expected an axis of shape {shape}, got axis {split.axis}")
        axis = split.axis % len(shape)
        whole_size = shape[axis]
        if split.stack or split.parts is not None:
            parts = whole_size if split.parts is None else self.size(split.parts)
            if parts > MOST_PARTS:
                raise self.error("split", f"expected at most {MOST_PARTS} parts, got {parts}")
            if parts < 1 or whole_size % parts:
                raise self.error("split", f"expected parts that divide {whole_size} (shape {shape}), got {parts}")
            sizes = [whole_size // parts] * parts
        else:
            assert split.sizes is not None
            sizes = list(map(self.size, split.sizes))
        if min(sizes, default=0) < 0 or sum(sizes) != whole_size:
            raise self.error("split", f"expected sizes that add up to {whole_size} (shape {shape}), got {sizes}")
        if len(split.names) > 1 and len(split.names) != len(sizes):
            raise self.error(
                "split", f"expected {counted(len(sizes), 'name')}, one for every part, got {len(split.names)}"
            )
        return axis, sizes

    def size(self, expression: Expression) -> int:
        value = self.value("split", expression, self.tensor.name, self.tensor.shape)
        if not value.is_integer() or abs(value) >= 1 << 53:
            raise self.error("split", f"expected whole numbers, got {expression} = {value:g}")
        return int(value)

    # Parameters

    def part(self, name: str, shape: tuple[int, ...]) -> AssignedPart:
        method = self.rule.method
        assert method is not None
        given = {
            key: whole(self.value(key, value, name, shape)) if isinstance(value, Expression) else value
            for key, value in self.rule.parameters.items()
        }
        given |= {axis: self.rule.axes[axis] for axis in AXES if axis in method.defaults}
        try:
            parameters = method.parse(given)
            distribution = table.resolve(method, shape, parameters)
        except InputError as error:
            raise self.error(None, f"{method.name}: {error}") from None
        return AssignedPart(name, shape, method.name, parameters, distribution)

    def value(self, key: str, expression: Expression, name: str, shape: tuple[int, ...]) -> float:
        try:
            return expression.value({**self.recipe.variables, **self.of_tensor(expression.names, name, shape)})
        except InputError as error:
            raise self.error(key, str(error)) from None

    def of_tensor(self, names: frozenset[str], name: str, shape: tuple[int, ...]) -> dict[str, Value]:
        """Return the values of a tensor that an expression uses; not every tensor has fans or a layer."""
        values: dict[str, Value] = {"shape": shape, "ndim": float(len(shape)), "size": float(math.prod(shape))}
        if names & {"fan_in", "fan_out"}:
            fan_in, fan_out = fans(self.weight.shape if self.weight is not None else shape, **self.rule.axes)
            values |= {"fan_in": float(fan_in), "fan_out": float(fan_out)}
        if "layer" in names:
            match = LAYER.search(name)
            if match is None:
                raise InputError(f"expected a name with the number of a layer, such as h.3.weight, got {name}")
            values["layer"] = float(match[1])
        return values
