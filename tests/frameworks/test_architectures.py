"""What is recorded of models of transformers is like what their own code makes: tiny models, every parameter."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest
from common import ROOT, run_ranks

pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
pytest.importorskip("transformers", reason="transformers is not installed: pip install 'bigin[test-models]'")
pytest.importorskip("scipy", reason="scipy is not installed: pip install 'bigin[test]'")
import architectures

QUICK = ("llama", "mamba2")
LISTED = (
    "bamba",
    "bart",
    "beam",
    "beit",
    "bert",
    "bert-generation",
    "biogpt",
    "bitnet",
    "bloom",
    "camembert",
    "clip",
    "deepseek_v3",
    "doge",
    "dory",
    "dpr",
    "dpt",
    "electra",
    "embedding_gemma2_text",
    "ernie",
    "ernie4_5",
    "eurobert",
    "exaone_moe",
    "falcon_mamba",
    "flaubert",
    "flint",
    "fnet",
    "gemma3_text",
    "glm_ocr_text",
    "glmasr_encoder",
    "gpt2",
    "lfm3_vl_vision",
    "megatron-bert",
    "mellum",
    "minimax_m2",
    "ministral3",
    "mistral",
    "mixtral",
    "modernbert",
    "modernbert-decoder",
    "molmo2_text",
    "moshi",
    "moss_transcribe_diarize_audio",
    "mpnet",
    "mpt",
    "mra",
    "muse_glimmer_vision",
    "nemotron3_5_transcribe_word_timestamp",
    "nomic_bert",
    "nystromformer",
    "olmo",
    "olmo2",
    "olmo3",
    "openai-gpt",
    "patchtsmixer",
    "persimmon",
    "phi",
    "phi3",
    "phimoe",
    "pixio",
    "pixtral",
    "pocket_tts",
    "qianfan_ocr_vision",
    "qwen2_5_vl_text",
    "qwen3_moe",
    "qwen3_next",
    "rembert",
    "roberta",
    "roberta-prelayernorm",
    "rwkv",
    "sam3_lite_text_text_model",
    "sarvam_moe",
    "seed_oss",
    "siglip2_vision_model",
    "siglip_vision_model",
    "smollm3",
    "smolvlm_vision",
    "solar_open",
    "speecht5",
    "splinter",
    "stablelm",
    "starcoder2",
    "swin",
    "t5",
    "tapas",
    "timesfm",
    "timesfm2_5",
    "ultrabert",
    "vilt",
    "visual_bert",
    "vit",
    "voxtral_encoder",
    "wav2vec2",
    "wav2vec2-bert",
    "whisper",
    "xglm",
    "xlm",
    "xlm-roberta-xl",
    "xmod",
    "yolos",
    "yoso",
)


@pytest.mark.parametrize("kind", [*QUICK, *(pytest.param(kind, marks=pytest.mark.slow) for kind in LISTED)])
def test_a_model_is_as_its_own_code_makes_it(kind):
    outcome = architectures.compare(kind, architectures.transformers_build(kind))
    assert not outcome.problems
    assert outcome.tensors > 5
    assert outcome.tests > 10


@pytest.mark.slow
@pytest.mark.parametrize(
    ("library", "names"),
    [
        (
            "timm",
            "resnet18 vit_tiny_patch16_224 convnext_atto lambda_resnet26t levit_128s",
        ),
        (
            "torchvision",
            "resnet18 mobilenet_v3_small shufflenet_v2_x0_5 swin_t squeezenet1_1",
        ),
    ],
)
def test_models_of_vision_are_as_their_own_code_makes_them(library, names):
    """In a process of their own, as torchvision may have been built for another torch."""
    if importlib.util.find_spec(library) is None and not (architectures.VISION / library).is_dir():
        pytest.skip(f"{library} is not installed: pip install --no-deps --target out/vision timm torchvision (.ci/run)")
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "compare-models", "--library", library, *names.split()],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(name, kind) for name, kind, _ in outcomes] == [(name, "same") for name in names.split()]


TITANS = "llama3 debugmodel", "deepseek_v3 debugmodel", "muse_glimmer debugmodel_mm"


@pytest.mark.slow
def test_models_of_torchtitan_are_as_their_own_code_makes_them():
    needs_torchtitan()
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "compare-models", "--library", "torchtitan", *TITANS],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(name, kind) for name, kind, _ in outcomes] == [(name, "same") for name in TITANS]


@pytest.mark.slow
def test_a_model_of_torchtitan_takes_its_first_weights_from_a_checkpoint_that_is_computed(tmp_path):
    needs_torchtitan()
    for lines in run_ranks("ranks_torchtitan.py", 2, tmp_path / "meeting"):
        assert " ".join(lines).count("parameters are those of one process") == 3


def needs_torchtitan():
    """Skips where torchtitan is not there."""
    if importlib.util.find_spec("torchtitan") is None and not (architectures.TITAN / "torchtitan").is_dir():
        pytest.skip("torchtitan is not in out/torchtitan: scripts/compare-models says how to install it there")


def test_another_initialization_is_noticed(monkeypatch):
    """A comparison must be able to fail."""
    import torch
    from torch import nn

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.empty(64, 64))
            std = 0.02 if torch.empty(1).device.type == "meta" else 0.025
            nn.init.normal_(self.w, std=std)

    assert architectures.compare("other", Model).problems
