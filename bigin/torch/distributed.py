"""Distributed tensors: each rank fills its own part, and all of them together are what one device would have made."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.regions import Shape
from bigin.jobs.job import FillOptions, Job
from bigin.spec.model import TensorValues
from bigin.spec.part import FlatSliceSpec, RegionSpec
from bigin.spec.spec import Spec
from bigin.spec.tensor import TensorSpec
from bigin.targets.open import open_target
from bigin.torch.partitions import flat_parts, is_gathered, is_partitioned, whole_shape
from bigin.torch.sharding import is_sharded

Pieces = list[range]  # along an axis, the parts of the tensor that a rank holds one after the other


def fill_dtensor(
    dtensor: Any,
    method: str,
    *,
    seed: int = 0,
    name: str = "",
    padding_idx: int | None = None,
    threads: int | None = None,
    max_memory: int | str | None = None,
    **parameters: Any,
) -> Any:
    """Fill this rank's part of a torch DTensor with a method's initial values, and return the DTensor.

    The values are those of the whole tensor on one device, for any mesh and placements: Shard along any dimensions,
    evenly or not, several along one dimension, and Replicate. Nothing is sent between ranks. Fans, std and structure
    come from the global shape. As with torch.nn.init, autograd records nothing.

    Args:
        dtensor: a DTensor, a ShardedTensor, or a parameter that DeepSpeed's ZeRO-3 has partitioned. A plain tensor is
            filled whole.
        method, seed, name, padding_idx, threads, max_memory, **parameters: as in bigin.fill, the same on every rank.

    Returns:
        The same tensor.

    Raises:
        InputError: an argument is invalid, the tensor is Partial, or its local part does not match its placements;
            nothing was changed.

    Example:
        >>> whole = bigin.torch.fill_dtensor(torch.empty(6, 4), "xavier_uniform", seed=1, name="w1")
        >>> part = torch.empty(3, 4)  # what a rank holds; a DTensor says so itself
        >>> _ = bigin.fill(part, "xavier_uniform", seed=1, name="w1", shape=(6, 4), region=(slice(3, 6), slice(0, 4)))
        >>> torch.equal(part, whole[3:])
        True
    """
    limits = Limits.parse(threads, max_memory)
    with default_modes():
        spec = TensorSpec.parse(
            method, parameters, seed, name, whole_shape(dtensor), dtypes.parse_dtype(dtensor.dtype), padding_idx
        )
        for job in part_jobs(dtensor, spec, limits):
            job.fill(FillOptions())
    return dtensor


def part_jobs(tensor: Any, spec: TensorValues, limits: Limits) -> list[Job]:
    """The jobs that fill what of a tensor lies here; raises InputError where one could not, and nothing is changed."""
    if is_partitioned(tensor):
        return jobs_of(list(_partitions(tensor, spec)), limits)
    if not is_distributed(tensor):
        return jobs_of([(tensor, spec)], limits)
    return part_jobs_of(local_parts(tensor), spec, limits)


def _partitions(tensor: Any, spec: TensorValues) -> Iterator[tuple[Any, Spec]]:
    """What of a parameter that ZeRO-3 has cut lies here, each with its values; all of it too, where it is gathered."""
    for part, first in flat_parts(tensor):
        yield part, FlatSliceSpec(spec, first, tuple(part.shape))
    if is_gathered(tensor):
        yield tensor, spec


def part_jobs_of(parts: Sequence[tuple[Any, tuple[slice, ...]]], spec: TensorValues, limits: Limits) -> list[Job]:
    """The same for parts that lie here, each with its region of the whole."""
    return jobs_of([(part, spec_of_part(spec, region)) for part, region in parts], limits)


def jobs_of(pairs: Sequence[tuple[Any, Spec]], limits: Limits) -> list[Job]:
    """The jobs that fill tensors, each with its own values."""
    jobs = []
    for part, what in pairs:
        target = open_target(part)
        job = Job(what, target, limits)
        if job.spec.shape != target.shape:
            raise InputError(f"expected a tensor of shape {job.spec.shape}, got {target.shape}")
        job.check()
        jobs.append(job)
    return jobs


def spec_of_part(spec: TensorValues, region: tuple[slice, ...]) -> Spec:
    """The values of a region of a tensor, which may be all of it."""
    ranges = tuple(range(*axis.indices(size)) for axis, size in zip(region, spec.shape, strict=True))
    whole = all(len(r) == size for r, size in zip(ranges, spec.shape, strict=True))
    return spec if whole else RegionSpec(spec, ranges)


def is_distributed(tensor: Any) -> bool:
    """Whether a tensor is a DTensor or a ShardedTensor."""
    return is_dtensor(tensor) or is_sharded(tensor)


def is_dtensor(tensor: Any) -> bool:
    """Whether a tensor is a DTensor."""
    module = sys.modules.get("torch.distributed.tensor")  # whoever has one has imported it
    return module is not None and isinstance(tensor, module.DTensor)


def local_parts(tensor: Any) -> list[tuple[Any, tuple[slice, ...]]]:
    """What of a DTensor or ShardedTensor lies here, as (part, its region of the whole).

    Of a DTensor, only _StridedShard makes more than one. Raises InputError where it does not say what lies where.
    """
    if is_sharded(tensor):
        return list(_shards(tensor))
    with torch.no_grad():
        local = tensor.to_local()
        coordinate = tensor.device_mesh.get_coordinate()
        if coordinate is None:  # this rank is not of the mesh
            return []
        pieces = local_pieces(tuple(tensor.shape), tensor.device_mesh.shape, coordinate, _placements(tensor))
        expected = tuple(sum(map(len, axis)) for axis in pieces)
        if tuple(local.shape) != expected:
            raise InputError(
                f"expected a local tensor of shape {expected}, as torch cuts {tuple(tensor.shape)} for "
                f"{list(tensor.placements)}, got {tuple(local.shape)}; make it with distribute_tensor"
            )
        return list(_parts(local, pieces))


def _shards(tensor: Any) -> Iterator[tuple[Any, tuple[slice, ...]]]:
    """The shards of a ShardedTensor that lie here, which say where in the whole they are."""
    for shard in tensor.local_shards():
        offsets, sizes = shard.metadata.shard_offsets, tuple(shard.metadata.shard_sizes)
        if tuple(shard.tensor.shape) != sizes:
            raise InputError(
                f"expected a shard of shape {sizes}, as its metadata says, got {tuple(shard.tensor.shape)}"
            )
        region = tuple(slice(offset, offset + size) for offset, size in zip(offsets, sizes, strict=True))
        yield shard.tensor.detach(), region


def _placements(tensor: Any) -> Sequence[Any]:
    """The placements, which must say what elements a rank holds."""
    from torch.distributed.tensor import Replicate, Shard

    for placement in tensor.placements:
        if not isinstance(placement, Shard | Replicate) and not hasattr(placement, "split_factor"):
            raise InputError(
                f"expected placements among Shard and Replicate, got {placement}, whose parts are no elements of the "
                "tensor; redistribute it first"
            )
    order = getattr(getattr(tensor, "_spec", None), "shard_order", None) or ()
    if any(list(entry.mesh_dims) != sorted(entry.mesh_dims) for entry in order):
        raise InputError(f"expected a tensor that is sharded along the mesh's dimensions in turn, got {order}")
    return list(tensor.placements)


def local_pieces(
    shape: Shape, mesh_shape: Sequence[int], coordinate: Sequence[int], placements: Sequence[Any]
) -> list[Pieces]:
    """What a rank holds, for each axis of the tensor: the dimensions of the mesh cut it in turn."""
    pieces = [[range(size)] for size in shape]
    for count, place, placement in zip(mesh_shape, coordinate, placements, strict=True):
        if hasattr(placement, "dim"):
            # _StridedShard cuts as if the mesh's later dimensions had been there first: each of their parts is cut.
            parts = chunks(pieces[placement.dim], getattr(placement, "split_factor", 1))
            pieces[placement.dim] = joined(piece for part in parts for piece in chunks(part, count)[place])
    return pieces


def chunks(pieces: Pieces, count: int) -> list[Pieces]:
    """Cut as torch.chunk cuts: equal parts of ceil(size / count), of which the last ones may be smaller or empty."""
    size = -(-sum(map(len, pieces)) // count)
    return [stretch(pieces, i * size, (i + 1) * size) for i in range(count)]


def stretch(pieces: Pieces, start: int, stop: int) -> Pieces:
    """The elements from `start` to `stop` of pieces that lie one after the other."""
    found = []
    for piece in pieces:
        part = piece[max(0, start) : max(0, stop)]
        if part:
            found.append(part)
        start, stop = start - len(piece), stop - len(piece)
    return found


def joined(pieces: Iterator[range]) -> Pieces:
    """Pieces that continue each other as one."""
    found: Pieces = []
    for piece in pieces:
        if found and found[-1].stop == piece.start:
            found[-1] = range(found[-1].start, piece.stop)
        else:
            found.append(piece)
    return found


def _parts(local: Any, pieces: list[Pieces]) -> Iterator[tuple[Any, tuple[slice, ...]]]:
    places = []
    for axis in pieces:
        stops = itertools.accumulate(map(len, axis))
        places.append([(slice(stop - len(piece), stop), piece) for stop, piece in zip(stops, axis, strict=True)])
    for product in itertools.product(*places):
        region = tuple(slice(piece.start, piece.stop) for _, piece in product)
        yield local[tuple(place for place, _ in product)], region
