"""What others are copied from: zarr groups and arrays, .npy files, and all of them in a store that is really there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from common import bits, run

import bigin
from bigin.core import source as sources
from bigin.targets.objects.open import store_at

safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed: pip install 'bigin[test]'")
SHAPES = {"h.0.w": (50, 24), "h.0.b": (24,), "wte.weight": (70, 24)}
RECIPE = """seed = 3
[[rule]]
match = "wte.weight"
grow = {rows = 80, new = "mean+covariance"}
[[rule]]
match = "h.*.w"
copy = {from = "h.*.w", multiply = 0.5}
[default]
copy = "*"
"""


def tensors() -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    return {name: random.standard_normal(shape).astype("float32") for name, shape in SHAPES.items()}


def group(place: str, held: dict[str, np.ndarray], chunk: int = 7, **options: object) -> None:
    made = zarr.open_group(place, mode="w")
    for name, values in held.items():
        chunks = tuple(min(chunk, n) for n in values.shape)
        made.create_array(name.replace(".", "/"), data=values, chunks=chunks, **options)


def expected(old: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the recipe makes of a checkpoint on this disk."""
    safetensors.save_file(old, "expected.safetensors")
    Path("recipe.toml").write_text(RECIPE)
    bigin.initialize("recipe.toml", "local.safetensors", source="expected.safetensors")
    return safetensors.load_file("local.safetensors")


def check_same(out: str, wanted: dict[str, np.ndarray]) -> None:
    made = safetensors.load_file(out)
    assert made.keys() == {name.replace(".", made_of(made)) for name in wanted}
    for name, values in wanted.items():
        assert np.array_equal(bits(made[name.replace(".", made_of(made))]), bits(values)), name


def made_of(made: dict[str, np.ndarray]) -> str:
    """What is between the parts of names: those of a group are paths."""
    return "/" if any("/" in name for name in made) else "."


@pytest.mark.parametrize("codec", ["auto", None])
def test_a_group_is_copied_as_a_checkpoint_is(codec):
    old = tensors()
    wanted = expected(old)
    group("old.zarr", old, compressors=codec)
    report = bigin.initialize("recipe.toml", "new.safetensors", source="old.zarr")
    check_same("new.safetensors", wanted)
    assert bigin.verify("new.safetensors").equal
    assert next(iter(report.record["tensors"].values()))["shape"]
    shutil.move("old.zarr", "moved.zarr")
    with pytest.raises(bigin.SourceError, match=r"old\.zarr: expected the file of which tensors were copied"):
        bigin.verify("new.safetensors")
    assert bigin.verify("new.safetensors", source="moved.zarr").equal
    zarr.open_group("moved.zarr")["h/0/b"][3] = 7
    with pytest.raises(bigin.SourceError, match="expected the array of which h/0/b was copied"):
        bigin.verify("new.safetensors", source="moved.zarr")


def test_rows_are_added_to_a_group():
    old = tensors()
    wanted = expected(old)
    group("old.zarr", old)
    bigin.grow_vocabulary("old.zarr", "new.zarr", 80, new="mean+covariance", seed=3)
    new = zarr.open_group("new.zarr")
    assert np.array_equal(bits(new["wte/weight"][...]), bits(wanted["wte.weight"]))
    assert np.array_equal(new["h/0/w"][...], old["h.0.w"])
    assert bigin.verify("new.zarr").equal


def test_single_arrays_are_copied():
    """An .npy file, a folder of them, and a zarr array, by the names of the law."""
    values = tensors()["h.0.w"]
    Path("arrays").mkdir()
    np.save("arrays/w.npy", values)
    np.save("arrays/v.npy", values[:3].astype("float64"))
    zarr.create_array("w.zarr", data=values, chunks=(7, 5))
    safetensors.save_file({"x": np.zeros((24, 50), "float16")}, "like.safetensors")
    Path("r.toml").write_text('[[rule]]\nmatch = "x"\ncopy = {from = "w", transpose = true}\n')
    for source in ("arrays/w.npy", "arrays", "w.zarr", f"file://{Path('w.zarr').absolute()}"):
        bigin.initialize("r.toml", "new.safetensors", like="like.safetensors", source=source, overwrite=True)
        assert np.array_equal(safetensors.load_file("new.safetensors")["x"], values.T.astype("float16"))
        assert bigin.verify("new.safetensors").equal
    np.save("w.npy", np.asfortranarray(values))
    with pytest.raises(bigin.InputError, match=r"expected a \.npy file in C order"):
        bigin.initialize("r.toml", "new.safetensors", like="like.safetensors", source="w.npy", overwrite=True)
    np.save("w.npy", values.astype(">f4"))
    with pytest.raises(bigin.InputError, match="expected little-endian values"):
        bigin.initialize("r.toml", "new.safetensors", like="like.safetensors", source="w.npy", overwrite=True)
    done = run("init", "r.toml", "n.safetensors", "--like", "like.safetensors", "--from", "none", code=2)
    assert "none: expected a checkpoint of safetensors, a zarr group or array, or .npy files" in done.stderr


