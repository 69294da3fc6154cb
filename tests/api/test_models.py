"""Whole models: every tensor by its rule, in checkpoints and groups, resumed, verified, and read back by others."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import reference
import zarr
from common import bits, examples, few, narrow, run, single
from hypothesis import given
from hypothesis import strategies as st
from strategies import dtypes_of

import bigin
from bigin import cli
from bigin.core.dtypes import DTYPES
from bigin.fillers.model import KEPT, ModelFiller, Setups
from bigin.targets.models import open_model
from bigin.targets.safetensors.header import lay_out, pack_header, read_header

# One recipe serves models of several sizes here, also some that its variables and rules are not for.
pytestmark = pytest.mark.filterwarnings("ignore::bigin.core.errors.RecipeWarning")

Tensors = dict[str, tuple[str, tuple[int, ...]]]


def checkpoint(path: str, tensors: Tensors) -> Path:
    """A safetensors file of zeros."""
    entries = lay_out((name, dtype, shape) for name, (dtype, shape) in tensors.items())
    end = max((entry.end for entry in entries.values()), default=0)
    Path(path).write_bytes(pack_header(entries, {}) + bytes(end))
    return Path(path)


def sharded(folder: str, *shards: Tensors) -> Path:
    """A checkpoint of several files of zeros, with an index."""
    Path(folder).mkdir()
    places = {}
    for i, tensors in enumerate(shards, 1):
        name = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        checkpoint(f"{folder}/{name}", tensors)
        places |= dict.fromkeys(tensors, name)
    (Path(folder) / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return Path(folder)


def group(path: str, tensors: Tensors, **options: Any) -> Path:
    """A group of empty arrays."""
    root = zarr.create_group(path)
    for name, (dtype, shape) in tensors.items():
        root.create_array(name, shape=shape, dtype=dtype, **{"compressors": None, **options})
    return Path(path)


def contents(path: Path) -> dict[str, np.ndarray]:
    """The values of a model, by another reader than ours where there is one."""
    if (path / "zarr.json").exists():
        members = zarr.open_group(path, mode="r").members(max_depth=None)
        return {name: np.asarray(member[...]) for name, member in members if isinstance(member, zarr.Array)}
    if path.is_file():
        return file_contents(path)
    index = path / "model.safetensors.index.json"
    if not index.exists():
        return file_contents(next(path.glob("*.safetensors")))
    places = json.loads(index.read_text())["weight_map"]  # as transformers reads it
    files = {file: file_contents(path / file) for file in set(places.values())}
    assert sorted(places) == sorted(name for held in files.values() for name in held)
    return {name: files[file][name] for name, file in places.items()}


def file_contents(path: Path) -> dict[str, np.ndarray]:
    """By the package, which knows the bytes; numpy has no names for the narrow dtypes."""
    safetensors = pytest.importorskip("safetensors", reason="safetensors is not installed: pip install 'bigin[test]'")
    names = {code: name for name, code in CODES.items()}
    held = dict(safetensors.deserialize(path.read_bytes()))
    return {
        name: np.frombuffer(told["data"], DTYPES[names[told["dtype"]]]).reshape(told["shape"])
        for name, told in held.items()
    }


CODES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2", "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64", "uint8": "U8",
    "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL", "complex64": "C64",
}  # fmt: skip


def same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert sorted(first) == sorted(second)
    for name, values in first.items():
        assert values.dtype == second[name].dtype, name
        np.testing.assert_array_equal(bits(values), bits(second[name]), name)


RECIPE = """
seed = 9
[vars]
n_layers = 3
[[rule]]
match = "*.norm.weight"
method = "ones"
[[rule]]
match = "*.o_proj.weight"
method = "normal"
std = "0.02 / sqrt(2 * n_layers)"
[[rule]]
match = "*.q.weight"
method = "orthogonal"
[[rule]]
match = "*step"
method = "zeros"
[default]
method = "trunc_normal"
std = 0.5
"""
MODEL: Tensors = {
    "embed.weight": (single("bfloat16"), (37, 12)),
    "layers.0.norm.weight": ("float32", (12,)),
    "layers.0.o_proj.weight": ("float32", (12, 30)),
    "layers.0.q.weight": ("float32", (16, 12)),
    "layers.1.norm.weight": (narrow("float16"), (12,)),
    "layers.1.o_proj.weight": (narrow("float64"), (12, 30)),
    "layers.1.q.weight": ("float64", (9, 12)),
    "scale": (single("float8_e4m3fn"), ()),
    "empty": ("float32", (0, 4)),
    "step": ("int64", ()),
}


def expected(tensors: Tensors, seed: int = 9, slash: bool = False) -> dict[str, np.ndarray]:
    """By the reference, which knows nothing of models."""
    made = {}
    for name, (dtype, shape) in tensors.items():
        path = name.replace(".", "/") if slash else name  # in a group; the name, and its stream, are the same
        method: tuple[str, dict[str, Any]] = ("trunc_normal", {"std": 0.5})
        if name.endswith("norm.weight"):
            method = ("ones", {})
        elif name.endswith("o_proj.weight"):
            method = ("normal", {"std": 0.02 / np.sqrt(6.0)})
        elif name.endswith("q.weight"):
            method = ("orthogonal", {})
        elif name.endswith("step"):
            method = ("zeros", {})
        made[path] = reference.tensor(*method, shape, dtype, seed, name)
    return made


@pytest.fixture
def recipe() -> Path:
    Path("recipe.toml").write_text(RECIPE)
    return Path("recipe.toml")


def test_a_checkpoint_like_a_file(recipe):
    like = checkpoint("like.safetensors", MODEL)
    report = bigin.initialize(recipe, "out", like=like)
    same(contents(Path("out")), expected(MODEL))
    assert report.nbytes == sum(int(np.prod(shape)) * DTYPES[dtype].itemsize for dtype, shape in MODEL.values())
    assert [path.name for path in Path("out").iterdir()] == ["like.safetensors"]
    assert not any(like.read_bytes()[4096:])  # the model it is like is only read
    bigin.initialize(recipe, "one.safetensors", like=like, seed=10)
    same(contents(Path("one.safetensors")), expected(MODEL, 10))
    start = read_header(Path("one.safetensors")).start
    assert start % 64 == 0


def test_a_checkpoint_like_a_sharded_one_and_a_group_like_it(recipe):
    names = list(MODEL)
    like = sharded("like", {name: MODEL[name] for name in names[::2]}, {name: MODEL[name] for name in names[1::2]})
    for place in (like, like / "model.safetensors.index.json"):
        bigin.initialize(recipe, "out", like=place, overwrite=True)
        same(contents(Path("out")), expected(MODEL))
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"
    ]  # fmt: skip
    index = json.loads(Path("out/model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(target.nbytes for target in open_model("out").members.values())
    bigin.initialize(recipe, "out.zarr", like="out")
    same(contents(Path("out.zarr")), expected(MODEL))
    bigin.initialize(recipe, "again", like="out.zarr", max_shard_size=500)
    same(contents(Path("again")), expected(MODEL))
    assert len(list(Path("again").glob("*.safetensors"))) > 2
    assert all(path.stat().st_size < 4096 + 4096 for path in Path("again").glob("*.safetensors"))


@pytest.mark.parametrize("layout", ["plain", "sharded", "compressed", "v2"])
def test_a_group_in_place(recipe, layout):
    tensors = {name.replace(".", "/"): tensor for name, tensor in MODEL.items()}
    options: dict[str, Any] = {
        "plain": {}, "compressed": {"compressors": "auto"}, "v2": {"zarr_format": 2}, "sharded": {}
    }[layout]  # fmt: skip
    root = zarr.create_group("model.zarr", zarr_format=options.pop("zarr_format", 3))
    for name, (dtype, shape) in tensors.items():
        chunks = tuple(5 for _ in shape)
        extra = {"shards": tuple(10 for _ in shape)} if layout == "sharded" and shape else {}
        root.create_array(name, shape=shape, dtype=dtype, chunks=chunks, **{"compressors": None, **options, **extra})
    bigin.initialize(recipe, "model.zarr")
    same(contents(Path("model.zarr")), expected(MODEL, slash=True)) if layout != "v2" else None
    if layout == "v2":
        held = {name: np.asarray(zarr.open_array(f"model.zarr/{name}")[...]) for name in tensors}
        same(held, expected(MODEL, slash=True))
    record = zarr.open_array("model.zarr/layers/0/o_proj/weight", mode="r").attrs["bigin"]
    assert (record["method"], record["name"], record["complete"]) == ("normal", "layers.0.o_proj.weight", True)
    assert "bigin" not in zarr.open_group("model.zarr", mode="r").attrs
    assert bigin.verify("model.zarr").equal
    assert bigin.verify("model.zarr/layers/0/o_proj/weight").equal
    with pytest.raises(bigin.InputError, match="--overwrite"):
        bigin.initialize(recipe, "model.zarr", seed=10)


def test_arrays_of_a_group_in_a_group_have_their_whole_paths_as_names(recipe):
    tensors = {name.replace(".", "/"): tensor for name, tensor in MODEL.items()}
    zarr.create_group("outer.zarr")
    group("outer.zarr/model", tensors)
    bigin.initialize(recipe, "outer.zarr/model")
    alone = np.zeros((12, 30), np.float32)
    bigin.fill(alone, "normal", std=0.02 / np.sqrt(6.0), seed=9, name="model.layers.0.o_proj.weight")
    np.testing.assert_array_equal(contents(Path("outer.zarr/model"))["layers/0/o_proj/weight"], alone)
    with pytest.raises(bigin.InputError, match="a path outside of other groups"):
        bigin.initialize(recipe, "outer.zarr/other.zarr", like="outer.zarr/model")


@pytest.mark.slow
def test_torch_reads_every_dtype():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    from safetensors.torch import load_file

    Path("r.toml").write_text(
        '[[rule]]\nmatch = ["bool", "complex64"]\nmethod = "ones"\n'
        '[[rule]]\nmatch = "*int*"\nmethod = "constant"\nval = 93\n[default]\nmethod = "normal"\nstd = 2'
    )
    bigin.initialize("r.toml", "x.safetensors", like=checkpoint("l.safetensors", {d: (d, (3, 5)) for d in CODES}))
    read = load_file("x.safetensors")
    assert sorted(read) == sorted(CODES)
    for name, tensor in read.items():
        method = ("constant", {"val": 93}) if "int" in name else ("normal", {"std": 2.0})
        method = ("ones", {}) if name in ("bool", "complex64") else method
        values = reference.tensor(*method, (3, 5), name, 0, name)
        assert str(tensor.dtype).removeprefix("torch.") == name
        assert tensor.contiguous().view(torch.uint8).numpy().tobytes() == values.tobytes(), name


NAMES = st.text("abc.0123", min_size=1, max_size=8)


@examples(40)
@given(
    st.data(),
    st.dictionaries(
        NAMES,
        st.tuples(st.sampled_from(dtypes_of("normal")), st.lists(st.integers(1, 9), max_size=3).map(tuple)),
        min_size=1,
        max_size=6,
    ),
)
def test_a_tensor_is_the_same_whatever_else_the_model_has(tmp_path_factory, data, tensors):
    folder = tmp_path_factory.mktemp("model")
    (folder / "r.toml").write_text('[[rule]]\nmatch = "*a*"\nmethod = "uniform"\n[default]\nmethod = "normal"')
    (folder / "s.toml").write_text(
        '[[rule]]\nmatch = "*[!a]*"\nmethod = "normal"\n[[rule]]\nmatch = "*"\nmethod = "uniform"'
    )
    some = {name: tensors[name] for name in data.draw(st.permutations(list(tensors)))[: data.draw(st.integers(1, 6))]}
    like = checkpoint(str(folder / "like.safetensors"), tensors)
    bigin.initialize(folder / "r.toml", folder / "a.safetensors", like=like, threads=data.draw(st.integers(1, 3)))
    bigin.initialize(
        folder / "r.toml", folder / "b.safetensors", like=checkpoint(str(folder / "like2.safetensors"), some)
    )
    whole, part = contents(folder / "a.safetensors"), contents(folder / "b.safetensors")
    same({name: whole[name] for name in some}, part)
    for name, (dtype, shape) in tensors.items():
        method = "uniform" if "a" in name else "normal"
        np.testing.assert_array_equal(bits(whole[name]), bits(reference.tensor(method, {}, shape, dtype, 0, name)))


# Fused tensors

METHODS = ["xavier_uniform", "normal", "orthogonal", "kaiming_normal", "sparse"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", ["safetensors", "zarr"])
def test_the_parts_of_a_fused_tensor_equal_the_unfused_ones(method, axis, kind):
    sizes = [20, 7, 7]
    shapes = [(size, 11) if axis == 0 else (11, size) for size in sizes]
    fused = (34, 11) if axis == 0 else (11, 34)
    extra = "sparsity = 0.4\n" if method == "sparse" else ""
    Path("r.toml").write_text(
        f'[[rule]]\nmatch = "*.qkv.weight"\nmethod = "{method}"\n{extra}'
        f'split = {{axis = {axis}, sizes = {sizes}, names = ["*.q.weight", "*.k.weight", "*.v.weight"]}}\n'
        f'[default]\nmethod = "{method}"\n{extra}'
    )
    one: Tensors = {"l.3.qkv.weight": ("float32", fused)}
    three: Tensors = {f"l.3.{part}.weight": ("float32", shape) for part, shape in zip("qkv", shapes, strict=True)}
    if kind == "zarr":
        one, three = ({name.replace(".", "/"): tensor for name, tensor in model.items()} for model in (one, three))
        bigin.initialize("r.toml", group("one.zarr", one, chunks=(4, 3)))
        bigin.initialize("r.toml", group("three.zarr", three))
        places = [Path("one.zarr"), Path("three.zarr")]
    else:
        bigin.initialize("r.toml", "one.safetensors", like=checkpoint("a.safetensors", one))
        bigin.initialize("r.toml", "three.safetensors", like=checkpoint("b.safetensors", three))
        places = [Path("one.safetensors"), Path("three.safetensors")]
    (whole,), parts = contents(places[0]).values(), contents(places[1])
    joined = np.concatenate([parts[name] for name in three], axis)
    np.testing.assert_array_equal(bits(whole), bits(joined))
    assert bigin.verify(places[0]).equal
    assert bigin.initialize("r.toml", places[0], like=None if kind == "zarr" else "a.safetensors").nbytes == 0  # done
    if kind == "zarr":
        assert bigin.verify("one.zarr/l/3/qkv/weight").equal


def test_stacked_experts_equal_the_experts_alone():
    Path("r.toml").write_text(
        '[[rule]]\nmatch = "*.experts.w1"\nmethod = "xavier_normal"\n'
        'split = {axis = 0, stack = true, names = "*.experts.{}.w1"}\n[default]\nmethod = "xavier_normal"\n'
    )
    bigin.initialize(
        "r.toml", "s.safetensors", like=checkpoint("a.safetensors", {"m.experts.w1": ("bfloat16", (5, 6, 7))})
    )
    alone: Tensors = {f"m.experts.{i}.w1": ("bfloat16", (6, 7)) for i in range(5)}
    bigin.initialize("r.toml", "t.safetensors", like=checkpoint("b.safetensors", alone))
    (stacked,), parts = contents(Path("s.safetensors")).values(), contents(Path("t.safetensors"))
    np.testing.assert_array_equal(bits(stacked), bits(np.stack([parts[name] for name in alone])))
    assert bigin.verify("s.safetensors").equal


def test_a_row_of_padding():
    Path("r.toml").write_text('[default]\nmethod = "normal"\npadding_idx = 2\n')
    bigin.initialize("r.toml", "x.safetensors", like=checkpoint("l.safetensors", {"e": ("float32", (5, 4))}))
    values = reference.tensor("normal", {}, (5, 4), "float32", 0, "e")
    values[2] = 0
    np.testing.assert_array_equal(contents(Path("x.safetensors"))["e"], values)
    assert bigin.verify("x.safetensors").equal


# One tensor of a checkpoint


def test_one_tensor_is_filled_again_in_place_and_its_record_is_kept(recipe):
    bigin.initialize(recipe, "x.safetensors", like=checkpoint("like.safetensors", MODEL))
    before = contents(Path("x.safetensors"))
    name = "layers.0.o_proj.weight"
    refused = run("fill", "--method", "ones", f"x.safetensors#{name}", code=2)
    assert "is filled with normal, seed 9; --overwrite" in refused.stderr
    run("fill", "--method", "xavier_uniform", "--seed", 4, f"x.safetensors#{name}", "--overwrite")
    after = contents(Path("x.safetensors"))
    values = reference.tensor("xavier_uniform", {}, (12, 30), "float32", 4, name)
    same(after, before | {name: values})
    record = json.loads(Path("x.safetensors.bigin.json").read_text())["tensors"][name]
    assert (record["method"], record["seed"], record["name"], record["complete"]) == ("xavier_uniform", 4, name, True)
    assert bigin.verify(f"x.safetensors#{name}").equal
    assert bigin.verify("x.safetensors").equal  # the record of the one stands above that of the model
    run("fill", "--method", "normal", "--std", 0.5, "x.safetensors#scale", "--overwrite")
    held = json.loads(Path("x.safetensors.bigin.json").read_text())["tensors"]
    assert sorted(held) == [name, "scale"]  # the first is not lost
    assert bigin.verify("x.safetensors").equal
    bigin.initialize(recipe, "x.safetensors", like="x.safetensors", overwrite=True)
    same(contents(Path("x.safetensors")), before)
    assert not Path("x.safetensors.bigin.json").exists()
    assert bigin.verify("x.safetensors").equal


def test_the_journal_of_one_tensor_says_nothing_of_another():
    like = checkpoint("x.safetensors", {"a": ("float32", (64, 8)), "b": ("float32", (64, 8))})
    from bigin.targets.safetensors.tensor import tensor_target

    first, second = tensor_target(like, "a"), tensor_target(like, "b")
    first.ledger.begin({"method": "ones"})
    first.ledger.checkpoint({"done": 1})
    assert first.ledger.progress() == {"done": 1}
    assert second.ledger.progress() is None
    first.close()


def test_a_tensor_of_a_sharded_checkpoint_is_found_by_its_name():
    sharded("like", {"a": ("float32", (3, 4))}, {"b": ("float32", (5, 6)), "c#d": ("float32", (2,))})
    bigin.fill("like#b", "ones")
    bigin.fill("like/model.safetensors.index.json#a", "ones")
    bigin.fill("like/model-00002-of-00002.safetensors#c#d", "ones")
    assert all((values == 1).all() for values in contents(Path("like")).values())
    with pytest.raises(bigin.InputError, match=r"expected the name of a tensor behind #, got 'bb'; did you mean b\?"):
        bigin.fill("like#bb", "ones")
    with pytest.raises(bigin.InputError, match=r"name a tensor in it, such as like/model-00001-of-00002.safetensors#a"):
        bigin.fill("like/model-00001-of-00002.safetensors", "ones")
    with pytest.raises(bigin.InputError, match=r"like: expected one tensor, got a checkpoint; name a tensor in it"):
        bigin.fill("like", "ones")
    with pytest.raises(bigin.InputError, match="expected a safetensors checkpoint, got nothing"):
        bigin.fill("none.safetensors#a", "ones")


# Verifying and repairing


@pytest.mark.parametrize("place", few("one.safetensors", "out", "model.zarr"))
def test_a_flipped_bit_of_any_tensor_is_found_and_mended(recipe, place):
    like = sharded("like", {n: MODEL[n] for n in list(MODEL)[:4]}, {n: MODEL[n] for n in list(MODEL)[4:]})
    bigin.initialize(recipe, place, like=like)
    assert run("verify", place).stdout.startswith(
        f"{place}: all regions compared with the methods of 10 tensors: equal"
    )
    whole = contents(Path(place))
    for name, values in whole.items():
        if values.size == 0:
            continue
        flip(Path(place), name)
        found = bigin.verify(place)
        assert [difference.where.split(",")[0] for difference in found.differences] == [name]
        assert found.differences[0].elements == 1
        assert found.differences[0].first == tuple(size - 1 for size in values.shape)
        if name == "scale":
            assert "scale, " in run("verify", place, "--repair").stdout
        else:
            assert bigin.verify(place, repair=True).repaired
        same(contents(Path(place)), whole)
    assert bigin.verify(place, sample=0.5).equal


def flip(place: Path, name: str) -> None:
    """One bit of the last element of a tensor."""
    if place.suffix == ".zarr":
        file = next(path for path in (place / name).rglob("*") if path.is_file() and path.name != "zarr.json")
        offset = file.stat().st_size - 1
    else:
        files = [place] if place.is_file() else sorted(place.glob("*.safetensors"))
        file = next(path for path in files if name in read_header(path).entries)
        header = read_header(file)
        offset = header.start + header.entries[name].end - 1
    with file.open("r+b") as opened:
        opened.seek(offset)
        byte = opened.read(1)[0]
        opened.seek(offset)
        opened.write(bytes([byte ^ 1]))


def test_a_checkpoint_without_a_record_is_no_model_to_verify():
    checkpoint("x.safetensors", MODEL)
    assert "expected a record of a fill, got none" in run("verify", "x.safetensors", code=2).stderr
    bigin.fill("x.safetensors#scale", "ones")
    assert "expected a record of every tensor, got none for" in run("verify", "x.safetensors", code=2).stderr


def test_a_group_is_verified_without_the_arrays_that_its_recipe_skips():
    group = zarr.open_group("g.zarr", mode="w")
    for name in ("a/weight", "ids", "mask"):
        group.create_array(name, shape=(8, 4), dtype="f4")
    Path("r.toml").write_text('skip = ["ids", "mask"]\n[default]\nmethod = "normal"\n')
    run("init", "r.toml", "g.zarr")
    told = run("verify", "g.zarr").stdout
    assert (
        "g.zarr (2 arrays without a record left out): all regions compared with the methods of 1 tensor: equal" in told
    )
    zarr.open_array("g.zarr/a/weight")[3, 2] = 7
    assert "1 element differs, the first at [3, 2]" in run("verify", "g.zarr", code=1).stdout


# Interrupted

LARGE: Tensors = {
    f"layers.{i}.{what}.weight": ("float64", (600 + i, 900)) for i in range(12) for what in ("o_proj", "up")
}
LARGE |= {f"layers.{i}.norm.weight": ("float32", (900,)) for i in range(12)}


# A command that is killed, by its own hand, when it begins to store the region of a given number.
DYING = """
import os, signal, sys
import bigin.jobs.run as run
from bigin.cli import main
store, left = run.store, [int(sys.argv[1])]
def dying(*arguments):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return store(*arguments)
run.store = dying
sys.argv = ["bigin", *sys.argv[2:]]
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", few("one.safetensors", "out", "new.zarr", "model.zarr"))
def test_a_fill_that_is_killed_goes_on_and_ends_with_the_same_bytes(recipe, place):
    names = list(LARGE)
    like = sharded("like", {n: LARGE[n] for n in names[:20]}, {n: LARGE[n] for n in names[20:]})
    command = ["init", str(recipe), place, *(() if place == "model.zarr" else ("--like", str(like)))]
    whole = Path(f"whole{Path(place).suffix}")
    if place == "model.zarr":
        group("model.zarr", {name.replace(".", "/"): tensor for name, tensor in LARGE.items()})
        shutil.copytree("model.zarr", "empty.zarr")
    if place == "model.zarr":
        whole = Path("empty.zarr")
        bigin.initialize(recipe, whole)
    else:
        bigin.initialize(recipe, whole, like=like)
    for stored in (1, 5, 7, 3):
        process = subprocess.run([sys.executable, "-c", DYING, str(stored), *command], capture_output=True, text=True)
        assert process.returncode == -signal.SIGKILL, process.stderr
        target = open_model(place) if Path(place).exists() else None
        if target is not None and (record := target.ledger.record()) is not None:
            assert record["complete"] is False
    run(*command)
    same(contents(Path(place)), contents(whole))
    assert bigin.verify(place).equal
    if place in ("out", "one.safetensors"):
        files = sorted(path for path in [Path(place), *Path(place).rglob("*")] if path.is_file())
        others = sorted(path for path in [whole, *whole.rglob("*")] if path.is_file())
        assert [path.read_bytes() for path in files] == [path.read_bytes() for path in others]
    assert not [path for path in Path.cwd().rglob("*") if "partial" in path.name or "journal" in path.name]


