"""What rules can be: recipes, functions, a dtype; and what parametrizations make of them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed: pip install 'bigin[test]'")
from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations  # noqa: E402

import bigin  # noqa: E402
import bigin.torch  # noqa: E402

RECIPE = """
seed = 7
[vars]
scale = 0.5
[[rule]]
match = "*.bias"
method = "zeros"
[[rule]]
match = "*.weight"
method = "normal"
std = "scale"
"""


def held(model, rules, **options):
    """The parameters that init_ makes; a checkpoint has the same."""
    bigin.torch.materialize(model, "held.safetensors", rules, overwrite=True, **options)
    bigin.torch.init_(model, rules, **options)
    written = safetensors.load_file("held.safetensors")
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, written[name]), name
    return dict(model.named_parameters())


def drawn(shape, method, **options):
    tensor = torch.empty(shape, dtype=options.pop("dtype", torch.float32))
    bigin.fill(tensor, method, **options)
    return tensor


def test_a_recipe_with_variables():
    Path("my.toml").write_text(RECIPE, encoding="utf-8")
    made = held(nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4)), "my.toml", variables={"scale": 0.25})
    assert torch.equal(made["0.weight"], drawn((4, 8), "normal", std=0.25, seed=7, name="0.weight"))
    norm = nn.Sequential(nn.BatchNorm1d(4))
    norm[0].running_mean.fill_(3)
    assert [spec.name for spec in bigin.torch.init_(norm, Path("my.toml"), seed=1)] == ["0.weight", "0.bias"]
    assert (norm[0].running_mean == 3).all()
    with pytest.raises(bigin.InputError, match="variables only for a recipe"):
        bigin.torch.init_(norm, {"*": "ones"}, variables={"scale": 1})
    with pytest.raises(bigin.InputError, match="no default beside a recipe"):
        bigin.torch.init_(norm, "my.toml", default="ones")


def test_another_dtype():
    model = nn.Sequential(nn.Linear(8, 4))
    parameter = model[0].weight
    made = held(model, {"*": "normal"}, dtype="bfloat16", seed=2)
    assert made["0.weight"] is parameter
    assert torch.equal(made["0.weight"], drawn((4, 8), "normal", dtype=torch.bfloat16, seed=2, name="0.weight"))
    with pytest.raises(bigin.InputError, match="expected a dtype of floats"):
        bigin.torch.init_(model, {"*": "ones"}, dtype="int32")
    with pytest.raises(bigin.InputError, match="1e\\+30"):
        bigin.torch.init_(model, {"*": ("constant", {"val": 1e30})}, dtype="float16")
    assert model[0].weight.dtype == torch.bfloat16


def own(w):
    """Somebody's function: a truncated normal that is written out, and a row of ones."""
    w.uniform_(-0.5, 0.5).erfinv_().mul_(2**0.5)
    w[0].fill_(1)


@pytest.mark.parametrize(
    ("function", "method", "parameters"),
    [
        (nn.init.ones_, "ones", {}),
        (bigin.init.ones_, "ones", {}),
        (partial(nn.init.normal_, std=0.02), "normal", {"std": 0.02}),
        (partial(bigin.init.xavier_uniform_, gain=2.0), "xavier_uniform", {"gain": 2.0}),
        (partial(nn.init.kaiming_normal_, nonlinearity="relu"), "kaiming_normal", {"nonlinearity": "relu"}),
        (nn.init.orthogonal_, "orthogonal", {}),
        (lambda w: nn.init.normal_(w).mul_(0.5), "normal", {"std": 0.5}),
    ],
)
def test_a_function_as_a_rule(function, method, parameters):
    made = held(nn.Linear(8, 4, bias=False), {nn.Linear: function}, seed=3)
    assert torch.equal(made["weight"], drawn((4, 8), method, seed=3, name="weight", **parameters))


def test_a_function_of_ones_own_as_a_rule():
    made = held(nn.Linear(8, 4, bias=False), {"weight": own})["weight"]
    assert (made[0] == 1).all()
    assert made[1:].abs().max() < 0.7
    assert torch.equal(held(nn.Linear(8, 4, bias=False), {"weight": own}, dtype="float16")["weight"], made.half())


def test_weight_norm_and_other_parametrizations_have_the_rule_of_what_they_compute():
    rules = {"*bias": "zeros", nn.Linear: "xavier_normal", nn.Module: "ones"}
    model = nn.Sequential(
        parametrizations.weight_norm(nn.Linear(8, 4)), parametrizations.spectral_norm(nn.Linear(8, 8))
    )
    made = held(model, rules, seed=1)
    key = "0.parametrizations.weight.original"
    assert torch.equal(made[key + "1"], drawn((4, 8), "xavier_normal", seed=1, name=key + "1"))
    assert torch.allclose(model[0].weight, made[key + "1"])  # the magnitudes are the norms
    other = "1.parametrizations.weight.original"
    assert torch.equal(made[other], drawn((8, 8), "xavier_normal", seed=1, name=other))
    norm = torch.linalg.matrix_norm(model[1].eval().weight.detach(), 2)
    assert 0.9 < norm < 1.5  # it has begun its power method anew
    assert (held(model, {"*.original0": "ones", **rules})[key + "0"] == 1).all()
    assert torch.equal(held(model, {"*.weight": "xavier_normal", "*": "zeros"}, seed=1)[key + "1"], made[key + "1"])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_weight_norm_of_before():
    model = nn.utils.weight_norm(nn.Conv1d(3, 4, 2))
    bigin.torch.init_(model, {"bias": "zeros", nn.Conv1d: "normal"}, seed=1)
    assert torch.equal(model.weight_v, drawn((4, 3, 2), "normal", seed=1, name="weight_v"))
    assert torch.allclose(model.weight_g.reshape(-1), model.weight_v.flatten(1).norm(dim=1))


def test_a_rule_that_fails_is_named():
    model = nn.Sequential(nn.Linear(8, 4))
    with pytest.raises(bigin.InputError) as told:
        bigin.torch.init_(model, {"*norm*": "ones", nn.Linear: "kaiming_normal", "*.bias": "zeros"})
    assert str(told.value).startswith("0.bias: expected")
    assert "(rule 2, Linear: kaiming_normal); rule 3 ('*.bias') is for it too" in str(told.value)
    assert str(told.value).endswith("put it before rule 2")
    with pytest.raises(bigin.InputError, match=r"which fails: .*boom.*rule 1, 'bias': broken"):
        bigin.torch.init_(nn.Linear(8, 4), {"bias": broken, "*": "ones"})
    with pytest.raises(bigin.InputError, match="a function such as"):
        bigin.torch.init_(model, {"*": nn.Linear})


def test_a_function_whose_values_no_method_makes_is_told_what_a_rule_may_be():
    def squares(w):
        w.copy_(torch.nn.init.normal_(w) ** 2)

    with pytest.raises(bigin.InputError, match="or None to leave the tensor as it is \\(rule 1, 'weight'") as told:
        bigin.torch.init_(nn.Linear(8, 4, bias=False), {"weight": squares})
    assert "deferred" not in str(told.value)
    with bigin.torch.deferred(rules={"weight": squares}) as init:
        model = nn.Linear(8, 4, bias=False)
    with pytest.raises(bigin.InputError, match="a method's name, or None") as told:
        init.specs(model)
    assert "rules={" not in str(told.value)


def broken(w):
    raise RuntimeError("boom")
