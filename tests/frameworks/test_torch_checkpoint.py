"""A model on the meta device becomes a checkpoint: with the bits that init_ gives it in memory, but without that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import zarr

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed: pip install 'bigin[test]'")
from checkpoints import same  # noqa: E402
from torch import nn  # noqa: E402

import bigin  # noqa: E402
import bigin.torch  # noqa: E402


class Model(nn.Module):
    """Of several dtypes, with tied parameters, and buffers that are saved and that are not."""

    def __init__(self, buffer: bool = False):
        super().__init__()
        self.embedding = nn.Embedding(50, 8, padding_idx=-1)
        self.layers = nn.ModuleList(nn.Linear(8, 8, dtype=torch.bfloat16) for _ in range(3))
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 50, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("rotary", torch.ones(4), persistent=False)
        if buffer:
            self.register_buffer("scales", torch.ones(4))


def meta(make=Model, **options):
    with torch.device("meta"):
        return make(**options)


RULES = {"*bias": "zeros", nn.Linear: "orthogonal", nn.Embedding: ("normal", {"std": 0.02}), nn.BatchNorm1d: "ones"}


def expected(rules, seed=3):
    model = Model()
    for buffer in (model.norm.running_mean, model.norm.running_var):
        assert torch.equal(buffer, torch.full((8,), float(buffer is model.norm.running_var)))
    bigin.torch.init_(model, rules, seed=seed)
    return {name: tensor for name, tensor in model.state_dict().items() if name != "head.weight"}


def test_a_checkpoint_holds_what_init_makes():
    report = bigin.torch.materialize(meta(), "out", RULES, seed=3)
    assert [path.name for path in Path("out").iterdir()] == ["model.safetensors"]
    same(safetensors.load_file("out/model.safetensors"), expected(RULES))
    assert report.nbytes == sum(tensor.nbytes for tensor in expected(RULES).values())
    assert bigin.verify("out").equal


def test_a_model_reads_it():
    bigin.torch.materialize(meta(), "model.safetensors", bigin.torch.rules_like(meta()), seed=3)
    model = Model()
    missing, unexpected = safetensors.load_model(model, "model.safetensors")
    assert not missing
    assert not unexpected
    same({n: t for n, t in model.state_dict().items() if n != "head.weight"}, expected(bigin.torch.rules_like(model)))
    assert model.head.weight is model.embedding.weight
    assert not model.embedding.weight[49].any()


def test_shards_and_groups():
    bigin.torch.materialize(meta(), "out", RULES, seed=3, max_shard_size=500)
    index = json.loads(Path("out/model.safetensors.index.json").read_text())
    files = set(index["weight_map"].values())
    assert len(files) > 2
    found = {}
    for file in files:
        found |= safetensors.load_file(f"out/{file}")
    same(found, expected(RULES))
    bigin.torch.materialize(meta(), "out.zarr", RULES, seed=3)
    group = zarr.open_group("out.zarr", mode="r")
    wanted = {name: tensor for name, tensor in expected(RULES).items() if tensor.dtype != torch.bfloat16}
    for name, tensor in wanted.items():
        assert group[name][...].tolist() == tensor.tolist(), name


def test_by_a_recipe():
    """One that ships, with its own seed or another; an Embedding's row of padding is the module's affair."""
    for seed in (0, 5):
        bigin.torch.materialize(meta(), "out", "torch", seed=seed, overwrite=True)
        rules = {name: rule for name, rule in bigin.torch.rules_like(meta()).items() if name != "head.weight"}
        same(safetensors.load_file("out/model.safetensors"), expected(rules, seed))
    Path("recipe.toml").write_text(
        'seed = 9\n[vars]\nscale = 2\n[[rule]]\nmatch = "*"\nmethod = "constant"\nval = "scale"\n'
    )
    bigin.torch.materialize(meta(), "out", "recipe.toml", variables={"scale": 3}, overwrite=True)
    found = safetensors.load_file("out/model.safetensors")
    assert (found["layers.0.bias"] == 3).all()
    assert not found["embedding.weight"][49].any()
    assert bigin.verify("out").equal


def test_buffers_need_a_rule():
    module = meta(buffer=True)
    with pytest.raises(bigin.InputError, match=r'scales: expected a rule for the buffer, .* such as "\*.scales"'):
        bigin.torch.materialize(module, "out", RULES)
    assert not Path("out").exists()
    bigin.torch.materialize(module, "out", {"scales": ("constant", {"val": 0.5}), "*running_mean": "ones", **RULES})
    found = safetensors.load_file("out/model.safetensors")
    assert found["scales"].tolist() == [0.5] * 4
    assert found["norm.running_mean"].tolist() == [1] * 8
    assert found["norm.running_var"].tolist() == [1] * 8
    assert int(found["norm.num_batches_tracked"]) == 0


class Buffers(nn.Module):
    """Buffers that no method expresses, of several dtypes."""

    NAMES = ("mask", "position_ids", "scales")

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("mask", torch.tril(torch.ones(6, 6, dtype=torch.bool)))
        self.register_buffer("position_ids", torch.arange(10)[None])
        self.register_buffer("scales", torch.linspace(-1, 1, 5).to(torch.bfloat16))
        self.register_buffer("rotary", torch.ones(3), persistent=False)


BUFFER_RULES = {"*.bias": "zeros", nn.Linear: "xavier_uniform", nn.BatchNorm1d: "ones"}


@pytest.mark.parametrize("out", ["out.safetensors", "out.zarr"])
@pytest.mark.parametrize("rules", ["rules", "recipe"])
def test_buffers_have_the_values_that_they_have(out, rules):
    module = Buffers()
    Path("recipe.toml").write_text(
        '[[rule]]\nmatch = "linear.*"\nmethod = "normal"\n[[rule]]\nmatch = "norm.*"\nmethod = "ones"\n'
    )
    chosen = BUFFER_RULES if rules == "rules" else "recipe.toml"
    bigin.torch.materialize(module, out, chosen)
    assert bigin.verify(out).equal
    assert bigin.torch.materialize(module, out, chosen).nbytes == 0
    if out.endswith(".zarr"):
        assert (zarr.open_group(out)["mask"][:] == module.mask.numpy()).all()
        return
    made = safetensors.load_file(out)
    assert set(made) == set(module.state_dict())
    for name in Buffers.NAMES:
        assert torch.equal(made[name], getattr(module, name))
        assert made[name].dtype == getattr(module, name).dtype
    assert "given" in bigin.show(f"{out}#scales").reason


def test_a_rule_may_leave_a_tensor_out():
    """On the meta device it is not written; in memory it stays as it is, and a checkpoint has what is there."""
    left = {"mask": None, "*position_ids": None, "linear.weight": None}
    with pytest.raises(bigin.InputError, match="scales: expected a rule for the buffer"):
        bigin.torch.materialize(meta(Buffers), "out.safetensors", left | BUFFER_RULES)
    rules = left | {"scales": None, "norm.running_mean": None} | BUFFER_RULES
    bigin.torch.materialize(meta(Buffers), "out.safetensors", rules)
    missing = {"mask", "position_ids", "scales", "linear.weight", "norm.running_mean"}
    assert set(safetensors.load_file("out.safetensors")) == set(Buffers().state_dict()) - missing
    module = Buffers()
    with torch.no_grad():
        module.norm.running_mean.fill_(3)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    bigin.torch.materialize(module, "full.safetensors", rules)
    made = safetensors.load_file("full.safetensors")
    assert all(torch.equal(made[name], before[name]) for name in missing)
    bigin.torch.init_(module, rules)
    assert all(torch.equal(module.state_dict()[name], before[name]) for name in missing)
    assert not module.linear.bias.any()


def test_bools_and_integers_of_every_width_hold_constants():
    names = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    module = nn.Module()
    for name in names:
        module.register_buffer(f"of_{name}", torch.zeros(5, dtype=getattr(torch, name)))
    bigin.torch.init_(module, {f"of_{name}": "ones" for name in names})
    rules = {f"of_{name}": ("constant", {"val": 1}) for name in names}
    bigin.torch.materialize(module, "out.safetensors", rules)
    made = safetensors.load_file("out.safetensors")
    for name in names:
        assert getattr(module, f"of_{name}").to(torch.int64).tolist() == [1] * 5
        assert made[f"of_{name}"].to(torch.int64).tolist() == [1] * 5


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mask", torch.ones(4, dtype=torch.bool))


def test_whatever_is_wrong_is_one_line_and_writes_nothing():
    for module, rules, options, message in [
        (meta(), {nn.Linear: "normal"}, {}, r"got none for embedding.weight \(Embedding\), norm.weight"),
        (meta(), {"*": "xavier_uniform"}, {}, "layers.0.bias: expected a shape of 2 or more dimensions"),
        (meta(), RULES, {"variables": {"a": 1}}, "expected variables only for a recipe"),
        (meta(), "torch", {"default": "zeros"}, "expected no default beside a recipe"),
        (meta(), "none.toml", {}, "none.toml"),
        (meta(), RULES, {"max_shard_size": "much"}, "expected a size"),
        (torch.zeros(3), RULES, {}, "expected a torch.nn.Module, got Tensor"),
        (meta(nn.Identity), {}, {}, "expected parameters to write, got a module without any"),
        (meta(Masked), {"mask": "normal"}, {}, "mask: expected a float dtype for random values, got bool"),
        (meta(nn.LazyLinear, out_features=3), {"*": "ones"}, {}, "weight: expected a shape, got a lazy parameter"),
    ]:
        with pytest.raises(bigin.InputError, match=message) as raised:
            bigin.torch.materialize(module, "out", rules, **options)
        assert "\n" not in str(raised.value)
        assert not Path("out").exists()
    bigin.torch.materialize(meta(), "out", RULES)
    with pytest.raises(bigin.InputError, match="--overwrite"):
        bigin.torch.materialize(meta(), "out", RULES, seed=1)


PEAK = """
import sys, torch, bigin, bigin.torch
from torch import nn

def peak():
    return int([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1]) << 10

def model(size, layers):
    with torch.device("meta"):
        return nn.Sequential(*(nn.Linear(size, size) for _ in range(layers)))

small = model(64, 2)
bigin.torch.materialize(small, "small", bigin.torch.rules_like(small))
before = peak()
large = model(4096, 16)
report = bigin.torch.materialize(large, "large", bigin.torch.rules_like(large), max_memory="64MiB", sync=False)
print(report.nbytes, peak() - before)
"""


@pytest.mark.slow
def test_the_model_is_never_in_memory():
    """A GiB within 64 MiB."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    nbytes, grown = map(int, done.stdout.split())
    assert nbytes > 1 << 30
    assert grown < 64 << 20