@pytest.mark.parametrize("place", ["out", "model.zarr"])
def test_what_the_journal_says_is_done_is_not_made_again_and_the_rest_is(recipe, place):
    tensors = {name.replace(".", "/"): tensor for name, tensor in MODEL.items()}
    arguments: dict[str, Any] = {"like": group("like.zarr", tensors)}
    if place == "model.zarr":
        group(place, tensors)
        arguments = {}
    with broken_after(7):
        bigin.initialize(recipe, place, threads=1, **arguments)
    if place == "out":
        assert not list(Path(place).glob("*.safetensors"))  # nothing that is not whole has the name of a model
        begun = json.loads(Path("out/model.safetensors.partial.bigin.json").read_text())
    else:
        begun = zarr.open_group(place, mode="r").attrs["bigin"]
    assert begun["complete"] is False
    report = bigin.initialize(recipe, place, **arguments)
    assert report.stored > 0
    assert report.nbytes > 0
    same(contents(Path(place)), expected(MODEL, slash=True))
    assert not [path for path in Path.cwd().rglob("*") if "partial" in path.name or "journal" in path.name]


def test_another_recipe_does_not_go_on_with_a_group_that_is_half_filled(recipe):
    group("model.zarr", {name.replace(".", "/"): tensor for name, tensor in MODEL.items()})
    with broken_after(7):
        bigin.initialize(recipe, "model.zarr", threads=1)
    with pytest.raises(bigin.InputError, match=r"is half filled with .*; --overwrite"):
        bigin.initialize(recipe, "model.zarr", seed=77)
    bigin.initialize(recipe, "model.zarr", seed=77, overwrite=True)
    same(contents(Path("model.zarr")), expected(MODEL, 77, slash=True))


