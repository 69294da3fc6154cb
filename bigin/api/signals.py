"""The variance of activations and gradients in a model that a recipe fills."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.limits import Limits
from bigin.inspect.propagation import Layer, Signal, propagate
from bigin.recipes.assign import Assignment
from bigin.recipes.glob import parse_glob
from bigin.recipes.recipe import LAYOUTS
from bigin.recipes.specs import Chosen, resolve
from bigin.targets.models import read_model

# The order of a layer's axes, by the recipe's layout. Rows of an embedding are looked up: no signal passes through it.
ORDERS = {
    "linear": "linear",
    "depthwise": "linear",
    "transposed": "transposed",
    "conv_transpose": "conv_transpose",
    "embedding": None,
}


# Names of weights that take no outputs of the layer before them, or whose outputs are multiplied or added.
BRANCHING = re.compile(
    r"(?i)(attn|attention|[._/](q|k|v|o|c|qkv|query|key|value|gate|up|down)(_?proj)?[._/]|experts?[._/]|router|"
    r"downsample|shortcut|mixer|ssm|lm_head)"
)


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
    """Propagate a random batch through the linear and convolution layers of a recipe, and return the variances.

    The weights are computed when they are needed and never stored. The batch passes through the
    weights of two or more dimensions in the natural order of their names (layers.2 before layers.10). Embeddings are
    skipped. A layer that cannot take the outputs of the previous layer gets a new batch. If the model is not a plain
    stack of layers, the result has a note; use bigin.torch.signal, which runs the model's own code.

    Args:
        recipe, like, seed, variables, strict: as in `initialize`.
        match: patterns of the names of the weights, as in recipes, in the order of the forward pass; by default all
            weights.
        nonlinearity: the function after each layer: linear, relu, leaky_relu:SLOPE, tanh, sigmoid, selu, gelu, silu.
        batch: number of samples in the batch.
        batch_seed: seed of the batch.
        max_memory: bytes, or a string such as "2GiB", for the preparation of orthogonal weights; by default a quarter
            of the free memory.
        progress: called with the number of finished layer passes and their total.

    Returns:
        The variance of the outputs of every layer, and of the gradient with respect to them.

    Raises:
        InputError: an argument is invalid, or the model has no such layers.

    Examples:
        >>> from pathlib import Path
        >>> for i in range(2):
        ...     _ = bigin.create(f"mlp.zarr/layers/{i}/weight", shape=(64, 64))
        >>> _ = Path("he.toml").write_text('[default]\\nmethod = "kaiming_normal"')
        >>> result = bigin.signal("he.toml", "mlp.zarr")
        >>> [layer.name for layer in result.layers]
        ['layers/0/weight', 'layers/1/weight']
    """
    model = read_model(like)
    assignments, specs = resolve(Chosen(recipe, seed, variables or {}, strict=strict), model.label, model.tensors)
    chosen = ordered(list(filter(carries, assignments)), match)
    if not chosen:
        raise InputError(f"{like}: expected weights of linear or convolution layers, got none; check --match (match=)")
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
    measured = propagate(
        layers,
        nonlinearity=nonlinearity,
        batch=batch,
        seed=batch_seed,
        limits=Limits.parse(max_memory=max_memory),
        progress=progress,
    )
    return measured if match else replace(measured, note=note_of([layer.name for layer in layers]))


def note_of(names: Sequence[str]) -> str | None:
    """Return why layers of these names are no plain stack; None where nothing tells."""
    branching = next((name for name in names if BRANCHING.search(name)), None)
    if branching is None:
        return None
    return (
        f"{branching} is not part of a plain stack: attention, gates, experts and residual streams are not modelled "
        "here, where each layer takes what the one before it puts out, so a right model may seem to vanish; "
        "bigin signal --config config.json (bigin.torch.signal in Python) runs the model's own code"
    )


def carries(assignment: Assignment) -> bool:
    """Return whether a tensor is the weight of a linear or convolution layer."""
    shape = assignment.tensor.shape
    return len(shape) >= 2 and 0 not in shape and order(assignment) is not None


def order(assignment: Assignment) -> str | None:
    """Return the order of the axes of a weight, or None for an embedding."""
    axes = assignment.rule.axes
    words = [word for word, layout in LAYOUTS.items() if all(axes.get(key) == layout[key] for key in layout)]
    return ORDERS[words[0]] if words else None


def ordered(assignments: Sequence[Assignment], match: Sequence[str]) -> list[Assignment]:
    """Return the tensors that patterns match, pattern by pattern, in the natural order of their names, each once."""
    natural = sorted(assignments, key=lambda assignment: natural_key(assignment.tensor.name))
    if not match:
        return natural
    chosen: dict[str, Assignment] = {}
    for pattern in match:
        glob = parse_glob(pattern)
        matching = [a for a in natural if glob.match(a.tensor.name) is not None]
        if not matching:
            raise InputError(f"expected weights whose names match {pattern!r}, got none")
        chosen |= {a.tensor.name: a for a in matching if a.tensor.name not in chosen}
    return list(chosen.values())


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in names as numbers: layers.2 before layers.10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
