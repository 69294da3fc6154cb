"""Managed collisions of TorchRec: ids take the slots of a small table, and slots of evicted ids are initialized anew.

    python examples/torchrec_collisions.py

Two processes on this machine (gloo) hold half of the table each. bigin's init_fn gives an evicted id's slot the values
that it had at the start.
"""

from __future__ import annotations

import socket
from typing import Any

import torch
import torch.distributed as dist
from fbgemm_gpu.split_embedding_configs import EmbOptimType
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.mc_embeddingbag import ManagedCollisionEmbeddingBagCollectionSharder
from torchrec.distributed.mc_modules import ManagedCollisionCollectionSharder
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.sharding_plan import construct_module_sharding_plan, row_wise
from torchrec.distributed.types import ShardingPlan
from torchrec.modules.embedding_configs import EmbeddingBagConfig
from torchrec.modules.embedding_modules import EmbeddingBagCollection
from torchrec.modules.mc_embedding_modules import ManagedCollisionEmbeddingBagCollection
from torchrec.modules.mc_modules import LFU_EvictionPolicy, ManagedCollisionCollection, MCHManagedCollisionModule
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

import bigin
import bigin.torch

ROWS, WIDTH, IDS, RANKS, STEPS = 16, 4, 1000, 2, 8
METHOD = {"method": "normal", "std": 0.01, "seed": 3, "name": "users"}


def model() -> torch.nn.Module:
    """A table of 16 slots for any number of ids."""
    table = EmbeddingBagConfig(
        name="users",
        num_embeddings=ROWS,
        embedding_dim=WIDTH,
        feature_names=["user"],
        init_fn=bigin.torch.init_fn(**METHOD),
    )
    slots = MCHManagedCollisionModule(
        zch_size=ROWS,
        device=torch.device("cpu"),
        eviction_policy=LFU_EvictionPolicy(),
        eviction_interval=1,
        input_hash_size=IDS,  # the first half of the ids is the first rank's
    )
    return torch.nn.Sequential(
        ManagedCollisionEmbeddingBagCollection(
            EmbeddingBagCollection(tables=[table], device=torch.device("meta")),
            ManagedCollisionCollection({"users": slots}, [table]),
        )
    )


def say(line: str) -> None:
    """Prints a line of each rank, from one process: lines of two would run into each other."""
    lines: list[Any] = [None] * RANKS
    dist.all_gather_object(lines, line)
    if dist.get_rank() == 0:
        print(*lines, sep="\n", flush=True)


def train(rank: int, port: int) -> None:
    """Shards the table, and sends it ids that it has not seen."""
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=RANKS)
    whole = model()
    sgd = {"optimizer": EmbOptimType.EXACT_SGD, "learning_rate": 0.5}
    sharder = ManagedCollisionEmbeddingBagCollectionSharder(
        EmbeddingBagCollectionSharder(fused_params=sgd), ManagedCollisionCollectionSharder()
    )
    rows = {"users": row_wise(compute_kernel="fused")}
    plan = construct_module_sharding_plan(
        whole[0], rows, sharder=sharder, local_size=RANKS, world_size=RANKS, device_type="cpu"
    )
    sharded = DistributedModelParallel(
        whole, device=torch.device("cpu"), plan=ShardingPlan({"0": plan}), sharders=[sharder], init_data_parallel=False
    )
    weight = sharded.module[0]._embedding_module.embedding_bags.users.weight
    first, last = rank * ROWS // RANKS, (rank + 1) * ROWS // RANKS
    law = torch.from_numpy(bigin.virtual((ROWS, WIDTH), **METHOD)[first:last])
    assert torch.equal(weight.detach(), law)
    say(f"rank {rank} of {RANKS}: rows {first} to {last - 1} are what the law says")

    trained = again = False
    for step in range(STEPS):
        new = [half + 20 * step + 5 * rank + i for half in (0, IDS // 2) for i in range(3)]
        ids = torch.tensor(new * (step + 1))  # the least frequent ids are evicted: the new ones come more often
        before = (weight.detach() == law).all(1)
        out, _ = sharded(KeyedJaggedTensor(keys=["user"], values=ids, lengths=torch.tensor([len(ids)])))
        now = (weight.detach() == law).all(1)  # the forward pass evicts
        trained, again = trained or not bool(before.all()), again or bool((now & ~before).any())
        out.values().sum().backward()
    assert trained
    assert again
    say(f"rank {rank} of {RANKS}: trained; the rows of evicted ids are what the law says again")
    dist.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(train, (port,), RANKS)
