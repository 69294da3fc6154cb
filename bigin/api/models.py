"""bigin.initialize and bigin.outline: every tensor of a model by the rule of a recipe that matches it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bigin.api.sources import with_sources
from bigin.api.writing import Form, dummy_model, dummy_of, fill_model, model_by_recipe
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.paths import expand
from bigin.fillers.families import family
from bigin.jobs.job import FillOptions
from bigin.jobs.report import Report
from bigin.recipes.assign import AssignedPart, Assignment
from bigin.recipes.specs import Chosen, check_recipe, resolve
from bigin.spec.coded import CodedSpec
from bigin.spec.copied import GrownSpec
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec
from bigin.targets.models import nbytes_of, read_model


@dataclass(frozen=True)
class Row:
    """A tensor in an outline: the rule that matches it, the values that it gets, and its size in bytes."""

    tensor: str
    shape: tuple[int, ...]
    dtype: str
    rule: str
    values: str
    nbytes: int


def outline(
    recipe: str | os.PathLike[str],
    like: Any = None,
    *,
    seed: int | None = None,
    variables: Mapping[str, Any] | None = None,
    strict: bool = False,
    dtype: Any = None,
    source: str | os.PathLike[str] | None = None,
) -> list[Row]:
    """Describe what `initialize` would write, without writing it.

    Args:
        recipe, like, seed, variables, strict, dtype, source: as in `initialize`.

    Returns:
        A row for every tensor, in the order of the names.

    Raises:
        InputError: the recipe or the model is invalid.

    Example:
        >>> group = zarr.open_group("model.zarr", mode="w")
        >>> array = group.create_array("fc1.weight", shape=(120, 400), dtype="float32")
        >>> with open("recipe.toml", "w") as file:
        ...     n = file.write('[[rule]]\\nmatch = "*.weight"\\nmethod = "normal"\\nstd = 0.02\\n')
        >>> [(row.tensor, row.values) for row in bigin.outline("recipe.toml", "model.zarr")]
        [('fc1.weight', 'normal: N(0, 0.02^2)')]
    """
    with default_modes():
        check_recipe(recipe)
        chosen, place = with_sources(Chosen(recipe, seed, variables or {}, strict=strict), source)
        if like is None and place is None:
            raise InputError("expected a model that gives names, shapes and dtypes, got none; give --like (like=)")
        model = read_model(place if like is None else expand(like)).in_dtype(dtype)
        assignments, specs = resolve(chosen, model.label, model.tensors)
    return [_row(assignment, specs[assignment.tensor.name]) for assignment in assignments]


def initialize(
    recipe: str | os.PathLike[str],
    out: Any,
    *,
    like: Any = None,
    seed: int | None = None,
    variables: Mapping[str, Any] | None = None,
    strict: bool = False,
    dtype: Any = None,
    format: str | None = None,
    source: str | os.PathLike[str] | None = None,
    max_shard_size: int | str | None = None,
    weights_only: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    max_memory: int | str | None = None,
    requests: int | None = None,
    sync: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Fill every tensor of a model, each by the first rule of a recipe that matches its name.

    Args:
        recipe: the path of a TOML file, or the name of a recipe that ships with bigin, such as "gpt2"; see
            docs/recipes.md.
        out: with `like`, the new model: a folder for a safetensors checkpoint, a path that ends in .safetensors for one
            file, or in .zarr for a group. Without `like`, an existing zarr group, which is filled in place.
        like: a model whose names, shapes and dtypes the new one has: a safetensors file, the folder or the index of a
            checkpoint, or a zarr group. Its values are not read.
        seed: the seed, instead of the recipe's.
        variables: numbers or expressions that override those under the recipe's [vars].
        strict: whether to raise InputError, instead of warning, if a rule matches no tensor or a variable contradicts
            the model.
        dtype: the dtype of all float tensors, instead of those of `like`.
        format: "orbax" for an Orbax checkpoint in the folder `out`. It restores as a tree of dictionaries, in which the
            tensor `a.b` is `tree["a"]["b"]`. By default the ending of `out` selects the format.
        source: the checkpoint that rules copy from, instead of the recipe's `from`. Without `like`, the new model has
            its names, shapes and dtypes.
        max_shard_size: the largest number of bytes in a file of a checkpoint, or a string such as "5GB". By default the
            files are those of `like`, or have up to 5 GiB.
        weights_only: whether to leave out the other files in the checkpoint folder `like`: config.json,
            generation_config.json, and the files of tokenizers and processors.
        overwrite, threads, max_memory, requests, sync, progress: as in `fill`.

    Returns:
        A report: bytes, seconds and the record of all tensors.

    Raises:
        InputError: the recipe, the model or an argument is invalid; nothing was changed.
        FillError: the fill could not be finished; the same call continues where it stopped.

    Example:
        >>> group = zarr.open_group("model.zarr", mode="w")
        >>> array = group.create_array("fc1.weight", shape=(120, 400), dtype="float32")
        >>> with open("recipe.toml", "w") as file:
        ...     n = file.write('[[rule]]\\nmatch = "*.weight"\\nmethod = "kaiming_normal"\\n')
        >>> bigin.initialize("recipe.toml", "model.zarr").nbytes
        192000
    """
    limits, options = (
        Limits.parse(threads, max_memory, requests=requests),
        FillOptions(overwrite=overwrite, sync=sync, progress=progress),
    )
    form = Form.parse(format, max_shard_size, dtype, weights_only=weights_only)
    with default_modes():
        chosen = Chosen(recipe, seed, variables or {}, strict=strict)
        return fill_model(*model_by_recipe(chosen, source, expand(out), expand(like), form), limits, options)


