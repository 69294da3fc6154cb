"""Models by rules, tensors in place, and files as tensors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import reference
import zarr

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
from torch import nn  # noqa: E402

import bigin  # noqa: E402
import bigin.torch  # noqa: E402
from bigin.core.dtypes import DTYPES, FLOATS, ML_DTYPES  # noqa: E402
from bigin.recipes.glob import parse_glob  # noqa: E402


def bits(tensor):
    """As numpy has them."""
    tensor = tensor.detach()
    name = str(tensor.dtype).removeprefix("torch.")
    if name in ML_DTYPES:
        tensor = tensor.view(torch.uint8 if tensor.element_size() == 1 else torch.int16)
    array = tensor.numpy()
    return np.ascontiguousarray(array).view(f"u{array.itemsize}")


def expected_bits(method, parameters, shape, dtype, seed, name):
    array = reference.tensor(method, parameters, shape, dtype, seed, name)
    return array.view(f"u{array.itemsize}")


class Model(nn.Module):
    def __init__(self, more: bool = False):
        super().__init__()
        if more:
            self.first = nn.Linear(3, 3)
        self.embedding = nn.Embedding(9, 4, padding_idx=-2)
        self.convolution = nn.Conv2d(4, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.rnn = nn.LSTM(6, 5)
        self.head = nn.Linear(4, 9, bias=False)
        self.head.weight = self.embedding.weight


RULES = {
    "*bias*": "zeros",
    nn.modules.batchnorm._BatchNorm: "ones",
    (nn.LSTM, "weight_hh*"): "orthogonal",
    nn.Module: ("normal", {"std": 0.02}),
}


def test_every_parameter_is_drawn_by_the_first_rule_from_a_stream_of_its_own_name():
    model = Model()
    done = bigin.torch.init_(model, RULES, seed=5)
    assert [(each.name, each.shape) for each in done] == [(n, tuple(p.shape)) for n, p in model.named_parameters()]
    methods = {each.name: each.method for each in done}
    assert methods == {
        "embedding.weight": "normal",
        "convolution.weight": "normal",
        "convolution.bias": "zeros",
        "norm.weight": "ones",
        "norm.bias": "zeros",
        "rnn.weight_ih_l0": "normal",
        "rnn.weight_hh_l0": "orthogonal",
        "rnn.bias_ih_l0": "zeros",
        "rnn.bias_hh_l0": "zeros",
    }
    for name, parameter in model.named_parameters():
        parameters = {"std": 0.02} if methods[name] == "normal" else {}
        expected = expected_bits(methods[name], parameters, tuple(parameter.shape), "float32", 5, name)
        if name == "embedding.weight":
            expected[7] = 0
        np.testing.assert_array_equal(bits(parameter), expected)
    assert done[0].padding_idx == 7
    assert str(done[0]) == "normal(std=0.02, padding_idx=7), seed 5, name embedding.weight, 9x4 float32"


def test_another_layer_and_what_wraps_a_model_change_no_parameter():
    model = Model()
    bigin.torch.init_(model, RULES)
    more = Model(more=True)
    bigin.torch.init_(more, RULES)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, more.get_parameter(name)), name
    wrapped = Model()
    bigin.torch.init_(torch.compile(nn.DataParallel(wrapped), backend="eager"), RULES)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), wrapped.parameters(), strict=True))


def test_a_parameter_stays_what_it_is():
    """The object, its memory, its gradient; autograd notes that it has changed."""
    layer = nn.Linear(3, 2)
    layer.weight.grad = torch.ones(2, 3)
    before = layer.weight, layer.weight.data_ptr(), layer.weight._version
    out = (layer(torch.ones(1, 3)) ** 2).sum()
    loss = (layer.weight**2).sum() + out
    bigin.torch.init_(layer, {nn.Linear: ("uniform", {})})
    assert layer.weight is before[0]
    assert layer.weight.data_ptr() == before[1]
    assert layer.weight._version > before[2]
    assert layer.weight.requires_grad
    assert layer.weight.is_leaf
    assert torch.equal(layer.weight.grad, torch.ones(2, 3))
    assert layer.state_dict()["weight"].data_ptr() == before[1]
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_buffers_are_left_alone_unless_a_rule_names_them():
    norm = nn.BatchNorm1d(4)
    norm.running_mean.fill_(3)
    bigin.torch.init_(norm, {"*": "ones"}, default="zeros")
    assert (norm.running_mean == 3).all()
    done = bigin.torch.init_(norm, [((nn.BatchNorm1d, "running_mean"), "zeros"), ("*", "ones")])
    assert [each.name for each in done] == ["weight", "bias", "running_mean"]
    assert (norm.running_mean == 0).all()
    bigin.torch.init_(nn.Sequential(norm), {"*": "ones", "*.num_batches_tracked": ("constant", {"val": 7})})
    assert int(norm.num_batches_tracked) == 7


def test_rules_in_every_form():
    def drawn(rules, **options):
        layer = nn.Linear(3, 2, dtype=torch.float64)
        bigin.torch.init_(layer, rules, **options)
        return torch.cat([layer.weight.reshape(-1), layer.bias])

    half = drawn({"*": ("constant", {"val": 0.5})})
    assert (half == 0.5).all()
    for rules, options in [
        ([("weight", bigin.torch.Rule("constant", {"val": 0.5})), ("*", ("constant", {"val": 0.5}))], {}),
        ({(nn.Linear, "*"): ("constant", {"val": 0.5})}, {}),
        ({nn.Conv1d: "dirac"}, {"default": ("constant", {"val": 0.5})}),
    ]:
        assert torch.equal(drawn(rules, **options), half), rules


def test_a_tensor_is_filled_as_torchs_own_functions_fill_it():
    """A leaf that requires a gradient, a tensor of inference mode, a view that others see, and never a copy."""
    parameter = nn.Parameter(torch.zeros(3, 4))
    version, address = parameter._version, parameter.data_ptr()
    bigin.init.xavier_uniform_(parameter, seed=2)
    assert parameter.grad_fn is None
    assert parameter.requires_grad
    assert parameter._version > version
    assert parameter.data_ptr() == address
    with torch.inference_mode():
        inference = torch.zeros(5)
        bigin.fill(inference, "ones")
    assert inference.tolist() == [1] * 5
    whole = torch.zeros(6, 6)
    bigin.fill(whole.T[2:4, ::2], "ones")
    assert whole.sum() == 6
    assert whole[::2, 2:4].all()


def test_tensors_that_cannot_be_filled_are_refused():
    for tensor, message in [
        (torch.zeros(3, device="meta"), "expected a dense tensor on the CPU, got one of torch.strided on meta"),
        (torch.zeros(3).to_sparse(), "expected a dense tensor on the CPU, got one of torch.sparse_coo on cpu"),
        (torch.zeros(3, 1).expand(3, 4), "got an array that repeats some"),
        (torch.zeros(2, dtype=torch.complex64).conj().imag, "a tensor whose memory numpy can share"),
        (torch.zeros(2, dtype=torch.complex64).conj(), "a tensor whose memory numpy can share"),
        (torch.zeros(2, dtype=torch.float8_e5m2fnuz), "expected a dtype among .*, got float8_e5m2fnuz"),
    ]:
        with pytest.raises(bigin.InputError, match=message):
            bigin.fill(tensor, "ones")
        assert tensor.device.type == "meta" or not tensor.to_dense().any()


REFUSED = [
    (
        {nn.Linear: "normal"},
        {},
        r"for embedding.weight \(Embedding\), norm.weight \(LayerNorm\), norm.bias \(LayerNorm\); add rules",
    ),
    ({}, {}, r"got none for embedding.weight \(Embedding\), .*layers.2.weight \(Linear\).* and 1 more; add rules"),
    ({"*": "xavier_uniform"}, {}, r"layers.0.bias: expected a shape of 2 or more dimensions, got \(3,\)"),
    ({"*": "nromal"}, {}, "embedding.weight: expected a method, got 'nromal'; did you mean normal"),
    ({"*": ("normal", {"sdt": 1})}, {}, "embedding.weight: normal does not take 'sdt'"),
    ({"*": "normal"}, {"seed": -1}, "expected a seed from 0"),
    ({"*": "normal"}, {"threads": 0}, "expected at least 1 thread"),
    ({"*": "normal"}, {"max_memory": "much"}, "expected a size such as"),
    ({"norm.*": "ones", "*": "normal"}, {"default": 7}, "expected a method's name, a pair .*, got 7"),
    ({"*": ("normal", 0.02)}, {}, r"expected a method's name, a pair .*, got \('normal', 0.02\)"),
    ({int: "normal"}, {}, "expected a rule for a class of modules"),
    ({(nn.Linear, 3): "normal"}, {}, "expected a rule for a class of modules"),
    (["normal"], {}, "expected rules as a mapping or a sequence of pairs"),
    ([("*",)], {}, "expected rules as pairs"),
    ("normal", {}, "expected a recipe.s file or a preset among"),
    (3, {}, "expected rules as a mapping"),
]


@pytest.mark.parametrize(("rules", "options", "message"), REFUSED, ids=lambda value: str(value)[:40])
def test_whatever_is_wrong_is_one_line_and_changes_nothing(rules, options, message):
    layers = nn.Sequential(*(nn.Linear(3, 3) for _ in range(4)))
    model = nn.ModuleDict({"embedding": nn.Embedding(5, 3), "layers": layers, "norm": nn.LayerNorm(3)})
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(bigin.InputError, match=message) as raised:
        bigin.torch.init_(model, rules, **options)
    assert "\n" not in str(raised.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_modules_that_cannot_be_filled_are_refused():
    for module, message in [
        (nn.Linear(2, 2, device="meta"), "weight: expected a dense tensor on the CPU, got .* on meta"),
        (nn.LazyLinear(3), "weight: expected a shape, got a lazy parameter"),
        (torch.zeros(3), "expected a torch.nn.Module, got Tensor"),
        (type("FullyShardedDataParallel", (nn.Module,), {})(), "bigin.fill_flat"),
    ]:
        with pytest.raises(bigin.InputError, match=message):
            bigin.torch.init_(module, {"*": "ones"})
    mixed = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, device="meta"))
    before = mixed[0].weight.clone()
    with pytest.raises(bigin.InputError, match=r"1\.weight: expected a dense tensor"):
        bigin.torch.init_(mixed, {"*": "ones"})
    assert torch.equal(mixed[0].weight, before)


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_file_is_a_tensor_without_a_copy(dtype):
    bigin.fill("a.npy", "normal", shape=(7, 5), dtype=dtype, seed=3, name="")
    bigin.fill("raw", "normal", raw=True, offset=16, shape=(7, 5), dtype=dtype, seed=3, name="")
    bigin.create("one.zarr", shape=(7, 5), dtype=dtype, chunks=(10, 8))
    bigin.fill("one.zarr", "normal", seed=3, name="")
    given = {"raw": True, "offset": 16, "shape": (7, 5), "dtype": dtype}
    for path, options in [("a.npy", {}), ("raw", given), ("one.zarr", {"shape": (7, 5), "dtype": dtype})]:
        file = Path(path) if path != "one.zarr" else Path("one.zarr/c/0/0")
        tensor = bigin.torch.open(path, **options)
        assert str(tensor.dtype) == f"torch.{dtype}"
        np.testing.assert_array_equal(bits(tensor), expected_bits("normal", {}, (7, 5), dtype, 3, ""))
        stored = file.read_bytes()
        tensor[2, 3] = 99
        assert file.read_bytes() == stored, "mode r leaves the file as it is"
        assert float(tensor[2, 3]) == float(torch.tensor(99).to(tensor.dtype))
        assert not torch.equal(bits_of(bigin.torch.open(path, **options)), bits_of(tensor))
        bigin.torch.open(path, "r+", **options)[2, 3] = 99
        assert torch.equal(bits_of(bigin.torch.open(path, **options)), bits_of(tensor)), "mode r+ writes into it"


def bits_of(tensor):
    return torch.from_numpy(bits(tensor).astype("i8"))


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [((2048,), (1024,)), ((10, 512), (2, 512)), ((7, 32, 31), (3, 32, 32)), ((5, 3), (9, 3)), ((), ())],
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_chunks_of_a_zarr_array_are_one_tensor(shape, chunks, zarr_format):
    array = bigin.create("a.zarr", shape=shape, chunks=chunks, zarr_format=zarr_format)
    bigin.fill(array, "normal", seed=3)
    expected = torch.from_numpy(np.asarray(array[...]))
    tensor = bigin.torch.open(array)
    assert torch.equal(tensor, expected)
    last = tensor[-1:] if shape else tensor
    del tensor  # what is left of it keeps the files in memory
    last.fill_(7)
    assert torch.equal(bigin.torch.open("a.zarr"), expected)
    bigin.torch.open("a.zarr", "r+")[tuple(-1 for _ in shape)] = 7
    expected[tuple(-1 for _ in shape)] = 7
    assert torch.equal(bigin.torch.open("a.zarr"), expected)
    assert np.array_equal(array[...], expected.numpy())


def test_what_is_mapped_is_given_back():
    bigin.fill("a.npy", "normal", shape=(1000, 1000))

    def mappings():
        return Path("/proc/self/maps").read_text().count("a.npy")

    tensors = [bigin.torch.open("a.npy") for _ in range(3)]
    assert mappings() == 3
    rows = tensors[0][5]
    del tensors
    assert mappings() == 1
    assert rows.shape == (1000,)
    del rows
    assert mappings() == 0
    Path("cut").write_bytes(b"123")
    for _ in range(100):
        with pytest.raises(bigin.InputError):
            bigin.torch.open("cut", raw=True, shape=4, dtype="uint8")
    assert not Path("/proc/self/maps").read_text().count("cut")


def test_a_table_is_a_tensor():
    table = bigin.EmbeddingTable.create("users.zarr", 3000, 8, "normal", dtype="bfloat16", padding_idx=2, chunks=256)
    tensor = table.torch()
    assert tensor.dtype == torch.bfloat16
    np.testing.assert_array_equal(bits(tensor), table.rows(range(3000)).view("u2"))
    table.torch("r+")[5] = 0
    assert not table.rows(5).any()


def test_a_process_that_has_filled_nothing_opens_a_bfloat16_zarr_array():
    bigin.EmbeddingTable.create("users.zarr", 3000, 8, "normal", dtype="bfloat16", chunks=256)
    code = "import bigin.torch; print(bigin.torch.open('users.zarr').dtype)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("torch.bfloat16\n", "")


def test_a_file_that_may_not_be_written_is_read():
    bigin.fill("a.npy", "normal", shape=(7, 5))
    os.chmod("a.npy", 0o400)
    assert bigin.torch.open("a.npy").shape == (7, 5)


def test_other_orders_and_dtypes_of_npy_files():
    many = [np.arange(12.0).reshape(3, 4).T, np.arange(6, dtype="u2"), np.array(3.5), np.zeros((0, 4), "i1")]
    for array in many:
        np.save("a.npy", array)
        tensor = bigin.torch.open("a.npy")
        assert tensor.shape == array.shape
        np.testing.assert_array_equal(tensor.numpy(), array)
    np.save("a.npy", np.zeros(3, DTYPES["bfloat16"]))
    assert bigin.torch.open("a.npy", dtype="bfloat16").dtype == torch.bfloat16


def test_a_tensor_larger_than_the_machine_opens_at_once():
    """A file with a hole of 8 TiB, of which two rows are there."""
    rows, width = 1 << 33, 256
    with Path("large").open("wb") as file:
        file.truncate(rows * width * 4)
    options = {"raw": True, "shape": (rows, width), "dtype": "float32"}
    bigin.torch.open("large", "r+", **options)[rows - 2] = torch.arange(256.0)
    tensor = bigin.torch.open("large", **options)
    tensor[5] = 1
    assert tensor[[5, 7, rows - 2]].sum(1).tolist() == [256, 0, 255 * 128]


def test_what_cannot_be_mapped_says_what_to_do():
    bigin.create("short.zarr", shape=(8, 4), chunks=(2, 4))
    bigin.create("columns.zarr", shape=(8, 4), chunks=(8, 2))
    bigin.fill(bigin.create("cut.zarr", shape=(2, 1024), chunks=(1, 1024)), "normal")
    Path("cut.zarr/c/1/0").write_bytes(bytes(4095))
    bigin.create("shards.zarr", shape=(8, 4), chunks=(2, 4), shards=(8, 4))
    zarr.create_array("packed.zarr", shape=(8, 4), chunks=(8, 4), dtype="f4")
    bigin.create("empty.zarr", shape=(8, 4))
    zarr.create_group("group.zarr")
    np.save("swapped.npy", np.zeros(3, ">f4"))
    np.save("opaque.npy", np.zeros(3, DTYPES["bfloat16"]))
    np.save("words.npy", np.array(["a"]))
    np.savez("several.npz", a=np.zeros(3))
    Path("text").write_text("text")
    Path("short.npy").write_bytes(Path("swapped.npy").read_bytes()[:-1])
    Path("folder").mkdir()
    raw = {"raw": True, "shape": (3,), "dtype": "float32"}
    for path, options, message in [
        ("short.zarr", {}, "rows are a multiple of 256, .* got chunks of 2 rows of 16 bytes; fill"),
        ("columns.zarr", {}, "got chunks of 8x2 of shape 8x4; fill"),
        ("shards.zarr", {}, "got shards; fill such an array or a .npy file, or read parts"),
        ("packed.zarr", {}, "got compressed or reordered ones; fill"),
        ("empty.zarr", {}, "got an array without its chunk 0; fill it first"),
        ("cut.zarr", {}, "expected 4096 bytes from byte 0 on .* got 4095 in all"),
        ("group.zarr", {}, "expected a zarr array, got a group"),
        ("folder", {}, "got neither"),
        ("swapped.npy", {}, "this machine's byte order"),
        ("opaque.npy", {}, "a .npy header has no name"),
        ("opaque.npy", {"dtype": "float32"}, "a .npy header has no name"),
        ("words.npy", {}, "expected a dtype among"),
        ("several.npz", {}, "got an archive"),
        ("text", {}, "expected a .npy file or a zarr array"),
        ("short.npy", {}, "cannot be read"),
        ("none.npy", {}, "got nothing"),
        ("swapped.npy", {"shape": (4,)}, r"expected shape \(4,\), got \(3,\)"),
        ("swapped.npy", {"offset": 1}, "only for a raw file"),
        ("swapped.npy", {"mode": "w"}, "expected mode r or r+"),
        ("text", raw, "expected 12 bytes from byte 0 on .* got 4 in all"),
        ("text", {**raw, "offset": -12}, "expected an offset that is not negative"),
        ("s3://bucket/a.zarr", {}, "on this machine, got s3://"),
        (zarr.create_array(zarr.storage.MemoryStore(), shape=3, dtype="f4"), {}, "on this machine, got Array"),
        (3, {}, "on this machine, got int"),
        ("text", {"raw": True}, "expected a shape and a dtype for a raw file"),
    ]:
        with pytest.raises(bigin.InputError, match=message) as raised:
            bigin.torch.open(path, **options)
        assert "\n" not in str(raised.value)


def test_torch_stays_optional():
    """Nothing else imports it, and where it is missing bigin.torch says so in a line."""
    code = """
