"""From specifications to an equivalent recipe, which can be read and edited."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bigin.core.dtypes import name_of
from bigin.core.errors import InputError
from bigin.methods import table
from bigin.recipes.assign import assign
from bigin.recipes.read import parse_recipe
from bigin.recipes.recipe import AXES, Recipe, Tensor
from bigin.recipes.source import LARGEST
from bigin.recipes.specs import spec_of_assignment
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec

NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")  # a part of a name that is a number, as those of layers are
SPECIAL = re.compile(r"[*?\[]")  # what means something in a pattern
WIDTH = 100  # columns of a list of patterns


@dataclass
class Group:
    """A rule in the making: a method's call, and the patterns of the tensors that it is for, each with their names."""

    call: tuple[str, ...]
    patterns: dict[str, list[str]] = field(default_factory=dict)


def recipe_text(
    specs: Mapping[str, TensorValues],
    *,
    seed: int,
    description: str,
    architectures: Iterable[str] = (),
    variables: Mapping[str, float] | None = None,
) -> str:
    """A recipe that gives tensors these values. What no rule can say is told in comments.

    variables: numbers that parameters equal are written by these names.
    """
    variables = variables or {}
    said = {name: spec for name, spec in specs.items() if is_rule(name, spec)}
    head = [f"description = {json.dumps(description)}"]
    if listed := list(architectures):
        head.append(f"architectures = {json.dumps(listed)}")
    head.append(f"seed = {seed}")
    comments = [
        f"# No rule says the values of {name}: {one_line(spec)}." for name, spec in specs.items() if name not in said
    ]
    if comments:
        comments.append("# `bigin init THIS --config ...` gives them as the model's own code does.")
    groups = grouped(said, variables)
    while True:
        used = {key: value for key, value in variables.items() if any(f'"{key}"' in " ".join(g.call) for g in groups)}
        declared = ["[vars]", *(f"{key} = {value!r}" for key, value in used.items())] if used else []
        rules = [rule for group in groups for rule in rule_lines(group)]
        blocks = ["\n".join(head), *(["\n".join(comments)] if comments else []), *(["\n".join(declared)] * bool(used))]
        text = "\n\n".join([*blocks, *rules]) + "\n"
        if not said:
            return text
        wrong = differing(text, said)
        if not wrong:
            return text
        # Patterns are for more tensors than those that they were made of: these come first, by their names.
        own = grouped({name: said[name] for name in wrong}, variables, literal=True)
        if own == groups[: len(own)]:
            raise InputError(f"expected tensors that rules can tell apart, got {', '.join(wrong[:3])}")
        groups = [*own, *groups]


def is_rule(name: str, spec: TensorValues) -> bool:
    """Whether a rule can say a tensor's values: one method's, from the stream of its own name."""
    if not isinstance(spec, TensorSpec) or spec.purpose or spec.name != name:
        return False
    return all(not isinstance(value, float) or math.isfinite(value) for value in given(spec).values())


def one_line(spec: TensorValues) -> str:
    """A specification in one line."""
    return " ".join(str(spec).split())


def given(spec: TensorSpec) -> dict[str, Any]:
    """The parameters that are not a method's defaults."""
    defaults = table.find(spec.method).defaults
    return {key: value for key, value in spec.parameters.items() if value != defaults[key]}


def call_of(spec: TensorSpec, variables: Mapping[str, float]) -> tuple[str, ...]:
    """The lines of a rule that say the method and its parameters."""
    names = {value: key for key, value in variables.items()}
    lines = [f"method = {json.dumps(spec.method)}"]
    for key, value in given(spec).items():
        number = isinstance(value, float) and key not in AXES
        told = f'"{names[value]}"' if number and value in names else json.dumps(value)
        lines.append(f"{key} = {told}")
    if spec.padding_idx is not None:
        lines.append(f"padding_idx = {spec.padding_idx}")
    return tuple(lines)


def grouped(specs: Mapping[str, TensorValues], variables: Mapping[str, float], *, literal: bool = False) -> list[Group]:
    """Rules for tensors: those of one method and one pattern of names together, unless literal."""
    calls: dict[str, tuple[str, ...]] = {}
    patterns: dict[str, list[str]] = {}
    for name, spec in specs.items():
        assert isinstance(spec, TensorSpec)
        calls[name] = call_of(spec, variables)
        patterns.setdefault(escaped(name) if literal else NUMBER.sub("*", escaped(name)), []).append(name)
    groups: dict[tuple[str, ...], Group] = {}
    for pattern, names in patterns.items():
        if len({calls[name] for name in names}) > 1:
            kept = {escaped(name): [name] for name in names}
        else:
            kept = {pattern: names}
        for key, of in kept.items():
            groups.setdefault(calls[of[0]], Group(calls[of[0]])).patterns[key] = of
    return list(groups.values())


def escaped(name: str) -> str:
    """The pattern of one name."""
    return SPECIAL.sub(lambda sign: f"[{sign[0]}]", name)


def rule_lines(group: Group) -> list[str]:
    """A rule's text."""
    patterns = [json.dumps(pattern, ensure_ascii=False) for pattern in group.patterns]
    match = patterns[0] if len(patterns) == 1 else f"[{', '.join(patterns)}]"
    if len(match) > WIDTH:
        match = "[\n" + "".join(f"  {pattern},\n" for pattern in patterns) + "]"
    return ["\n".join(["[[rule]]", f"match = {match}", *group.call])]


def differing(text: str, specs: Mapping[str, TensorValues]) -> list[str]:
    """The tensors to which a recipe gives other values, as it is read."""
    if len(text) > LARGEST:
        raise InputError(f"expected a recipe of at most {LARGEST} characters, got a model that takes {len(text)}")
    recipe: Recipe = parse_recipe(text)
    tensors = [Tensor(name, spec.shape, name_of(spec.dtype)) for name, spec in specs.items()]
    made = {a.tensor.name: spec_of_assignment(a, recipe.seed) for a in assign(recipe, tensors)}
    return [name for name, spec in specs.items() if made[name] != spec]
