"""Presets of whole architectures, each against what the model's own code does to a tiny model, recorded."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install 'bigin[test-models]'"
)
from bigin.recipes.assign import assign  # noqa: E402
from bigin.recipes.check import doubts  # noqa: E402
from bigin.recipes.presets import find_recipe  # noqa: E402
from bigin.recipes.read import read_recipe  # noqa: E402
from bigin.recipes.recipe import Tensor  # noqa: E402
from bigin.spec.model import TensorValues  # noqa: E402
from bigin.spec.tensor import TensorSpec  # noqa: E402
from bigin.torch.configuration import Configuration  # noqa: E402

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 99, "intermediate_size": 40}
MOE = {**SMALL, "num_key_value_heads": 2, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
DELTA = {
    **MOE, "num_hidden_layers": 4, "num_experts": 4, "shared_expert_intermediate_size": 24, "linear_key_head_dim": 8,
    "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "head_dim": 8,
}  # fmt: skip
DEEPSEEK = {
    **SMALL, "first_k_dense_replace": 1, "moe_intermediate_size": 24, "n_routed_experts": 4, "n_group": 2,
    "topk_group": 1, "num_experts_per_tok": 2, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4,
}  # fmt: skip
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4, "vocab_size": 99}
CASES = [
    ("bert", "BertConfig", "BertForPreTraining", SMALL, {}),
    ("bert", "ElectraConfig", "ElectraForMaskedLM", {**SMALL, "embedding_size": 16}, {}),
    ("t5", "T5Config", "T5ForConditionalGeneration", T5, {"d_model": 32, "d_kv": 8}),
    ("t5", "T5Config", "T5ForConditionalGeneration",
     {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}, {"d_model": 32, "d_kv": 8}),
    ("vit", "ViTConfig", "ViTForImageClassification", {**SMALL, "image_size": 32, "patch_size": 8}, {}),
    ("moe", "MixtralConfig", "MixtralForCausalLM", {**MOE, "num_local_experts": 4}, {}),
    ("moe", "Qwen2MoeConfig", "Qwen2MoeForCausalLM",
     {**MOE, "num_experts": 4, "shared_expert_intermediate_size": 24}, {}),
    ("moe", "Qwen3MoeConfig", "Qwen3MoeForCausalLM", {**MOE, "num_experts": 4, "head_dim": 8}, {}),
    ("moe", "DeepseekV3Config", "DeepseekV3ForCausalLM", DEEPSEEK, {}),
    ("mamba2", "Mamba2Config", "Mamba2ForCausalLM",
     {"hidden_size": 32, "num_heads": 8, "head_dim": 8, "state_size": 8, "num_hidden_layers": 2, "vocab_size": 99,
      "n_groups": 1}, {}),
    ("gated-deltanet", "Qwen3NextConfig", "Qwen3NextForCausalLM", DELTA, {}),
    ("llama", "LlamaConfig", "LlamaForCausalLM", SMALL, {}),
    ("gpt2", "GPT2Config", "GPT2LMHeadModel", {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 99},
     {"n_layers": 2}),
]  # fmt: skip


def compared(preset: str, recorded: dict[str, TensorValues], variables: dict[str, Any]) -> list[str]:
    """What a preset says otherwise than the model's own code, and what is probably wrong with it."""
    recipe = read_recipe(find_recipe(preset), variables)
    tensors = [Tensor(name, spec.shape, spec.dtype.name) for name, spec in recorded.items()]
    assignments = assign(recipe, tensors)
    found = [*doubts(recipe, tensors, assignments)]
    for assignment in assignments:
        name, spec, (part,) = assignment.tensor.name, recorded[assignment.tensor.name], assignment.parts
        if isinstance(spec, TensorSpec):
            same = close(spec.distribution, part.distribution) and spec.padding_idx == assignment.rule.padding_idx
        else:
            ours = TensorSpec.parse(part.method, part.parameters, 0, name, spec.shape, spec.dtype)
            filler = ours.plan()()
            made = np.empty(spec.shape, spec.dtype)
            filler(tuple((0, size) for size in spec.shape), made)
            same = np.allclose(made, spec.values, rtol=1e-6, atol=0)
        if not same:
            found.append(f"{name}: {spec} in the model's code, {part.distribution} in the preset")
    return found


def close(one: Any, other: Any) -> bool:
    """Whether two distributions are the same, to the rounding of float32, in which some models compute."""
    if type(one) is not type(other):
        return False
    pairs = zip(dataclasses.astuple(one), dataclasses.astuple(other), strict=True)
    return all(a == b or (isinstance(a, float | int) and math.isclose(a, b, rel_tol=1e-6)) for a, b in pairs)


def recorded_of(config: str, model: str, changes: dict[str, Any]) -> dict[str, TensorValues]:
    getattr(transformers, config)(**changes, architectures=[model]).save_pretrained(".")
    return Configuration(".").specs


@pytest.mark.parametrize(
    ("preset", "config", "model", "changes", "variables"), CASES, ids=[f"{case[0]}-{case[2]}" for case in CASES]
)
def test_a_preset_is_the_models_own_code(preset, config, model, changes, variables):
    assert compared(preset, recorded_of(config, model, changes), variables) == []


def test_another_preset_is_noticed():
    """A comparison must be able to fail."""
    specs = recorded_of("MixtralConfig", "MixtralForCausalLM", {**MOE, "num_local_experts": 4})
    assert compared("moe", specs, {"std": 0.021})
    assert compared("gated-deltanet", specs, {})
