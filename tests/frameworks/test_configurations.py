"""A checkpoint from a configuration alone: from_pretrained loads it as it lies there, with the bits of init_."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from common import few, run

pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed: pip install 'bigin[test-models]'"
)
pytest.importorskip("scipy", reason="scipy is not installed: pip install 'bigin[test]'")
import architectures  # noqa: E402
import torch  # noqa: E402
from click.testing import CliRunner  # noqa: E402

import bigin  # noqa: E402
import bigin.torch  # noqa: E402
from bigin.cli.models import init  # noqa: E402
from bigin.targets.safetensors.header import read_header  # noqa: E402
from bigin.torch.configuration import Configuration  # noqa: E402

KINDS = few(
    "llama", "t5", "gpt2", "bert", "vit", "mixtral", "qwen3_moe", "deepseek_v3", "qwen3_next", "bart", "gemma3_text",
    "clip", "albert", "llava",
)  # fmt: skip
PARTLY = few("wav2vec2", "mamba", "whisper")  # of which no rule says some tensors


def written(kind: str, folder: str = "model", **changes: Any) -> Path:
    """A tiny configuration, as its library writes it."""
    config = architectures.shrink(transformers.CONFIG_MAPPING[kind]())
    for key, value in changes.items():
        setattr(config, key, value)
    config.save_pretrained(folder)
    return Path(folder)


def loaded(folder: str, cls: Any) -> Any:
    """What from_pretrained loads, with nothing missing, unexpected or newly initialized."""
    model, told = cls.from_pretrained(folder, output_loading_info=True)
    assert not any(told.values()), told
    return model


def same_as_in_memory(model: Any, source: Configuration) -> None:
    """The loaded values are those that init_ makes in memory, under every name that state_dict has."""
    source.module.to_empty(device="cpu")
    bigin.torch.init_(source.module, source._init)
    found = model.state_dict()
    for name, tensor in source.module.state_dict().items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name].nan_to_num(), tensor.nan_to_num()), name


@pytest.mark.parametrize("kind", [*KINDS, *PARTLY])
def test_from_pretrained_loads_what_was_written(kind):
    source = Configuration(written(kind), seed=3)
    report = source.initialize("out", max_shard_size=sum(row.nbytes for row in source.outline()) // 3)
    assert report.record["complete"]
    index = json.loads(Path("out/model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(source.specs)
    model = loaded("out", type(source.module))
    assert bigin.verify("out").equal
    same_as_in_memory(model, source)


@pytest.mark.parametrize("kind", KINDS)
def test_the_recipe_makes_the_same_bits(kind):
    source = Configuration(written(kind), seed=3)
    source.initialize("out.safetensors")
    Path("my.toml").write_text(source.recipe())
    bigin.initialize("my.toml", "again.safetensors", like="out.safetensors")
    assert data("again") == data("out")
    Configuration(written(kind), rules="my.toml").initialize("third.safetensors")
    assert data("third") == data("out")


def data(name: str) -> bytes:
    """The values of a file, behind its header."""
    held = Path(f"{name}.safetensors").read_bytes()
    return held[8 + int.from_bytes(held[:8], "little") :]


def test_a_recipe_leaves_to_the_models_code_what_it_has_no_rule_for():
    kind = "mamba"
    source = Configuration(written(kind), seed=3)
    text = source.recipe()
    assert "# No rule says the values of backbone.layers.0.mixer.A_log: values as computed" in text
    Path("my.toml").write_text(text.replace('method = "ones"', 'method = "zeros"'))
    changed = Configuration(written(kind), rules="my.toml")
    assert (
        changed.specs["backbone.layers.0.mixer.A_log"].record()
        == source.specs["backbone.layers.0.mixer.A_log"].record()
    )
    assert changed.specs["backbone.norm_f.weight"].method == "zeros"


@pytest.mark.parametrize("kind", few("mixtral", "qwen3_moe", "bert", "vit", "qwen3_next", "llava"))
def test_original_names_are_those_that_save_pretrained_writes(kind):
    folder = written(kind)
    source = Configuration(folder, seed=3, original_names=True)
    source.initialize("out")
    assert bigin.verify("out").equal
    model = loaded("out", type(source.module))
    same_as_in_memory(model, source)
    type(source.module)._from_config(transformers.AutoConfig.from_pretrained(folder)).save_pretrained("own")
    theirs, ours = (shapes(name) for name in ("own", "out"))
    assert ours == theirs
    if "moe" in kind or kind == "mixtral":
        assert set(ours) != set(Configuration(folder).specs)


def shapes(folder: str) -> dict[str, Any]:
    """What a checkpoint holds, by name."""
    entries = read_header(Path(folder) / "model.safetensors").entries
    return {name: (entry.code, entry.shape) for name, entry in entries.items()}


def test_tied_weights_are_written_once():
    source = Configuration(written("llama", tie_word_embeddings=True))
    assert "lm_head.weight" not in source.specs
    source.initialize("out")
    model = loaded("out", transformers.LlamaForCausalLM)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_the_dtype_is_that_of_the_configuration_or_the_one_that_is_asked_for():
    folder = written("llama", dtype="bfloat16", architectures=["LlamaModel"])
    Configuration(folder).initialize("own")
    assert loaded("own", transformers.AutoModel).dtype == torch.bfloat16
    assert (folder / "config.json").read_bytes() == Path("own/config.json").read_bytes()
    Configuration(folder, dtype="float16").initialize("other")
    model = loaded("other", transformers.AutoModel)
    assert (type(model).__name__, model.dtype) == ("LlamaModel", torch.float16)


def test_weights_of_a_quantized_configuration_are_not_quantized():
    folder = written("llama")
    said = json.loads((folder / "config.json").read_text())
    quantization = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
    (folder / "config.json").write_text(json.dumps(said | {"quantization_config": quantization}))
    with pytest.warns(UserWarning, match="quantization_config is left out"):
        Configuration(folder, dtype="bfloat16").initialize("out")
    assert "quantization_config" not in json.loads(Path("out/config.json").read_text())
    assert loaded("out", transformers.LlamaForCausalLM).dtype == torch.bfloat16


def test_the_command_line():
    folder = written("llama", tie_word_embeddings=True)
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("about the trained model")
    done = CliRunner().invoke(init, ["--config", str(folder), "out", "--seed", "3", "--dtype", "bfloat16"])
    assert (done.exit_code, done.exception) == (0, None)
    assert "tensors filled by the code of LlamaForCausalLM" in done.output
    names = {path.name for path in Path("out").iterdir()}
    assert names == {"config.json", "generation_config.json", "tokenizer.json", "model.safetensors"}
    config = json.loads(Path("out/config.json").read_text())
    assert (config["architectures"], config["dtype"]) == (["LlamaForCausalLM"], "bfloat16")
    assert loaded("out", transformers.AutoModelForCausalLM).dtype == torch.bfloat16
    for more, expected in ((["--weights-only"], {"model.safetensors"}), ([], names)):
        made = CliRunner().invoke(init, ["llama", "--like", "out", f"like{len(more)}", *more])
        assert (made.exit_code, made.exception) == (0, None)
        assert {path.name for path in Path(f"like{len(more)}").iterdir()} == expected
    loaded("like0", transformers.AutoModelForCausalLM)
    shown = CliRunner().invoke(init, ["--config", str(folder / "config.json"), "--dry-run"])
    assert "LlamaRMSNorm" in shown.output
    assert "20 tensors" in shown.output


@pytest.mark.slow
def test_the_command_line_plans_and_prints_recipes():
    written("llama")
    text = run("recipe", "--config", "model", "--seed", 7).stdout
    assert text.startswith('description = "LlamaForCausalLM of transformers')
    Path("my.toml").write_text(text)
    run("init", "--config", "model/config.json", "out", "--parts", 3, "--seed", 7)
    for part in (2, 0, 1):
        run("work", "plan.json", "--part", part)
    run("finish", "plan.json")
    loaded("out", transformers.LlamaForCausalLM)
    run("init", "my.toml", "--config", "model", "again", "--dtype", "float32")
    assert Path("out/model.safetensors").read_bytes() == Path("again/model.safetensors").read_bytes()


OWN_CONFIG = """
from transformers import PretrainedConfig
open("ran", "w").close()

