"""bigin.jax.initializer: methods as functions of a key, a shape and a dtype, as jax, Flax and others call them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from bigin.api.virtual_array import VirtualArray
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.text import parse_shape
from bigin.jax.names import JAX
from bigin.jax.places import aligned, parse_dtype, parse_sharding, place
from bigin.methods.distributions import Constant
from bigin.spec.tensor import TensorSpec

Array = np.ndarray[Any, np.dtype[Any]]
FrozenParameters = tuple[tuple[str, Any], ...]


@dataclass(frozen=True)
class Initializer:
    """A method as an object of jax's Initializer protocol; `bigin.jax.initializer` makes one.

    Two initializers with the same method and parameters are equal, so a program that uses both is compiled once.
    """

    method: str
    parameters: FrozenParameters
    dtype: Any = None

    def __call__(self, key: Any, shape: Any, dtype: Any = None, out_sharding: Any = None) -> jax.Array:
        """The values of a key.

        Args:
            key: a typed key or the uint32 words of one. Its data is the seed.
            shape, dtype: of the array.
            out_sharding: a NamedSharding, or a PartitionSpec of the mesh in force: each shard is made alone.

        Returns:
            The array.
        """
        with default_modes():
            spec = self._spec(shape, dtype)
            spec.plan()
            sharding = parse_sharding(out_sharding, spec.shape) if out_sharding is not None else None
            if isinstance(spec.distribution, Constant):
                value = spec.distribution.value
                return jax.numpy.full(spec.shape, value, spec.dtype, device=sharding)
            words = words_of(key)
            if not isinstance(words, jax.core.Tracer):
                return place(replace(spec, seed=seed_of(np.asarray(words))), sharding, Limits())
        if sharding is None:
            return _called(spec, words)
        if not isinstance(sharding, NamedSharding):
            raise InputError(f"expected a NamedSharding for out_sharding inside jax.jit, got {sharding}")
        return _called_by_shards(spec, words, sharding)

    def _spec(self, shape: Any, dtype: Any = None) -> TensorSpec:
        """What decides the values, but for the seed."""
        kind = parse_dtype(self.dtype if dtype is None else dtype)
        own, given = JAX.meaning(self.method, dict(self.parameters))
        return TensorSpec.parse(own, given, 0, "", parse_shape(shape), kind)

    def __repr__(self) -> str:
        given = "".join(f", {name}={value!r}" for name, value in self.parameters)
        kind = "" if self.dtype is None else f", dtype={self.dtype!r}"
        return f"bigin.jax.initializer({self.method!r}{given}{kind})"


def initializer(method: str, *, dtype: Any = None, **parameters: Any) -> Initializer:
    """Return a method as a jax initializer: a function of (key, shape, dtype, out_sharding).

    Use it in place of the initializers of jax.nn.initializers, in layers of Flax (linen and nnx) and in your own code.
    The key's data is the seed: equal keys give equal values, and different keys give different values. The values are
    those of bigin.jax.array with this seed and no name. Inside jax.jit the values are made on the host when the program
    runs (jax.pure_callback), so the program cannot be exported or differentiated by the key; jax.vmap over keys gives
    each key its own values.

    Args:
        method: a method of jax.nn.initializers, or one that only bigin has, as in bigin.jax.array.
        dtype: the dtype if the caller gives none; by default jax's default float.
        **parameters: the method's.

    Returns:
        The initializer.

    Raises:
        InputError: the method or a parameter is unknown, or its value is wrong.

    Example:
        >>> init = bigin.jax.initializer("normal", stddev=0.02)
        >>> w = init(jax.random.key(7), (6, 4), "bfloat16")
        >>> same = bigin.jax.array((6, 4), "normal", stddev=0.02, seed=7, dtype="bfloat16")
        >>> bool((w == same).all())
        True
    """
    own, given = JAX.meaning(method, parameters)
    TensorSpec.parse(own, given, 0, "", (1, 1), parse_dtype(dtype))
    return Initializer(method, _kept(parameters), dtype)


def _kept(parameters: Mapping[str, Any]) -> FrozenParameters:
    """Parameters as values that can be compared and hashed."""
    return tuple((k, tuple(v) if isinstance(v, list) else v) for k, v in sorted(parameters.items()))


def words_of(key: Any) -> Any:
    """The words of a key, traced where the call is."""
    if isinstance(key, jax.Array) and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key):
        words = jax.random.key_data(key)
    else:
        if not hasattr(key, "dtype") or key.dtype != np.uint32:
            raise InputError(f"expected a key of jax.random.key or jax.random.PRNGKey, got {type(key).__name__}: {key}")
        words = jax.numpy.array(key, copy=True)
    if words.ndim != 1:
        raise InputError(f"expected one key, got an array of shape {words.shape} of words; use jax.vmap for several")
    return words


def seed_of(words: Array) -> int:
    """The seed that the words of a key are.

    Two words, as those of threefry2x32, are the seed, the high one first: jax.random.key(7) is seed 7. Other numbers of
    words are hashed: BLAKE2b with digest_size=8 and person=b"bigin-key" of the words, each little-endian; the digest
    is little-endian, too.
    """
    if len(words) == 2:
        return int(words[0]) << 32 | int(words[1])
    data = np.ascontiguousarray(words, "<u4").tobytes()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8, person=b"bigin-key").digest(), "little")


def _called(spec: TensorSpec, words: Any) -> jax.Array:
    """The whole array, made on the host when the program runs."""
    kind = jax.ShapeDtypeStruct(spec.shape, spec.dtype)
    made: jax.Array = jax.pure_callback(partial(_make, spec), kind, words, vmap_method="expand_dims")
    return made


def _called_by_shards(spec: TensorSpec, words: Any, sharding: NamedSharding) -> jax.Array:
    """The array, each of whose shards is made on the host of its device when the program runs."""
    parts = tuple(sharding.spec) + (None,) * (len(spec.shape) - len(sharding.spec))
    names = [() if part is None else (part,) if isinstance(part, str) else tuple(part) for part in parts]
    sizes = [math.prod(sharding.mesh.shape[name] for name in axis) for axis in names]
    shape = tuple(size // count for size, count in zip(spec.shape, sizes, strict=True))
    kind = jax.ShapeDtypeStruct(shape, spec.dtype)

    def shard(words: Any) -> Any:
        where = [jax.lax.axis_index(axis) if axis else 0 for axis in names]
        numbers = jax.numpy.array(where, np.int32)
        return jax.pure_callback(partial(_make_shard, spec, shape), kind, words, numbers, vmap_method="sequential")

    made: jax.Array = jax.shard_map(
        shard, mesh=sharding.mesh, in_specs=PartitionSpec(), out_specs=sharding.spec, check_vma=False
    )(words)
    return made


def _make(spec: TensorSpec, words: Any) -> Array:
    """The values for each key: the words of keys are along the last axis."""
    keys = np.asarray(words)
    out = aligned((*keys.shape[:-1], *spec.shape), spec.dtype)
    for one in np.ndindex(keys.shape[:-1]):
        _fill(spec, keys[one], tuple(map(range, spec.shape)), out[one])
    return out


def _make_shard(spec: TensorSpec, shape: tuple[int, ...], words: Any, numbers: Any) -> Array:
    """The values of a shard, from its number along each axis."""
    out = aligned(shape, spec.dtype)
    starts = [int(number) * size for number, size in zip(np.asarray(numbers), shape, strict=True)]
    ranges = tuple(range(start, start + size) for start, size in zip(starts, shape, strict=True))
    _fill(spec, np.asarray(words), ranges, out)
    return out


def _fill(spec: TensorSpec, words: Array, ranges: tuple[range, ...], out: Array) -> None:
    with default_modes():
        VirtualArray(replace(spec, seed=seed_of(words)), Limits()).fill_region(ranges, out)
