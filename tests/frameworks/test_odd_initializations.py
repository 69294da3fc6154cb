"""Modules that people write: what their code does is made as it stands, or refused by the parameter's name."""

from __future__ import annotations

import copy
import math
import warnings

import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
pytest.importorskip("scipy", reason="scipy is not installed: pip install 'bigin[test]'")
import architectures
import numpy as np
import torch
import torch.distributed.checkpoint as dcp
from torch import nn

import bigin.torch

MADE, REFUSED = {}, {}


def made(build):
    MADE[build.__name__] = build
    return build


def refused(*words):
    def keep(build):
        REFUSED[build.__name__] = (build, words)
        return build

    return keep


def module(**parts):
    """A module that holds parameters and modules."""
    held = nn.Module()
    for name, part in parts.items():
        setattr(held, name, part)
    return held


def empty(*sizes):
    return nn.Parameter(torch.empty(sizes))


@made
def orthogonal_on_a_slice():
    held = module(w=empty(24, 24))
    nn.init.zeros_(held.w)
    with torch.no_grad():
        nn.init.orthogonal_(held.w[:, :12])
    return held


@made
def draws_with_a_generator():
    generator = torch.Generator()
    generator.manual_seed(torch.initial_seed() % 1000)
    held = module(w=empty(24, 24), z=nn.Parameter(torch.randn(24, 20, generator=generator) * 0.1))
    with torch.no_grad():
        nn.init.normal_(held.w, std=0.02, generator=generator)
        held.w[:6].uniform_(-1, 1, generator=generator)
    return held


@made
def weights_tied_after_a_draw():
    held = module(a=nn.Embedding(50, 16), b=nn.Linear(16, 50, bias=False))
    nn.init.normal_(held.a.weight, std=0.3)
    held.b.weight = held.a.weight
    return held


@made
def operations_on_data():
    held = module(w=empty(24, 24), v=nn.Parameter(torch.empty(3)))
    held.w.data.normal_(0, 1)
    held.w.data.mul_(0.02)
    held.w.data[:, 0] = 0
    held.v.data = torch.randn(24, 8) / math.sqrt(8)
    return held


@made
def copies_from_numpy():
    held = module(w=empty(16, 16))
    held.w.data.copy_(torch.from_numpy(np.linspace(0, 1, 256).reshape(16, 16)))
    return held


@made
def gates_of_recurrent_layers():
    held = module(lstm=nn.LSTM(8, 12, bidirectional=True, proj_size=4), gru=nn.GRU(8, 12))
    for name, parameter in held.named_parameters():
        if "weight_hh" in name and "gru" in name:
            for gate in parameter.data.chunk(3):
                nn.init.orthogonal_(gate)
        if "bias" in name and "lstm" in name:
            parameter.data[12:24].fill_(1.0)
    return held


@made
def attention():
    return nn.MultiheadAttention(16, 4, kdim=8, vdim=4, add_bias_kv=True)


@made
def copies_of_another():
    first, second = nn.Linear(12, 16), nn.Linear(12, 16)
    held = module(first=first, mean=copy.deepcopy(first), second=second)
    for mine, theirs in zip(second.parameters(), first.parameters(), strict=True):
        mine.data.copy_(theirs.data)
    return held


@made
def lazy_layers():
    held = nn.Sequential(nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(4))
    held(torch.zeros(2, 12))
    return held


@made
def each_row_scaled():
    held = module(w=empty(12, 20), v=empty(20, 12))
    nn.init.normal_(held.w)
    nn.init.normal_(held.v)
    with torch.no_grad():
        for row in range(12):
            held.w[row].mul_(1 / (row + 1))
            held.v[:, row].mul_(1 / (row + 1))
    return held


@made
def parts_of_a_fused_matrix():
    """As torchtitan draws the three parts of an attention, joins them, and copies what is joined."""
    q, k, v = (nn.init.trunc_normal_(torch.empty(rows, 12), std=std) for rows, std in ((24, 0.5), (8, 1.0), (8, 2.0)))
    joined = torch.cat([q.view(2, 3, 4, 12), k.view(2, 1, 4, 12), v.view(2, 1, 4, 12)], dim=1).view(-1, 12)
    held = module(w=empty(40, 12), v=empty(40, 12))
    held.w.data.copy_(joined)
    held.v.data.copy_(joined * 0.5)
    return held


@made
def rows_by_number():
    held = module(w=empty(20, 12), v=empty(20, 12), u=empty(12, 20))
    for parameter in held.parameters():
        nn.init.normal_(parameter)
    with torch.no_grad():
        held.w[torch.tensor([1, 5, 7])] = 0.0
        held.v[torch.tensor([2, 3])] = torch.rand(2, 12)
        held.u.index_fill_(1, torch.tensor([0, 4]), 1.0)
    return held


