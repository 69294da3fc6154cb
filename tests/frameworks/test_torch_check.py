"""bigin.torch.check: what is planted in a model in memory is found, on several ranks too."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest
from common import few

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
from torch import nn  # noqa: E402

import bigin.torch  # noqa: E402

RULES: dict[Any, Any] = {
    "*.bias": "zeros",
    (nn.Embedding, "weight"): ("normal", {"std": 1.0}),
    nn.Linear: "kaiming_normal",
    nn.Conv2d: "xavier_uniform",
    nn.LayerNorm: "ones",
}


def model(dtype: Any = torch.float32) -> nn.Module:
    """As torch's own functions initialize it."""
    torch.manual_seed(0)
    made = nn.ModuleDict(
        {
            "table": nn.Embedding(500, 64, padding_idx=0),
            "conv": nn.Conv2d(16, 32, 3),
            "up": nn.Linear(64, 256),
            "mid": nn.Linear(256, 256),
            "last": nn.Linear(256, 256),
            "norm": nn.LayerNorm(256),
        }
    ).to(dtype)
    for module in made.values():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)
    return made


def found(made: nn.Module, rules: Any = RULES) -> dict[str, list[str]]:
    return {each.tensor: [f.kind for f in each.findings] for each in bigin.torch.check(made, rules).wrong}


@pytest.mark.parametrize("dtype", few(torch.float32, torch.bfloat16, torch.float64, torch.float16), ids=str)
def test_what_torch_initializes_is_right(dtype):
    assert found(model(dtype)) == {}


def plant(change: Any) -> nn.Module:
    made = model()
    with torch.no_grad():
        change(made)
    return made


@pytest.mark.parametrize(
    "case",
    few(
        ("mid.weight", lambda m: m["mid"].weight.zero_(), "untouched"),
        ("mid.weight", lambda m: m["mid"].weight.fill_(torch.nan), "untouched"),
        ("mid.weight", lambda m: m["mid"].weight.view(torch.int32).random_(), "*"),
        ("mid.weight", lambda m: nn.init.kaiming_uniform_(m["mid"].weight, a=5**0.5), "std"),
        ("up.weight", lambda m: nn.init.kaiming_normal_(m["up"].weight, mode="fan_out"), "std"),
        ("conv.weight", lambda m: nn.init.xavier_normal_(m["conv"].weight), "distribution"),
        ("last.weight", lambda m: m["last"].weight.copy_(m["mid"].weight), "identical"),
        ("mid.weight", lambda m: m["mid"].weight[128:].copy_(m["mid"].weight[:128]), "identical"),
        ("table.weight", lambda m: m["table"].weight.normal_(), "untouched"),
        ("norm.weight", lambda m: m["norm"].weight.zero_(), "untouched"),
        ("up.bias", lambda m: m["up"].bias.uniform_(-0.1, 0.1), "distribution"),
    ),
    ids=lambda case: f"{case[0]} {case[2]}",
)
def test_each_defect_is_found_and_nothing_else(case):
    name, change, kind = case
    wrong = found(plant(change))
    if kind == "untouched" and name == "table.weight":  # the row of padding is drawn
        assert set(wrong) == {name}
        return
    assert set(wrong) == {name}
    assert kind == "*" or wrong[name][0] == kind, wrong


def test_a_recipe_and_what_was_recorded():
    made = model()
    with bigin.torch.deferred(seed=0) as init:
        meta = nn.Sequential(nn.Linear(64, 256), nn.Linear(256, 256))
    real = nn.Sequential(nn.Linear(64, 256), nn.Linear(256, 256))
    assert bigin.torch.check(real, init).right
    nn.init.zeros_(real[0].weight)
    assert [each.tensor for each in bigin.torch.check(real, init).wrong] == ["0.weight"]
    assert meta[0].weight.is_meta
    with open("r.toml", "w") as file:
        file.write('[[rule]]\nmatch = "*"\nmethod = "normal"\nstd = "s"\n[vars]\ns = 1.0\n')
    result = bigin.torch.check(nn.ModuleDict({"table": nn.Embedding(500, 64)}), "r.toml")
    assert result.right
    assert result.by == "r.toml"
    assert not bigin.torch.check(made["table"], "r.toml", variables={"s": 1.2}).right


def test_what_cannot_be_checked_is_refused():
    with torch.device("meta"):
        meta = nn.Linear(3, 4)
    with pytest.raises(bigin.InputError, match="meta device"):
        bigin.torch.check(meta, {"*": "zeros"})
    with pytest.raises(bigin.InputError, match="a rule for every parameter"):
        bigin.torch.check(nn.Linear(3, 4), {"*.bias": "zeros"})
    with pytest.raises(bigin.InputError, match=r"torch\.distributed is initialized"):
        bigin.torch.check(nn.Linear(3, 4), {"*": "zeros"}, replicas=True)


@pytest.mark.slow
def test_replicas_and_shards_of_two_ranks(tmp_path):
    if not torch.distributed.is_available():
        pytest.skip("this torch has no torch.distributed")
    from test_dtensor import run_ranks

    for lines in run_ranks("ranks_check.py", 2, tmp_path / "meeting"):
        assert lines == ["data", "sharded", "replicated"]


def test_a_tensor_is_read_in_parts():
    """Its digest, too: no copy of the whole is made."""
    model = nn.ParameterDict({"w": torch.empty(4096, 2048), "c": torch.empty(8, 8, dtype=torch.complex64)})
    rules = {"w": "normal", "c": "ones"}
    bigin.torch.init_(model, rules)
    assert bigin.torch.check(model, rules).right  # what is made once is there
    tracemalloc.start()
    try:
        assert bigin.torch.check(model, rules, threads=1, max_memory="8MiB").right
        assert tracemalloc.get_traced_memory()[1] < model["w"].nbytes // 2
    finally:
        tracemalloc.stop()