import sys
sys.modules["torch"] = None
import numpy, bigin, bigin.cli
from bigin import *
bigin.fill(numpy.zeros(3), "normal")
bigin.fill("a.zarr", "normal", shape=3)
try:
    bigin.torch
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "expected torch, which bigin.torch needs; pip install torch\n"
    code = "import sys, numpy, bigin, bigin.cli; bigin.fill(numpy.zeros(3), 'normal'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.weight", ["0.weight", "1.weight"]),
        ("[!0].*", ["1.weight", "1.bias"]),
        ("?/bias", ["0.bias", "1.bias"]),
        ("[0-1].[bx]ias", ["0.bias", "1.bias"]),
        ("[*].bias", []),
    ],
)
def test_patterns_are_those_of_recipes(pattern, names):
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 3))
    specs = bigin.torch.init_(model, [(pattern, "ones"), ("*", "zeros")])
    assert [spec.name for spec in specs if spec.method == "ones"] == names
    assert [name for name in names if parse_glob(pattern).match(name) is None] == []
    values = dict(model.named_parameters())
    assert [name for name in values if (values[name] == 1).all()] == names


def test_a_pattern_that_is_none_is_refused_before_any_value_changes():
    model = torch.nn.Linear(3, 2)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(bigin.InputError, match=r"expected a \] after the \["):
        bigin.torch.init_(model, {"weight": "zeros", "[bias": "zeros"})
    assert all(torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