@contextmanager
def broken_after(count: int) -> Iterator[None]:
    """The filling of a model fails after so many regions."""
    calls: list[int] = []
    fill = ModelFiller.__call__

    def call(self: Any, region: Any, out: Any) -> None:
        calls.append(1)
        if len(calls) > count:
            raise ValueError("broken on purpose")
        fill(self, region, out)

    with mock.patch.object(ModelFiller, "__call__", call), pytest.raises(bigin.FillError, match="broken on purpose"):
        yield


def test_two_fills_of_one_model_at_once_the_second_is_refused(recipe):
    like = checkpoint("like.safetensors", LARGE)
    bigin.initialize(recipe, "out", like=like)
    target = open_model("out")
    target.ledger.lock()
    with pytest.raises(bigin.InputError, match="expected no other writer"):
        bigin.initialize(recipe, "out", like=like, seed=1, overwrite=True)
    target.close()
    bigin.initialize(recipe, "out", like=like, seed=1, overwrite=True)


def test_a_model_that_is_there_stays_until_the_new_one_is_whole(recipe):
    like = checkpoint("like.safetensors", MODEL)
    bigin.initialize(recipe, "out", like=like)
    before = contents(Path("out"))
    with pytest.raises(bigin.InputError, match="is filled with a recipe, seed 9; --overwrite"):
        bigin.initialize(recipe, "out", like=like, seed=1)
    with broken_after(3):
        bigin.initialize(recipe, "out", like=like, seed=1, overwrite=True)
    same(contents(Path("out")), before)
    bigin.initialize(recipe, "out", like=like, seed=1, overwrite=True)
    same(contents(Path("out")), expected(MODEL, 1))
    assert sorted(path.name for path in Path("out").iterdir()) == ["like.safetensors"]


