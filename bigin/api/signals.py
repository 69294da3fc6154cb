"""The signal through the layers of a model that a recipe makes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.limits import Limits
from bigin.inspect.propagation import Layer, Signal, propagate
from bigin.recipes.assign import Assignment
from bigin.recipes.recipe import LAYOUTS
from bigin.recipes.specs import Chosen, resolve
from bigin.targets.models import read_model

# How a layer's axes lie, by the recipe's word for them; an embedding's rows are looked up, and no signal goes through.
ORDERS = {
    "linear": "linear",
    "depthwise": "linear",
    "transposed": "transposed",
    "conv_transpose": "conv_transpose",
    "embedding": None,
}


def signal(
    recipe: str | os.PathLike[str],
    like: Any,
    *,
    match: Sequence[str] = (),
    nonlinearity: str = "relu",
    batch: int = 64,
    seed: int | None = None,
    batch_seed: int = 0,
    variables: Mapping[str, Any] | None = None,
    strict: bool = False,
    max_memory: int | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Signal:
    """Send a random batch through the linear and convolution layers that a recipe makes, and measure its variance.

    The weights are made as they are needed, and never stored: nothing is written. A batch goes through the weights of
    two axes and more in the order of their names (layers.2 before layers.10); embeddings are left out, and where a
    layer does not take what the one before it gives, a fresh batch begins. bigin.inspect.propagation
    tells what a layer does.

    Args:
        recipe, like, seed, variables, strict: as in `initialize`.
        match: globs of the names of the weights, in the order in which the batch goes through them; by default all.
        nonlinearity: the function behind each layer: linear, relu, leaky_relu:SLOPE, tanh, sigmoid, selu, gelu, silu.
        batch: samples in the batch, which is random by batch_seed.
        max_memory: bytes, or a text such as "2GiB", for what orthogonal weights need to be made.
        progress: called with passes through layers done and in all.

    Raises InputError where something is wrong with what was asked for.
    """
    model = read_model(like)
    assignments, specs = resolve(Chosen(recipe, seed, variables or {}, strict), model.label, model.tensors)
    chosen = ordered(list(filter(carries, assignments)), match)
    if not chosen:
        raise InputError(f"{like}: expected weights of linear or convolution layers, found none; see --match (match=)")
    layers = [
        Layer(
            assignment.tensor.name,
            assignment.tensor.shape,
            dtypes.parse_dtype(assignment.tensor.dtype),
            specs[assignment.tensor.name].plan()(),
            order(assignment) or "linear",
        )
        for assignment in chosen
    ]
    return propagate(
        layers,
        nonlinearity=nonlinearity,
        batch=batch,
        seed=batch_seed,
        limits=Limits.parse(max_memory=max_memory),
        progress=progress,
    )


def carries(assignment: Assignment) -> bool:
    """Whether a tensor is the weight of a layer that a signal goes through."""
    shape = assignment.tensor.shape
    return len(shape) >= 2 and 0 not in shape and order(assignment) is not None


def order(assignment: Assignment) -> str | None:
    """How the axes of a weight lie; None for one that no signal goes through."""
    axes = assignment.rule.axes
    words = [word for word, layout in LAYOUTS.items() if all(axes.get(key) == layout[key] for key in layout)]
    return ORDERS[words[0]] if words else None


def ordered(assignments: Sequence[Assignment], match: Sequence[str]) -> list[Assignment]:
    """The tensors that patterns name, pattern by pattern, in the natural order of their names, each once."""
    natural = sorted(assignments, key=lambda assignment: natural_key(assignment.tensor.name))
    if not match:
        return natural
    chosen: dict[str, Assignment] = {}
    for pattern in match:
        found = [a for a in natural if fnmatchcase(a.tensor.name, pattern)]
        if not found:
            raise InputError(f"expected weights whose names match {pattern!r}, found none")
        chosen |= {a.tensor.name: a for a in found if a.tensor.name not in chosen}
    return list(chosen.values())


def natural_key(name: str) -> list[tuple[int, str]]:
    """Numbers in names count as numbers: layers.2 comes before layers.10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
