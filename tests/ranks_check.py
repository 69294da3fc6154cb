"""One rank of two: replicas that differ and shards that are equal are found by bigin.torch.check on every rank.

python ranks_check.py RANK WORLD FILE
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate, distribute_tensor

import bigin.torch

RULES = {"*.bias": "zeros", nn.Linear: "kaiming_normal"}


def model() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Linear(64, 128), nn.Linear(128, 128))
    bigin.torch.init_(made, RULES, seed=1)
    return made


def expect(result: bigin.ModelCheck, wanted: list[tuple[str, str]]) -> None:
    found = [(each.tensor, each.findings[0].text) for each in result.wrong]
    if found != wanted:
        print(f"rank {dist.get_rank()}: {found}", flush=True)
        sys.exit(1)


def data_parallel() -> None:
    """DistributedDataParallel makes replicas equal when it wraps; what a rank changes later is told."""
    wrapped = nn.parallel.DistributedDataParallel(model())
    expect(bigin.torch.check(wrapped, RULES), [])
    with torch.no_grad():
        if dist.get_rank() == 1:
            wrapped.module[1].weight[3, 4] += 1e-3
    told = [("1.weight", "replicas differ: rank 0 from rank 1")]
    expect(bigin.torch.check(wrapped, RULES), told)
    expect(bigin.torch.check(wrapped.module, RULES), [])  # plain tensors, of which nothing says that they are replicas
    expect(bigin.torch.check(wrapped.module, RULES, replicas=True), told)
    print("data", flush=True)


def sharded() -> None:
    """FSDP2: each rank's shard is looked at, and the seed that all ranks had in common is seen."""
    made = model()
    fully_shard(made)
    expect(bigin.torch.check(made, RULES), [])
    torch.manual_seed(5)  # the same on every rank
    with torch.no_grad():
        made[1].weight.to_local().normal_(0, (2 / 128) ** 0.5)
    expect(bigin.torch.check(made, RULES), [("1.weight", "identical shards: those of rank 0 and rank 1")])
    with torch.no_grad():
        made[1].weight.to_local().normal_(0, (2 / 128) ** 0.5 * (2 if dist.get_rank() else 1))
        if dist.get_rank():
            made[0].weight.to_local().zero_()
    result = bigin.torch.check(made, RULES)
    kinds = [(each.tensor, each.findings[0].kind) for each in result.wrong]
    texts = [each.findings[0].text[:6] for each in result.wrong]
    if (kinds, texts) != ([("0.weight", "untouched"), ("1.weight", "std")], ["rank 1", "rank 1"]):
        print(result.wrong, flush=True)
        sys.exit(1)
    print("sharded", flush=True)


def replicated() -> None:
    """Replicate of a DTensor."""
    mesh = init_device_mesh("cpu", (2,))
    made = model()
    whole = distribute_tensor(made[0].weight.detach(), mesh, [Replicate()])
    made[0].weight = nn.Parameter(whole)
    expect(bigin.torch.check(made, RULES), [])
    with torch.no_grad():
        if dist.get_rank():
            made[0].weight.to_local()[0, 0] = 0.5
    expect(bigin.torch.check(made, RULES), [("0.weight", "replicas differ: rank 0 from rank 1")])
    print("replicated", flush=True)


def main(rank: int, world: int, file: Path) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = dist.FileStore(str(file), world)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=timedelta(seconds=120))
    data_parallel()
    sharded()
    replicated()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
