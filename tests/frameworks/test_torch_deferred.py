"""A model's own code, recorded on the meta device, and made later: what each parameter is, and that it is the same."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed: pip install 'bigin[test]'")
from torch import nn  # noqa: E402
from torch.nn.init import trunc_normal_  # noqa: E402 (imported by name, as models do)

import bigin  # noqa: E402
import bigin.torch  # noqa: E402
from bigin.spec.layered import LayeredSpec  # noqa: E402
from bigin.spec.tensor import TensorSpec  # noqa: E402
from bigin.spec.values import ValuesSpec  # noqa: E402


def recorded(write, shape=(6, 4), seed=7):
    """The specification of a parameter into which some code writes."""
    with bigin.torch.deferred(seed) as init:
        module = nn.Module()
        module.w = nn.Parameter(torch.empty(shape))
        with torch.no_grad():
            write(module.w)
    return init.specs(module)["w"]


def written_out(w):
    """A truncated normal as timm writes it out."""
    low, high = (2 * 0.5 * (1 + math.erf(x / math.sqrt(2))) - 1 for x in (-2.0, 3.0))
    w.uniform_(low, high).erfinv_().mul_(0.5 * math.sqrt(2)).add_(1.0).clamp_(0.0, 2.5)


def far_bounds(w):
    """The same with bounds that eight deviations reach, beyond what a draw of float32 can tell."""
    low = 2 * 0.5 * (1 + math.erf(-8 / math.sqrt(2))) - 1
    w.uniform_(low, -low).erfinv_().mul_(0.25 * math.sqrt(2)).clamp_(-2.0, 2.0)


@pytest.mark.parametrize(
    ("write", "method", "parameters"),
    [
        (lambda w: trunc_normal_(w, std=0.02), "trunc_normal", {"std": 0.02, "a": -2.0, "b": 2.0}),
        (lambda w: nn.init.orthogonal_(w, 2.0), "orthogonal", {"gain": 2.0}),
        (lambda w: nn.init.sparse_(w, 0.25), "sparse", {"sparsity": 0.25}),
        (lambda w: nn.init.eye_(w), "eye", {}),
        (lambda w: nn.init.xavier_normal_(w, 3.0), "xavier_normal", {"gain": 3.0}),
        (lambda w: w.normal_().mul_(0.5).add_(2), "normal", {"mean": 2.0, "std": 0.5}),
        (lambda w: w.copy_(torch.rand(6, 4) * 2 - 1), "uniform", {"a": -1.0, "b": 1.0}),
        (lambda w: w.copy_((torch.randn(4, 6) / 4).t()), "normal", {"std": 0.25}),
        (lambda w: nn.init.kaiming_normal_(w).neg_(), "normal", {"std": math.sqrt(2) / math.sqrt(4)}),
        (lambda w: nn.init.normal_(w).zero_(), "zeros", {}),
        (lambda w: w.copy_(torch.ones(4) * 0.5), "constant", {"val": 0.5}),
        (written_out, "trunc_normal", {"mean": 1.0, "a": 0.0, "b": 2.5}),
        (far_bounds, "trunc_normal", {"std": 0.25, "a": -2.0, "b": 2.0}),
        (lambda w: w.uniform_(1, 16).log_(), "log_of_uniform", {"a": 1.0, "b": 16.0}),
        (lambda w: w.uniform_(math.log(0.001), math.log(0.1)).exp_(), "log_uniform", {}),
        (lambda w: w.copy_(torch.eye(6, 4).mul_(0).add_(1)), "ones", {}),
    ],
)
def test_a_write_is_a_method(write, method, parameters):
    spec = recorded(write)
    assert isinstance(spec, TensorSpec)
    assert (spec.method, spec.name, spec.seed) == (method, "w", 7)
    for key, value in parameters.items():
        assert spec.parameters[key] == pytest.approx(value, rel=1e-6), key


def test_the_time_step_of_a_state_space_model():
    def write(w):
        dt = torch.exp(torch.rand(16) * (math.log(0.1) - math.log(0.001)) + math.log(0.001)).clamp(min=1e-4)
        w.copy_(dt + torch.log(-torch.expm1(-dt)))

    spec = recorded(write, (16,))
    assert spec.method == "inverse_softplus"
    assert (spec.parameters["a"], spec.parameters["b"]) == (pytest.approx(0.001), pytest.approx(0.1))


@pytest.mark.parametrize(
    "write",
    [
        lambda u: u.log_().mul_(0.5).neg_().exp_().sub_(1.0).log_(),  # RecurrentGemma's
        lambda u: (u.log() / -2).expm1().log(),
    ],
)
def test_the_decay_of_a_recurrent_unit(write):
    spec = recorded(lambda w: w.copy_(write(torch.empty(16).uniform_(0.81, 0.998))), (16,))
    assert spec.method == "ring_decay"
    assert (spec.parameters["a"], spec.parameters["b"]) == (pytest.approx(0.9), pytest.approx(math.sqrt(0.998)))


def test_a_decay_of_another_root_is_refused():
    """A factor that no method has must not become the one that has one."""
    with pytest.raises(bigin.torch.InputError, match="expected values that a method makes"):
        recorded(lambda w: w.uniform_(0.81, 0.998).log_().mul_(-0.25).expm1_().log_(), (16,))


def test_writes_to_views_are_layers_and_the_last_wins():
    def write(w):
        nn.init.normal_(w)
        w[2:4].fill_(3.0)
        w.t()[1].uniform_(5, 6)
        w[5].zero_()

    spec = recorded(write)
    assert isinstance(spec, LayeredSpec)
    assert [part.purpose for part in spec.parts if part.method in ("normal", "uniform")] == ["", "draw 2"]
    values = np.empty((6, 4), np.float32)
    spec.plan()()(((0, 6), (0, 4)), values)
    whole = np.empty((6, 4), np.float32)
    bigin.fill(whole, "normal", seed=7, name="w")
    assert (values[5] == 0).all()
    assert (values[2:4, [0, 2, 3]] == 3).all()
    assert ((values[:5, 1] >= 5) & (values[:5, 1] < 6)).all()
    assert np.array_equal(values[[0, 1, 4]][:, [0, 2, 3]], whole[[0, 1, 4]][:, [0, 2, 3]])
    part = np.empty((3, 2), np.float32)  # any region alone has the same values
    spec.plan()()(((1, 4), (1, 3)), part)
    assert np.array_equal(part, values[1:4, 1:3])
    assert str(type(spec).from_record(spec.record())) == str(spec)


def test_a_row_of_zeros_is_padding():
    with bigin.torch.deferred() as init:
        model = nn.Embedding(10, 4, padding_idx=3)
    assert init.specs(model)["weight"].padding_idx == 3


def test_what_is_computed_is_computed_as_the_model_does():
    with bigin.torch.deferred() as init:
        model = nn.Module()
        model.register_buffer("frequencies", 1.0 / (10000 ** (torch.arange(0, 8, 2).float() / 8)))
        model.register_buffer("given", torch.tensor([1.5, -2.0]))
        steps = [x.item() for x in torch.linspace(0, 1, 3)]
    assert steps == [0.0, 0.5, 1.0]
    assert all(isinstance(spec, ValuesSpec) for spec in init.specs(model).values())
    model.to_empty(device="cpu")
    bigin.torch.init_(model, init)
    assert torch.equal(model.frequencies, 1.0 / (10000 ** (torch.arange(0, 8, 2).float() / 8)))
    assert model.given.tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda w: w.exponential_(), "w: .*exponential"),
        (lambda w: w.copy_(torch.randn(6, 4) @ torch.randn(4, 4)), "w: .*mm"),
        (lambda w: w.normal_().clamp_(-1, 1), "w: .*clamp"),
        (lambda w: None, "w: expected code that initializes it, got none"),
    ],
)
def test_what_no_method_says_is_refused_by_name(write, told):
    with pytest.raises(bigin.InputError, match=told):
        recorded(write)


def test_code_that_looks_at_random_numbers_is_refused():
    with pytest.raises(bigin.InputError, match="asks for the value of a draw"), bigin.torch.deferred():
        torch.rand(3).sum().item() if torch.rand(1).item() > 0.5 else None


def test_a_rule_stands_above_what_is_recorded():
    with bigin.torch.deferred(rules={"bias": "ones"}) as init:
        model = nn.Linear(4, 4)
    assert init.specs(model)["bias"].method == "ones"


class Model(nn.Module):
    """With tied parameters, copies, buffers and a fused matrix."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 8, padding_idx=0)
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.embedding.weight
        self.norm = nn.BatchNorm1d(8)
        self.register_buffer("scale", torch.arange(4) / 4, persistent=False)


