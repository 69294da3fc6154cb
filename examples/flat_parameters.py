"""Flat parameters, as FullyShardedDataParallel (FSDP1) has them: a rank holds a stretch of several parameters in a row.

    python examples/flat_parameters.py

A rank fills its stretch alone, whatever parameters begin and end in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

import bigin

PARAMETERS = {"up.weight": (300, 70), "up.bias": (300,), "down.weight": (70, 300), "down.bias": (70,)}
RULES = {"weight": "xavier_uniform", "bias": "uniform"}


def fill_flat_parameter(shard: torch.Tensor, start: int, shapes: Mapping[str, tuple[int, ...]], seed: int) -> None:
    """Fill a shard that begins at element `start` of parameters that are flattened and joined."""
    for name, shape in shapes.items():
        size = math.prod(shape)
        first, last = max(0, start), min(size, start + len(shard))  # what of this parameter the shard holds
        if first < last:
            part = shard[first - start : last - start]
            bigin.fill_flat(part, RULES[name.rpartition(".")[2]], shape=shape, offset=first, seed=seed, name=name)
        start -= size


def main() -> None:
    whole = [torch.empty(shape) for shape in PARAMETERS.values()]
    for tensor, name in zip(whole, PARAMETERS, strict=True):
        bigin.fill(tensor, RULES[name.rpartition(".")[2]], seed=1, name=name)
    expected = torch.cat([tensor.flatten() for tensor in whole])
    for ranks in (1, 2, 3, 8):
        size = -(-len(expected) // ranks)
        shards = [torch.zeros(size) for _ in range(ranks)]  # the last one is padded
        for rank, shard in enumerate(shards):
            fill_flat_parameter(shard, rank * size, PARAMETERS, seed=1)
        same = torch.equal(torch.cat(shards)[: len(expected)], expected)
        print(f"{ranks} ranks of {size} elements: {'the same values' if same else 'OTHER VALUES'}")


if __name__ == "__main__":
    main()
