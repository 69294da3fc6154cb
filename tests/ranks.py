"""One rank of several processes: fills distributed tensors, and holds what it filled against torch's own cuts.

    python ranks.py RANK WORLD FILE

The ranks find each other through FILE. A rank prints one line for every case, and ends with 1 at the first that fails.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.distributed.tensor.placement_types import _StridedShard

import bigin
import bigin.torch

METHODS: list[tuple[str, dict[str, Any]]] = [
    ("normal", {"std": 0.02}),
    ("xavier_uniform", {}),
    ("orthogonal", {}),
    ("sparse", {"sparsity": 0.3}),
]
SHAPES = [(8, 8), (5, 7), (2, 3), (9, 1), (0, 4)]  # even, uneven, with empty parts, and without elements
PLACEMENTS: dict[tuple[int, ...], list[list[Any]]] = {
    (4,): [[Shard(0)], [Shard(1)], [Replicate()]],
    (2, 2): [
        [Shard(0), Shard(1)],
        [Shard(1), Shard(0)],
        [Shard(0), Shard(0)],
        [Shard(1), Shard(1)],
        [Replicate(), Shard(0)],
        [Shard(1), Replicate()],
    ],
}


def expect(fine: bool, what: str) -> None:
    if not fine:
        print(f"rank {dist.get_rank()}: {what}", flush=True)
        sys.exit(1)


def bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().view({2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


def every_cut_holds_what_one_device_makes() -> None:
    for mesh_shape, every in PLACEMENTS.items():
        mesh = init_device_mesh("cpu", mesh_shape)
        for shape in SHAPES:
            for i, (method, parameters) in enumerate(METHODS):
                whole = torch.zeros(shape, dtype=(torch.float32, torch.bfloat16)[i % 2])
                bigin.fill(whole, method, seed=7, name="w", padding_idx=1 if shape[0] > 1 else None, **parameters)
                for placements in every:
                    expected = distribute_tensor(whole, mesh, placements)
                    filled = distribute_tensor(torch.full_like(whole, torch.nan), mesh, placements)
                    bigin.torch.fill_dtensor(
                        filled, method, seed=7, name="w", padding_idx=1 if shape[0] > 1 else None, **parameters
                    )
                    case = f"{method} {shape} on {mesh_shape} {placements}"
                    expect(torch.equal(bits(filled.to_local()), bits(expected.to_local())), case)
    print("cuts", flush=True)


def more_axes_and_no_axis() -> None:
    mesh = init_device_mesh("cpu", (2, 2))
    for shape, placements in [((3, 5, 2, 3), [Shard(2), Shard(1)]), ((7,), [Shard(0), Shard(0)])]:
        whole = torch.zeros(shape)
        bigin.fill(whole, "uniform", name="w")
        filled = bigin.torch.fill_dtensor(distribute_tensor(torch.zeros(shape), mesh, placements), "uniform", name="w")
        expected = distribute_tensor(whole, mesh, placements).to_local()
        expect(torch.equal(filled.to_local(), expected), f"{shape} {placements}")
    scalar = distribute_tensor(torch.zeros(()), mesh, [Replicate(), Replicate()])
    expect(bool(bigin.torch.fill_dtensor(scalar, "ones").to_local() == 1), "a scalar")
    print("axes", flush=True)


def strided_shards() -> None:
    """As a rank of FSDP2 and tensor parallelism holds them; alone, they are several pieces."""
    mesh = init_device_mesh("cpu", (2, 2))
    whole = torch.zeros(10, 6)
    bigin.fill(whole, "xavier_normal", name="w")
    for placements in [
        [_StridedShard(0, split_factor=2), Shard(0)],
        [_StridedShard(0, split_factor=2), Replicate()],
        [_StridedShard(1, split_factor=3), Shard(0)],
    ]:
        rows = whole
        for axis, placement in enumerate(placements):
            if not isinstance(placement, Replicate):
                cut, _ = placement._split_tensor(rows, 2, with_padding=False)
                rows = cut[mesh.get_coordinate()[axis]]
        filled = DTensor.from_local(
            torch.zeros_like(rows), mesh, placements, run_check=False, shape=whole.shape, stride=whole.stride()
        )
        bigin.torch.fill_dtensor(filled, "xavier_normal", name="w")
        expect(torch.equal(filled.to_local(), rows), f"{placements}")
    print("strided", flush=True)


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6, padding_idx=4)
        self.up = nn.Linear(6, 10)
        self.down = nn.Linear(10, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight


RULES: dict[Any, Any] = {
    "*.bias": ("uniform", {"a": -0.1, "b": 0.1}),
    nn.LayerNorm: "ones",
    "up.weight": ("orthogonal", {"gain": "relu"}),
    nn.Linear: "kaiming_uniform",
    nn.Embedding: ("normal", {"std": 0.02}),
}


def sharded_models() -> None:
    """FSDP2 alone, and with tensor parallelism: init_ gives what it gives on one device."""
    plain = Model()
    bigin.torch.init_(plain, RULES, seed=3)
    expected = dict(plain.named_parameters())
    for parallel in (False, True):
        mesh = init_device_mesh("cpu", (2, 2) if parallel else (4,), mesh_dim_names=("dp", "tp")[: 1 + parallel])
        with torch.device("meta"):
            model = Model()
        if parallel:
            parallelize_module(model, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
        fully_shard(model, mesh=mesh["dp"])
        model.to_empty(device="cpu")
        bigin.torch.init_(model, RULES, seed=3)
        for name, parameter in model.named_parameters():
            expect(isinstance(parameter, DTensor), f"{name} is distributed")
            expect(torch.equal(parameter.full_tensor(), expected[name]), f"{name} {parameter.placements}")
    print("models", flush=True)


def what_cannot_be_filled_is_refused() -> None:
    mesh = init_device_mesh("cpu", (4,))
    swapped = distribute_tensor(torch.zeros(8, 8), init_device_mesh("cpu", (2, 2)), [Shard(0), Shard(0)])
    order = swapped._spec.shard_order
    swapped._spec.shard_order = tuple(type(e)(tensor_dim=e.tensor_dim, mesh_dims=e.mesh_dims[::-1]) for e in order)
    for tensor, message in [
        (DTensor.from_local(torch.zeros(4, 4), mesh, [Partial()]), "redistribute it first"),
        (DTensor.from_local(torch.zeros(4, 4), mesh, [Shard(0)], shape=(20, 4), stride=(4, 1)), "distribute_tensor"),
        (swapped, "in turn"),
    ]:
        try:
            bigin.torch.fill_dtensor(tensor, "ones")
        except bigin.InputError as error:
            expect(message in str(error) and "\n" not in str(error), str(error))
        else:
            expect(False, f"{tensor.placements} was filled")
        expect(not tensor.to_local().any(), "nothing was changed")
    try:
        bigin.fill(tensor, "ones")
    except bigin.InputError as error:
        expect("bigin.torch.fill_dtensor" in str(error), str(error))
    print("refused", flush=True)


def main(rank: int, world: int, file: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=world, timeout=timedelta(seconds=600)
    )
    every_cut_holds_what_one_device_makes()
    more_axes_and_no_axis()
    strided_shards()
    sharded_models()
    what_cannot_be_filled_is_refused()
    dist.barrier()  # no rank leaves while another still needs it


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    os._exit(0)  # taking the process groups apart is torch's affair, and was once seen to hang
