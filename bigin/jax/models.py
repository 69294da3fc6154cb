"""bigin.jax.init: the arrays of a model, from the shapes of its pytree."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import numpy as np
from jax.sharding import PartitionSpec, Sharding

from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.generator import parse_seed
from bigin.core.limits import Limits
from bigin.jax.initializers import Initializer
from bigin.jax.names import JAX
from bigin.jax.places import parse_dtype, parse_sharding, place
from bigin.recipes.glob import Glob, parse_glob
from bigin.recipes.specs import Chosen, resolve
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec

Value = str | tuple[str, Mapping[str, Any]] | Initializer | None
Rules = Mapping[str, Value] | Sequence[tuple[str, Value]]
Leaves = dict[str, Any]  # by name, what has a shape and a dtype
MENTIONED = 10  # arrays that an error about many names


def init(
    abstract: Any,
    rules: Rules | str | os.PathLike[str],
    seed: int | None = None,
    *,
    sharding: Any = None,
    default: Value = None,
    variables: Mapping[str, Any] | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
) -> Any:
    """Return the arrays of a model, each with the initial values of the first rule that matches its name.

    The pytree gives the shapes; the arrays need not exist. A name is the path in the pytree with dots:
    "params.Dense_0.kernel" of Flax linen, "layers.0.weight" of Equinox; what boxes an array (nnx.Param, nn.Partitioned)
    adds nothing. Adding, removing or reordering layers changes no other array.

    Args:
        abstract: a pytree whose leaves have a shape and a dtype, as returned by jax.eval_shape, nnx.eval_shape and
            equinox.filter_eval_shape; or an nnx.State. Other leaves, such as functions, stay unchanged.
        rules: a mapping, or a sequence of pairs, from a pattern of names, such as "*.bias", to a method of bigin.jax, a
            pair of a method and its parameters, a bigin.jax.initializer, or None to leave arrays unchanged. Or a recipe
            (its path, or the name of a recipe that ships with bigin), in which methods and axes have the meaning of
            recipes.
        seed: an integer from 0 to 2^64 - 1; by default 0, or the seed of the recipe.
        sharding: the sharding of every array, as in bigin.jax.array; or a pytree of shardings, each for all arrays
            below it; or a function of an array's name and its leaf. By default the sharding of the leaf, if it has one.
        default: the rule for arrays that no rule matches; without it they are an error.
        variables: variables of a recipe, as in bigin.initialize.
        threads, max_memory: as in bigin.fill.

    Returns:
        The pytree with arrays in place of shapes.

    Raises:
        InputError: an argument is invalid, or an array has no rule.

    Example:
        >>> shapes = {"dense": {"kernel": jax.ShapeDtypeStruct((8, 4), "float32")}}
        >>> params = bigin.jax.init(shapes, {"*.kernel": "glorot_normal"}, seed=1)
        >>> same = bigin.jax.array((8, 4), "glorot_normal", seed=1, name="dense.kernel")
        >>> bool((params["dense"]["kernel"] == same).all())
        True
    """
    limits = Limits.parse(threads, max_memory)
    pairs = list(named(abstract))
    leaves = arrays(pairs)
    with default_modes():
        specs = assigned(leaves, rules, seed, default, variables)
        places = shardings(leaves, sharding)
        where = {}
        for name, spec in specs.items():
            with naming(name):
                spec.plan()
                where[name] = parse_sharding(places[name], spec.shape)
        made = [place(specs[name], where[name], limits) if name in specs else leaf for name, leaf in pairs]
    return jax.tree.unflatten(jax.tree.structure(abstract), made)


def named(tree: Any, is_leaf: Callable[[Any], bool] = lambda node: False) -> Iterator[tuple[str, Any]]:
    """Each leaf with its name: the keys of its path, with dots between them."""
    for path, node in jax.tree_util.tree_flatten_with_path(tree, is_leaf=lambda node: is_box(node) or is_leaf(node))[0]:
        if not is_box(node):
            yield ".".join(map(key_text, path)), node
            continue
        inner = jax.tree_util.tree_flatten_with_path(node, is_leaf=is_leaf)[0]
        for rest, leaf in inner:
            yield ".".join(map(key_text, path if len(inner) == 1 else (*path, *rest))), leaf


def is_box(node: Any) -> bool:
    """Whether it holds an array for Flax: a Variable of nnx, or the metadata of linen."""
    nnx, meta = sys.modules.get("flax.nnx"), sys.modules.get("flax.core.meta")  # whoever has one has imported it
    return (nnx is not None and isinstance(node, nnx.Variable)) or (
        meta is not None and isinstance(node, meta.AxisMetadata)
    )


def key_text(key: Any) -> str:
    """A part of a path: of a mapping, a sequence, or an object with attributes."""
    for attribute in ("key", "idx", "name"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def arrays(pairs: list[tuple[str, Any]]) -> Leaves:
    """The leaves that have a shape and a dtype; raises InputError where two have one name."""
    found: Leaves = {}
    for name, leaf in pairs:
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
            if name in found:
                raise InputError(f"expected a name for each array, got two named {name}; rename a key")
            found[name] = leaf
    if not found:
        raise InputError("expected a pytree with arrays or jax.ShapeDtypeStructs, got none in it")
    return found


def assigned(leaves: Leaves, rules: Any, seed: Any, default: Value, variables: Any) -> dict[str, TensorValues]:
    """What the values of each array are; those that are left as they are are left out. Raises InputError."""
    if isinstance(rules, str | os.PathLike):
        if default is not None:
            raise InputError("expected no default beside a recipe, which has its own: a [default] rule in it")
        told = {name: (dtype_of(name, leaf).name, tuple(leaf.shape)) for name, leaf in leaves.items()}
        return resolve(Chosen(rules, seed, variables or {}), "pytree", told)[1]
    if variables is not None:
        raise InputError("expected variables only for a recipe, got them beside rules")
    pairs = parse_rules(rules)
    key = parse_seed(0 if seed is None else seed)
    specs: dict[str, TensorValues] = {}
    without = []
    for name, leaf in leaves.items():
        value = next((value for pattern, value in pairs if parse(pattern).match(name) is not None), default)
        if value is not None:
            specs[name] = specified(name, leaf, value, key)
        elif not any(parse(pattern).match(name) is not None for pattern, _ in pairs):
            without.append(name)
    if without:
        more = f" and {len(without) - MENTIONED} more" if len(without) > MENTIONED else ""
        raise InputError(
            f"expected a rule for every array, got none for {', '.join(without[:MENTIONED])}{more}; add rules or a "
            "default, or None for what stays"
        )
    return specs


def parse_rules(rules: Any) -> list[tuple[str, Value]]:
    """Pairs of a pattern and what it stands for, checked."""
    pairs = list(rules.items()) if isinstance(rules, Mapping) else rules
    if not isinstance(pairs, list | tuple) or not all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs
    ):
        raise InputError(f"expected rules as a mapping or a sequence of pairs, got {rules!r}")
    for pattern, _ in pairs:
        if not isinstance(pattern, str):
            raise InputError(f'expected a pattern of names such as "*.bias", got {pattern!r}')
        parse(pattern)
    return list(pairs)


@lru_cache(4096)
def parse(pattern: str) -> Glob:
    """A pattern of names."""
    return parse_glob(pattern)


def specified(name: str, leaf: Any, value: Any, seed: int) -> TensorValues:
    """What a rule says of an array."""
    match value:
        case Initializer():
            method, parameters = value.method, dict(value.parameters)
        case str():
            method, parameters = value, {}
        case (str(), Mapping()):
            method, parameters = value
        case _:
            raise InputError(
                "expected a method's name, a pair of a name and a mapping of parameters, a bigin.jax.initializer or "
                f"None, got {value!r}"
            )
    with naming(name):
        own, given = JAX.meaning(method, parameters)
        spec = TensorSpec.parse(own, given, seed, name, tuple(leaf.shape), dtype_of(name, leaf), name_from="hierarchy")
        spec.distribution  # noqa: B018 (raises InputError where the shape does not do)
    return spec


def dtype_of(name: str, leaf: Any) -> np.dtype[Any]:
    """The dtype of a leaf; raises InputError for the keys of random numbers and others that bigin does not fill."""
    with naming(name):
        if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.extended):
            raise InputError(
                f"expected an array of numbers, got {leaf.dtype}; leave it as it is with a rule of None, or take the "
                "parameters alone: nnx.state(model, nnx.Param)"
            )
        return parse_dtype(leaf.dtype)


def shardings(leaves: Leaves, given: Any) -> dict[str, Any]:
    """The sharding of each array: of all, by a function, by a pytree's paths, or its own."""
    if given is None:
        return {name: own_sharding(leaf) for name, leaf in leaves.items()}
    if is_sharding(given):
        return dict.fromkeys(leaves, given)
    if callable(given):
        return {name: given(name, leaf) for name, leaf in leaves.items()}
    stands = dict(named(given, lambda node: node is None or is_sharding(node)))
    found = {}
    for name in leaves:
        parts = name.split(".")
        above = next((path for n in range(len(parts), -1, -1) if (path := ".".join(parts[:n])) in stands), None)
        if above is None:
            raise InputError(f"{name}: expected a sharding for it in the pytree of shardings, got none")
        found[name] = stands[above]
    return found


def is_sharding(value: Any) -> bool:
    """Whether it says by itself where an array lies."""
    return isinstance(value, Sharding | PartitionSpec | jax.Device)


def own_sharding(leaf: Any) -> Any:
    """That of a ShapeDtypeStruct which has one, or of an array that was put somewhere."""
    return getattr(leaf, "sharding", None) if getattr(leaf, "committed", True) else None


class naming:  # noqa: N801 (used as a function)
    """Puts an array's name before what is wrong with it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, InputError) and not str(error).startswith(f"{self.name}: "):
            raise InputError(f"{self.name}: {error}") from None
