"""The recipes that ship: each against the code that it names as its source."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
from common import run

import bigin
from bigin.methods.distributions import Constant, Distribution, Normal, TruncNormal, Uniform
from bigin.recipes.assign import Assignment, assign
from bigin.recipes.check import doubts
from bigin.recipes.presets import FOLDER, find_recipe, outlines, presets
from bigin.recipes.read import read_recipe
from bigin.recipes.recipe import Tensor


def assigned(preset: str, tensors: dict[str, tuple[int, ...]], **variables: Any) -> dict[str, Distribution]:
    recipe = read_recipe(find_recipe(preset), variables)
    found: list[Assignment] = assign(recipe, [Tensor(name, shape, "float32") for name, shape in tensors.items()])
    return {assignment.tensor.name: assignment.parts[0].distribution for assignment in found}


def cut(std: float) -> TruncNormal:
    return TruncNormal(0.0, std, -3 * std, 3 * std)


GPT2 = {
    "wte.weight": (500, 64), "wpe.weight": (32, 64), "h.0.ln_1.weight": (64,), "h.0.ln_1.bias": (64,),
    "h.0.attn.c_attn.weight": (64, 192), "h.0.attn.c_attn.bias": (192,), "h.0.attn.c_proj.weight": (64, 64),
    "h.0.mlp.c_fc.weight": (64, 256), "h.0.mlp.c_proj.weight": (256, 64), "h.0.mlp.c_proj.bias": (64,),
    "ln_f.weight": (64,),
}  # fmt: skip
LLAMA = {
    "model.embed_tokens.weight": (500, 64), "model.layers.3.self_attn.q_proj.weight": (64, 64),
    "model.layers.3.self_attn.o_proj.weight": (64, 64), "model.layers.3.mlp.up_proj.weight": (170, 64),
    "model.layers.3.mlp.down_proj.weight": (64, 170), "model.layers.3.input_layernorm.weight": (64,),
    "lm_head.weight": (500, 64),
}  # fmt: skip
NEOX = {
    "gpt_neox.embed_in.weight": (500, 64), "gpt_neox.layers.3.attention.query_key_value.weight": (192, 64),
    "gpt_neox.layers.3.attention.dense.weight": (64, 64), "gpt_neox.layers.3.attention.dense.bias": (64,),
    "gpt_neox.layers.3.mlp.dense_h_to_4h.weight": (256, 64), "gpt_neox.layers.3.mlp.dense_4h_to_h.weight": (64, 256),
    "gpt_neox.layers.3.input_layernorm.weight": (64,), "embed_out.weight": (500, 64),
}  # fmt: skip
OLMO = {
    "transformer.wte.weight": (500, 64), "transformer.blocks.3.att_proj.weight": (192, 64),
    "transformer.blocks.3.attn_out.weight": (64, 64), "transformer.blocks.3.ff_proj.weight": (512, 64),
    "transformer.blocks.3.ff_out.weight": (64, 256), "transformer.ff_out.weight": (500, 64),
}  # fmt: skip
SMALL = math.sqrt(2 / (5 * 64))


def test_gpt2():
    found = assigned("gpt2", {**GPT2, "h.0.attn.bias": (1, 1, 32, 32)}, n_layers=12)
    residual = Normal(0.0, 0.02 / math.sqrt(2 * 12))
    assert "h.0.attn.bias" not in found  # a mask, and no parameter
    for name, distribution in found.items():
        expected: Distribution = residual if name.endswith("c_proj.weight") else Normal(0.0, 0.02)
        if len(GPT2[name]) == 1:
            expected = Constant(0) if name.endswith("bias") else Constant(1)
        assert distribution == expected, name


def test_llama_and_megatron():
    for preset, variables, residual in (("llama", {}, 0.02), ("megatron", {"n_layers": 32}, 0.02 / math.sqrt(64))):
        found = assigned(preset, LLAMA, **variables)
        for name, distribution in found.items():
            last = name.endswith(("o_proj.weight", "down_proj.weight"))
            norm = len(LLAMA[name]) == 1
            assert distribution == (Constant(1) if norm else Normal(0.0, residual if last else 0.02)), name
    core = {
        "decoder.layers.0.self_attention.linear_proj.weight": (64, 64),
        "decoder.layers.0.mlp.linear_fc1.weight": (9, 64),
    }
    assert list(assigned("megatron", core, n_layers=2).values()) == [Normal(0.0, 0.01), Normal(0.0, 0.02)]


def test_gpt_neox():
    small = assigned("small-init", NEOX, hidden_size=64)
    wang = assigned("wang-init", NEOX, hidden_size=64, n_layers=44)
    for name in NEOX:
        last = name.endswith(("attention.dense.weight", "dense_4h_to_h.weight"))
        if len(NEOX[name]) == 1:
            assert small[name] == wang[name] == Constant(0 if name.endswith("bias") else 1), name
        else:
            assert small[name] == Normal(0.0, SMALL), name
            assert wang[name] == Normal(0.0, 2 / 44 / math.sqrt(64) if last else SMALL), name


def test_olmo():
    found = assigned("olmo", OLMO)
    for name, distribution in found.items():
        std = 1 / math.sqrt(64)
        if name == "transformer.blocks.3.attn_out.weight":
            std = 1 / math.sqrt(2 * 64 * (3 + 1))
        if name == "transformer.blocks.3.ff_out.weight":
            std = 1 / math.sqrt(2 * 256 * (3 + 1))
        assert distribution == cut(std), name
    names = {"model.layers.1.self_attn.o_proj.weight": (64, 64), "model.layers.1.mlp.down_proj.weight": (64, 256)}
    assert list(assigned("olmo", names).values()) == [cut(1 / math.sqrt(256)), cut(1 / math.sqrt(1024))]


def test_mup():
    found = assigned("mup", LLAMA, width=64, base_width=16, std=0.5)
    for name, distribution in found.items():
        expected: Distribution = Normal(0.0, 0.25)
        if len(LLAMA[name]) == 1:
            expected = Constant(1)
        elif "embed" in name:
            expected = Normal(0.0, 0.5)
        elif "lm_head" in name:
            expected = Constant(0)
        assert distribution == expected, name


def test_lora():
    names = {
        "base_model.model.layers.0.q_proj.lora_A.weight": (8, 64), "layer.lora_A": (8, 64),
        "base_model.model.layers.0.q_proj.lora_B.weight": (64, 8), "layer.lora_B": (64, 8),
        "embed.lora_embedding_A.default": (8, 500), "embed.lora_embedding_B.default": (64, 8),
    }  # fmt: skip
    a, a2, b, b2, embedding_a, embedding_b = assigned("lora", names).values()
    assert isinstance(a, Uniform)
    assert (a.high, a2) == (pytest.approx(1 / math.sqrt(64)), a)
    assert b == b2 == embedding_a == Constant(0)
    assert embedding_b == Normal(0.0, 1.0)


def torch_models() -> dict[str, Any]:
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    nn = torch.nn
    torch.manual_seed(0)
    layers = {
        "linear": nn.Linear(400, 300), "conv": nn.Conv2d(16, 40, 5), "deep": nn.Conv3d(8, 30, 3),
        "up": nn.ConvTranspose2d(32, 24, 5), "embedding": nn.Embedding(300, 100), "batchnorm": nn.BatchNorm2d(40),
        "layernorm": nn.LayerNorm(50), "groupnorm": nn.GroupNorm(2, 30), "rmsnorm": nn.RMSNorm(50),
    }  # fmt: skip
    lenet = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.Conv2d(6, 16, 5), nn.Linear(400, 120), nn.Linear(120, 84), nn.Linear(84, 10)
    )
    for layer in lenet:
        nn.init.xavier_uniform_(layer.weight)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of a weight without elements
        layers["empty"] = nn.Linear(0, 7)  # whose bias torch fills with zeros
    return {"torch": nn.ModuleDict(layers), "lenet5": lenet}


@pytest.mark.parametrize("preset", ["torch", "lenet5"])
def test_against_what_torch_draws(preset):
    state = torch_models()[preset].state_dict()
    found = assigned(preset, {name: tuple(value.shape) for name, value in state.items()})
    assert list(found) == list(state)
    for name, distribution in found.items():
        values = state[name].double().flatten()
        if isinstance(distribution, Constant):
            assert (values == distribution.value).all(), name
        elif isinstance(distribution, Uniform):  # the largest of n lies about width / n below the bound
            assert distribution.low == -distribution.high
            slack = 12 * distribution.high / len(values)
            assert distribution.high - slack <= values.abs().max() <= distribution.high * (1 + 1e-6), name
        else:
            assert isinstance(distribution, Normal)
            assert abs(values.std() / distribution.std - 1) < 5 / math.sqrt(2 * len(values)), name


def test_every_preset_is_listed_with_its_source_and_printed():
    listed = run("recipes").stdout
    for name in presets():
        assert f"{name}\n    " in listed
        text = (FOLDER / f"{name}.toml").read_text()
        assert "source = " in text
    assert "n_layers (required)" in listed
    assert run("recipes", "gpt2").stdout == (FOLDER / "gpt2.toml").read_text()
    done = run("recipes", "gpt3", code=2)
    assert done.stderr.startswith("bigin: expected a preset among bert, gated-deltanet")
    with pytest.raises(bigin.InputError, match="expected a recipe's file or the name of a preset, got dict"):
        find_recipe({"*": "zeros"})  # type: ignore[arg-type]


def test_a_presets_name_stands_for_it_whatever_lies_in_the_folder():
    Path("gpt2").mkdir()
    assert find_recipe("gpt2") == FOLDER / "gpt2.toml"
    with pytest.raises(bigin.InputError, match=r"got the folder './gpt2'"):
        find_recipe("./gpt2")
    Path("lora").write_text('[default]\nmethod = "ones"')
    assert find_recipe("lora") == FOLDER / "lora.toml"
    assert find_recipe("./lora") == Path("lora")


def test_errors_call_a_preset_by_its_name_and_suggest_others():
    with pytest.raises(bigin.InputError, match=r"^recipe gpt2, line \d+: vars.n_layers: expected a value"):
        read_recipe(find_recipe("gpt2"))
    with pytest.raises(bigin.InputError, match=r"got 'lama'; did you mean llama\?"):
        find_recipe("lama")


def test_a_home_folder_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    Path("my.toml").write_text('[default]\nmethod = "ones"')
    assert find_recipe("~/my.toml") == Path.cwd() / "my.toml"


def test_every_preset_says_which_models_it_is_for():
    for outline in outlines():
        assert outline.architectures


@pytest.mark.parametrize(("preset", "names", "variables"), [
    ("gpt2", GPT2, {"n_layers": 1}), ("llama", LLAMA, {}), ("olmo", OLMO, {}),
    ("small-init", NEOX, {"hidden_size": 64}),
    ("mup", LLAMA, {"width": 64, "base_width": 8}), ("megatron", LLAMA, {"n_layers": 4}),
    ("wang-init", NEOX, {"hidden_size": 64, "n_layers": 4}),
])  # fmt: skip
def test_a_preset_fits_the_models_that_it_is_for(preset, names, variables):
    recipe = read_recipe(find_recipe(preset), variables)
    tensors = [Tensor(name, shape, "float32") for name, shape in names.items()]
    assert list(doubts(recipe, tensors, assign(recipe, tensors))) == []


def test_megatron_on_gpt2s_names_is_told():
    recipe = read_recipe(find_recipe("megatron"), {"n_layers": 1})
    tensors = [Tensor(name, shape, "float32") for name, shape in GPT2.items()]
    (doubt,) = doubts(recipe, tensors, assign(recipe, tensors))
    assert "rule 1 (*o_proj.weight, *down_proj.weight, *linear_proj.weight, ...) matches no tensor" in doubt
