"""Checkpoints that are computed: torch.distributed.checkpoint loads from them, and they are stored nowhere."""

from __future__ import annotations

import copy

import pytest
from common import run_ranks

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
if not torch.distributed.is_available():
    pytest.skip("this torch has no torch.distributed", allow_module_level=True)

import torch.distributed.checkpoint as dcp  # noqa: E402
from checkpoints import Model, same  # noqa: E402
from torch import nn  # noqa: E402
from torch.distributed.checkpoint import DefaultLoadPlanner  # noqa: E402

import bigin  # noqa: E402
import bigin.torch  # noqa: E402

pytestmark = pytest.mark.usefixtures("alone")


RULES = {"*bias": "zeros", nn.Linear: "orthogonal", nn.Embedding: ("normal", {"std": 0.02}), nn.BatchNorm1d: "ones"}


def recorded(**options):
    with bigin.torch.deferred(seed=4, **options) as init:
        model = Model()
    return model, init


def filled(rules, **options):
    """What init_ makes in memory."""
    model = Model()
    bigin.torch.init_(model, rules, **options)
    return model.state_dict()


def loaded(model, reader, **options):
    model = copy.deepcopy(model).to_empty(device="cpu")
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(7)
    dcp.load(model.state_dict(), storage_reader=reader, **options)
    return model.state_dict()


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_of_any_mesh_load_what_one_device_makes(world, tmp_path):
    """FSDP2, CPU offload, tensor parallelism, both, stages of a pipeline, and DTensors of every cut and dtype."""
    for lines in run_ranks("ranks_computed.py", world, tmp_path / "meeting"):
        assert lines == ["models", "meta", "stages", "cuts", "written"]


def test_a_recording_is_loaded():
    model, init = recorded()
    same(loaded(model, bigin.torch.reader(init)), filled(init))
    same(loaded(model, bigin.torch.reader(model, init)), filled(init))


def test_rules_of_a_recording_apply():
    model, init = recorded(rules={"*.bias": "ones", nn.Embedding: "xavier_normal"})
    wanted = filled(init)
    del model  # what a rule is for is kept
    same(loaded(Model(), bigin.torch.reader(init)), wanted)
    assert (wanted["up.bias"] == 1).all()
    assert (wanted["embedding.weight"][3] == 0).all()


def test_a_module_with_rules_is_loaded():
    with torch.device("meta"):
        model = Model()
    rules = RULES | {"table": "ones"}
    reader = bigin.torch.reader(model, rules, seed=3)
    wanted = filled(rules, seed=3)
    same(loaded(model, reader), wanted)


def test_a_recipe_is_loaded(tmp_path):
    """With the parts of a fused tensor, and a checkpoint or a module that it is for."""
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'seed = 5\n[[rule]]\nmatch = "*.bias"\nmethod = "zeros"\n'
        '[[rule]]\nmatch = "qkv.weight"\nmethod = "xavier_uniform"\n'
        'split = { axis = 0, sizes = [8, 8, 4], names = ["q", "k", "v"] }\n'
        '[[rule]]\nmatch = "*"\nmethod = "normal"\nstd = 0.5\n'
    )
    model = nn.ModuleDict({"qkv": nn.Linear(8, 20), "out": nn.Linear(8, 8)})
    bigin.torch.materialize(model, "like.safetensors", {nn.Linear: "ones"})
    bigin.initialize(recipe, "out.safetensors", like="like.safetensors")
    import safetensors.torch

    wanted = safetensors.torch.load_file("out.safetensors")
    same(loaded(model, bigin.torch.reader(recipe, like="like.safetensors")), wanted)
    same(loaded(model, bigin.torch.reader(recipe, like=model)), wanted)
    half = bigin.torch.reader(recipe, like="like.safetensors", dtype="bfloat16")
    same(loaded(model.bfloat16(), half), {name: tensor.bfloat16() for name, tensor in wanted.items()})


def test_a_configuration_is_loaded(tmp_path):
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'bigin[transformers]'")
    (tmp_path / "config.json").write_text(
        '{"model_type": "gpt2", "n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 50, "n_positions": 9}'
    )
    model = bigin.torch.Configuration(tmp_path, seed=42)
    held = {name: torch.full(spec.shape, 7.0) for name, spec in model.specs.items()}
    dcp.load(held, storage_reader=bigin.torch.reader(model))
    whole = model.module.to_empty(device="cpu")
    bigin.torch.init_(whole, model._init)
    for name, tensor in held.items():
        assert torch.equal(tensor, whole.state_dict()[name]), name


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_the_tensor_decides_its_dtype(dtype):
    """As in init_, in a float64 too, which has bits of its own."""
    kind = getattr(torch, dtype)
    with bigin.torch.deferred(seed=1) as init:
        model = nn.Linear(7, 5)
    assert model.weight.is_meta
    held = {"weight": torch.zeros(5, 7, dtype=kind)}
    dcp.load(held, storage_reader=bigin.torch.reader(init))
    wanted = bigin.init.kaiming_uniform_(torch.zeros(5, 7, dtype=kind), 5**0.5, seed=1, name="weight")
    assert torch.equal(held["weight"].view(torch.uint8), wanted.view(torch.uint8))


