"""One rank of several processes: saves tensors that are cut in every way by torch.distributed.checkpoint.

    python ranks_saved.py RANK WORLD FILE

The ranks find each other through FILE. Rank 0 leaves a checkpoint beside it: `saved`, and `saved-safetensors`.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import bigin
import bigin.torch

SHAPES = [(8, 8), (5, 7), (2, 3), (9, 1), (0, 4), (3, 5, 2, 3)]  # even, uneven, with empty parts, without elements
CUTS = [
    ((4,), [Shard(0)]),
    ((4,), [Shard(1)]),
    ((4,), [Replicate()]),
    ((2, 2), [Shard(0), Shard(1)]),
    ((2, 2), [Shard(1), Shard(0)]),
    ((2, 2), [Replicate(), Shard(1)]),
]


def main(rank: int, world: int, file: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=world, timeout=timedelta(seconds=300)
    )
    held: dict[str, DTensor] = {}
    for number, (sizes, placements) in enumerate(CUTS):
        mesh = init_device_mesh("cpu", sizes)
        for shape in SHAPES:
            for dtype in (torch.float32, torch.bfloat16):
                name = f"cut{number}.{'x'.join(map(str, shape))}.{str(dtype).removeprefix('torch.')}"
                held[name] = distribute_tensor(torch.zeros(shape, dtype=dtype), mesh, placements)
                bigin.torch.fill_dtensor(held[name], "normal", seed=7, name=name)
    dcp.save(held, checkpoint_id=file.with_name("saved"))
    whole = {name: tensor for name, tensor in held.items() if tensor.numel()}
    writer = dcp.HuggingFaceStorageWriter(str(file.with_name("saved-safetensors")), save_distributed=True)
    dcp.save(whole, storage_writer=writer)
    dist.barrier()
    print("saved", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    os._exit(0)  # taking the process groups apart is torch's affair, and was once seen to hang
