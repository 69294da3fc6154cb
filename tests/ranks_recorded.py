"""One rank of several processes: a model's own code, recorded or replaced, in models that are sharded in many ways.

    python ranks_recorded.py RANK WORLD FILE

The ranks find each other through FILE. A rank prints one line for every case, and ends with 1 at the first that fails.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ranks import bits, expect
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, fully_shard
from torch.distributed.tensor import DTensor, Shard, distribute_module, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import bigin
import bigin.torch

SEED = 5


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(6, 10)
        self.down = nn.Linear(10, 6)
        self.norm = nn.LayerNorm(6)
        self.steps = nn.Parameter(torch.empty(3))  # fewer elements than ranks
        self.register_buffer("frequencies", 1.0 / (100 ** (torch.arange(0, 6, 2) / 6)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x + self.down(torch.relu(self.up(x)))) * self.steps.sum() + self.frequencies.sum()


class Model(nn.Module):
    """With a tied head, a row of padding, a matrix that is drawn in parts, and every kind of distribution."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6, padding_idx=4)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight
        self.init_weights()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embedding(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))

    def init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, Block):
                self.init_block(module)
        self.norm.reset_parameters()
        nn.init.normal_(self.embedding.weight, std=0.02)

    def init_block(self, block: Block) -> None:
        nn.init.trunc_normal_(block.up.weight, std=0.02)
        nn.init.uniform_(block.up.bias, -0.1, 0.1)
        nn.init.orthogonal_(block.down.weight, 0.5)
        nn.init.zeros_(block.down.bias)
        nn.init.ones_(block.norm.weight)
        with torch.no_grad():
            block.norm.bias.normal_(1.0, 0.5)
            block.steps.uniform_(0.5, 1.0)


class Parts(Model):
    """Draws into views too, which DTensor cannot do itself where they cut a sharded axis."""

    def init_block(self, block: Block) -> None:
        super().init_block(block)
        nn.init.xavier_uniform_(block.up.weight[:5])
        with torch.no_grad():
            block.up.weight[5:].normal_(0.0, 0.02)
            block.down.weight.data.t()[2:4].uniform_(5, 6)

    def init_weights(self) -> None:
        super().init_weights()
        self.embedding.reset_parameters()  # its row of padding is a view


def recorded(kind: Any) -> tuple[Any, dict[str, torch.Tensor]]:
    """A recorded model on the meta device with its recording, and what one process makes."""
    with bigin.torch.deferred(seed=SEED) as init:
        model = kind()
    alone = copy.deepcopy(model).to_empty(device="cpu")
    bigin.torch.init_(alone, init)
    return (model, init), dict(named(alone))


def named(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def local(tensor: Any) -> torch.Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def same(model: Any, expected: dict[str, torch.Tensor], case: str) -> None:
    for name, tensor in named(model):
        whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        expect(torch.equal(bits(whole), bits(expected[name])), f"{case}: {name}")


def fsdp(model: Any, world: int) -> None:
    mesh = init_device_mesh("cpu", (world,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def offloaded(model: Any, world: int) -> None:
    fully_shard(model, mesh=init_device_mesh("cpu", (world,)), offload_policy=CPUOffloadPolicy(pin_memory=False))


def tensor_parallel(model: Any, world: int) -> None:
    mesh = init_device_mesh("cpu", (world,))
    for block in model.blocks:
        parallelize_module(block, mesh, {"up": ColwiseParallel(), "down": RowwiseParallel()})


def both(model: Any, world: int) -> None:
    mesh = init_device_mesh("cpu", (max(1, world // 2), min(2, world)), mesh_dim_names=("dp", "tp"))
    for block in model.blocks:
        parallelize_module(block, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
    fully_shard(model, mesh=mesh["dp"])


def columns(model: Any, world: int) -> None:
    """Every parameter a DTensor, along its last axis."""

    def cut(name: str, module: Any, mesh: Any) -> None:
        for key, parameter in list(module._parameters.items()):
            if parameter is not None and not isinstance(parameter, DTensor):
                whole = torch.empty_like(parameter) if parameter.is_meta else parameter.detach()
                placed = distribute_tensor(whole, mesh, [Shard(parameter.dim() - 1)])
                module.register_parameter(key, nn.Parameter(placed))

    distribute_module(model, init_device_mesh("cpu", (world,)), cut)
    model.head.weight = model.embedding.weight


LAYOUTS: dict[str, Callable[[Any, int], None]] = {
    "fsdp": fsdp,
    "offloaded": offloaded,
    "tensor_parallel": tensor_parallel,
    "both": both,
    "columns": columns,
}


def recordings(world: int) -> None:
    for kind in (Model, Parts):
        for name, shard in LAYOUTS.items():
            (model, init), expected = recorded(kind)
            shard(model, world)
            model.to_empty(device="cpu")
            bigin.torch.init_(model, init)
            same(model, expected, f"{kind.__name__} {name}")
    print("recordings", flush=True)


def stages(rank: int) -> None:
    """A pipeline of two stages, each of which is the model with some layers taken away, sharded or not."""
    (model, init), expected = recorded(Parts)
    stage = copy.deepcopy(model)
    if rank % 2:
        stage.embedding, stage.blocks = None, nn.ModuleDict({"1": stage.blocks[1]})
        expected["head.weight"] = expected["embedding.weight"]
    else:
        stage.head, stage.norm, stage.blocks = None, None, nn.ModuleDict({"0": stage.blocks[0]})
    stage.to_empty(device="cpu")
    bigin.torch.init_(stage, init)
    same(stage, expected, "stage")
    print("stages", flush=True)


def traced_stages(rank: int) -> None:
    """A pipeline that torch traces and splits."""
    from torch.distributed.pipelining import SplitPoint, pipeline

    (model, init), expected = recorded(Model)
    with torch.device("meta"):
        pipe = pipeline(model, (torch.zeros(2, 3, dtype=torch.long),), split_spec={"blocks.1": SplitPoint.BEGINNING})
    expect(pipe.num_stages == 2, "two stages")
    stage = pipe.get_stage_module(rank % 2).to_empty(device="cpu")
    bigin.torch.init_(stage, init)
    expected["head.weight"] = expected["embedding.weight"]
    same(stage, expected, "traced stage")
    print("traced", flush=True)


def replaced(world: int) -> None:
    """replaces_init in models that lie in parts: the code's own draws, and what one process makes of it."""
    for kind in (Model, Parts):
        for name, shard in LAYOUTS.items():
            alone = kind()
            with bigin.torch.replaces_init(alone, seed=SEED):
                alone.init_weights()
            with torch.device("meta"):
                model = kind()
            shard(model, world)
            with torch.no_grad():
                model.to_empty(device="cpu")
                model.head.weight = model.embedding.weight  # to_empty makes them two
                for _, tensor in named(model):
                    local(tensor).fill_(7)
                for block, own in zip(model.blocks, alone.blocks, strict=True):
                    local(block.frequencies).copy_(own.frequencies)
            torch.manual_seed(dist.get_rank())  # of which nothing may depend
            with bigin.torch.replaces_init(model, seed=SEED):
                model.init_weights()
            same(model, dict(named(alone)), f"replaced {kind.__name__} {name}")
    print("replaced", flush=True)


def main(rank: int, world: int, file: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=world, timeout=timedelta(seconds=300)
    )
    recordings(world)
    stages(rank)
    traced_stages(rank)
    replaced(world)
    dist.barrier()  # no rank leaves while another still needs it


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    os._exit(0)  # taking the process groups apart is torch's affair, and was once seen to hang