def initialize_dummy(
    out: Any,
    like: Any,
    *,
    seed: int = 0,
    max_shard_size: int | str | None = None,
    weights_only: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    max_memory: int | str | None = None,
    requests: int | None = None,
    sync: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write a checkpoint like another one, quantized or not, with weights that make finite activations.

    Use it to measure the speed of servers. Scales and norms are 1, biases are 0, and float matrices are N(0, 0.02^2).
    Integers and 4-bit floats that hold quantized weights are drawn. Most are 0, and a few are the smallest number of
    either sign.

    Args:
        out, like, max_shard_size, weights_only: as in `initialize`.
        seed: an integer from 0 to 2^64 - 1.
        overwrite, threads, max_memory, requests, sync, progress: as in `fill`.

    Returns:
        A report: bytes, seconds and the record of all tensors.

    Raises:
        InputError: an argument is invalid; nothing was changed.
        FillError: the fill could not be finished; the same call continues where it stopped.

    Example:
        >>> group = zarr.open_group("like.zarr", mode="w")
        >>> for name, shape in (("fc1.weight", (120, 400)), ("fc1.weight_scale", (120,))):
        ...     array = group.create_array(name, shape=shape, dtype="float16")
        >>> bigin.initialize_dummy("out.safetensors", "like.zarr").nbytes
        96240
    """
    limits, options = (
        Limits.parse(threads, max_memory, requests=requests),
        FillOptions(overwrite=overwrite, sync=sync, progress=progress),
    )
    form = Form.parse(None, max_shard_size, weights_only=weights_only)
    with default_modes():
        return fill_model(*dummy_model(seed, expand(out), expand(like), form), limits, options)


def outline_dummy(like: Any, *, seed: int = 0) -> list[Row]:
    """Describe what `initialize_dummy` would write, without writing it.

    Args:
        like, seed: as in `initialize_dummy`.

    Returns:
        A row for every tensor, in the order of the names. Its `rule` is empty.

    Raises:
        InputError: there is no such model.

    Example:
        >>> group = zarr.open_group("like.zarr", mode="w")
        >>> array = group.create_array("fc1.weight_packed", shape=(120, 50), dtype="int32")
        >>> [(row.tensor, row.values) for row in bigin.outline_dummy("like.zarr")]
        [('fc1.weight_packed', 'uint4: 0, and 3 in 1000 bytes 1 or -1')]
    """
    with default_modes():
        model, specs = dummy_of(expand(like), seed)
    rows = []
    for name, (dtype, shape) in sorted(model.tensors.items()):
        spec = specs[name]
        values = spec.formula if isinstance(spec, CodedSpec) else str(spec)
        if isinstance(spec, TensorSpec):
            values = f"{spec.method}: {family(spec.distribution).formula(spec.distribution)}"
        rows.append(Row(name, shape, dtype, "", values, nbytes_of(dtype, shape)))
    return rows


def _row(assignment: Assignment, values: TensorValues) -> Row:
    tensor = assignment.tensor
    shape = values.shape if isinstance(values, GrownSpec) else tensor.shape
    return Row(
        tensor.name,
        shape,
        tensor.dtype,
        assignment.rule.label,
        _in_words(assignment.parts) if assignment.parts else str(values),
        nbytes_of(tensor.dtype, shape),
    )


def _in_words(parts: tuple[AssignedPart, ...]) -> str:
    """What the parts are filled with, in a few words."""
    formulas = [f"{part.method}: {family(part.distribution).formula(part.distribution)}" for part in parts]
    if len(parts) == 1:
        return formulas[0]
    same = len(set(formulas)) == 1
    text = formulas[0] if same else "; ".join(f"{p.name} {f}" for p, f in zip(parts[:4], formulas[:4], strict=True))
    more = "; ..." if not same and len(parts) > 4 else ""
    return f"{len(parts)} parts ({parts[0].name}, ...): {text}{more}" if same else f"{len(parts)} parts: {text}{more}"