def test_few_tensors_are_set_up_at_a_time():
    class Counted:
        alive = 0
        most = 0

        def setup(self, *arguments: Any) -> None:
            Counted.alive += 1
            Counted.most = max(Counted.most, Counted.alive)

        def __del__(self) -> None:
            Counted.alive -= 1

    setups = Setups()
    for key in (0, 0, 1, 0, 2, 3, 3, 1):
        setups.get(key, Counted, lambda made, *_: made.setup())  # type: ignore[arg-type, attr-defined]
    assert Counted.most == KEPT
    kept = [setups.get(1, Counted, lambda *_: None) for _ in range(2)]  # type: ignore[arg-type]
    assert kept[0] is kept[1]


# The command line


def test_a_dry_run_prints_every_tensor_and_changes_nothing(recipe):
    checkpoint("like.safetensors", MODEL)
    before = sorted(path.name for path in Path.cwd().iterdir())
    printed = run("init", recipe, "--like", "like.safetensors", "--dry-run").stdout
    for name in MODEL:
        assert name in printed.split()
    assert "12x30 float32" in printed
    assert "rule 2" in printed
    assert "default" in printed
    assert f"N(0, {0.02 / np.sqrt(6):.6g}^2)" in printed
    assert "1.4 KiB" in printed
    assert printed.strip().startswith("10 tensors, ")
    assert sorted(path.name for path in Path.cwd().iterdir()) == before


