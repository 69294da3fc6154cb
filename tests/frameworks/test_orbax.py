"""A checkpoint that Orbax restores as its own."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from common import NORMAL_WEIGHTS, TESTS, run
from nested import check as check_apart
from nested import need

import bigin

bigin.register_dtypes()
TENSORS = {
    "layers.0.weight": ((64, 30), "bfloat16"),
    "layers.0.bias": ((64,), "float32"),
    "layers.1.weight": ((64, 30), "float8_e4m3fn"),
    "step": ((), "float64"),
    "empty": ((0, 3), "float32"),
}


def expected(name: str) -> np.ndarray:
    shape, dtype = TENSORS[name]
    method: Any = {"method": "normal", "std": 0.02} if name.endswith("weight") else {"method": "uniform"}
    return np.asarray(bigin.virtual(shape, dtype=dtype, seed=4, name=name, **method))


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, Path]:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(NORMAL_WEIGHTS)
    group = zarr.create_group(tmp_path / "like.zarr")
    for name, (shape, dtype) in TENSORS.items():
        group.create_array(name, shape=shape, dtype=dtype)
    return recipe, tmp_path / "like.zarr"


@pytest.fixture
def ocp() -> Any:
    """Orbax, which tells of deprecations as it is imported."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("orbax.checkpoint", reason="orbax is not installed: pip install 'bigin[test-jax]'")


def check(tree: Any) -> None:
    assert sorted(tree) == ["empty", "layers", "step"]
    assert sorted(tree["layers"]) == ["0", "1"]
    for name in TENSORS:
        found = tree
        for part in name.split("."):
            found = found[part]
        wanted = expected(name)
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
        assert np.asarray(found).tobytes() == wanted.tobytes(), name


def nested() -> Any:
    """The tensors as a tree of dictionaries, without the empty one, which Orbax does not write."""
    tree: Any = {"layers": {"0": {}, "1": {}}}
    for name in TENSORS:
        if name != "empty":
            *above, last = name.split(".")
            inner = tree
            for part in above:
                inner = inner[part]
            inner[last] = expected(name)
    return tree


