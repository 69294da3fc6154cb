"""Checkpoints that torch.distributed.checkpoint reads, written piece by piece."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from common import LIMIT, MIB, PEAK, TESTS, run

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

import checkpoints  # noqa: E402
import torch.distributed.checkpoint as dcp  # noqa: E402
from checkpoints import same  # noqa: E402
from torch import nn  # noqa: E402
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save  # noqa: E402

import bigin  # noqa: E402
import bigin.torch  # noqa: E402
from bigin.core.dtypes import parse_dtype  # noqa: E402
from bigin.spec.tensor import TensorSpec  # noqa: E402

pytestmark = pytest.mark.usefixtures("alone")


class Model(checkpoints.Model):
    """And a buffer that is not saved, one of booleans, an empty tensor and a float64."""

    def __init__(self):
        super().__init__(torch.float64)
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("empty", torch.empty(0, 3))
        self.register_buffer("rotary", torch.arange(4.0), persistent=False)


def recorded(seed=4):
    with bigin.torch.deferred(seed=seed) as init:
        model = Model()
    return model, init


def expected(init):
    model = Model()
    bigin.torch.init_(model, init)
    return model.state_dict()


def loaded(out):
    model = Model().requires_grad_(False)
    for tensor in model.state_dict().values():
        tensor.fill_(1)
    dcp.load(model.state_dict(), checkpoint_id=out)
    return model.state_dict()


@pytest.mark.parametrize("size", [None, 500, 100, 1])
def test_a_checkpoint_loads(size):
    _, init = recorded()
    wanted = expected(init)
    report = bigin.torch.save_dcp(init, "out", max_shard_size=size)
    assert report.nbytes == sum(t.nbytes for name, t in wanted.items() if name != "head.weight")
    same(loaded("out"), wanted)
    dcp_to_torch_save("out", "whole.pt")
    same(torch.load("whole.pt"), wanted)
    assert bigin.verify("out").equal
    again = bigin.torch.save_dcp(init, "out", max_shard_size=size)
    assert (again.nbytes, again.stored) == (0, report.nbytes)


def test_it_is_what_torch_writes():
    """The same names, shapes and dtypes, and records of the same length and the same bytes but for two checksums."""
    _, init = recorded()
    bigin.torch.save_dcp(init, "ours")
    dcp.save(expected(init), checkpoint_id="torchs")
    ours, torchs = (pickle.loads(Path(folder, ".metadata").read_bytes()) for folder in ("ours", "torchs"))
    assert ours.state_dict_metadata.keys() == torchs.state_dict_metadata.keys()
    assert ours.planner_data == torchs.planner_data
    assert ours.version == torchs.version
    for name, told in torchs.state_dict_metadata.items():
        assert ours.state_dict_metadata[name].size == told.size
        assert ours.state_dict_metadata[name].chunks == told.chunks
        assert ours.state_dict_metadata[name].properties.dtype == told.properties.dtype
    assert ours.storage_data.keys() == torchs.storage_data.keys()
    for index, at in torchs.storage_data.items():
        mine = ours.storage_data[index]
        assert mine.length == at.length
        one, other = (
            Path(folder, place.relative_path).read_bytes()[place.offset : place.offset + place.length]
            for folder, place in (("ours", mine), ("torchs", at))
        )
        if index.fqn == "up.weight":
            assert sum(a != b for a, b in zip(one, other, strict=True)) < 80


def test_files_are_as_small_as_they_are_to_be():
    """A tensor with more bytes lies in several of them, row by row."""
    values = {"w": TensorSpec.parse("orthogonal", {}, 1, "w", (100, 16), parse_dtype("float32"))}
    bigin.torch.save_dcp(values, "out", max_shard_size="2kB")
    told = json.loads(Path("out/.metadata.bigin.json").read_text())["files"]
    assert [file["pieces"][0][2] for file in told.values()] == [[31, 16]] * 3 + [[7, 16]]
    found = {"w": torch.zeros(100, 16)}
    dcp.load(found, checkpoint_id="out")
    assert torch.equal(found["w"], bigin.init.orthogonal_(torch.empty(100, 16), seed=1, name="w"))


@pytest.mark.parametrize("dtype", ["float16", "float8_e4m3fn", "float8_e5m2"])
def test_narrow_floats(dtype):
    spec = TensorSpec.parse("normal", {}, 1, "w", (9, 7), parse_dtype(dtype))
    bigin.torch.save_dcp({"w": spec}, "out", max_shard_size=20)
    found = torch.zeros(9, 7, dtype=getattr(torch, dtype))
    dcp.load({"w": found}, checkpoint_id="out")
    assert bigin.verify(found, "normal", seed=1, name="w").equal


def test_what_was_changed_is_found_and_repaired():
    _, init = recorded()
    bigin.torch.save_dcp(init, "out", max_shard_size=300)
    place = pickle.loads(Path("out/.metadata").read_bytes()).storage_data
    at = next(place[index] for index in place if index.fqn == "square.weight")
    path = Path("out", at.relative_path)
    data = bytearray(path.read_bytes())
    data[at.offset + 710] ^= 1
    path.write_bytes(data)
    result = bigin.verify("out")
    assert not result.equal
    assert "square.weight" in str(result.differences[0])
    assert bigin.verify("out", repair=True).repaired
    assert bigin.verify("out").equal
    same(loaded("out"), expected(init))


def test_another_checkpoint_is_replaced_whole():
    _, init = recorded()
    bigin.torch.save_dcp(init, "out", max_shard_size=200)
    _, other = recorded(seed=5)
    with pytest.raises(bigin.InputError, match="out is filled with a recipe, seed 4; --overwrite"):
        bigin.torch.save_dcp(other, "out")
    bigin.torch.save_dcp(other, "out", overwrite=True)
    assert sorted(path.name for path in Path("out").iterdir()) == [".metadata", ".metadata.bigin.json", "__0_0.distcp"]
    same(loaded("out"), expected(other))


def test_without_metadata_it_is_written_anew():
    _, init = recorded()
    bigin.torch.save_dcp(init, "out")
    Path("out/.metadata").unlink()
    with pytest.raises(bigin.InputError, match="got one that was interrupted"):
        bigin.verify("out")
    bigin.torch.save_dcp(init, "out")
    same(loaded("out"), expected(init))


def test_a_checkpoint_of_torch_is_not_overwritten():
    _, init = recorded()
    dcp.save(expected(init), checkpoint_id="out")
    with pytest.raises(bigin.InputError, match="out already holds data; --overwrite"):
        bigin.torch.save_dcp(init, "out")
    Path("file").touch()
    for out, message in [
        ("file", "expected a folder, got a file"),
        ("no/such", "existing folder"),
        ("s3://b/x", "a URL"),
    ]:
        with pytest.raises(bigin.InputError, match=message):
            bigin.torch.save_dcp(init, out)


@pytest.mark.slow
def test_what_is_killed_at_any_call_loads_nothing_and_goes_on(tmp_path):
    done = subprocess.run(
        [sys.executable, TESTS / "kills_dcp.py", tmp_path], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) > 60


RECIPE = '[[rule]]\nmatch = "*"\nmethod = "normal"\nstd = 0.5\n'


@pytest.mark.slow
def test_the_command_line():
    Path("recipe.toml").write_text(RECIPE)
    bigin.torch.materialize(nn.Linear(8, 4), "like.safetensors", {nn.Linear: "ones"})
    told = run("init", "recipe.toml", "--like", "like.safetensors", "out", "--format", "dcp", "--max-shard-size", "64")
    assert told.stdout.startswith("out: 2 tensors filled by recipe.toml; 144 B in")
    run("verify", "out")
    held = nn.Linear(8, 4).state_dict()
    dcp.load(held, checkpoint_id="out")
    assert torch.equal(held["weight"], bigin.init.normal_(torch.empty(4, 8), std=0.5, seed=0, name="weight"))
    run("init", "recipe.toml", "--like", "like.safetensors", "st", "--format", "dcp-safetensors")
    dcp.load(held, storage_reader=dcp.HuggingFaceStorageReader("st"))
    assert torch.equal(held["weight"], bigin.init.normal_(torch.empty(4, 8), std=0.5, seed=0, name="weight"))
    for arguments, message in [
        (("recipe.toml", "out.zarr"), "expected --like or --config beside --format dcp"),
        (("recipe.toml", "--like", "like.safetensors", "x.zarr"), "expected a folder for --format dcp, got x.zarr"),
        (("--dummy", "--like", "like.safetensors", "x"), "expected --format dcp without --dummy"),
    ]:
        assert message in run("init", *arguments, "--format", "dcp", code=2).stderr


@pytest.mark.slow
def test_a_recipe_that_copies():
    """Tensors of another checkpoint beside drawn ones; by the command line too."""
    from safetensors.torch import save_file

    old = {"a.w": torch.randn(6, 4), "b.w": torch.randn(5, 4)}
    save_file(old, "old.safetensors")
    rules = '[[rule]]\nmatch = "a.w"\ncopy = "a.w"\n[[rule]]\nmatch = "*"\nmethod = "normal"\n'
    Path("recipe.toml").write_text(f'from = "old.safetensors"\n{rules}')
    Path("another.toml").write_text(rules)
    bigin.torch.save_dcp("recipe.toml", "saved")
    bigin.torch.save_dcp("another.toml", "named", source_checkpoint="old.safetensors")
    run("init", "another.toml", "printed", "--from", "old.safetensors", "--format", "dcp")
    plan = bigin.torch.plan_dcp("recipe.toml", "parts", parts=2)
    plan.work("0-1")
    plan.finish()
    drawn = torch.empty(5, 4)
    bigin.fill(drawn, "normal", name="b.w")
    for folder in ("saved", "named", "printed", "parts", None):
        held = {name: torch.ones_like(tensor) for name, tensor in old.items()}
        reader = bigin.torch.reader("recipe.toml") if folder is None else None
        dcp.load(held, checkpoint_id=folder, storage_reader=reader)
        same(held, {"a.w": old["a.w"], "b.w": drawn})
        assert folder is None or bigin.verify(folder).equal
    with pytest.raises(bigin.InputError, match="expected like= beside a recipe"):
        bigin.torch.save_dcp("another.toml", "x")


@pytest.mark.slow
def test_a_configuration_by_the_command_line(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'bigin[transformers]'")
    Path("config.json").write_text(
        '{"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 50, "n_positions": 9}'
    )
    run("init", "--config", "config.json", "out", "--format", "dcp", "--seed", "3")
    model = bigin.torch.Configuration("config.json", seed=3)
    reader = bigin.torch.reader(model)
    held = model.module.to_empty(device="cpu").state_dict()
    assert "lm_head.weight" in held  # which is tied
    dcp.load(held, checkpoint_id="out")
    made = {name: torch.empty_like(tensor) for name, tensor in held.items()}
    dcp.load(made, storage_reader=reader)
    same(held, made)


FLOATS = {"a": (40, 16), "b": (3, 5, 2), "c": (), "d": (0, 3), "e": (7,)}


def float_specs(seed=1):
    kinds = dict(zip(FLOATS, ["float32", "bfloat16", "float64", "float32", "float16"], strict=True))
    return {
        name: TensorSpec.parse("normal", {}, seed, name, shape, parse_dtype(kinds[name]))
        for name, shape in FLOATS.items()
    }


@pytest.mark.parametrize("size", [None, 300, 1])
def test_safetensors_whose_tensors_span_files(size):
    """torch's reader of them loads, and its own function joins them."""
    from safetensors.torch import load_file
    from torch.distributed.checkpoint._consolidate_hf_safetensors import consolidate_safetensors_files

    specs = float_specs()
    bigin.torch.save_dcp(specs, "out", format="dcp-safetensors", max_shard_size=size)
    wanted = {n: torch.zeros(s.shape, dtype=getattr(torch, s.dtype.name)) for n, s in specs.items()}
    dcp.load(wanted, storage_reader=bigin.torch.reader(specs))
    found = {name: torch.ones_like(tensor) for name, tensor in wanted.items()}
    dcp.load(found, storage_reader=dcp.HuggingFaceStorageReader("out"))
    same(found, wanted)
    files = sorted(path.name for path in Path("out").glob("*.safetensors"))
    assert files[0] == "shard-00001-model-00001-of-00001.safetensors"
    assert len(files) > (size is not None) * 5
    Path("whole").mkdir()
    consolidate_safetensors_files("out", "whole", fqn_to_index_mapping=dict.fromkeys(specs, 1))
    joined = load_file("whole/model-00001-of-00001.safetensors")
    joined["c"] = wanted["c"]  # of a scalar, torch 2.13 writes zero
    same(joined, wanted)
    assert bigin.verify("out").equal
    assert bigin.torch.save_dcp(specs, "out", format="dcp-safetensors", max_shard_size=size).nbytes == 0