@made
def lists_of_parameters():
    held = nn.Linear(12, 16)
    torch._foreach_mul_([p.data for p in held.parameters()], 0.5)
    flat = nn.utils.parameters_to_vector(held.parameters())
    nn.utils.vector_to_parameters(flat * 3, held.parameters())
    return held


@made
def distributions_and_noise():
    return module(
        w=nn.Parameter(torch.distributions.Normal(0.0, 0.02).sample((20, 12))),
        v=nn.Parameter(torch.eye(16) + torch.randn(16, 16) * 0.01),
    )


@made
def weight_norm():
    return nn.utils.parametrizations.weight_norm(nn.Linear(12, 16))


@made
def a_pass_that_counts_no_statistics():
    """As detection models begin with, to learn the channels of a backbone."""
    held = nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8)).eval()
    with torch.no_grad():
        held(torch.ones(2, 2, 8, 8))
    return held.train()


@refused("w", "mul")
def a_masked_draw():
    return module(w=nn.Parameter(torch.randn(12, 12) * torch.ones(12, 12).tril()))


@refused("w", "across them, as a diagonal")
def a_diagonal():
    held = module(w=nn.Parameter(torch.randn(12, 12)))
    held.w.data.fill_diagonal_(1.0)
    return held


@refused("w", "div")
def rows_of_length_one():
    return module(w=nn.Parameter(nn.functional.normalize(torch.randn(12, 12), dim=1)))


@refused("parametrizations.weight.0._u", "rules={...}")
def spectral_norm():
    return nn.utils.parametrizations.spectral_norm(nn.Linear(12, 16))


@refused("parametrizations.weight.0.base", "rules={...}")
def an_orthogonal_parametrization():
    return nn.utils.parametrizations.orthogonal(nn.Linear(12, 16))


@refused("1.running_mean", "convolution")
def statistics_of_a_batch():
    held = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d())
    held(torch.ones(2, 3, 8, 8))
    return held


@refused("w", "linalg_qr")
def another_decomposition():
    return module(w=nn.Parameter(torch.linalg.qr(torch.randn(12, 12))[0]))


@pytest.mark.parametrize("name", MADE)
def test_what_a_module_does_is_made_as_it_stands(name):
    outcome = architectures.compare(name, MADE[name])
    assert not outcome.problems
    assert outcome.tensors


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_method_says_is_refused_by_the_name_of_the_parameter(name):
    build, (member, *words) = REFUSED[name]
    with bigin.torch.deferred(seed=1) as init:
        held = build()
    held.to_empty(device="cpu")
    with pytest.raises(ValueError, match=f"^{member}: expected ") as error:
        bigin.torch.init_(held, init)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("look", [lambda w: w.detach().numpy(), lambda w: w.tolist(), lambda w: w[0, 0].item()])
def test_code_that_looks_at_a_draw_is_told_whose_it_is(look):
    with bigin.torch.deferred():
        layer = nn.Linear(4, 3)
        with pytest.raises(ValueError, match=r"asks for the value of weight of a Linear, a draw"):
            look(layer.weight)


def test_a_state_dict_whose_hooks_cut_a_matrix_is_read_by_its_own_names():
    class Fused(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Parameter(torch.empty(24, 8))
            parts = [nn.init.normal_(torch.empty(8, 8), std=std) for std in (0.1, 1.0, 10.0)]
            self.qkv.data.copy_(torch.stack([part.view(2, 4, 8) for part in parts], dim=1).view(24, 8))
            self.register_state_dict_post_hook(self.cut)

        @staticmethod
        def cut(module, held, prefix, metadata):
            parts = held.pop(f"{prefix}qkv").view(2, 3, 4, 8).unbind(1)
            held.update({f"{prefix}{name}": part.reshape(8, 8) for name, part in zip("qkv", parts, strict=True)})

    with bigin.torch.deferred(seed=3) as init:
        model = module(inner=Fused())
    model.to_empty(device="cpu")
    bigin.torch.init_(model, init)
    expected = model.state_dict()
    assert set(expected) == {"inner.q", "inner.k", "inner.v"}
    assert init.unsaved() == {"inner.qkv"}
    loaded = {name: torch.zeros_like(held) for name, held in expected.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, that no process group is there
        dcp.load(loaded, storage_reader=bigin.torch.reader(init), no_dist=True)
    assert all(torch.equal(loaded[name], held) for name, held in expected.items())
