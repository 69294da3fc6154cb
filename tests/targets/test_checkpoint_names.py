"""A new checkpoint is named as the one that it is like: its files, its variant and its index."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from common import snapshot

import bigin
from bigin.targets.safetensors.folder import LARGEST_INDEX, Naming
from bigin.targets.safetensors.header import lay_out, pack_header

SHAPE = (16, 8)


def write(path: Path, *names: str) -> None:
    entries = lay_out([(name, "float32", SHAPE) for name in names])
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pack_header(entries, {}) + bytes(max(entry.end for entry in entries.values())))


def index(path: Path, **files: str) -> None:
    path.write_text(json.dumps({"metadata": {}, "weight_map": files}))


@pytest.fixture
def recipe() -> str:
    Path("recipe.toml").write_text('[[rule]]\nmatch = "*"\nmethod = "normal"\n')
    return "recipe.toml"


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_an_index_of_one_file_is_kept(recipe):
    """transformers does not load model-00001-of-00001.safetensors without one."""
    write(Path("like/model-00001-of-00001.safetensors"), "a", "b")
    one = dict.fromkeys("ab", "model-00001-of-00001.safetensors")
    index(Path("like/model.safetensors.index.json"), **one)
    bigin.initialize(recipe, "out", like="like")
    assert names("out") == names("like")
    assert json.loads(Path("out/model.safetensors.index.json").read_text())["weight_map"] == one
    assert bigin.verify("out").equal
    assert bigin.initialize(recipe, "out", like="like").stored == 1024


@pytest.mark.parametrize("variant", ["", "fp16"])
def test_the_names_of_diffusers_are_kept(recipe, variant):
    """diffusers#8898"""
    dot, stem = f".{variant}" if variant else "", "diffusion_pytorch_model"
    files = {name: f"{stem}{dot}-0000{i}-of-00002.safetensors" for i, name in enumerate("ab", 1)}
    for name, file in files.items():
        write(Path("like") / file, name)
    index(Path("like") / f"{stem}.safetensors.index{dot}.json", **files)
    bigin.initialize(recipe, "out", like="like")
    assert names("out") == names("like")
    assert bigin.verify("out").equal
    bigin.initialize(recipe, "one", like="like", max_shard_size="1GB")
    assert names("one") == [f"{stem}{dot}.safetensors"]
    bigin.initialize(recipe, "many", like="one", max_shard_size=600)
    assert names("many") == names("like")
    bigin.fill(f"many/{stem}.safetensors.index{dot}.json#a", "ones", overwrite=True)
    bigin.fill("many#b", "ones", overwrite=True)


def test_a_folder_of_variants_names_the_remedy(recipe):
    write(Path("like/model.safetensors"), "a")
    write(Path("like/model.fp16.safetensors"), "a")
    with pytest.raises(bigin.InputError, match=r"got a in model.fp16.safetensors and model.safetensors; name one file"):
        bigin.initialize(recipe, "out", like="like")
    bigin.initialize(recipe, "out", like="like/model.fp16.safetensors")
    assert names("out") == ["model.fp16.safetensors"]
    for variant in ("", ".fp16"):
        index(Path(f"like/model.safetensors.index{variant}.json"), a=f"model{variant}.safetensors")
    with pytest.raises(bigin.InputError, match=r"got the indexes .*; name one of them"):
        bigin.initialize(recipe, "new", like="like")
    bigin.initialize(recipe, "new", like="like/model.safetensors.index.fp16.json")
    assert names("new") == ["model.fp16.safetensors"]


def test_an_index_that_is_no_longer_true_goes(recipe):
    write(Path("like/model-00001-of-00002.safetensors"), "a")
    write(Path("like/model-00002-of-00002.safetensors"), "b")
    index(
        Path("like/model.safetensors.index.json"),
        a="model-00001-of-00002.safetensors",
        b="model-00002-of-00002.safetensors",
    )
    bigin.initialize(recipe, "out", like="like")
    bigin.initialize(recipe, "out", like="like", max_shard_size="1GB", overwrite=True)
    assert names("out") == ["model.safetensors"]
    assert bigin.verify("out").equal


def test_a_file_that_readers_would_prefer_to_the_index_goes(recipe):
    write(Path("one/model.safetensors"), "a", "b")
    write(Path("out/model.safetensors"), "a", "b")
    write(Path("out/model.fp16.safetensors"), "a", "b")
    with pytest.raises(bigin.ExistsError, match="already holds data"):
        bigin.initialize(recipe, "out", like="one/model.safetensors", max_shard_size=512)
    bigin.initialize(recipe, "out", like="one/model.safetensors", max_shard_size=512, overwrite=True)
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert names("out") == [*shards, "model.fp16.safetensors", "model.safetensors.index.json"]
    assert bigin.verify("out").equal


def test_a_folder_with_a_checkpoint_of_other_names_is_refused(recipe):
    """Its index would stay, and whoever reads the folder would take the one for the other."""
    write(Path("like/diffusion_pytorch_model.safetensors"), "a")
    write(Path("out/model-00001-of-00001.safetensors"), "a")
    index(Path("out/model.safetensors.index.json"), a="model-00001-of-00001.safetensors")
    before = snapshot()
    for overwrite in (False, True):
        with pytest.raises(bigin.ExistsError, match="without another checkpoint, got model-00001-of-00001"):
            bigin.initialize(recipe, "out", like="like", overwrite=overwrite)
    assert snapshot() == before


@pytest.mark.parametrize(
    ("name", "naming"),
    [
        ("model.safetensors", Naming()),
        ("model.safetensors.index.json", Naming()),
        ("model-00001-of-00003.safetensors", Naming()),
        ("model.fp16.safetensors", Naming("model", "fp16")),
        ("model.safetensors.index.fp16.json", Naming("model", "fp16")),
        ("model.fp16-00001-of-00002.safetensors", Naming("model", "fp16")),
        ("model-00001-of-00002.fp16.safetensors", Naming("model", "fp16")),
        ("diffusion_pytorch_model.safetensors", Naming("diffusion_pytorch_model")),
    ],
)
def test_a_name_tells_how_the_others_are_named(name, naming):
    assert Naming.of(Path(name)) == naming


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "model.safetensors.index.json: expected an index in JSON, got something else"),
        ("[]", "model.safetensors.index.json: expected an index, a JSON object, got list"),
        ('{"weight_map": 3}', "expected an index with a weight_map of names and files, got one without"),
        ('{"weight_map": {"a": "../a.safetensors"}}', "expected files in its own folder, got '../a.safetensors'"),
    ],
)
def test_an_index_that_is_none_is_told(recipe, text, expected):
    write(Path("like/model-00001-of-00001.safetensors"), "a")
    Path("like/model.safetensors.index.json").write_text(text)
    with pytest.raises(bigin.InputError, match=re.escape(expected)):
        bigin.initialize(recipe, "out", like="like")


def test_an_index_that_is_too_large_is_told(recipe):
    write(Path("like/model-00001-of-00001.safetensors"), "a")
    with Path("like/model.safetensors.index.json").open("wb") as file:
        file.truncate(LARGEST_INDEX + 1)
    with pytest.raises(bigin.InputError, match=f"expected an index of at most {LARGEST_INDEX} bytes, got one of"):
        bigin.initialize(recipe, "out", like="like")