def test_the_command_line_makes_a_model_and_knows_it_again(recipe):
    checkpoint("like.safetensors", MODEL)
    first = run("init", recipe, "out", "--like", "like.safetensors", "--var", "n_layers=4", "--seed", 3).stdout
    assert first.startswith("out: 10 tensors filled by recipe.toml; ")
    again = run("init", recipe, "out", "--like", "like.safetensors", "--var", "n_layers=4", "--seed", 3).stdout
    assert again == "out: 10 tensors already filled by recipe.toml; --overwrite fills it again\n"
    assert run("init", recipe, "out", "--like", "like.safetensors", "--quiet", "--overwrite").stdout == ""
    same(contents(Path("out")), expected(MODEL))


BAD: list[tuple[list[str], str]] = [
    (["none.toml", "out", "--like", "m.safetensors"], "none.toml: expected a recipe, got none that can be read"),
    (["gpt5", "out", "--like", "m.safetensors"], "expected a recipe's file or a preset among bert"),
    (["gpt2", "out", "--like", "m.safetensors"], "expected a value, as it has no default; give --var n_layers="),
    (["gpt2", "out", "--like", "m.safetensors", "--var", "n_layers"], "expected NAME=VALUE, got 'n_layers'"),
    (["r.toml", "out", "--like", "m.safetensors", "--var", "k=1"], "expected a variable that the recipe declares"),
    (["r.toml", "out", "--like", "none.safetensors"], "none.safetensors: expected a safetensors file, got nothing"),
    (["r.toml", "out", "--like", "none"], "none: expected a safetensors checkpoint or a zarr group, got neither"),
    (["r.toml", "out"], "out: expected a safetensors checkpoint or a zarr group, got neither"),
    (["r.toml", "m.safetensors"], "expected a zarr group; a checkpoint is always written new"),
    (["r.toml"], "expected OUT"),
    (["r.toml", "no/out", "--like", "m.safetensors"], "expected an existing folder no; create it first"),
    (["r.toml", "no/out.zarr", "--like", "m.safetensors"], "expected an existing folder no; create it first"),
    (["r.toml", "r.toml", "--like", "m.safetensors"], "r.toml: expected a folder, a .safetensors file or a .zarr"),
    (["r.toml", "g.zarr", "--like", "m.safetensors"], "g.zarr: expected nothing there, or a group with the array"),
    (["r.toml", "folder.safetensors", "--like", "m.safetensors"], "expected a file, got a folder"),
    (["r.toml", "out", "--like", "scales.safetensors"], 'got F8_E5M2FNUZ; leave it out with skip = ["b"]'),
    (["r.toml", "out", "--like", "int.safetensors"], "i: expected a float dtype for random values, got int64"),
    (["one.toml", "out", "--like", "m.safetensors"], "expected a rule for every tensor, got none for embed.weight"),
    (["r.toml", "out", "--like", "bad"], "expected files in its own folder, got '../m.safetensors'"),
    (["r.toml", "out", "--like", "lies"], "expected a in m-2.safetensors, got it in no file"),
    (["r.toml", "out", "--like", "m.safetensors", "--max-shard-size", "x"], "expected a size such as"),
    (["r.toml", "out", "--like", "m.safetensors", "--threads", "0"], "expected at least 1 thread"),
    (["r.toml", "out", "--like", "m.safetensors", "--seed", "-1"], "expected a seed from 0"),
    (["r.toml", "out.zarr", "--like", "dots.safetensors"], "expected names that are paths in a group, got 'a/../b'"),
    (["r.toml", "out", "--like", "two"], "expected every tensor once, got a in a.safetensors and b.safetensors"),
]  # fmt: skip


