"""The signal of a model's own forward and backward pass."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
from torch import nn  # noqa: E402

import bigin  # noqa: E402
import bigin.torch  # noqa: E402
from bigin.cli import cli  # noqa: E402

TINY = {"model_type": "gpt2", "n_layer": 3, "n_embd": 32, "n_head": 4, "vocab_size": 100, "n_positions": 64}


def stack(method, depth=20, size=64):
    layers = (nn.Sequential(nn.Linear(size, size), nn.ReLU()) for _ in range(depth))
    model = nn.Sequential(*layers)
    bigin.torch.init_(model, {"*.bias": "zeros", "*": method})
    return model


def test_the_variances_are_those_of_the_pass():
    model = nn.Sequential(nn.Linear(64, 32, bias=False), nn.Linear(32, 16, bias=False))
    x = torch.randn(50, 64)
    before = [parameter.clone() for parameter in model.parameters()]
    state = torch.get_rng_state()
    first, last = bigin.torch.signal(model, x, seed=3).modules
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(p, q) and p.grad is None for p, q in zip(model.parameters(), before, strict=True))
    assert first.activation == pytest.approx(float(model[0](x).detach().square().mean()), rel=1e-5)
    assert last.activation == pytest.approx(float(model(x).detach().square().mean()), rel=1e-5)
    torch.manual_seed(3)
    begin = torch.randn(50, 16)
    assert last.gradient == pytest.approx(float(begin.square().mean()), rel=1e-5)
    assert first.gradient == pytest.approx(float((begin @ model[1].weight.detach()).square().mean()), rel=1e-5)


def test_a_wrong_gain_vanishes_and_a_right_one_does_not():
    x = torch.randn(64, 64)
    (right,) = bigin.torch.signal(stack("kaiming_normal"), x).conclusions()
    assert right.startswith("0 to 19 (20 blocks): activations steady")
    assert "gradients steady" in right
    (wrong,) = bigin.torch.signal(stack("xavier_normal"), x).conclusions()
    assert "activations vanishing" in wrong
    assert "gradients vanishing" in wrong
    (large,) = bigin.torch.signal(
        stack(("kaiming_normal", {"a": 0.0, "mode": "fan_in"})).double(), 1e3 * x.double()
    ).conclusions()
    assert "steady" in large  # of its own scale
    (large,) = bigin.torch.signal(stack(("normal", {"std": 0.5})), x).conclusions()
    assert "activations exploding" in large


def test_residual_streams_and_attention():
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, norm_first=True, dropout=0.0)
    model = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    result = bigin.torch.signal(model, torch.randn(3, 8, 32), loss=lambda out: out.square().mean())
    assert [block.name for block in result.streams()[0]] == [f"layers.{i}" for i in range(4)]
    attending = [module.name for module in result.modules if module.logits is not None]
    assert attending == [f"layers.{i}.self_attn" for i in range(4)]
    assert "activations steady" in result.conclusions()[0]
    assert "layers.1.self_attn" not in str(result)
    assert "layers.3.self_attn" in str(result)


def test_heads_that_share_their_keys_attend():
    class Attends(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k = nn.Linear(32, 32), nn.Linear(32, 16)

        def forward(self, x):
            q, k = (each(x).unflatten(-1, (-1, 8)).transpose(1, 2) for each in (self.q, self.k))
            return nn.functional.scaled_dot_product_attention(q, k, k, enable_gqa=True)

    (module,) = bigin.torch.signal(nn.Sequential(Attends()), torch.randn(3, 5, 32)).modules[-1:]
    assert module.name == "0"
    assert 0 < module.logits < 1


def test_what_cannot_be_measured_is_one_line():
    with pytest.raises(bigin.InputError, match="meta device"):
        bigin.torch.signal(nn.Linear(2, 2, device="meta"), torch.randn(2, 2))
    with pytest.raises(bigin.InputError, match="gradient can begin at"):
        bigin.torch.signal(nn.ReLU(), torch.randn(2))


def test_a_configuration_of_transformers_from_the_command_line():
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'bigin[test-models]'")
    Path("config.json").write_text(json.dumps({**TINY, "architectures": ["GPT2LMHeadModel"]}))
    done = CliRunner().invoke(cli, ["signal", "--config", "config.json", "--json", "--length", "16"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["conclusions"][0].startswith("transformer.h.0 to transformer.h.2 (3 blocks): activations steady")
    names = {module["name"]: module for module in found["modules"]}
    assert names["transformer.h.1.attn"]["logits"] > 0
    done = CliRunner().invoke(cli, ["signal", "--config", "config.json", "--like", "x"])
    assert done.exit_code == 2
