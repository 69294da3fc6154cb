"""One rank of several processes: checkpoints that are computed, or written, loaded into models that are sharded.

    python ranks_computed.py RANK WORLD FILE

The ranks find each other through FILE. A rank prints one line for every case, and ends with 1 at the first that fails.
"""

from __future__ import annotations

import copy
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from ranks import bits, expect
from ranks_recorded import LAYOUTS, Model, Parts, local, named, recorded, same
from torch import nn
from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import bigin
import bigin.torch
from bigin.core.dtypes import parse_dtype
from bigin.spec.tensor import TensorSpec

SHAPES = [(8, 8), (5, 7), (2, 3), (9, 1), (0, 4), (3, 5, 2, 3)]  # even, uneven, with empty parts, and without elements
CUTS: list[tuple[tuple[int, ...], list[Any]]] = [
    ((-1,), [Shard(0)]),
    ((-1,), [Shard(1)]),
    ((-1,), [Replicate()]),
    ((2, -1), [Shard(0), Shard(1)]),
    ((2, -1), [Shard(1), Shard(0)]),
    ((2, -1), [Shard(0), Shard(0)]),
    ((2, -1), [Replicate(), Shard(1)]),
]
DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.float8_e4m3fn)
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("normal", {"std": 0.02}),
    ("xavier_uniform", {}),
    ("orthogonal", {}),
    ("sparse", {"sparsity": 0.3}),
]


def scrambled(model: Any, world: int, shard: Any) -> Any:
    """The model, sharded, with memory that holds anything."""
    shard(model, world)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for _, tensor in named(model):
            local(tensor).fill_(7)
    return model


def models(world: int) -> None:
    """The model's own state dict, and the one with plain names that torch makes of it."""
    for kind in (Model, Parts):
        for name, shard in LAYOUTS.items():
            (model, init), expected = recorded(kind)
            scrambled(model, world, shard)
            dcp.load(model.state_dict(), storage_reader=bigin.torch.reader(init))
            same(model, expected, f"{kind.__name__} {name}")
    (model, init), expected = recorded(Model)
    scrambled(model, world, LAYOUTS["fsdp"])
    held = {"model": get_model_state_dict(model)}
    dcp.load(held, storage_reader=bigin.torch.reader(model, init, prefix="model."))
    set_model_state_dict(model, held["model"])
    same(model, expected, "below a prefix")
    print("models", flush=True)


def meta_tensors(world: int) -> None:
    """A state dict of the meta device, to which torch gives memory."""
    (model, init), expected = recorded(Model)
    LAYOUTS["tensor_parallel"](model, world)
    held = model.state_dict()
    dcp.load(held, storage_reader=bigin.torch.reader(init))
    model.load_state_dict(held, assign=True)
    same(model, expected, "meta")
    print("meta", flush=True)


def stages(rank: int) -> None:
    """Each rank loads only the layers of its own stage of a pipeline."""
    (model, init), expected = recorded(Model)
    reader = bigin.torch.reader(model, init)
    stage = copy.deepcopy(model)
    expected["head.weight"] = expected["embedding.weight"]
    if rank % 2:
        stage.embedding, stage.blocks = None, nn.ModuleDict({"1": stage.blocks[1]})
    else:
        stage.head, stage.norm, stage.blocks = None, None, nn.ModuleDict({"0": stage.blocks[0]})
    stage.to_empty(device="cpu")
    dcp.load(stage.state_dict(), storage_reader=reader)
    same(stage, expected, "stage")
    print("stages", flush=True)


def written(world: int, folder: Path) -> None:
    """A checkpoint in many files, loaded by every layout."""
    (model, init), expected = recorded(Model)
    if dist.get_rank() == 0:
        bigin.torch.save_dcp(init, folder, max_shard_size=100)
    dist.barrier()
    for name in ("fsdp", "both", "columns"):
        loading = scrambled(copy.deepcopy(model), world, LAYOUTS[name])
        dcp.load(loading.state_dict(), checkpoint_id=folder)
        same(loading, expected, f"written {name}")
    print("written", flush=True)


def cuts(world: int) -> None:
    """Every cut of every shape holds what one device makes."""
    for sizes, placements in CUTS:
        if world < 4 and len(sizes) > 1:
            continue
        mesh = init_device_mesh("cpu", (world,) if len(sizes) == 1 else (2, world // 2))
        for shape in SHAPES:
            expected, held, specs = {}, {}, {}
            for (method, parameters), dtype in zip(METHODS, DTYPES, strict=True):
                if method == "sparse" and len(shape) != 2:
                    continue
                whole = torch.zeros(shape, dtype=dtype)
                bigin.fill(whole, method, seed=7, name=method, **parameters)
                specs[method] = TensorSpec.parse(method, parameters, 7, method, shape, parse_dtype(dtype))
                expected[method] = distribute_tensor(raw(whole), mesh, placements).to_local()
                part = torch.zeros(expected[method].shape, dtype=dtype)
                held[method] = DTensor.from_local(
                    part, mesh, placements, run_check=False, shape=whole.shape, stride=whole.stride()
                )
            dcp.load(held, storage_reader=bigin.torch.reader(specs))
            for method, tensor in held.items():
                expect(torch.equal(raw(tensor.to_local()), expected[method]), f"{method} {shape} {placements}")
    print("cuts", flush=True)


def raw(tensor: torch.Tensor) -> torch.Tensor:
    """The bits of a tensor, which gloo can send."""
    return (tensor.contiguous().view(torch.uint8) if tensor.element_size() == 1 else bits(tensor)).long()


def main(rank: int, world: int, file: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=world, timeout=timedelta(seconds=300)
    )
    models(world)
    meta_tensors(world)
    stages(rank)
    cuts(world)
    written(world, file.with_name("checkpoint"))
    dist.barrier()  # no rank leaves while another still needs it


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    os._exit(0)  # taking the process groups apart is torch's affair, and was once seen to hang
