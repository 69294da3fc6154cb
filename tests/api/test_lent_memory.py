"""Memory that others own, filled in place: torch tensors, buffers, whatever has __array_interface__."""

from __future__ import annotations

import array
import ctypes
import mmap
import sys
import types
from typing import Any

import numpy as np
import pytest
import reference
from common import bits

import bigin
from bigin.core.dtypes import DTYPES, FLOATS, ML_DTYPES


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")


def expected(shape: tuple[int, ...], dtype: str, method: str = "normal", **parameters: Any) -> np.ndarray:
    return reference.tensor(method, parameters, shape, dtype, 5, "w")


def same(found: np.ndarray, wanted: np.ndarray) -> None:
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_array_equal(bits(found), bits(wanted))


def values(tensor: Any) -> np.ndarray:
    """A copy of a tensor's values, by torch's own means."""
    import torch

    name = str(tensor.dtype).removeprefix("torch.")
    plain = tensor.detach().contiguous().clone()
    if name in ML_DTYPES:
        plain = plain.view(torch.uint8 if plain.element_size() == 1 else torch.int16)
    return plain.numpy().view(DTYPES[name])


VIEWS = {
    "contiguous": lambda torch, dtype: torch.zeros(6, 4, dtype=dtype),
    "transposed": lambda torch, dtype: torch.zeros(4, 6, dtype=dtype).t(),
    "every other column": lambda torch, dtype: torch.zeros(6, 8, dtype=dtype)[:, 1::2],
    "a part at an offset": lambda torch, dtype: torch.zeros(9, 4, dtype=dtype)[3:],
    "channels last": lambda torch, dtype: torch.zeros(2, 3, 4, 5, dtype=dtype).to(memory_format=torch.channels_last),
    "a scalar": lambda torch, dtype: torch.zeros((), dtype=dtype),
    "empty": lambda torch, dtype: torch.zeros(0, 4, dtype=dtype),
    "a parameter": lambda torch, dtype: torch.nn.Parameter(torch.zeros(6, 4, dtype=dtype)),
    "a slice of a parameter": lambda torch, dtype: torch.nn.Parameter(torch.zeros(6, 8, dtype=dtype))[:, :4],
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("view", VIEWS)
def test_tensors_are_filled_in_place(torch, view, dtype):
    tensor = VIEWS[view](torch, getattr(torch, dtype))
    place, grad = tensor.data_ptr(), tensor.requires_grad
    report = bigin.fill(tensor, "normal", seed=5, name="w")
    same(values(tensor), expected(tuple(tensor.shape), dtype))
    assert report.nbytes == tensor.numel() * tensor.element_size()
    assert (tensor.data_ptr(), tensor.requires_grad) == (place, grad)


@pytest.mark.parametrize("dtype", ["int64", "uint8"])
def test_integer_tensors(torch, dtype):
    tensor = torch.zeros(3, 3, dtype=getattr(torch, dtype))
    bigin.fill(tensor, "eye")
    assert tensor.tolist() == torch.eye(3, dtype=tensor.dtype).tolist()


def test_a_tensor_is_a_part_of_a_global_one(torch):
    shard = torch.zeros(3, 4, dtype=torch.bfloat16)
    bigin.fill(shard, "xavier_uniform", seed=5, name="w", shape=(12, 4), region=(slice(6, 9), slice(None)))
    same(values(shard), expected((12, 4), "bfloat16", "xavier_uniform", gain=1.0)[6:9])
    flat = torch.zeros(7)
    bigin.fill_flat(flat, "orthogonal", seed=5, name="w", shape=(12, 4), offset=9)
    same(values(flat), expected((12, 4), "float32", "orthogonal", gain=1.0).reshape(-1)[9:16])


def test_autograd_records_nothing_but_notices(torch):
    leaf = torch.nn.Parameter(torch.ones(3))
    bigin.fill(leaf, "normal")
    assert (leaf.is_leaf, leaf.grad_fn, leaf.requires_grad, leaf._version) == (True, None, True, 1)
    (leaf * leaf).sum().backward()
    assert torch.equal(leaf.grad, 2 * leaf)
    loss = (leaf * leaf).sum()
    bigin.fill(leaf, "normal")  # what the loss has saved is gone
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_tensors_of_inference_mode(torch):
    with torch.inference_mode():
        tensor = torch.zeros(6, 4)
    bigin.fill(tensor, "normal", seed=5, name="w")
    same(tensor.numpy(), expected((6, 4), "float32"))


TENSORS_REFUSED = {
    "meta": (lambda torch: torch.zeros(3, device="meta"), "expected a dense tensor on the CPU, got one of .* on meta"),
    "sparse": (
        lambda torch: torch.zeros(3, 3).to_sparse(),
        "expected a dense tensor on the CPU, got one of torch.sparse",
    ),
    "complex": (
        lambda torch: torch.zeros(3, dtype=torch.complex64),
        "expected a float dtype for random values, got complex64",
    ),
    "bool": (lambda torch: torch.zeros(3, dtype=torch.bool), "expected a float dtype for random values, got bool"),
    "another float8": (lambda torch: torch.zeros(3, dtype=torch.float8_e5m2fnuz), "got float8_e5m2fnuz"),
    "expanded": (lambda torch: torch.zeros(1).expand(3), "expected elements with memory of their own"),
    "negated": (
        lambda torch: torch.zeros(3, dtype=torch.complex64).conj().imag,
        "whose memory numpy can share: .*negative",
    ),
    "another shape": (lambda torch: torch.zeros(4), r"expected shape \(3,\), got an existing target of shape \(4,\)"),
}


@pytest.mark.parametrize("case", TENSORS_REFUSED)
def test_other_tensors_are_refused_and_stay_as_they_are(torch, case):
    make, message = TENSORS_REFUSED[case]
    tensor = make(torch)
    version = tensor._version
    with pytest.raises(bigin.InputError, match=message) as error:
        bigin.fill(tensor, "normal", shape=3)
    assert "\n" not in str(error.value)
    assert tensor._version == version
    if tensor.device.type == "cpu" and case != "sparse":
        assert not tensor.to(torch.complex64).abs().any()


def test_tensors_of_wrong_parameters_stay_as_they_are(torch):
    for options in ({"std": -1}, {"seed": -1}, {"max_memory": 1}, {"threads": 0}):
        tensor = torch.zeros(3, 4).t()
        with pytest.raises(bigin.InputError):
            bigin.fill(tensor, "normal", **options)
        assert (tensor._version, tensor.any().item()) == (0, False)


class Lender:
    """What lends its memory by numpy's interface alone."""

    def __init__(self, owner: np.ndarray, **changes: Any) -> None:
        self.owner = owner
        self.__array_interface__ = {**owner.__array_interface__, **changes}


BUFFERS = {
    "array.array": (lambda: array.array("f", [0] * 24), lambda a: np.array(a.tolist(), np.float32)),
    "array.array of doubles": (lambda: array.array("d", [0] * 24), lambda a: np.array(a.tolist(), np.float64)),
    "memoryview": (lambda: memoryview(bytearray(96)).cast("f"), lambda m: np.array(m.tolist(), np.float32)),
    "memoryview in 2-d": (
        lambda: memoryview(bytearray(96)).cast("f", (6, 4)),
        lambda m: np.array(m.tolist(), np.float32),
    ),
    "ctypes": (lambda: (ctypes.c_float * 24)(), lambda c: np.array(list(c), np.float32)),
    "an interface": (lambda: Lender(np.zeros((6, 4), np.float32)), lambda x: x.owner),
    "a strided interface": (lambda: Lender(np.zeros((4, 6), np.float32).T), lambda x: x.owner),
    "np.matrix": (lambda: np.asmatrix(np.zeros((6, 4), np.float32)), np.asarray),
    "a masked array": (lambda: np.ma.zeros((6, 4), np.float32), np.ma.getdata),
}


@pytest.mark.filterwarnings("ignore:the matrix subclass:PendingDeprecationWarning")
@pytest.mark.parametrize("case", BUFFERS)
def test_buffers_are_filled_in_place(case):
    make, read = BUFFERS[case]
    buffer = make()
    bigin.fill(buffer, "normal", seed=5, name="w")
    found = read(buffer)
    same(found, expected(found.shape, found.dtype.name))


@pytest.mark.parametrize("make", [lambda: bytearray(5), lambda: mmap.mmap(-1, 5)], ids=["bytearray", "mmap"])
def test_bytes_are_integers(make):
    buffer = make()
    bigin.fill(buffer, "constant", val=7)
    assert bytes(buffer) == b"\7" * 5


class Wrong:
    def __init__(self) -> None:
        self.__array_interface__ = {"shape": "x"}


REFUSED = {
    "bytes": (lambda: b"abcd", "expected an array that can be written, got a read-only one"),
    "a read-only memoryview": (
        lambda: memoryview(b"abcd"),
        "expected an array that can be written, got a read-only one",
    ),
    "a read-only interface": (
        lambda: Lender(np.zeros(4), data=(np.zeros(4).ctypes.data, True)),
        "expected an array that can be written, got a read-only one",
    ),
    "a read-only array": (lambda: np.broadcast_to(np.zeros(1), (4,)), "got a read-only one"),
    "an array that overlaps itself": (
        lambda: np.lib.stride_tricks.as_strided(np.zeros(1), (4,), (0,)),
        "expected elements with memory of their own, got an array that repeats some; pass a copy",
    ),
    "a wrong interface": (Wrong, "expected memory that numpy can share, got a Wrong"),
    "a numpy scalar": (lambda: np.float32(0), "expected a path, .* got float32"),
    "a list": (lambda: [0.0, 0.0], "expected a path, .* got list"),
    "None": (lambda: None, "expected a path, .* got NoneType"),
    "text in an array": (lambda: array.array("u", "ab"), "expected a dtype among"),
    "objects": (lambda: np.zeros(4, object), "expected a dtype among .* got object"),
    "bytes for normals": (lambda: bytearray(4), "expected a float dtype for random values, got uint8"),
}


@pytest.mark.filterwarnings("ignore:The 'u' type code:DeprecationWarning")
@pytest.mark.parametrize("case", REFUSED)
def test_what_lends_no_memory_is_refused(case):
    make, message = REFUSED[case]
    with pytest.raises(bigin.InputError, match=message) as error:
        bigin.fill(make(), "normal")
    assert "\n" not in str(error.value)


def test_a_jax_array_is_refused():
    """Its memory must not be written: jax takes it for constant."""
    try:
        import jax.numpy

        array = jax.numpy.zeros(4)
    except ImportError:  # what has the looks of one
        module = types.ModuleType("jaxlib.fake")
        exec("class ArrayImpl:\n    __array_interface__ = None", vars(module))
        vars(module)["ArrayImpl"].__module__ = "jaxlib.fake"
        array = vars(module)["ArrayImpl"]()
    with pytest.raises(bigin.InputError, match="got a jax array, which cannot; fill a numpy array, or make one"):
        bigin.fill(array, "normal")


def test_torch_is_not_imported_for_arrays():
    import subprocess

    code = "import sys, numpy as np, bigin; bigin.fill(np.zeros(3), 'ones'); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