class OwnConfig(PretrainedConfig):
    model_type = "own"
    def __init__(self, width=8, **rest):
        self.width = self.vocab_size = width
        super().__init__(**rest)
"""
OWN_MODEL = """
import torch
from torch import nn
from transformers import PreTrainedModel
from .configuration_own import OwnConfig

class OwnModel(PreTrainedModel):
    config_class = OwnConfig
    def __init__(self, config):
        super().__init__(config)
        self.inner = nn.Linear(config.width, 3)
        self.post_init()
    def _init_weights(self, module):
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.5)
            nn.init.zeros_(module.bias)
    def forward(self, input_ids):
        return self.inner(nn.functional.one_hot(input_ids, self.config.width).float())
"""


def with_its_code(folder="own", **said):
    path = Path(folder)
    path.mkdir()
    classes = {"AutoConfig": "configuration_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    config = {"model_type": "own", "architectures": ["OwnModel"], "auto_map": classes, "width": 8, **said}
    (path / "config.json").write_text(json.dumps(config))
    (path / "configuration_own.py").write_text(OWN_CONFIG)
    (path / "modeling_own.py").write_text(OWN_MODEL)
    return path


@pytest.mark.slow
def test_code_that_comes_with_a_model_is_run_where_it_is_trusted():
    folder = with_its_code()
    for command in (
        ["init", "--config", folder, "out"],
        ["recipe", "--config", folder],
        ["signal", "--config", folder],
    ):
        assert "--trust-remote-code" in run(*command, code=2).stderr
    assert not Path("ran").exists()
    run("init", "--config", folder, "out", "--trust-remote-code", "--seed", 4)
    assert Path("ran").exists()
    assert "std = 0.5" in run("recipe", "--config", folder, "--trust-remote-code").stdout
    measured = json.loads(run("signal", "--config", folder, "--trust-remote-code", "--json").stdout)
    assert [module["name"] for module in measured["modules"]] == ["inner"]
    assert 0.1 < measured["modules"][0]["activation"] < 0.5
    model = transformers.AutoModel.from_pretrained("out", trust_remote_code=True)
    assert torch.equal(model.inner.weight, bigin_normal(4, "inner.weight", (3, 8), 0.5))
    assert not model.inner.bias.any()
    for given in ({"dtype": "float32"}, {"architecture": "OwnModel"}):
        assert Configuration(folder, trust_remote_code=True, **given).model.tensors.keys() == {
            "inner.weight",
            "inner.bias",
        }


def bigin_normal(seed, name, shape, std):
    made = torch.empty(shape)
    bigin.fill(made, "normal", std=std, seed=seed, name=name)
    return made


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"architectures": ["Other"]}, r"expected a class that auto_map has \(OwnModel\), got 'Other'"),
        ({"auto_map": {"AutoConfig": "there/own--configuration_own.OwnConfig"}}, "nothing is downloaded"),
        ({"auto_map": {"AutoModel": "modeling_none.OwnModel"}}, "expected code that auto_map names"),
        ({"auto_map": []}, "expected a class that auto_map has"),
    ],
)
def test_what_auto_map_does_not_have_is_one_line(said, message):
    with pytest.raises(bigin.torch.InputError, match=message) as error:
        Configuration(with_its_code(**said), trust_remote_code=True)
    assert "\n" not in str(error.value)


REFUSED = [
    ({}, "expected a model_type that transformers"),
    ({"model_type": "lama"}, "did you mean"),
    ({"model_type": "mine", "auto_map": {}}, "is run with --trust-remote-code"),
    ({"model_type": "llama", "architectures": ["LamaForCausalLM"]}, "expected an architecture that is a model"),
    ({"model_type": "llama", "architectures": ["BertModel"]}, "expected a class for LlamaConfig, got BertModel"),
    ({"model_type": "llama", "hidden_size": "many"}, "expected a configuration that"),
    ([], "expected a configuration, a JSON object, got list"),
]


@pytest.mark.parametrize(("config", "message"), REFUSED)
def test_what_is_no_configuration_is_refused(config, message):
    Path("config.json").write_text(json.dumps(config))
    with pytest.raises(bigin.torch.InputError, match=message):
        Configuration("config.json")
    with pytest.raises(bigin.torch.InputError, match="nothing is downloaded"):
        Configuration("meta-llama/Llama-3.1-70B")


def test_other_files_are_not_replaced():
    source = Configuration(written("llama"))
    Path("out").mkdir()
    Path("out/config.json").write_text("mine")
    with pytest.raises(bigin.torch.InputError, match="--weights-only"):
        source.initialize("out")
    assert [path.name for path in Path("out").iterdir()] == ["config.json"]
    source.initialize("out", weights_only=True)
    assert Path("out/config.json").read_text() == "mine"
    source.initialize("out", overwrite=True)
    assert json.loads(Path("out/config.json").read_text())["model_type"] == "llama"


def test_without_transformers_a_line_says_what_to_install(monkeypatch):
    folder = written("llama")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(bigin.torch.InputError, match=r"pip install 'bigin\[transformers\]'"):
        Configuration(folder)


@pytest.mark.slow
def test_a_checkpoint_that_was_saved_again_is_verified_by_its_configuration():
    """save_pretrained drops the record; a tied tensor may lie there under both of its names."""
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    folder = written("gpt2")
    source = Configuration(folder, seed=3)
    source.initialize("made")
    loaded("made", transformers.GPT2LMHeadModel).save_pretrained("again")
    with pytest.raises(bigin.RecordError):
        bigin.verify("again")
    assert source.verify("again").equal
    assert not Configuration(folder, seed=4).verify("again").equal
    tensors = loaded("made", transformers.GPT2LMHeadModel).state_dict()
    assert "lm_head.weight" in tensors
    safetensors.save_file({name: tensor.clone() for name, tensor in tensors.items()}, "both.safetensors")
    result = source.verify("both.safetensors")
    assert result.equal
    assert result.nbytes > source.verify("again").nbytes
    del tensors["transformer.wte.weight"], tensors["transformer.ln_f.bias"]
    tensors["extra"] = torch.zeros(3)
    safetensors.save_file({name: tensor.clone() for name, tensor in tensors.items()}, "one.safetensors")
    result = source.verify("one.safetensors")  # the other name of a tied tensor is enough
    assert (result.missing, result.extra) == (["transformer.ln_f.bias"], ["extra"])
    half = Configuration(folder, seed=3, dtype="bfloat16").verify("again")
    assert len(half.unlike) == len(source.specs)
    done = run("verify", "again", "--config", folder, "--seed", 3)
    assert "equal" in done.stdout
    run("verify", "again", "--config", folder, "--seed", 4, code=1)
    run("verify", "again", "--config", folder, "--method", "normal", code=2)
    plan = source.plan_verify("again", parts=2)
    plan.work(range(2))
    assert plan.finish().equal
