"""Embedding tables that TorchRec shards: begun, trained by two processes, saved, and trained on by one.

    python examples/torchrec_tables.py

It needs torchrec and fbgemm-gpu-cpu; docs/torchrec.md says how they are installed.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

import bigin
import bigin.torch

ROWS, DIM = {"users": 2000, "movies": 500}, {"users": 16, "movies": 8}
SEED, STD = 3, 0.01
SEEN = {"users": np.arange(0, 2000, 5), "movies": np.arange(110)}  # the ids that the data has
BATCH = 50


class Model(torch.nn.Module):
    def __init__(self, tables: Any) -> None:
        super().__init__()
        self.tables = tables
        self.head = torch.nn.Linear(sum(DIM.values()), 1)

    def forward(self, batch: Any) -> torch.Tensor:
        return self.head(self.tables(batch).values())


def sharded(ranks: int) -> Any:
    """The model, its tables cut for so many ranks."""
    from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
    from torchrec.distributed.model_parallel import DistributedModelParallel
    from torchrec.distributed.sharding_plan import column_wise, construct_module_sharding_plan, row_wise, table_wise
    from torchrec.distributed.types import ShardingEnv, ShardingPlan
    from torchrec.modules.embedding_configs import EmbeddingBagConfig
    from torchrec.modules.embedding_modules import EmbeddingBagCollection

    configs = [
        EmbeddingBagConfig(
            name=name,
            num_embeddings=ROWS[name],
            embedding_dim=DIM[name],
            feature_names=[name],
            init_fn=bigin.torch.init_fn("normal", std=STD, seed=SEED, name=name),
        )
        for name in ROWS
    ]
    model = Model(EmbeddingBagCollection(tables=configs, device=torch.device("meta")))
    if ranks == 2:
        cuts = {"users": row_wise(), "movies": column_wise(ranks=[0, 1])}
    else:
        cuts = {"users": table_wise(rank=0), "movies": row_wise()}
    sharder = EmbeddingBagCollectionSharder()
    plan = construct_module_sharding_plan(
        model.tables, cuts, sharder=sharder, local_size=ranks, world_size=ranks, device_type="cpu"
    )
    model = DistributedModelParallel(
        model,
        env=ShardingEnv.from_process_group(dist.group.WORLD),
        device=torch.device("cpu"),
        plan=ShardingPlan({"tables": plan}),
        sharders=[sharder],
    )
    bigin.torch.init_(model, {"head.weight": "xavier_uniform", "head.bias": "zeros", "tables.*": None}, seed=SEED)
    return model


def train(model: Any, rank: int, ranks: int, steps: int) -> None:
    """Steps of stochastic gradient descent; together the ranks see all ids of the data, in turn."""
    from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    for step in range(steps):
        first = (step * ranks + rank) * BATCH
        ids = [torch.from_numpy(np.take(SEEN[name], range(first, first + BATCH), mode="wrap")) for name in ROWS]
        batch = KeyedJaggedTensor(list(ROWS), torch.cat(ids), lengths=torch.ones(2 * BATCH, dtype=torch.int64))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(batch), (ids[0] % 2).float()[:, None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def compare(model: Any, folder: str, who: str) -> None:
    """Hold each part of a table that lies here against the table on disk."""
    tables = {name: value for name, value in model.state_dict().items() if hasattr(value, "local_shards")}
    for path, shards in tables.items():
        name = path.split(".")[-2]
        table = bigin.EmbeddingTable.open(f"{folder}/{name}.npy")
        for shard in shards.local_shards():
            (top, left), (rows, columns) = shard.metadata.shard_offsets, shard.metadata.shard_sizes
            same = np.array_equal(shard.tensor.detach(), table[top : top + rows, left : left + columns])
            part = f"{name}[{top}:{top + rows}, {left}:{left + columns}]"
            print(f"{who}: {part} is {'what the table holds' if same else 'OTHER'}", flush=True)


def rank_main(rank: int, ranks: int, folder: str, steps: int) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting{ranks}", rank=rank, world_size=ranks)
    model, tables = sharded(ranks), {f"*.{name}.weight": f"{folder}/{name}.npy" for name in ROWS}
    if ranks == 1:
        bigin.torch.load_tables(model, tables)
    for turn in range(ranks):
        if turn == rank:
            compare(model, folder, f"rank {rank} of {ranks}")
        dist.barrier()
    train(model, rank, ranks, steps)
    bigin.torch.save_tables(model, tables)
    dist.barrier()
    dist.destroy_process_group()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        tables = {}
        for name in ROWS:
            path = Path(folder, f"{name}.npy")
            tables[name] = bigin.EmbeddingTable.create(path, ROWS[name], DIM[name], "normal", std=STD, seed=SEED)
        torch.multiprocessing.spawn(rank_main, (2, folder, 4), nprocs=2)
        for name, table in tables.items():
            stats = table.stats()
            print(f"{name}: {100 * stats.fraction:.0f}% of rows trained")
        torch.multiprocessing.spawn(rank_main, (1, folder, 2), nprocs=1)
        users = tables["users"]
        cold = users.verify().changed.ids()
        cold = cold[cold >= 1000]  # those that were seen longest ago, say
        print(f"users: {users.reset(cold)} cold rows reset; {100 * users.stats().fraction:.0f}% of rows trained")


if __name__ == "__main__":
    main()
