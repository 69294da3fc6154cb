"""A model without a record is compared with what a recipe says; what is missing or unknown is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import zarr
from common import run

import bigin

RECIPE = """
seed = 5
skip = ["*.position_ids"]

[[rule]]
match = "*.qkv.weight"
method = "xavier_uniform"
split = {axis = 0, parts = 3, names = ["*.q", "*.k", "*.v"]}

[[rule]]
match = "*.weight"
method = "normal"
std = "s"

[[rule]]
match = "*.bias"
method = "zeros"

[vars]
s = 0.02
"""
SHAPES = {"h.0.qkv.weight": (12, 8), "h.0.fc.weight": (6, 8), "h.0.fc.bias": (6,), "wte.weight": (30, 8)}


def group_of(path: str, dtype: str = "float32", shapes: Any = SHAPES) -> zarr.Group:
    group = zarr.open_group(path, mode="w")
    for name, shape in shapes.items():
        group.create_array(
            name.replace(".", "/"), shape=shape, chunks=tuple(max(1, s // 2) for s in shape), dtype=dtype
        )
    return group


@pytest.fixture
def recipe() -> str:
    Path("r.toml").write_text(RECIPE)
    group_of("like.zarr")
    return "r.toml"


def values_of(path: str) -> dict[str, np.ndarray]:
    """What a file of safetensors holds, without the record."""
    from bigin.targets.models import open_whole

    target = open_whole(Path(path))[1]
    return {name: each.read(tuple((0, size) for size in each.shape)) for name, each in target.members.items()}


def save(path: str, tensors: dict[str, np.ndarray]) -> None:
    """As safetensors itself writes it: with no record."""
    save_file = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed").save_file
    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, path)


def saved_again(recipe: str) -> dict[str, np.ndarray]:
    bigin.initialize(recipe, "first.safetensors", like="like.zarr", seed=42)
    tensors = {name.replace("/", "."): values for name, values in values_of("first.safetensors").items()}
    save("again.safetensors", tensors)
    return tensors


def test_what_was_saved_again_is_verified_by_its_recipe(recipe):
    saved_again(recipe)
    with pytest.raises(bigin.RecordError, match=r"--recipe \(recipe=\) or --config"):
        bigin.verify("again.safetensors")
    result = bigin.verify("again.safetensors", recipe=recipe, seed=42)
    assert result.equal
    assert result.nbytes == 4 * sum(int(np.prod(shape)) for shape in SHAPES.values())
    assert result.wanted == "r.toml, seed 42"
    assert bigin.verify("again.safetensors", recipe=recipe, seed=42, like="like.zarr").equal  # whose names have "/"
    other = bigin.verify("again.safetensors", recipe=recipe)  # the recipe's own seed
    assert len(other.differences) == 3  # all but the bias
    assert not bigin.verify("again.safetensors", recipe=recipe, seed=42, variables={"s": 0.03}).equal


def test_a_sample_and_parts_of_it(recipe):
    saved_again(recipe)
    result = bigin.verify("again.safetensors", recipe=recipe, seed=42, sample=0.5)
    assert (result.regions, result.total, result.equal) == (2, 4, True)
    plan = bigin.plan_verify("again.safetensors", parts=3, recipe=recipe, seed=42)
    plan.work(range(3))
    assert plan.finish().equal
    plan = bigin.plan_verify("again.safetensors", parts=2, recipe=recipe, seed=43)
    plan.work(range(2))
    assert len(plan.finish().differences) == 3


def test_a_group_and_a_folder_by_the_names_of_the_law(recipe):
    """A group of the same names has the same values, in any chunks, and its arrays need no record."""
    bigin.initialize(recipe, "like.zarr", seed=7)
    copy = group_of("copy.zarr")
    held = zarr.open_group("like.zarr", mode="r")
    for name in SHAPES:
        path = name.replace(".", "/")
        copy[path][...] = held[path][...]
    assert bigin.verify("copy.zarr", recipe=recipe, seed=7).equal
    copy["wte/weight"][29, 7] = 1
    (difference,) = bigin.verify("copy.zarr", recipe=recipe, seed=7).differences
    assert difference.first == (29, 7)
    assert "wte/weight" in difference.where
    bigin.initialize(recipe, "folder", like="like.zarr", seed=7, max_shard_size=300)
    assert len(list(Path("folder").glob("*.safetensors"))) > 1
    assert bigin.verify("folder", recipe=recipe, seed=7, like="like.zarr").equal


def test_tensors_that_are_missing_unknown_or_unlike_are_told(recipe):
    tensors = saved_again(recipe)
    save("like.safetensors", tensors)
    tensors["h.0.position_ids"] = np.arange(4)
    tensors["lora_A"] = np.zeros((2, 2), np.float32)
    tensors["wte.weight"] = tensors["wte.weight"][:20]
    tensors["h.0.fc.weight"] = tensors["h.0.fc.weight"].astype(ml_dtypes.bfloat16)
    del tensors["h.0.fc.bias"]
    save("changed.safetensors", tensors)
    result = bigin.verify("changed.safetensors", recipe=recipe, seed=42, like="like.safetensors")
    assert result.missing == ["h.0.fc.bias"]
    assert result.extra == ["h.0.position_ids", "lora_A"]
    assert result.unlike == [
        "h.0.fc.weight: expected 6x8 float32, got 6x8 bfloat16; give --dtype bfloat16 (dtype=)",
        "wte.weight: expected 30x8 float32, got 20x8 float32",
    ]
    assert (result.equal, result.differences, result.total) == (False, [], 1)
    with pytest.warns(UserWarning, match="matches no tensor"):  # the rule of the bias
        alone = bigin.verify("changed.safetensors", recipe=recipe, seed=42)  # by the tensors that are there
    assert (alone.missing, alone.extra, alone.skipped) == ([], ["lora_A"], ["h.0.position_ids"])
    assert alone.differences == []  # the first rows are those of a larger table, and bfloat16 is rounded once
    with (
        pytest.warns(UserWarning, match="matches no tensor"),
        pytest.raises(bigin.InputError, match=r"got others: lora_A, h\.0\.position_ids"),
    ):
        bigin.plan_verify("changed.safetensors", parts=2, recipe=recipe, seed=42)


def test_values_in_another_dtype_are_rounded_once(recipe):
    tensors = saved_again(recipe)
    save("half.safetensors", {name: values.astype(ml_dtypes.bfloat16) for name, values in tensors.items()})
    assert bigin.verify("half.safetensors", recipe=recipe, seed=42).equal
    assert bigin.verify("half.safetensors", recipe=recipe, seed=42, like="again.safetensors", dtype="bfloat16").equal


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"method": "normal"}, "either a recipe, for a whole model, or a method"),
        ({"shape": (3,)}, "or a shape"),
        ({"repair": True}, "no repair by a recipe"),
        ({"dtype": "float32"}, "no dtype for a checkpoint"),
        ({"recipe": None, "like": "x"}, "expected a recipe for like"),
        ({"recipe": "missing.toml"}, "missing.toml"),
    ],
)
def test_what_is_not_for_a_recipe_is_refused(recipe, arguments, told):
    with pytest.raises(bigin.InputError, match=told):
        bigin.verify("like.zarr", **{"recipe": recipe, **arguments})


def test_a_target_that_is_no_model_is_refused(recipe):
    Path("w.txt").write_text("x")
    for target in ("w.txt", "nothing.safetensors"):
        with pytest.raises(bigin.NotFoundError, match="expected a"):
            bigin.verify(target, recipe=recipe)


def test_the_command(recipe):
    saved_again(recipe)
    done = run("verify", "again.safetensors", "--recipe", recipe, "--seed", "42")
    assert "compared with r.toml, seed 42: equal" in done.stdout
    done = run("verify", "again.safetensors", "--recipe", recipe, "--var", "s=0.03", "--json", "--seed", "42", code=1)
    told = json.loads(done.stdout)
    assert (told["equal"], told["missing"], len(told["differences"])) == (False, [], 2)
    run("verify", "again.safetensors", "--recipe", recipe, "--method", "normal", code=2)
    run("verify", "again.safetensors", "--architecture", "X", code=2)