def check_read(theirs: Path, recipe: Path, tmp_path: Path) -> None:
    """Everything that reads a model reads a checkpoint that has no record and no metadata of a group."""
    names = sorted(set(TENSORS) - {"empty"})
    before = {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}
    assert [each.tensor for each in bigin.show_model(theirs).tensors] == names
    assert bigin.verify(theirs, recipe=recipe).equal
    assert not bigin.verify(theirs, recipe=recipe, seed=5).equal
    assert bigin.check(theirs, recipe).right
    assert bigin.attest(theirs, recipe=recipe).check(theirs).equal
    assert bigin.show(theirs / "layers.0.weight", "normal", std=0.02).looks_right
    assert bigin.verify(theirs / "layers.0.weight", "normal", std=0.02, seed=4).equal
    (tmp_path / "copy.toml").write_text(f'from = "{theirs}"\n[default]\ncopy = "*"\n')
    bigin.initialize(tmp_path / "copy.toml", tmp_path / "copy")
    assert bigin.verify(tmp_path / "copy", recipe=recipe).equal
    assert bigin.verify(tmp_path / "copy").equal
    bigin.initialize(recipe, tmp_path / "again", like=theirs, format="orbax")
    assert bigin.verify(tmp_path / "again", recipe=recipe).equal
    with pytest.raises(bigin.RecordError, match="expected a record of a fill, got none; give --recipe"):
        bigin.verify(theirs)
    with pytest.raises(bigin.InputError, match="filled in place, got one that is only read"):
        bigin.initialize(recipe, theirs)
    assert before == {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_form_of_orbax_is_read(model: tuple[Path, Path], tmp_path: Path, zarr_format: Any) -> None:
    """Arrays beside each other, in no group: what Orbax writes, without Orbax."""
    theirs = tmp_path / "theirs"
    for name in sorted(set(TENSORS) - {"empty"}):
        zarr.create_array(theirs / name, data=expected(name), zarr_format=zarr_format, compressors=None)
    (theirs / "_METADATA").write_text('{"use_ocdbt": false}')
    (theirs / "array_metadatas").mkdir()
    check_read(theirs, model[0], tmp_path)
    (theirs / "_METADATA").write_text('{"use_ocdbt": true}')
    with pytest.raises(bigin.InputError, match="in its database OCDBT"):
        bigin.show_model(theirs)


def test_the_form_of_orbax_is_read_from_a_store(
    model: tuple[Path, Path], tmp_path: Path, moto: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bigin.targets.objects.open import store_at

    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    theirs = tmp_path / "theirs"
    for name in sorted(set(TENSORS) - {"empty"}):
        zarr.create_array(theirs / name, data=expected(name))
    (theirs / "_METADATA").write_text('{"use_ocdbt": false}')
    url = moto.url(f"orbax-{os.getpid()}")
    store, key = store_at(url)
    for path in theirs.rglob("*"):
        if path.is_file():
            store.put(f"{key}/0/default/{path.relative_to(theirs)}", path.read_bytes())
    store.put(f"{key}/0/_CHECKPOINT_METADATA", b"{}")
    place = f"{url}/0/default"
    assert len(bigin.show_model(place).tensors) == 4
    assert bigin.verify(place, recipe=model[0]).equal
    assert bigin.check(place, model[0]).right
    assert bigin.attest(place, recipe=model[0]).check(theirs).equal
    assert "layers.0.weight" in run("show", place).stdout
    with pytest.raises(bigin.InputError, match=r"got a step of Orbax with items; name one, such as s3://.*/0/default"):
        bigin.show_model(f"{url}/0")
    with pytest.raises(bigin.InputError, match="expected a model that can be filled in place"):
        bigin.initialize(model[0], place)
    with pytest.raises(bigin.NotFoundError, match="got none"):
        bigin.show_model(f"{url}/1")
    store.put(f"{key}/0/default/manifest.ocdbt", b"")
    with pytest.raises(bigin.InputError, match="in its database OCDBT"):
        bigin.check(place, model[0])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_orbax_restores_it(model: tuple[Path, Path], tmp_path: Path, ocp: Any) -> None:
    recipe, like = model
    out = tmp_path / "out"
    bigin.initialize(recipe, out, like=like, format="orbax")
    check(ocp.PyTreeCheckpointer().restore(out))
    check(ocp.StandardCheckpointer().restore(out))
    assert bigin.verify(out).equal
    assert bigin.initialize(recipe, out, like=like, format="orbax").nbytes == 0  # done already
    jax = pytest.importorskip("jax", reason="jax is not installed: pip install 'bigin[test-jax]'")
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted: Any = {"layers": {"0": {}, "1": {}}}
    names = [name for name in TENSORS if name != "step"]  # jax has no float64 by default
    for name in names:
        *above, last = name.split(".")
        inner = wanted
        for part in above:
            inner = inner[part]
        inner[last] = jax.ShapeDtypeStruct(*TENSORS[name], sharding=sharding)
    handler = ocp.PyTreeCheckpointer()
    arguments = ocp.checkpoint_utils.construct_restore_args(wanted)
    restored = handler.restore(
        out, args=ocp.args.PyTreeRestore(item=wanted, restore_args=arguments, partial_restore=True)
    )
    for part in ("0", "1"):
        found = restored["layers"][part]["weight"]
        assert isinstance(found, jax.Array)
        assert np.asarray(found).tobytes() == expected(f"layers.{part}.weight").tobytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("zarr3", [True, False])
def test_what_orbax_has_written_is_read(model: tuple[Path, Path], tmp_path: Path, ocp: Any, zarr3: bool) -> None:
    theirs = tmp_path / "theirs"
    ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_zarr3=zarr3)).save(theirs, nested())
    check_read(theirs, model[0], tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_orbax_writes_by_default_is_refused(model: tuple[Path, Path], tmp_path: Path, ocp: Any) -> None:
    tree = {"a": {"w": np.ones((3, 2), np.float32)}}
    ocp.PyTreeCheckpointer().save(tmp_path / "database", tree)
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        manager.save(0, args=ocp.args.StandardSave(tree))
        manager.wait_until_finished()
    for folder, message in (
        ("database", "got an Orbax checkpoint in its database OCDBT; restore it and save it again"),
        ("run/0", "got a step of Orbax with items; name one, such as run/0/default"),
        ("run/0/default", "in its database OCDBT"),
    ):
        for command in (("show",), ("verify",), ("check",), ("attest", "--values", "-o", "m.json")):
            told = [command[0], folder, *command[1:], *([model[0]] if command == ("check",) else [])]
            said = run(*told, code=2).stderr
            assert message in said
            assert said.count("\n") == 1
    assert not (tmp_path / "m.json").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_it_has_the_form_of_orbaxs_own(model: tuple[Path, Path], tmp_path: Path, ocp: Any) -> None:
    recipe, like = model
    bigin.initialize(recipe, tmp_path / "ours", like=like, format="orbax")
    theirs = tmp_path / "theirs"
    ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False, use_zarr3=True)).save(theirs, nested())
    ours = json.loads((tmp_path / "ours/_METADATA").read_text())
    held = json.loads((theirs / "_METADATA").read_text())
    del ours["tree_metadata"]["('empty',)"]
    assert ours == held
    names = {path.name for path in theirs.iterdir()}
    assert names <= {path.name for path in (tmp_path / "ours").iterdir()}
    check(dict(ocp.PyTreeCheckpointer().restore(theirs), empty=expected("empty")))


