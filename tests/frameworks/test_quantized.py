"""Dummies of quantized checkpoints: transformers loads them as they lie there, and what they compute is finite."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bigin

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install 'bigin[test-models]'"
)
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed: pip install 'bigin[test]'")

TINY = {
    "hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
    "num_hidden_layers": 2, "vocab_size": 50, "dtype": "bfloat16",
}  # fmt: skip


def written(model: Any, tensors: dict[str, Any], quantization: dict[str, Any]) -> None:
    """A quantized checkpoint in the folder `like`, of zeros."""
    Path("like").mkdir()
    safetensors.save_file({name: torch.zeros_like(t) for name, t in tensors.items()}, "like/model.safetensors")
    said = model.config.to_dict() | {"architectures": [type(model).__name__], "quantization_config": quantization}
    Path("like/config.json").write_text(json.dumps(said))


def loaded(quantization: Any) -> Any:
    """What from_pretrained loads, with nothing missing, unexpected or newly initialized, and it computes numbers."""
    model, told = transformers.AutoModelForCausalLM.from_pretrained(
        "out", output_loading_info=True, quantization_config=quantization
    )
    assert not any(told.values()), told
    with torch.no_grad():
        logits = model(torch.arange(8)[None]).logits
    assert torch.isfinite(logits).all()
    assert logits.std() > 0
    return model


@pytest.mark.slow
def test_experts_in_mxfp4():
    config = transformers.GptOssConfig(**TINY, num_local_experts=4, num_experts_per_tok=2)
    model = transformers.GptOssForCausalLM._from_config(config)
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            experts, inner, outer = tensor.shape
            tensors[f"{name}_blocks"] = torch.empty(experts, outer, inner // 32, 16, dtype=torch.uint8)
            tensors[f"{name}_scales"] = torch.empty(experts, outer, inner // 32, dtype=torch.uint8)
        else:
            tensors[name] = tensor
    kept = ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]
    written(model, tensors, {"quant_method": "mxfp4", "modules_to_not_convert": kept})
    bigin.initialize_dummy("out", "like")
    held = loaded(transformers.Mxfp4Config(dequantize=True)).model.layers[0].mlp.experts.gate_up_proj
    assert 0.01 < held.float().std() < 0.05
    assert not torch.equal(held[0], held[1])


@pytest.mark.slow
def test_matrices_in_8_bits_with_scales_of_blocks():
    pytest.importorskip("accelerate", reason="accelerate, which transformers needs for FP8, is not installed")
    model = transformers.LlamaForCausalLM._from_config(transformers.LlamaConfig(**TINY))
    tensors = {}
    for name, tensor in model.state_dict().items():
        tensors[name] = tensor
        if "proj" in name:
            tensors[name] = tensor.to(torch.float8_e4m3fn)
            tensors[f"{name}_scale_inv"] = torch.empty(1, 1)
    written(model, tensors, {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"})
    bigin.initialize_dummy("out", "like")
    held = loaded(transformers.FineGrainedFP8Config(dequantize=True)).model.layers[0].mlp.up_proj.weight
    assert 0.015 < held.float().std() < 0.025
