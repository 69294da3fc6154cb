"""rules_like against what torch draws: the bounds and moments, and the distribution of its values."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from scipy import stats

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
from torch import nn  # noqa: E402

import bigin  # noqa: E402
import bigin.torch  # noqa: E402
from bigin.methods.distributions import Constant, Normal, Uniform  # noqa: E402
from bigin.torch.modules import assign, members  # noqa: E402

LAYERS = {
    "Linear": lambda: nn.Linear(300, 200),
    "Linear without bias": lambda: nn.Linear(300, 200, bias=False),
    "Bilinear": lambda: nn.Bilinear(70, 20, 60),
    "Conv1d": lambda: nn.Conv1d(40, 100, 5),
    "Conv2d in groups": lambda: nn.Conv2d(40, 100, 5, groups=4),
    "Conv3d": lambda: nn.Conv3d(10, 80, 3),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(40, 100, 5),
    "ConvTranspose2d in groups": lambda: nn.ConvTranspose2d(40, 120, 3, groups=4),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(40, 60, 2),
    "Embedding": lambda: nn.Embedding(300, 50, padding_idx=-3),
    "EmbeddingBag": lambda: nn.EmbeddingBag(300, 50, padding_idx=7),
    "BatchNorm2d": lambda: nn.BatchNorm2d(8),
    "BatchNorm1d without statistics": lambda: nn.BatchNorm1d(8, track_running_stats=False),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(8),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(8, affine=True, track_running_stats=True),
    "LayerNorm": lambda: nn.LayerNorm((3, 4)),
    "GroupNorm": lambda: nn.GroupNorm(2, 8),
    "RMSNorm": lambda: nn.RMSNorm(8),
    "PReLU": lambda: nn.PReLU(5, init=0.1),
    "RNN": lambda: nn.RNN(30, 90, num_layers=2),
    "LSTM": lambda: nn.LSTM(30, 90, bidirectional=True, proj_size=40),
    "GRU": lambda: nn.GRU(30, 90),
    "LSTMCell": lambda: nn.LSTMCell(30, 90),
    "MultiheadAttention": lambda: nn.MultiheadAttention(200, 4, add_bias_kv=True),
    "MultiheadAttention of three sizes": lambda: nn.MultiheadAttention(96, 4, kdim=30, vdim=50, bias=False),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(64, 4, 90),
    "Transformer": lambda: nn.Transformer(48, 4, 1, 1, 90, batch_first=True),
    "AdaptiveLogSoftmaxWithLoss": lambda: nn.AdaptiveLogSoftmaxWithLoss(60, 90, [20, 50]),
    "LazyLinear": lambda: used(nn.LazyLinear(90), torch.zeros(1, 70)),
}


def used(layer, example):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # lazy modules are new
        layer(example)
    return layer


@pytest.mark.parametrize("layer", LAYERS)
def test_every_tensor_is_drawn_as_torch_draws_it(layer):
    torch.manual_seed(20)
    module = LAYERS[layer]()
    rules = bigin.torch.rules_like(module)
    assigned = {member.name: (member, spec) for member, spec in assign(module, rules, 0, None)}
    assert set(assigned) == {member.name for member in members(module)}, "a rule for everything"
    for name, (member, specification) in assigned.items():
        values = member.tensor.detach().double().numpy().copy()
        if specification.padding_idx is not None:
            assert not values[specification.padding_idx].any()
            values = np.delete(values, specification.padding_idx, 0)
        same_distribution(specification.distribution, values.reshape(-1), name)


def same_distribution(distribution, values, name):
    """The exact numbers where there is no chance, and a test that fails by chance once in a thousand where there is."""
    match distribution:
        case Constant(value):
            assert (values == np.float32(value)).all(), name
        case Uniform(low, high):
            assert low == -high
            assert np.abs(values).max() <= high * (1 + 1e-6), name
            assert np.abs(values).max() > high * (1 - 20 / len(values)), name
            assert stats.kstest(values, stats.uniform(low, high - low).cdf).pvalue > 1e-3, name
        case Normal(mean, std):
            assert stats.kstest(values, stats.norm(mean, std).cdf).pvalue > 1e-3, name
        case _:
            raise AssertionError(f"{name}: {distribution}")


def test_known_numbers():
    """What torch documents: 1 / sqrt(fan_in), and for recurrent layers 1 / sqrt(hidden_size)."""
    for module, name, bound in [
        (nn.Linear(100, 7), "weight", 0.1),
        (nn.Linear(100, 7), "bias", 0.1),
        (nn.Conv2d(4, 9, 5), "weight", 0.1),
        (nn.ConvTranspose2d(9, 4, 5), "bias", 0.1),
        (nn.GRU(3, 25), "weight_ih_l0", 0.2),
    ]:
        found = {m.name: s.distribution for m, s in assign(module, bigin.torch.rules_like(module), 0, None)}[name]
        assert math.isclose(found.high, bound, rel_tol=1e-15)
        assert math.isclose(found.low, -bound, rel_tol=1e-15)


def test_a_model_is_filled_by_its_own_rules():
    model = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
    model[1].running_mean.fill_(3)
    bigin.torch.init_(model, bigin.torch.rules_like(model), seed=1)
    assert (model[1].running_mean == 0).all()
    assert 0 < float(model[0].weight.detach().abs().max()) < 8**-0.5 + 1e-7
    tied = nn.ModuleDict({"embedding": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
    tied["head"].weight = tied["embedding"].weight
    assert list(bigin.torch.rules_like(tied)) == ["embedding.weight"]
    with torch.device("meta"):
        assert bigin.torch.rules_like(nn.Linear(10**6, 10**6))["bias"].parameters == {"a": -1e-3, "b": 1e-3}


def test_there_is_no_rule_for_what_is_not_known():
    class Own(nn.Linear):
        def reset_parameters(self):
            nn.init.zeros_(self.weight)

    class Free(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

    model = nn.ModuleDict({"own": Own(2, 2, bias=False), "free": Free(), "known": nn.Linear(2, 2, bias=False)})
    rules = bigin.torch.rules_like(model)
    assert list(rules) == ["known.weight"]
    with pytest.raises(bigin.InputError, match=r"got none for own.weight \(Own\), free.scale \(Free\); add rules"):
        bigin.torch.init_(model, rules)
    bigin.torch.init_(model, {"own.*": "zeros", (Free, "scale"): "ones", **rules})
