"""bigin.virtual_store: a zarr store of initial values that are computed when they are read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bigin.api.sources import with_sources
from bigin.api.virtual_array import VirtualArray
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.paths import expand
from bigin.recipes.specs import Chosen, check_recipe, resolve
from bigin.spec.model import ModelSpec, TensorValues
from bigin.targets.models import read_model

if TYPE_CHECKING:
    from bigin.targets.zarr.computed import Computed
    from bigin.targets.zarr.virtual import VirtualStore


def virtual_store(
    model: Any,
    *,
    like: Any = None,
    seed: int | None = None,
    variables: Mapping[str, Any] | None = None,
    strict: bool = False,
    dtype: Any = None,
    chunks: Any = None,
    shards: Any = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
) -> VirtualStore:
    """Return a read-only zarr store of initial values that are computed when they are read.

    zarr, xarray, dask and programs that use them see a group of arrays. The path of a tensor is its name with slashes
    for dots: `layers.0.weight` is at layers/0/weight. Its chunks have the bytes that `initialize` and `fill` write.

    Args:
        model: with `like`, the path of a recipe or the name of a recipe that ships with bigin. Or a mapping from names
            to virtual arrays. Or one virtual array, which is the root of the store.
        like: a model whose names, shapes and dtypes the arrays have, as in `initialize`.
        seed, variables, strict, dtype: as in `initialize`; only with a recipe.
        chunks: the bytes of a chunk of whole rows, as a number or a string such as "4MiB"; or the shape of a chunk; or
            a mapping from names to either, for some of the tensors. By default 16 MiB of whole rows, as in a new array.
        shards: the same for shards, which have whole chunks. By default there are none.
        threads: number of chunks that are made at once; by default the number of cores that this process may use.
        max_memory: bytes of chunks that are being made, and of preparation, or a string such as "2GiB". By default a
            quarter of what is available. Chunks that the reader holds are not counted.

    Returns:
        The store. It can be used by many threads at once, and pickled, for example for workers of dask.

    Raises:
        InputError: an argument is invalid.

    Example:
        >>> w = bigin.virtual((65536, 1024), "normal", std=0.02, dtype="bfloat16", name="layers.0.weight")
        >>> group = zarr.open_group(bigin.virtual_store({"layers.0.weight": w}), mode="r")
        >>> group["layers/0/weight"][1000, :3].tobytes() == w[1000, :3].tobytes()
        True
    """
    from bigin.targets.zarr.virtual import VirtualStore

    recipe = RecipeArguments(like, seed, variables, strict=strict, dtype=dtype)
    return VirtualStore(computed(model, recipe, (chunks, shards), Limits.parse(threads, max_memory)))


@dataclass(frozen=True)
class RecipeArguments:
    """What a recipe is applied to and how, as a caller gives it; each None or False where it is not given."""

    like: Any
    seed: int | None
    variables: Mapping[str, Any] | None
    strict: bool
    dtype: Any


def computed(model: Any, recipe: RecipeArguments, blocks: tuple[Any, Any], limits: Limits) -> Computed:
    """The hierarchy of a recipe, of virtual arrays by name, or of one alone."""
    from bigin.targets.zarr.computed import Computed
    from bigin.targets.zarr.layouts import parse_layout

    root = isinstance(model, VirtualArray)
    with default_modes():
        specs = _of_arrays(model, recipe) if root or isinstance(model, Mapping) else _of_recipe(model, recipe)
        for given in blocks:
            unknown = [name for name in given if name not in specs] if isinstance(given, Mapping) else []
            if unknown:
                raise InputError(f"expected chunks and shards of the tensors, got those of {unknown[0]!r}")
        layouts = {
            name: parse_layout(
                name,
                spec.shape,
                spec.dtype,
                *(each.get(name) if isinstance(each, Mapping) else each for each in blocks),
            )
            for name, spec in specs.items()
        }
        return Computed(ModelSpec(specs), layouts, limits, root=root)


def _of_recipe(model: Any, recipe: RecipeArguments) -> dict[str, TensorValues]:
    if not isinstance(model, str | os.PathLike):
        raise InputError(f"expected a recipe, virtual arrays by their names or a virtual array, got {model!r}")
    check_recipe(model)
    chosen, place = with_sources(Chosen(model, recipe.seed, recipe.variables or {}, strict=recipe.strict))
    like = place if recipe.like is None else recipe.like
    if like is None:
        raise InputError("expected like= (--like), a model whose names, shapes and dtypes the arrays have")
    held = read_model(expand(like)).in_dtype(recipe.dtype)
    return dict(sorted(resolve(chosen, held.label, held.tensors)[1].items()))


def _of_arrays(model: Any, recipe: RecipeArguments) -> dict[str, TensorValues]:
    """The specifications of virtual arrays. Of several, each must say its name: those without have equal values."""
    given = [key for key, value in vars(recipe).items() if value not in (None, False)]
    if given:
        raise InputError(f"expected no {given[0]} beside virtual arrays, which have their own; give it with a recipe")
    if isinstance(model, VirtualArray):
        return {model.specification.name: model.specification}
    for name, array in model.items():
        if not isinstance(name, str) or not isinstance(array, VirtualArray):
            raise InputError(f"expected names and virtual arrays, got {name!r} and {type(array).__name__}")
        if not array.specification.name:
            raise InputError(
                f"{name}: expected a virtual array with a name, as two without have the same values; give "
                f"bigin.virtual(..., name={name!r})"
            )
    if not model:
        raise InputError("expected virtual arrays by their names, got none")
    return {name: array.specification for name, array in sorted(model.items())}