def test_chunks_of_a_group_are_decoded_once(monkeypatch):
    """Though regions of the file end within them."""
    values = np.arange(3000 * 1000, dtype="float32").reshape(3000, 1000)
    array = zarr.create_group("old.zarr").create_array("w", data=values, chunks=(300, 600))
    Path("r.toml").write_text('[default]\ncopy = "*"\n')
    bigin.outline("r.toml", source="old.zarr")
    from bigin.targets.zarr.array import ZarrTarget

    read, whole = [], ZarrTarget.read

    def counted(self, region):
        values = whole(self, region)
        read.append(values.nbytes)
        return values

    monkeypatch.setattr(sources, "WHOLE", 0)  # a digest of pages
    bigin.initialize("r.toml", "new.safetensors", source="old.zarr", threads=1)
    monkeypatch.setattr(ZarrTarget, "read", counted)
    bigin.initialize("r.toml", "again.safetensors", source="old.zarr", threads=1)
    assert np.array_equal(safetensors.load_file("again.safetensors")["w"], values)
    assert sum(read) < 2.5 * values.nbytes  # the digest, and the copy
    assert array.shape == values.shape


@pytest.fixture
def store(moto, request, monkeypatch):
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    return moto.url(f"{request.node.name}-{os.getpid()}")


def put(url: str, path: str) -> None:
    held, key = store_at(url)
    held.put(key, Path(path).read_bytes())


def test_a_checkpoint_in_a_store_is_copied_by_ranges(store):
    old = tensors()
    wanted = expected(old)
    put(f"{store}/model.safetensors", "expected.safetensors")
    Path("config.json").write_text('{"vocab_size": 70}')
    put(f"{store}/config.json", "config.json")
    Path("recipe.toml").write_text(f'from = "{store}"\n{RECIPE}')
    bigin.initialize("recipe.toml", "new")
    check_same("new/model.safetensors", wanted)
    assert '"vocab_size": 80' in Path("new/config.json").read_text()
    assert bigin.verify("new").equal
    assert bigin.verify("new", recipe="recipe.toml", like="new").equal
    Path("here").mkdir()
    shutil.copy("expected.safetensors", "here/model.safetensors")  # a copy of the object has its digest
    assert bigin.verify("new", source="here").equal
    with pytest.raises(bigin.InputError, match="expected a path other than"):
        bigin.initialize("recipe.toml", store)
    with pytest.raises(
        bigin.InputError, match=r"expected a checkpoint of safetensors, a zarr group or array, or \.npy"
    ):
        bigin.initialize("recipe.toml", "other", source=f"{store}/nothing")


@pytest.mark.slow
def test_surgery_from_a_store_to_a_store_and_in_parts(store):
    wanted = expected(tensors())
    put(f"{store}/model.safetensors", "expected.safetensors")
    Path("recipe.toml").write_text(f'from = "{store}"\n{RECIPE}')
    Path("here").mkdir()
    shutil.copy("expected.safetensors", "here/model.safetensors")
    bigin.grow_vocabulary(store, f"{store}-new", 80, new="mean+covariance", seed=3)
    bigin.initialize("recipe.toml", f"{store}-again")
    for place in (f"{store}-new", f"{store}-again"):
        assert bigin.verify(place).equal
        assert bigin.verify(place, source="here").equal
    plan = bigin.plan_initialize("recipe.toml", "parts", parts=2)
    plan.work("0-1")
    plan.finish()
    check_same("parts/model.safetensors", wanted)


@pytest.mark.slow
def test_arrays_in_a_store_are_copied(store):
    old = tensors()
    wanted = expected(old)
    group("old.zarr", old, 40)
    held, key = store_at(f"{store}/old.zarr")
    for path in Path("old.zarr").rglob("*"):
        if path.is_file():
            held.put(f"{key}/{path.relative_to('old.zarr')}", path.read_bytes())
    bigin.initialize("recipe.toml", "new.safetensors", source=f"{store}/old.zarr")
    check_same("new.safetensors", wanted)
    assert bigin.verify("new.safetensors", source="old.zarr").equal
    np.save("w.npy", old["h.0.w"])
    put(f"{store}/w.npy", "w.npy")
    safetensors.save_file({"w": np.zeros((50, 24), "float32")}, "like.safetensors")
    Path("r.toml").write_text(f'from = "{store}/w.npy"\n[default]\ncopy = "*"\n')
    bigin.initialize("r.toml", "one.safetensors", like="like.safetensors")
    assert np.array_equal(safetensors.load_file("one.safetensors")["w"], old["h.0.w"])
    assert bigin.verify("one.safetensors").equal
    put(f"{store}/w.npy", "like.safetensors")
    bigin.targets.objects.sources._known.cache_clear()
    with pytest.raises(bigin.SourceError, match="got another one"):
        bigin.verify("one.safetensors")


def test_large_objects_are_read_in_many_small_requests(store, monkeypatch):
    """And a digest is of pages, the same as that of the file."""
    from bigin.targets.objects import sources as objects

    monkeypatch.setattr(objects, "FEW", 64 << 10)
    monkeypatch.setattr(sources, "WHOLE", 1 << 20)
    monkeypatch.setattr(sources, "SAMPLES", 20)
    values = np.random.default_rng(0).standard_normal((512, 1024)).astype("float32")
    safetensors.save_file({"w": values}, "big.safetensors")
    put(f"{store}/big.safetensors", "big.safetensors")
    Path("r.toml").write_text('[default]\ncopy = "*"\n')
    report = bigin.initialize("r.toml", "new.safetensors", source=f"{store}/big.safetensors")
    assert np.array_equal(safetensors.load_file("new.safetensors")["w"], values)
    told = report.record["tensors"]["w"]["copy"]
    assert told["digest"] == sources.digest_of("big.safetensors")
