"""One rank of several processes: models that DeepSpeed's ZeRO-3 has cut hold what one process makes.

    python ranks_zero.py RANK WORLD FILE

The ranks find each other through FILE. A rank prints one line for every case, and ends with 1 at the first that fails.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from ranks import bits, expect
from torch import nn

import bigin
import bigin.torch

SEED = 5
CONFIG: dict[str, Any] = {
    "train_micro_batch_size_per_gpu": 1,
    "zero_optimization": {"stage": 3},
    "zero_allow_untested_optimizer": True,
    "optimizer": {"type": "SGD", "params": {"lr": 0.1}},
}
RULES: dict[Any, Any] = {
    "*.bias": ("uniform", {"a": -0.1, "b": 0.1}),
    "up.weight": "orthogonal",
    nn.Linear: partial(nn.init.trunc_normal_, std=0.02),
    nn.Embedding: "normal",
    "*": "ones",
}


class Model(nn.Module):
    """Tensors that two ranks cut evenly and not, one that leaves a rank with nothing, and tied ones."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6, padding_idx=4)
        self.up = nn.Linear(6, 10)
        self.down = nn.Linear(10, 6, bias=False)
        self.norm = nn.LayerNorm(3)
        self.scale = nn.Parameter(torch.ones(1))
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.down(torch.relu(self.up(self.embedding(x))))).sum() * self.scale.sum()

    def init_weights(self) -> None:
        for name, parameter in self.named_parameters():
            with torch.no_grad():
                if name == "scale":
                    parameter.fill_(3)
                elif name == "norm.bias":
                    parameter.data.zero_()
                elif parameter is self.up.weight:
                    nn.init.xavier_uniform_(parameter)
                elif name == "norm.weight":
                    nn.init.ones_(parameter)
                else:
                    parameter.normal_(std=0.02)


def deepspeed() -> Any:
    """The library, without what it would compile for messages between processes of one machine."""
    import deepspeed as library

    library.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return library


def cut(**more: Any) -> Any:
    library = deepspeed()
    config = {**CONFIG, "zero_optimization": {"stage": 3, **more}}
    with library.zero.Init(config_dict_or_path=config):
        model = Model()
    for parameter in model.parameters():  # what no rank may keep
        parameter.ds_tensor.fill_(7)
    expect(all(parameter.numel() == 0 for parameter in model.parameters()), "every parameter is cut")
    return model


def same(model: Any, expected: dict[str, torch.Tensor], case: str) -> None:
    with deepspeed().zero.GatheredParameters(list(model.parameters())):
        for name, parameter in model.named_parameters():
            expect(torch.equal(bits(parameter), bits(expected[name])), f"{case}: {name}")


def parameters(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def rules() -> None:
    alone = Model()
    bigin.torch.init_(alone, RULES, seed=SEED)
    model = cut()
    bigin.torch.init_(model, RULES, seed=SEED)
    same(model, parameters(alone), "rules")
    print("rules", flush=True)


def filled() -> tuple[Any, Any, Any]:
    """A recording, and what it fills: a model of this process alone, and one that is cut."""
    with bigin.torch.deferred(seed=SEED) as init:
        alone = Model()
    alone.to_empty(device="cpu")
    bigin.torch.init_(alone, init)
    model = cut()
    bigin.torch.init_(model, init)
    return init, alone, model


def recorded() -> None:
    """What deferred recorded, also while the parameters are gathered; nothing is sent in between."""
    init, alone, model = filled()
    same(model, parameters(alone), "recorded")
    model = cut()
    with deepspeed().zero.GatheredParameters(list(model.parameters())):
        bigin.torch.init_(model, init)
        expect(torch.equal(model.up.weight, alone.up.weight), "gathered")
    same(model, parameters(alone), "gathered")
    print("recorded", flush=True)


def replaced() -> None:
    """The model's own code, for parameters that are empty."""
    alone, model = Model(), cut()
    torch.manual_seed(dist.get_rank())  # of which nothing may depend
    for each in (alone, model):
        with bigin.torch.replaces_init(each, seed=SEED):
            each.init_weights()
    same(model, parameters(alone), "replaced")
    for module in (alone.up, alone.embedding):
        with bigin.torch.replaces_init(alone, seed=SEED):
            module.reset_parameters()
    for module in (model.up, model.embedding):  # which looks at shapes and at rows
        given = list(module.parameters())
        with (
            bigin.torch.replaces_init(model, seed=SEED),
            deepspeed().zero.GatheredParameters(given, modifier_rank=0),
        ):
            module.reset_parameters()
    same(model, parameters(alone), "reset")
    print("replaced", flush=True)


def refused() -> None:
    model = cut()
    for code, told in (
        (lambda: model.up.weight.data.mul_(0.5), "up.weight: expected draws and constants in a parameter that ZeRO-3"),
        (lambda: nn.init.normal_(model.up.weight[:5]), "up.weight: expected a draw into all of a parameter that ZeRO"),
    ):
        try:
            with torch.no_grad(), bigin.torch.replaces_init(model, seed=SEED):
                code()
        except bigin.InputError as error:
            expect(told in str(error) and "GatheredParameters" in str(error), str(error))
        else:
            expect(False, f"{told}: was done")
    try:
        bigin.fill(model.up.weight, "normal")
    except bigin.InputError as error:
        expect("bigin.torch.fill_dtensor" in str(error), str(error))
    else:
        expect(False, "an empty tensor was filled")
    try:
        bigin.torch.check(model, RULES)
    except bigin.InputError as error:
        expect("GatheredParameters" in str(error), str(error))
    else:
        expect(False, "empty tensors were checked")
    bigin.torch.fill_dtensor(model.up.weight, "xavier_normal", name="w")
    whole = torch.empty(10, 6)
    bigin.fill(whole, "xavier_normal", name="w")
    with deepspeed().zero.GatheredParameters([model.up.weight]):
        expect(torch.equal(bits(model.up.weight), bits(whole)), "fill_dtensor")
    print("refused", flush=True)


def trained() -> None:
    """The engine takes them over, and its loss is that of one process."""
    _, alone, model = filled()
    engine, *_ = deepspeed().initialize(model=model, config=CONFIG)
    tokens = torch.arange(8)
    loss, expected = engine(tokens), alone(tokens)
    expect(torch.allclose(loss, expected, rtol=1e-5), f"loss {loss} {expected}")
    engine.backward(loss)
    engine.step()
    print("trained", flush=True)


def main(rank: int, world: int, file: Path) -> None:
    torch.set_num_threads(1)
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), DS_ACCELERATOR="cpu")
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=world, timeout=timedelta(seconds=300)
    )
    for case in (rules, recorded, replaced, refused, trained):
        case()
    dist.barrier()  # no rank leaves while another still needs it


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    sys.stdout.flush()
    os._exit(0)  # taking the process groups apart is torch's affair, and was once seen to hang
