"""bigin.jax.array: initial values as an array of jax, sharded or not."""

from __future__ import annotations

from typing import Any

import jax

from bigin.api.streams import warn_of_shared_stream
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.text import parse_shape
from bigin.jax.names import JAX
from bigin.jax.places import parse_dtype, parse_sharding, place
from bigin.spec.tensor import TensorSpec


def array(
    shape: Any,
    method: str,
    *,
    sharding: Any = None,
    seed: int = 0,
    name: str | None = None,
    dtype: Any = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    **parameters: Any,
) -> jax.Array:
    """Return a jax array with a method's initial values.

    Each process makes the shards of its devices, one after the other. So neither a host nor a device holds the whole
    array. The values do not depend on the mesh, the shards or the processes: they are those of bigin.fill for the same
    seed, name, method and shape.

    Args:
        shape: shape of the whole array.
        method: a method of jax.nn.initializers, such as "glorot_normal", with its meaning, parameters and defaults; or
            a method that only bigin has. Kernels are (..., in, out): in_axis is -2 and out_axis is -1.
        sharding: a jax.sharding.Sharding, a device, or a PartitionSpec of the mesh that jax.set_mesh has set. By
            default the array is placed as jax.numpy does: on the default device, or on all devices of that mesh.
        seed: an integer from 0 to 2^64 - 1.
        name: the name of the tensor in its model. Tensors with different names have different values.
        dtype: dtype of the values; by default jax's default float.
        threads, max_memory: as in bigin.fill.
        **parameters: the method's.

    Returns:
        The array.

    Raises:
        InputError: an argument is invalid.

    Example:
        >>> w = bigin.jax.array((6, 4), "glorot_uniform", seed=1, name="w1")
        >>> same = np.empty((6, 4), np.float32)
        >>> _ = bigin.fill(same, "xavier_uniform", seed=1, name="w1", in_axis=-2, out_axis=-1)
        >>> bool((w == same).all())
        True
    """
    if isinstance(jax.numpy.zeros(()), jax.core.Tracer):
        raise InputError(
            "expected bigin.jax.array outside of jax.jit, got it inside; call it before, or use bigin.jax.initializer"
        )
    limits, sizes = Limits.parse(threads, max_memory), parse_shape(shape)
    with default_modes():
        own, given = JAX.meaning(method, parameters)
        origin = "unnamed" if name is None else "caller"
        spec = TensorSpec.parse(own, given, seed, name or "", sizes, parse_dtype(dtype), name_from=origin)
        values = place(spec, parse_sharding(sharding, sizes), limits)
    warn_of_shared_stream(values, spec)
    return values