def test_a_checkpoint_a_model_in_memory_and_a_stage_have_the_same_bits():
    with bigin.torch.deferred(seed=3) as init:
        model = Model()
    bigin.torch.materialize(model, "out", init)
    held = safetensors.load_file("out/model.safetensors")
    assert not bigin.verify("out").differences
    stage = model.layers.layers[1].to_empty(device="cpu")
    bigin.torch.init_(stage, init)
    for name, tensor in stage.state_dict().items():
        assert torch.equal(tensor, held[f"layers.layers.1.{name}"])
    model.to_empty(device="cpu")
    bigin.torch.init_(model, init)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, held[name if name != "head.weight" else "embedding.weight"]), name
    assert torch.equal(model.scale, torch.arange(4) / 4)
    assert not model.embedding.weight[0].any()


def test_two_models_of_one_context_share_no_values():
    with bigin.torch.deferred() as init:
        actor, critic = nn.Linear(8, 8), nn.Linear(8, 8)
    one, other = (init.specs(model)["weight"] for model in (actor, critic))
    assert (one.name, one.purpose) != (other.name, other.purpose)


def test_torch_is_as_before_afterwards():
    with bigin.torch.deferred():
        nn.Linear(2, 2)
    w = trunc_normal_(torch.empty(100))
    assert w.device.type == "cpu"
    assert len({*w.tolist()}) > 90


def test_weight_norm_begins_with_the_norms_of_its_draw():
    with bigin.torch.deferred(seed=5) as init:
        model = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 6, 3), dim=2)
    model.to_empty(device="cpu")
    bigin.torch.init_(model, init)
    held = dict(model.named_parameters())
    direction = held["parametrizations.weight.original1"].double()
    expected = direction.square().sum((0, 1), keepdim=True).sqrt().float()
    assert torch.allclose(held["parametrizations.weight.original0"], expected, rtol=1e-6)


def test_a_draw_that_is_overwritten_element_by_element_is_gone():
    def write(w):
        w.normal_()
        for row in range(6):
            w[row] = float(row)
        w.mul_(2)

    spec = recorded(write)
    assert isinstance(spec, ValuesSpec)
    assert spec.values[:, 0].tolist() == [0, 2, 4, 6, 8, 10]