def zoo() -> None:
    checkpoint("m.safetensors", MODEL)
    checkpoint("int.safetensors", {"i": ("int64", (3,))})
    checkpoint("dots.safetensors", {"a/../b": ("float32", (3,))})
    header = json.dumps({"b": {"dtype": "F8_E5M2FNUZ", "shape": [3], "data_offsets": [0, 3]}}).encode()
    Path("scales.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(3))
    Path("r.toml").write_text(RECIPE)
    Path("one.toml").write_text('[[rule]]\nmatch = "layers.*"\nmethod = "normal"\n')
    Path("folder.safetensors").mkdir()
    group("g.zarr", {"x": ("float32", (3,))})
    for folder, places in (
        ("bad", {"a": "../m.safetensors"}),
        ("lies", {"a": "m-2.safetensors", "b": "m-1.safetensors"}),
    ):
        Path(folder).mkdir()
        (Path(folder) / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    checkpoint("lies/m-1.safetensors", {"b": ("float32", (3,))})
    checkpoint("lies/m-2.safetensors", {})
    Path("two").mkdir()
    checkpoint("two/a.safetensors", {"a": ("float32", (3,))})
    checkpoint("two/b.safetensors", {"a": ("float32", (3,))})


def test_bad_input_is_one_line_exit_code_2_and_changes_no_byte(capsys):
    zoo()
    before = {str(path): path.read_bytes() for path in sorted(Path.cwd().rglob("*")) if path.is_file()}
    for arguments, message in BAD:
        with mock.patch.object(sys, "argv", ["bigin", "init", *arguments]), pytest.raises(SystemExit) as end:
            cli.main()
        printed, errors = capsys.readouterr()
        assert message in errors, (arguments, errors)
        assert end.value.code == 2
        assert printed == ""
        if errors.startswith("bigin: "):
            assert errors.count("\n") == 1
        after = {str(path): path.read_bytes() for path in sorted(Path.cwd().rglob("*")) if path.is_file()}
        assert after == before, arguments
        assert not Path("out").exists()


def test_as_many_files_as_the_system_allows_are_open_at_once():
    """In a process of its own, whose limit is low."""
    header = {
        f"w{i:03}": {"dtype": "F32", "shape": [300], "data_offsets": [1200 * i, 1200 * i + 1200]} for i in range(400)
    }
    text = json.dumps(header).encode()
    Path("like.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(1200 * 400))
    Path("recipe.toml").write_text('[default]\nmethod = "normal"\n')
    code = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (64, int(sys.argv[1])))
from bigin.cli import main
sys.argv = ["bigin", "init", "recipe.toml", "--like", "like.safetensors", "out/", "--max-shard-size", "1500"]
main()
"""
    refused = subprocess.run([sys.executable, "-c", code, "410"], capture_output=True, text=True)
    assert refused.returncode == 1
    told = r"expected a system that lets a process have 4[2-9]\d files open, got one that allows 410; raise the limit"
    assert re.search(told, refused.stderr), refused.stderr
    assert not Path("out").exists()
    made = subprocess.run([sys.executable, "-c", code, "2000"], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert len(list(Path("out").glob("*.safetensors"))) == 400
    assert bigin.verify("out").equal


def test_a_recipe_is_looked_for_before_the_model():
    """Both are missing: the first argument is told first."""
    for recipe, text in (("none.toml", "none.toml: expected a recipe"), ("gpt22", "did you mean gpt2")):
        with pytest.raises(bigin.InputError, match=text):
            bigin.initialize(recipe, "out", like="missing")
        with pytest.raises(bigin.InputError, match=text):
            bigin.outline(recipe, "missing")