def test_safetensors_are_replaced_whole_and_repaired():
    bigin.torch.save_dcp(float_specs(seed=2), "out", format="dcp-safetensors", max_shard_size=300)
    specs = float_specs()
    with pytest.raises(bigin.InputError, match="--overwrite"):
        bigin.torch.save_dcp(specs, "out", format="dcp-safetensors")
    bigin.torch.save_dcp(specs, "out", format="dcp-safetensors", overwrite=True, max_shard_size=3000)
    first = "shard-00001-model-00001-of-00001.safetensors"
    assert sorted(path.name for path in Path("out").iterdir()) == [first, f"{first}.bigin.json"]
    data = bytearray(Path("out", first).read_bytes())
    data[-1] ^= 1
    Path("out", first).write_bytes(data)
    assert "e" in str(bigin.verify("out").differences[0])
    assert bigin.verify("out", repair=True).repaired
    with pytest.raises(bigin.InputError, match="expected a format among dcp, dcp-safetensors, got 'zip'"):
        bigin.torch.save_dcp(specs, "out", format="zip")


@pytest.mark.slow
def test_memory_is_bounded():
    """A checkpoint of 384 MiB, in files of 100 MB, with no more memory than one of 1 MiB takes."""
    Path("recipe.toml").write_text(RECIPE)
    peaks = []
    for rows in (256, 98304):
        with torch.device("meta"):
            model = nn.Linear(1024, rows, bias=False)
        bigin.torch.materialize(model, f"like{rows}.safetensors", {nn.Linear: "zeros"})
        command = ["init", "recipe.toml", "--like", f"like{rows}.safetensors", f"out{rows}"]
        told = subprocess.run(
            [sys.executable, "-c", PEAK, *command, "--format", "dcp", "--max-shard-size", "100MB"],
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        )
        peaks.append(int(told.stdout.split("VmHWM:")[1].split()[0]) << 10)
    assert peaks[1] - peaks[0] < 64 * MIB
    assert len(list(Path("out98304").glob("*.distcp"))) == 5