def test_memory_that_is_not_contiguous():
    with bigin.torch.deferred(seed=1) as init:
        model = nn.Linear(7, 5, bias=False)
    assert model.weight.is_meta
    wanted = bigin.init.kaiming_uniform_(torch.zeros(5, 7), 5**0.5, seed=1, name="weight")
    around = torch.full((12, 9), 7.0)
    for view in (torch.zeros(7, 5).t(), around[1:11:2, 1:8], torch.zeros(5, 7).to_sparse_csr().to_dense()):
        dcp.load({"weight": view}, storage_reader=bigin.torch.reader(init))
        assert torch.equal(view, wanted)
    around[1:11:2, 1:8] = 7
    assert (around == 7).all()


def test_a_state_dict_below_a_prefix_beside_an_optimizer():
    model, init = recorded()
    wanted = filled(init)
    reader = bigin.torch.reader(model, init, prefix="model.")
    held = {"model": model.to_empty(device="cpu").state_dict(), "optimizer": {"step": torch.zeros(2)}, "epoch": 3}
    dcp.load(held, storage_reader=reader, planner=DefaultLoadPlanner(allow_partial_load=True))
    same(held["model"], wanted)
    assert held["epoch"] == 3
    with pytest.raises(
        bigin.InputError, match=r"has, such as model.table, got optimizer.step, epoch; load the model"
    ) as told:
        reader.check(held)
    assert "\n" not in str(told.value)
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict_from_keys

    same(_load_state_dict_from_keys("model", storage_reader=reader)["model"], wanted)


def test_what_is_no_tensor_is_as_the_module_has_it():
    class Extra(nn.Linear):
        state = 3

        def get_extra_state(self):
            return {"kind": self.state}

        def set_extra_state(self, state):
            self.state = state["kind"]

    model = Extra(4, 4)
    reader = bigin.torch.reader(model, {"*bias": "zeros", nn.Linear: "xavier_uniform"})
    other = Extra(4, 4)
    other.state = 8
    held = other.state_dict()
    dcp.load(held, storage_reader=reader)
    other.load_state_dict(held)
    assert other.state == 3


def test_names_that_are_not_there():
    _, init = recorded()
    reader = bigin.torch.reader(init)
    with pytest.raises(bigin.InputError, match=r"got up.weigth; did you mean up.weight\?"):
        reader.check({"up.weigth": torch.zeros(6, 8)})
    with pytest.raises(
        bigin.InputError, match=r"up.weight: expected shape \(6, 8\), as the recording has it, got \(6, 9\)"
    ):
        reader.check({"up.weight": torch.zeros(6, 9)})
    with pytest.raises(BaseException, match=r"RuntimeError: Missing key in checkpoint state_dict: nope\.\n"):
        dcp.load({"nope": torch.zeros(3)}, storage_reader=reader)
    with pytest.raises(
        BaseException, match=r"up.weight: expected a tensor of bfloat16, as the recording has it, got one of int32"
    ):
        dcp.load({"up.weight": torch.zeros(6, 8, dtype=torch.int32)}, storage_reader=reader)
    with pytest.raises(bigin.InputError, match=r"none; did you mean up.weight"):
        init.spec("up.weigth")


def test_what_has_no_method_is_named():
    with bigin.torch.deferred() as init:
        model = nn.Linear(3, 3)
        with torch.no_grad():
            model.weight.copy_(torch.rand(3, 3).sqrt())
    held = {"bias": torch.zeros(3)}
    dcp.load(held, storage_reader=bigin.torch.reader(init))  # what is not asked for is not made
    assert held["bias"].any()
    with pytest.raises(BaseException, match="InputError: weight: expected values that a method makes"):
        dcp.load({"weight": torch.zeros(3, 3)}, storage_reader=bigin.torch.reader(init))


def test_what_is_asked_for_is_checked():
    _, init = recorded()
    for arguments, options, message in [
        ((3,), {}, "got int"),
        (("gpt2",), {"variables": {"n_layers": 2}}, "expected like= beside a recipe"),
        ((init,), {"seed": 3}, "no seed beside a recording"),
        ((Model(),), {}, "expected rules beside a Model"),
        (("gpt2", {}), {"like": "x"}, "no rules beside a recipe"),
        ((init,), {"prefix": 3}, "expected a prefix"),
    ]:
        with pytest.raises(bigin.InputError, match=message) as told:
            bigin.torch.reader(*arguments, **options)
        assert "\n" not in str(told.value)
