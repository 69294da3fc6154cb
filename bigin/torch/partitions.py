"""Parameters that DeepSpeed's ZeRO-3 has cut: each rank holds a slice of the flat tensor, and the tensor is empty."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from bigin.core.errors import InputError
from bigin.core.regions import Shape

GATHER = "deepspeed.zero.GatheredParameters"


def is_partitioned(tensor: Any) -> bool:
    """Whether ZeRO-3 has cut a parameter, which is empty where it is not gathered."""
    return getattr(tensor, "ds_tensor", None) is not None and hasattr(tensor, "ds_shape")


def whole_shape(tensor: Any) -> Shape:
    """The shape of a tensor; of a parameter that is cut, the one that it has when it is gathered."""
    return tuple(tensor.ds_shape if is_partitioned(tensor) else tensor.shape)


def is_gathered(tensor: Any) -> bool:
    """Whether a parameter that is cut has all of its values here, as within GatheredParameters."""
    return tuple(tensor.shape) == tuple(tensor.ds_shape)


def flat_parts(tensor: Any) -> Iterator[tuple[Any, int]]:
    """What of the flat tensor lies here, each with the index of its first element: of a partition, not its padding.

    Raises InputError where the partition is not in memory, or is not what the group of ranks makes it.
    """
    yield flat_part(tensor, tensor.ds_tensor, tensor.ds_process_group)
    secondary = getattr(tensor, "ds_secondary_tensor", None)
    if secondary is not None:  # ZeRO++ keeps a second one, for the ranks of a node
        yield flat_part(tensor, secondary, tensor.ds_zero_param_process_group)


def flat_part(tensor: Any, held: Any, group: Any) -> tuple[Any, int]:
    """What one partition has of the flat tensor, for the ranks of a group."""
    if held.status.name != "AVAILABLE":
        raise InputError(f"expected a partition in memory, got one that is {held.status.name}; gather it with {GATHER}")
    if held.dtype != tensor.dtype or hasattr(held, "ds_quant_scale"):
        raise InputError(
            f"expected a partition in {tensor.dtype}, got {held.dtype}; fill it before it is quantized or converted"
        )
    world, rank = torch.distributed.get_world_size(group), torch.distributed.get_rank(group)
    size, count = held.numel(), tensor.ds_numel
    if size != -(-count // world):
        raise InputError(
            f"expected a partition of {-(-count // world)} elements, as {world} ranks cut {count}, got {size}"
        )
    first = min(rank * size, count)
    return held.detach()[: min(size, count - first)], first
