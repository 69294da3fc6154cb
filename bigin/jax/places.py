"""Arrays of jax whose shards are made one by one, where they lie."""

from __future__ import annotations

from typing import Any, cast

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec, Sharding, SingleDeviceSharding

from bigin.api.virtual_array import VirtualArray
from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.limits import Limits
from bigin.core.regions import Shape
from bigin.jax.cuda import CudaShards
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec

ALIGNED = 64  # bytes: a buffer that begins at a multiple of it is taken by jax's CPU devices without a copy
Array = np.ndarray[Any, np.dtype[Any]]


def parse_dtype(dtype: Any) -> np.dtype[Any]:
    """A dtype that bigin fills and jax keeps; jax's default float for None. Raises InputError."""
    if dtype is None:
        dtype = jax.numpy.result_type(float)
    parsed = dtypes.parse_dtype(dtype)
    if jax.dtypes.canonicalize_dtype(parsed) != parsed:
        raise InputError(
            f"expected a dtype of at most 32 bits, got {parsed.name}, which jax makes only after "
            'jax.config.update("jax_enable_x64", True)'
        )
    return parsed


def parse_sharding(sharding: Any, shape: Shape) -> Sharding | None:
    """A sharding for a shape, from a sharding, a device, or a PartitionSpec of the mesh in force; raises InputError."""
    if sharding is None:
        return None
    if isinstance(sharding, jax.Device):
        sharding = SingleDeviceSharding(sharding)
    if isinstance(sharding, PartitionSpec) or (isinstance(sharding, NamedSharding) and not _concrete(sharding.mesh)):
        mesh = _mesh_in_force()
        if mesh.empty:
            raise InputError(f"expected a NamedSharding with its mesh, got {sharding} and no mesh; use jax.set_mesh")
        said = sharding if isinstance(sharding, PartitionSpec) else sharding.spec
        try:
            sharding = NamedSharding(mesh, said)
        except ValueError:
            raise InputError(f"expected axes of the mesh, {', '.join(mesh.axis_names)}, got {said}") from None
    if not isinstance(sharding, Sharding):
        raise InputError(f"expected a jax.sharding.Sharding, a PartitionSpec or a device, got {sharding!r}")
    if isinstance(sharding, NamedSharding) and len(sharding.spec) > len(shape):
        raise InputError(f"expected a sharding of at most {len(shape)} axes for shape {shape}, got {sharding.spec}")
    try:
        sharding.shard_shape(shape)
    except ValueError as error:
        text = " ".join(str(error).split())
        raise InputError(f"expected a sharding that cuts shape {shape} into equal shards: {text}") from None
    return sharding


def _mesh_in_force() -> Any:
    """The mesh of jax.set_mesh; inside jax.jit the one of the program."""
    try:
        return jax.sharding.get_mesh()
    except ValueError:
        return jax.sharding.get_abstract_mesh()


def _concrete(mesh: Any) -> bool:
    return isinstance(mesh, jax.sharding.Mesh)


def place(spec: TensorValues, sharding: Sharding | None, limits: Limits) -> jax.Array:
    """The array: each shard that this process holds is made alone, and once where several devices hold it.

    Without a sharding it lies where jax.numpy puts arrays: on all devices of a mesh that is in force, else on the
    default device.
    """
    if sharding is None and not (mesh := _mesh_in_force()).empty:
        sharding = NamedSharding(mesh, PartitionSpec())
    values = VirtualArray(cast(TensorSpec, spec), limits)  # it uses what all specifications have
    if sharding is None:
        return jax.device_put(made(values, tuple(range(size) for size in spec.shape)))
    shards: dict[Any, list[jax.Device]] = {}
    for device, index in sharding.addressable_devices_indices_map(spec.shape).items():
        ranges = tuple(range(*axis.indices(size)) for axis, size in zip(index or (), spec.shape, strict=True))
        shards.setdefault(ranges, []).append(device)
    cuda = CudaShards(spec, limits)
    arrays: list[jax.Array] = []
    for ranges, devices in shards.items():
        first = cuda.made(devices[0], ranges)
        kept = made(values, ranges) if first is None else first
        put = [jax.device_put(kept, device) for device in devices]
        if devices[0].platform != "cpu":
            jax.block_until_ready(put)  # the next shard is made when this one has left the host
        arrays += put
    return jax.make_array_from_single_device_arrays(spec.shape, sharding, arrays, dtype=spec.dtype)


def made(values: VirtualArray, ranges: tuple[range, ...]) -> Array:
    """A region, in memory that jax need not copy."""
    out = aligned(tuple(map(len, ranges)), values.dtype)
    values.fill_region(ranges, out)
    return out


def aligned(shape: Shape, dtype: np.dtype[Any]) -> Array:
    """An array in memory that begins at a multiple of 64 bytes."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + ALIGNED, np.uint8)
    first = -raw.ctypes.data % ALIGNED
    return raw[first : first + size].view(dtype).reshape(shape)
