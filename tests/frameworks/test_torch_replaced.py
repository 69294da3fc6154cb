"""Code that draws into the parameters of a model that exists, by the law."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
from torch import nn  # noqa: E402
from torch.nn.init import trunc_normal_  # noqa: E402 (imported by name, as models do)

import bigin  # noqa: E402
import bigin.torch  # noqa: E402


def filled(shape, method, **options):
    tensor = torch.empty(shape)
    bigin.fill(tensor, method, **options)
    return tensor


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10, 4, padding_idx=2)
        self.linear = nn.Linear(8, 4)
        self.rnn = nn.LSTM(4, 3)
        self.convolution = nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("noise", torch.zeros(5))
        self.init_weights()

    def init_weights(self):
        for module in (self.embedding, self.rnn, self.convolution):
            module.reset_parameters()
        trunc_normal_(self.linear.weight, std=0.02)
        with torch.no_grad():
            self.linear.bias[:2].uniform_(-1, 1)
            self.linear.bias[2:] = 0.5
            self.noise.normal_()


def test_the_values_are_those_of_what_is_recorded():
    with bigin.torch.deferred(seed=3) as init:
        expected = Model()
    expected.to_empty(device="cpu")
    bigin.torch.init_(expected, init)
    model = Model()
    with bigin.torch.replaces_init(model, seed=3) as drawn:
        model.init_weights()
    for (name, tensor), (_, other) in zip(model.state_dict().items(), expected.state_dict().items(), strict=True):
        assert torch.equal(tensor, other), name
    assert {spec.name for spec in drawn} == {*dict(model.named_parameters())} | {"noise"}


def test_other_tensors_and_other_code_are_left_alone():
    model, other = nn.Linear(8, 4), nn.Linear(8, 4)
    torch.manual_seed(1)
    expected = torch.randn(3), nn.init.normal_(torch.empty(3)), nn.Linear(8, 4).weight
    torch.manual_seed(1)
    told = pytest.warns(UserWarning, match=r"no parameters \(randn 3, normal 3, uniform 4x8\)")
    with told, bigin.torch.replaces_init(model):
        made = torch.randn(3), nn.init.normal_(torch.empty(3)), other.reset_parameters() or other.weight
        nn.init.constant_(model.weight, 2.0)
        with torch.no_grad():
            model.bias.normal_().mul_(0.5)
    assert all(torch.equal(one, two) for one, two in zip(made, expected, strict=True))
    assert (model.weight == 2).all()
    normal = filled(4, "normal", name="bias")
    assert torch.equal(model.bias, normal * 0.5)
    nn.init.normal_(model.weight)
    assert model.weight.unique().numel() == 32  # torch's own again


def test_a_draw_again_is_another_once_the_values_were_read():
    model = nn.Linear(8, 4, bias=False)
    state = torch.get_rng_state()
    with bigin.torch.replaces_init(model) as drawn, torch.no_grad():
        model.weight.normal_()
        model.weight.normal_()  # in place of the first, which nobody has seen
        while (model.weight.abs() > 1.9).any():  # a loop of rejections ends
            model.weight.normal_()
        torch.rand(4, 8, out=model.weight.data)
        model.weight[:2].normal_()
    assert torch.equal(torch.get_rng_state(), state)
    assert [spec.purpose for spec in drawn[:3]] == ["", "", "draw 2"]
    assert str(drawn[-1]).startswith("normal(), seed 0, name weight, draw ")


def test_a_draw_that_is_copied_whole_into_a_parameter_is_made_in_it():
    model = nn.Linear(8, 4)
    with bigin.torch.replaces_init(model, seed=2), torch.no_grad():
        model.weight.copy_(torch.randn(4, 8))
        model.bias.data[:] = torch.rand(4)
    assert torch.equal(model.weight, filled((4, 8), "normal", seed=2, name="weight"))
    assert torch.equal(model.bias, filled(4, "uniform", seed=2, name="bias"))
    with pytest.warns(UserWarning, match="randn 4x8"), bigin.torch.replaces_init(model, seed=2), torch.no_grad():
        model.weight.copy_(torch.randn(4, 8) * 2)  # another tensor's values


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (
            lambda model: model.weight.data.exponential_(),
            "weight: expected a draw that a method makes, got exponential",
        ),
        (lambda model: nn.init.normal_(model.to("meta").bias), "bias: .* meta device; call to_empty first"),
        (lambda model: nn.init.sparse_(model.weight, 1.5), "weight: .*sparsity"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(code, told):
    model = nn.Linear(8, 4)
    with pytest.raises(bigin.InputError, match=told), bigin.torch.replaces_init(model):
        code(model)


def test_memory_that_comes_later_is_found():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(8, 4))
    with bigin.torch.replaces_init(model, seed=1):
        model.to_empty(device="cpu")
        model[0].reset_parameters()
    expected = filled((4, 8), "kaiming_uniform", a=5**0.5, seed=1, name="0.weight")
    assert torch.equal(model[0].weight, expected)