def test_what_is_no_orbax_checkpoint_is_refused(model: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, like = model
    for options, message in (
        ({"out": tmp_path / "x.zarr"}, "expected a local folder for an Orbax checkpoint"),
        ({"out": "s3://bucket/x"}, "expected a local folder for an Orbax checkpoint"),
        ({"format": "zip"}, "expected the format 'orbax' or None"),
        ({"like": None}, "no model is filled in place"),
    ):
        given: Any = {"out": tmp_path / "x", "like": like, "format": "orbax"} | options
        with pytest.raises(bigin.InputError, match=message):
            bigin.initialize(recipe, **given)
    group = zarr.open_group(like, mode="r+")
    group.create_array("step.count", shape=(2,), dtype="float32")
    with pytest.raises(bigin.InputError, match=r"paths in a tree of dictionaries, got 'step' and 'step.count'"):
        bigin.initialize(recipe, tmp_path / "x", like=like, format="orbax")
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_the_command(model: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, like = model
    out = tmp_path / "out"
    assert "5 tensors" in run("init", recipe, "--like", like, out, "--format", "orbax").stdout
    assert "('layers', '0', 'weight')" in json.loads((out / "_METADATA").read_text())["tree_metadata"]
    assert run("verify", out).stdout.startswith(str(out))
    assert "expected --like" in run("init", recipe, like, "--format", "orbax", code=2).stderr
    said = run("init", "--dummy", "--like", like, out, "--format", "orbax", code=2).stderr
    assert "expected --format orbax without --dummy" in said


@pytest.mark.slow
def test_each_way_of_orbax_restores_shards(ocp: Any) -> None:
    need("jax")
    check_apart(TESTS / "frameworks/checks_orbax.py", "--all")


FILES = ("_METADATA", "_CHECKPOINT_METADATA", "commit_success.txt")


def test_it_is_a_checkpoint_when_all_parts_are_done(model: tuple[Path, Path], tmp_path: Path) -> None:
    recipe, like = model
    bigin.initialize(recipe, tmp_path / "whole", like=like, format="orbax")
    out, plan = tmp_path / "out", tmp_path / "plan.json"
    bigin.plan_initialize(recipe, out, parts=3, like=like, format="orbax").write(plan)
    bigin.Plan.read(plan).work("0,2")
    assert not any((out / name).exists() for name in FILES)
    with pytest.raises(bigin.FillError, match="1"):
        bigin.Plan.read(plan).finish()
    assert not any((out / name).exists() for name in FILES)
    bigin.Plan.read(plan).work("1")
    bigin.Plan.read(plan).finish()
    held = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    whole = tmp_path / "whole"
    assert held == {path.relative_to(whole): path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    assert {*FILES} <= {path.name for path in held}
    assert bigin.Plan.read(plan).finish().nbytes == 0


def test_while_it_is_filled_again_it_is_no_checkpoint(
    model: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, like = model
    out = tmp_path / "out"
    bigin.initialize(recipe, out, like=like, format="orbax")
    held: list[bool] = []

    def progress(done: int, total: int) -> None:
        held.append(any((out / name).exists() for name in FILES))

    given: Any = {"like": like, "format": "orbax", "seed": 9, "overwrite": True, "progress": progress}
    bigin.initialize(recipe, out, **given)
    assert held
    assert not any(held)
    assert all((out / name).exists() for name in FILES)
    plan = bigin.plan_initialize(recipe, out, parts=2, like=like, format="orbax", seed=3, overwrite=True)
    assert not any((out / name).exists() for name in FILES)
    plan.run("processes:1")
    assert bigin.verify(out).equal
    assert all((out / name).exists() for name in FILES)


@pytest.mark.slow
def test_a_configuration(tmp_path: Path, ocp: Any) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'bigin[transformers]'")
    said = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 50, "n_embd": 16, "n_layer": 1}
    config = tmp_path / "config.json"
    config.write_text(json.dumps(said | {"n_head": 2, "n_positions": 8}))
    out, plan = tmp_path / "out", tmp_path / "plan.json"
    run("init", "--config", config, out, "--format", "orbax", "--seed", 4)
    run("init", "--config", config, tmp_path / "parts", "--format", "orbax", "--seed", 4, "--parts", 2, "-o", plan)
    run("work", plan, "--part", "0-1")
    run("finish", plan)
    assert "equal" in run("verify", out, "--config", config, "--seed", 4).stdout
    for folder in (out, tmp_path / "parts"):
        tree = ocp.PyTreeCheckpointer().restore(folder)
        weight = np.asarray(bigin.virtual((50, 16), "normal", std=0.02, seed=4, name="transformer.wte.weight"))
        np.testing.assert_array_equal(tree["transformer"]["wte"]["weight"], weight)
