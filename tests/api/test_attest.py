"""attest: a manifest is checked from values or from the law alone, and whatever is changed is told."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from common import run

import bigin

RECIPE = """
seed = 5
[[rule]]
match = "q.weight"
method = "orthogonal"
[[rule]]
match = "*.weight"
method = "normal"
std = 0.02
[[rule]]
match = "*.bias"
method = "zeros"
"""
SHAPES = {"q.weight": (8, 8), "h.0.weight": (30, 8), "h.0.bias": (30,)}


@pytest.fixture
def model() -> str:
    Path("r.toml").write_text(RECIPE)
    group = zarr.open_group("model.zarr", mode="w")
    for name, shape in SHAPES.items():
        group.create_array(
            name.replace(".", "/"), shape=shape, chunks=tuple(-(-n // 2) for n in shape), dtype="float32"
        )
    bigin.initialize("r.toml", "model.zarr", seed=42)
    return "model.zarr"


def test_the_digests_are_what_the_page_says(model):
    made = bigin.attest(model, "m.json")
    held = json.loads(Path("m.json").read_text())
    values = zarr.open_group(model, mode="r")["h/0/weight"][...]
    expected = hashlib.blake2b(b"float32\0" + b"30x8\0" + values.astype("<f4").tobytes(), digest_size=32).hexdigest()
    assert held["tensors"]["h.0.weight"] == {"dtype": "float32", "shape": [30, 8], "blake2b": expected}
    lines = "".join(f"{name}\0{held['tensors'][name]['blake2b']}\n" for name in sorted(SHAPES))
    assert held["digest"] == made.digest == hashlib.blake2b(lines.encode(), digest_size=32).hexdigest()
    assert (held["seed"], held["stream"], held["bigin"]) == (42, 1, bigin.__version__)
    assert bigin.attest(model).text == Path("m.json").read_text()


def test_a_manifest_is_checked_by_values_and_by_the_law_alone(model, monkeypatch):
    bigin.attest(model, "m.json")
    monkeypatch.setattr("bigin.jobs.digests.STRETCH", 64)  # many stretches, the same digests
    monkeypatch.setattr("bigin.jobs.in_order.STRETCH", 64)
    manifest = bigin.Attestation.read("m.json")
    assert manifest.check().equal
    assert manifest.check(model).equal
    bigin.initialize("r.toml", "other.safetensors", like=model, seed=42)  # other names, other chunks
    assert manifest.check("other.safetensors").equal
    zarr.open_group(model)["h/0/weight"][29, 7] = 1
    result = manifest.check(model)
    assert (result.equal, result.different) == (False, ["h.0.weight"])


def test_by_a_recipe_and_no_record(model):
    first = bigin.attest(model)
    group = zarr.open_group(model)
    for name in SHAPES:
        del group[name.replace(".", "/")].attrs["bigin"]
    group.attrs.clear()
    with pytest.raises(bigin.RecordError):
        bigin.attest(model)
    made = bigin.attest(model, recipe="r.toml", seed=42)
    assert made.tensors == first.tensors
    assert made.by == "r.toml, seed 42"
    assert made.check().equal
    alone = bigin.attest(model, values_only=True)
    assert (alone.tensors, alone.law) == (first.tensors, None)
    assert alone.check(model).equal
    with pytest.raises(bigin.RecordError, match="digests alone"):
        alone.check()


def test_what_is_not_so_is_not_attested(model):
    with pytest.raises(bigin.DamagedError, match=r"something else in h\.0\.weight, q\.weight"):
        bigin.attest(model, "m.json", recipe="r.toml", seed=43)
    zarr.open_group(model)["h/0/bias"][3] = 1
    with pytest.raises(bigin.DamagedError, match=r"h\.0\.bias; .*values_only"):
        bigin.attest(model, "m.json")
    assert not Path("m.json").exists()
    assert bigin.attest(model, values_only=True).check(model).equal


def test_tensors_that_come_and_go(model):
    manifest = bigin.attest(model)
    group = zarr.open_group(model)
    group.create_array("new", shape=(3,), dtype="float32")
    del group["h/0/bias"]
    result = manifest.check(model)
    assert (result.different, result.missing, result.extra) == ([], ["h.0.bias"], ["new"])


@pytest.mark.parametrize(
    "edit",
    [
        lambda held: held["tensors"]["h.0.weight"].update(blake2b="0" * 64),
        lambda held: held["tensors"].pop("h.0.weight"),
        lambda held: held.update(format="x"),
        lambda held: held.update(stream=2),
        lambda held: held.pop("digest"),
        lambda held: held.update(tensors=[]),
    ],
)
def test_a_manifest_that_was_edited_is_refused(model, edit):
    held = json.loads(bigin.attest(model).text)
    edit(held)
    Path("m.json").write_text(json.dumps(held))
    with pytest.raises(bigin.InputError, match=r"m\.json: expected"):
        bigin.Attestation.read("m.json")


def test_a_law_that_was_edited_is_seen(model):
    held = json.loads(bigin.attest(model).text)
    held["law"]["tensors"]["h.0.weight"]["seed"] = 1
    Path("m.json").write_text(json.dumps(held))
    assert bigin.Attestation.read("m.json").check().different == ["h.0.weight"]


def test_the_command(model):
    assert "3 tensors of model.zarr, by its record" in run("attest", model, "-o", "m.json").stdout
    assert "the law: 3 tensors compared with m.json: equal" in run("attest", "--check", "m.json").stdout
    zarr.open_group(model)["h/0/weight"][0, 0] = np.nan
    done = run("attest", "--check", "m.json", model, code=1)
    assert "changed: 1 tensor of model.zarr: h.0.weight" in done.stdout
    assert json.loads(run("attest", "--check", "m.json", model, "--json", code=1).stdout)["different"] == ["h.0.weight"]
    run("attest", model, "-o", "n.json", code=1)
    run("attest", "--check", "missing.json", code=2)
    run("attest", "--check", "m.json", "--recipe", "r.toml", code=2)


def test_single_arrays_and_the_option_of_verify(model):
    """An .npy file, a zarr array and one in a group; by its record, a recipe, or a manifest."""
    Path("one.toml").write_text('[[rule]]\nmatch = "*.weight"\nmethod = "normal"\nstd = 0.02\n')
    bigin.fill("w.weight.npy", "normal", std=0.02, shape=(40, 30))
    bigin.fill("w.zarr", "normal", std=0.02, shape=(40, 30), name="w.weight")
    digests = set()
    for array in ("w.weight.npy", "w.zarr"):
        digests.add(bigin.attest(array, "one.json").tensors["w.weight" if array.endswith("npy") else "w"]["blake2b"])
        assert "1 tensor compared with one.json: equal" in run("verify", array, "--manifest", "one.json").stdout
        assert bigin.Attestation.read("one.json").check().equal
        assert bigin.check(array).right
    assert len(digests) == 1
    assert bigin.check("w.weight.npy", "one.toml").right
    assert bigin.verify("w.weight.npy", recipe="one.toml", seed=0).equal
    assert bigin.check(f"{model}/h/0/weight", "one.toml").right
    np.save("w.weight.npy", np.zeros((40, 30), np.float32))
    assert [each.tensor for each in bigin.check("w.weight.npy", "one.toml").wrong] == ["w.weight"]
    done = run("verify", "w.weight.npy", "--manifest", "one.json", code=1)
    assert "w.weight.npy: 1 tensor compared with one.json: not equal" in done.stdout
    assert run("verify", "w.zarr", "--manifest", "one.json", "--json").stdout.startswith("{")
    done = run("verify", "w.zarr", "--manifest", "one.json", "--method", "normal", code=2)
    assert "expected --manifest alone" in done.stderr
    done = run("check", "r.toml", "r.toml", code=2)
    assert "expected a checkpoint of safetensors, a zarr group or array, or a .npy file, got none" in done.stderr
