"""Two processes fill a distributed tensor, each only its own part, and hold the bits that one process makes.

    python examples/dtensor.py

Nothing is sent while they fill; the parts are gathered afterwards, to compare them.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard, empty

import bigin
import bigin.torch

SHAPE = (1000, 301)
METHODS = {"normal": {"std": 0.02}, "xavier_uniform": {}, "orthogonal": {"gain": "relu"}}


def rank_main(rank: int, meeting: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    for method, parameters in METHODS.items():
        whole = torch.empty(SHAPE)
        bigin.fill(whole, method, seed=1, name="layers.0.weight", **parameters)
        for placement in (Shard(0), Shard(1), Replicate()):
            part = empty(*SHAPE, device_mesh=mesh, placements=[placement])
            bigin.torch.fill_dtensor(part, method, seed=1, name="layers.0.weight", **parameters)
            same = torch.equal(part.full_tensor().view(torch.int32), whole.view(torch.int32))
            if rank == 0:
                local = "x".join(map(str, part.to_local().shape))
                print(f"{method:15} {placement!s:5} {local:>8} on rank 0: {'the same bits' if same else 'OTHER BITS'}")
    dist.barrier()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(rank_main, (str(Path(folder) / "meeting"),), nprocs=2)


if __name__ == "__main__":
    main()
