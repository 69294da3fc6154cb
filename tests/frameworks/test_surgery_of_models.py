"""Grown vocabularies of real models: transformers loads them, and its own resizing draws from the same distribution."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from common import ROOT

import bigin

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install 'bigin[test-models]'"
)
scipy_stats = pytest.importorskip("scipy.stats", reason="scipy is not installed: pip install 'bigin[test]'")
pytestmark = pytest.mark.slow

SMALL: dict[str, dict[str, Any]] = {
    "llama": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
    "gpt_neox": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2},
    "opt": {
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "ffn_dim": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
    "t5": {"d_model": 32, "d_kv": 16, "d_ff": 48, "num_layers": 2, "num_heads": 2},
    "bert": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2},
    "bart": {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 2,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "decoder_start_token_id": 2,
    },
    "mobilebert": {
        "hidden_size": 32,
        "embedding_size": 16,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "true_hidden_size": 16,
        "intra_bottleneck_size": 16,
    },
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2},
    "gemma3_text": {
        "head_dim": 16,
        "num_key_value_heads": 2,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    },
}
CLASSES = {"t5": "AutoModelForSeq2SeqLM", "bert": "AutoModelForMaskedLM", "bart": "AutoModelForSeq2SeqLM"}
CLASSES |= {"mobilebert": "AutoModelForMaskedLM"}


def saved(kind: str, folder: str, **more: Any) -> Any:
    """A tiny model, saved."""
    torch.manual_seed(1)
    config = transformers.CONFIG_MAPPING[kind](
        vocab_size=300, pad_token_id=0, bos_token_id=1, eos_token_id=2, **SMALL[kind], **more
    )
    model = getattr(transformers, CLASSES.get(kind, "AutoModelForCausalLM")).from_config(config)
    model.save_pretrained(folder, max_shard_size="20KB")
    return model


def loaded(model: Any, folder: str) -> Any:
    """The grown model, which must have every tensor of its class, and no other."""
    made, told = type(model).from_pretrained(folder, output_loading_info=True)
    assert not any(told[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), told
    return made


@pytest.mark.parametrize("kind", SMALL)
def test_transformers_loads_a_grown_model(kind):
    model = saved(kind, "old")
    bigin.grow_vocabulary("old", "new", 300, multiple=64, new="mean+covariance")
    assert json.loads(Path("new", "config.json").read_text())["vocab_size"] == 320
    made = loaded(model, "new")
    with torch.no_grad():
        for name, old in model.state_dict().items():
            new = made.state_dict()[name]
            assert torch.equal(new[tuple(map(slice, old.shape))], old), name
        inputs = {"input_ids": torch.tensor([[5, 6, 299, 7]])}
        if kind in ("t5", "bart"):
            inputs["decoder_input_ids"] = inputs["input_ids"]
        before, after = model.eval()(**inputs).logits, made.eval()(**inputs).logits
    assert after.shape[-1] == 320
    assert torch.allclose(before, after[..., :300], atol=1e-5)
    assert bigin.verify("new").equal


def test_a_model_whose_configuration_of_text_has_the_vocabulary():
    """And which describes pictures, too."""
    text = transformers.LlamaConfig(vocab_size=300, num_key_value_heads=2, **SMALL["llama"])
    vision = transformers.CLIPVisionConfig(image_size=28, patch_size=14, projection_dim=16, **SMALL["llama"])
    config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_id=299)
    model = transformers.LlavaForConditionalGeneration(config)
    model.save_pretrained("old")
    bigin.grow_vocabulary("old", "new", 320)
    assert json.loads(Path("new", "config.json").read_text())["text_config"]["vocab_size"] == 320
    made, inputs = loaded(model, "new"), torch.tensor([[5, 6, 7]])
    assert made.get_input_embeddings().weight.shape[0] == made.get_output_embeddings().weight.shape[0] == 320
    with torch.no_grad():
        before, after = model.eval()(inputs).logits, made.eval()(inputs).logits
    assert torch.allclose(before, after[..., :300], atol=1e-5)


def test_heads_that_share_keys_get_keys_of_their_own():
    """Every query head attends to a copy of what it attended to."""
    shared = transformers.LlamaConfig(num_hidden_layers=2, **SIZES | {"num_attention_heads": 4})
    model = transformers.LlamaForCausalLM(shared)
    model.save_pretrained("old")
    more = SIZES | {"num_attention_heads": 4, "num_key_value_heads": 4}
    transformers.LlamaConfig(num_hidden_layers=2, architectures=["LlamaForCausalLM"], **more).save_pretrained("mha")
    made = bigin.torch.Configuration(
        "mha", rules=EXAMPLES / "heads.toml", source="old", variables={"head_dim": 8, "times": 2}
    )
    made.initialize("new")
    new, inputs = transformers.LlamaForCausalLM.from_pretrained("new").eval(), torch.tensor([[5, 6, 299, 7]])
    with torch.no_grad():
        assert torch.allclose(model.eval()(inputs).logits, new(inputs).logits, atol=1e-5)
    assert bigin.verify("new").equal


@pytest.mark.parametrize("tied", [False, True])
def test_new_rows_are_distributed_as_transformers_draws_them(tied):
    model = saved("llama", "old", tie_word_embeddings=tied)
    count, total = 300, 4300
    bigin.grow_vocabulary("old", "new", total, new="mean+covariance", seed=3)
    mine = loaded(model, "new")
    old = model.get_input_embeddings().weight.detach().double().numpy().copy()
    head = model.get_output_embeddings().weight.detach().double().numpy().copy()
    torch.manual_seed(2)
    model.resize_token_embeddings(total, mean_resizing=True)
    for before, theirs, ours in (
        (old, model.get_input_embeddings().weight, mine.get_input_embeddings().weight),
        (head, model.get_output_embeddings().weight, mine.get_output_embeddings().weight),
    ):
        factor = np.linalg.cholesky(1e-9 * np.cov(before.T, bias=True))
        whitened = [
            np.linalg.solve(factor, (weight.detach().double().numpy()[count:] - before.mean(0)).T).T
            for weight in (theirs, ours)
        ]
        for drawn in whitened:  # standard normal values, independent of each other
            assert np.abs(np.corrcoef(drawn.T) - np.eye(32)).max() < 0.1
            assert scipy_stats.kstest(drawn.reshape(-1), "norm").pvalue > 1e-6
        assert scipy_stats.ks_2samp(*(drawn.reshape(-1) for drawn in whitened)).pvalue > 1e-6
    assert torch.equal(mine.get_input_embeddings().weight, mine.get_output_embeddings().weight) == tied


SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXAMPLES = ROOT / "examples" / "surgery"


def test_a_dense_model_as_a_mixture_of_its_copies_computes_the_same():
    """Mixtral weighs its experts by numbers that add up to 1, so copies of one MLP are that MLP."""
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(num_hidden_layers=2, **SIZES))
    model.save_pretrained("old")
    names = {"num_local_experts": 4, "num_experts_per_tok": 2, "architectures": ["MixtralForCausalLM"]}
    names |= {"rms_norm_eps": 1e-6, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}  # Llama's
    transformers.MixtralConfig(num_hidden_layers=2, **SIZES, **names).save_pretrained("moe")
    recipe = (EXAMPLES / "upcycle.toml").read_text()
    plain = "\n".join(line for line in recipe.splitlines() if not line.startswith("reinit"))
    Path("plain.toml").write_text(plain)
    bigin.torch.Configuration("moe", rules="plain.toml").initialize("same")
    mixture = transformers.MixtralForCausalLM.from_pretrained("same").eval()
    inputs = torch.tensor([[5, 6, 299, 7]])
    with torch.no_grad():
        assert torch.allclose(model.eval()(inputs).logits, mixture(inputs).logits, atol=1e-5)
    bigin.torch.Configuration("moe", rules=EXAMPLES / "upcycle.toml", source="old").initialize("half")
    half, same = (transformers.MixtralForCausalLM.from_pretrained(each) for each in ("half", "same"))
    kept = half.model.layers[1].mlp.experts.gate_up_proj == same.model.layers[1].mlp.experts.gate_up_proj
    assert (kept.all(2).sum(1) == 48).all()  # half of the 48 hidden units, in both matrices
    assert bigin.verify("half").equal


def test_a_model_of_twice_as_many_layers():
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(num_hidden_layers=6, **SIZES))
    model.save_pretrained("old", max_shard_size="20KB")
    config = transformers.LlamaConfig(num_hidden_layers=12, architectures=["LlamaForCausalLM"], **SIZES)
    config.save_pretrained("deep")
    bigin.torch.Configuration("deep", rules=EXAMPLES / "deepen.toml", source="old").initialize("out")
    made = transformers.LlamaForCausalLM.from_pretrained("out")
    for number, layer in enumerate(made.model.layers):
        for name, tensor in layer.named_parameters():
            old = dict(model.model.layers[number // 2].named_parameters())[name]
            assert torch.equal(tensor, old) == (number % 2 == 0 or tensor.ndim == 1), (number, name)
            assert torch.allclose(tensor, old, atol=0.01)
    assert torch.equal(made.model.norm.weight, model.model.norm.weight)
    assert bigin.verify("out").equal
