"""Ranks with tables that TorchRec has sharded, each compared with the whole table. Run by test_torchrec.py.

python torchrec_ranks.py RANKS
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

from torchrec.distributed.embedding import EmbeddingCollectionSharder  # noqa: E402
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder  # noqa: E402
from torchrec.distributed.model_parallel import DistributedModelParallel  # noqa: E402
from torchrec.distributed.sharding_plan import (  # noqa: E402
    column_wise,
    construct_module_sharding_plan,
    data_parallel,
    row_wise,
    table_row_wise,
    table_wise,
)
from torchrec.distributed.types import ShardingEnv, ShardingPlan  # noqa: E402
from torchrec.modules.embedding_configs import DataType, EmbeddingBagConfig, EmbeddingConfig  # noqa: E402
from torchrec.modules.embedding_modules import EmbeddingBagCollection, EmbeddingCollection  # noqa: E402

import bigin  # noqa: E402
import bigin.torch  # noqa: E402

ROWS, DIM = 103, 8
METHOD = {"std": 0.02, "seed": 5}


def plans(ranks: int) -> dict[str, Any]:
    """How tables are cut."""
    last = ranks - 1
    return {
        "row_wise": row_wise(),
        "column_wise": column_wise(ranks=[0, last]),
        "column_wise_here": column_wise(ranks=[last, last]),
        "table_wise": table_wise(rank=last),
        "table_row_wise": table_row_wise(host_index=0),
        "data_parallel": data_parallel(),
    }


class Model(torch.nn.Module):
    def __init__(self, collection: Any) -> None:
        super().__init__()
        self.tables = collection
        self.linear = torch.nn.Linear(4, 4)


def whole(name: str, dtype: str = "float32") -> torch.Tensor:
    table = torch.empty(ROWS, DIM, dtype=getattr(torch, dtype))
    return bigin.fill(table, "normal", name=name, **METHOD) and table


def sharded(kind: str, cuts: dict[str, Any], init: Any, data_type: Any = DataType.FP32) -> Any:
    """A model whose tables are sharded."""
    device = torch.device("meta")
    if kind == "bags":
        configs: Any = [
            EmbeddingBagConfig(num_embeddings=ROWS, embedding_dim=DIM, name=name, feature_names=[f"f_{name}"],
                               init_fn=init(name), data_type=data_type) for name in cuts
        ]  # fmt: skip
        model, sharder = Model(EmbeddingBagCollection(tables=configs, device=device)), EmbeddingBagCollectionSharder()
    else:
        configs = [
            EmbeddingConfig(num_embeddings=ROWS, embedding_dim=DIM, name=name, feature_names=[f"f_{name}"],
                            init_fn=init(name), data_type=data_type) for name in cuts
        ]  # fmt: skip
        model, sharder = Model(EmbeddingCollection(tables=configs, device=device)), EmbeddingCollectionSharder()
    world = dist.get_world_size()
    plan = construct_module_sharding_plan(
        model.tables, cuts, sharder=sharder, local_size=world, world_size=world, device_type="cpu"
    )
    return DistributedModelParallel(
        model, env=ShardingEnv.from_process_group(dist.group.WORLD), device=torch.device("cpu"),
        plan=ShardingPlan({"tables": plan}), sharders=[sharder],
    )  # fmt: skip


def same(tensor: Any, expected: torch.Tensor) -> tuple[bool, int]:
    """Whether what lies here of a table is the whole one's; and how many elements lie here."""
    if not hasattr(tensor, "local_shards"):
        return torch.equal(tensor, expected), tensor.numel()
    equal, count = True, 0
    for shard in tensor.local_shards():
        (top, left), (rows, columns) = shard.metadata.shard_offsets, shard.metadata.shard_sizes
        equal &= torch.equal(shard.tensor, expected[top : top + rows, left : left + columns])
        count += shard.tensor.numel()
    return equal, count


def init(name: str) -> Any:
    return bigin.torch.init_fn("normal", name=name, **METHOD)


def tables_of(model: Any) -> dict[str, Any]:
    return {name.split(".")[-2]: (name, t) for name, t in model.state_dict().items() if name.startswith("tables")}


def rank_main(rank: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks)
    found: dict[str, Any] = {}
    for kind in ("bags", "rows"):
        cuts = plans(ranks)
        if kind == "rows":
            cuts.pop("table_row_wise")
        model = sharded(kind, cuts, init)
        for cut, (_, tensor) in tables_of(model).items():
            found[f"init_fn {kind} {cut}"] = same(tensor, whole(cut))
        specs = bigin.torch.init_(model, {"tables.*": ("normal", {"std": 0.02}), "*": "zeros"}, seed=5)
        found[f"names {kind}"] = sorted(spec.name for spec in specs)
        for cut, (name, tensor) in tables_of(model).items():
            found[f"init_ {kind} {cut}"] = same(tensor, whole(name))
        dist.barrier()
        if rank == 0:
            for cut in cuts:
                bigin.EmbeddingTable.create(f"{folder}/{kind}-{cut}.npy", ROWS, DIM, "normal", name=cut, **METHOD)
        dist.barrier()
        tables = {f"*.{cut}.weight": f"{folder}/{kind}-{cut}.npy" for cut in cuts}
        bigin.torch.load_tables(model, tables)
        for cut, (_, tensor) in tables_of(model).items():
            found[f"load {kind} {cut}"] = same(tensor, whole(cut))
        dist.barrier()  # all have read the files that are written next
        bigin.torch.init_(model, {"tables.*": "ones", "*": None})
        bigin.torch.save_tables(model, tables, sync=False)
        dist.barrier()
        for cut in cuts:
            table = bigin.EmbeddingTable.open(f"{folder}/{kind}-{cut}.npy")
            found[f"save {kind} {cut}"] = bool((table[...] == 1).all()), table.stats().changed
    half = sharded("bags", {"row_wise": row_wise()}, init, DataType.FP16)
    (_, tensor) = tables_of(half)["row_wise"]
    found["init_fn float16"] = same(tensor, whole("row_wise", "float16"))
    Path(f"{folder}/{rank}.json").write_text(json.dumps(found))
    dist.barrier()


def main(ranks: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(rank_main, (ranks, folder), nprocs=ranks)
        print(json.dumps([json.loads(Path(f"{folder}/{rank}.json").read_text()) for rank in range(ranks)]))


if __name__ == "__main__":
    main(int(sys.argv[1]))