@pytest.mark.parametrize("format", ["dcp", "dcp-safetensors"])
def test_parts_write_the_same_files(format):
    """In any order, one of them twice; nothing is a checkpoint before all are there."""
    _, init = recorded()
    bigin.torch.save_dcp(init, "whole", format=format, max_shard_size=300)
    plan = bigin.torch.plan_dcp(init, "parts", parts=3, format=format, max_shard_size=300)
    for name, count in plan.rounds.items():  # of the orthogonal matrix
        plan.work(range(count), round=name)
    for part in (2, 0, 2):
        plan.work(part)
    with pytest.raises(bigin.FillError, match="part"):
        plan.finish()
    assert not [path.name for path in Path("parts").iterdir() if path.suffix in (".distcp", ".safetensors")]
    assert not Path("parts/.metadata").exists()
    plan.work(1)
    plan.finish()
    made = {path.name: path.read_bytes() for path in Path("parts").iterdir()}
    assert made == {path.name: path.read_bytes() for path in Path("whole").iterdir()}
    assert len(made) > 4
    assert bigin.verify("parts").equal


@pytest.mark.slow
def test_parts_are_written_by_commands():
    from safetensors.torch import save_file

    save_file({name: torch.empty(40, 50) for name in ("a.weight", "b.weight")}, "like.safetensors")
    Path("recipe.toml").write_text('[[rule]]\nmatch = "*"\nmethod = "normal"\n')
    given = ("recipe.toml", "--like", "like.safetensors")
    run("init", *given, "out", "--format", "dcp", "--parts", 2, "-o", "plan.json")
    run("work", "plan.json", "--part", "0,1")
    run("finish", "plan.json")
    held = {name: torch.empty(40, 50) for name in ("a.weight", "b.weight")}
    dcp.load(held, checkpoint_id="out")
    for name, values in held.items():
        assert (values.numpy() == bigin.virtual((40, 50), "normal", name=name)[...]).all()
