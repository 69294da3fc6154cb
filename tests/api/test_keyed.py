"""KeyedTable: keys of every kind, values where they are wanted, and what is refused."""

from __future__ import annotations

import copy
import json
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
import reference
from common import narrow

import bigin
from bigin.core.dtypes import DTYPES, FLOATS
from bigin.methods import table as methods
from bigin.spec.keyed import KeyedSpec

LARGE = 2**64 - 1


def row(key, dim=6, method="normal", dtype="float32", seed=3, name="users"):
    return reference.keyed_row(method, {}, dim, dtype, seed, name, key)


@pytest.fixture(name="users")
def _users():
    return bigin.KeyedTable(6, "normal", seed=3, name="users")


def test_keys_of_every_kind_name_the_same_rows(users):
    for keys in (
        [5, LARGE, 2**63],
        (5, -1, -(2**63)),
        [5, LARGE, -(2**63)],
        np.array([5, LARGE, 2**63], np.uint64),
        np.array([5, -1, -(2**63)], np.int64),
        np.array([5, LARGE, -(2**63)], object),
        np.array([2**63, 0, LARGE, 5], np.uint64)[[3, 2, 0]],
        np.array([5, 9, -1, 9, -(2**63)])[::2],
        np.array([5, -1, -(2**63)], ">i8"),
    ):
        made = users[keys]
        assert made.dtype == np.float32
        assert made.tobytes() == b"".join(row(key).tobytes() for key in (5, LARGE, 2**63))
    for kind in (np.int8, np.int32, np.int16):
        assert users[np.array([-1], kind)].tobytes() == row(LARGE).tobytes()  # the sign is kept
    assert users[np.array([2**32 - 1], np.uint32)].tobytes() == row(2**32 - 1).tobytes()
    for key in (7, np.int64(7), np.uint8(7), np.array(7)):
        assert users[key].shape == (6,)
        assert users[key].tobytes() == row(7).tobytes()


def test_texts_are_keys(users):
    key = reference.key_of_text("user:1")
    assert users["user:1"].tobytes() == users[key].tobytes() == row(key).tobytes()
    for texts in (["a", "é"], ("a", "é"), np.array(["a", "é"]), np.array(["a", "é"], object)):
        assert users[texts].tobytes() == b"".join(row(reference.key_of_text(text)).tobytes() for text in ("a", "é"))
    assert users[["a\0", "a"]].tobytes() == b"".join(row(reference.key_of_text(t)).tobytes() for t in ("a\0", "a"))
    assert users[[["a"], ["b"]]].shape == (2, 1, 6)


def test_shapes(users):
    keys = np.arange(24).reshape(2, 3, 4)
    assert users[keys].shape == (2, 3, 4, 6)
    assert users[keys][1, 2, 3].tobytes() == row(23).tobytes()
    assert users[keys.T].tobytes() == users[np.ascontiguousarray(keys.T)].tobytes()
    for empty in ([], np.empty((0, 3), np.int64), np.empty((0, 3), np.uint64)):
        assert users[empty].shape == (*np.shape(empty), 6)


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_float(dtype):
    table = bigin.KeyedTable(5, "normal", dtype=dtype, seed=1)
    keys = [0, 1, LARGE]
    expected = b"".join(row(key, 5, "normal", dtype, 1, "").tobytes() for key in keys)
    assert table[keys].dtype == DTYPES[dtype]
    assert table[keys].tobytes() == expected
    out = np.zeros((3, 10), DTYPES[dtype])[:, ::2]  # not one after the other
    assert table.rows(keys, out=out) is out
    assert out.tobytes() == expected


def test_constants():
    assert bigin.KeyedTable(3, "constant", val=7, dtype="int16")[[1, 2]].tolist() == [[7] * 3] * 2
    assert not bigin.KeyedTable(3, "zeros", dtype="bfloat16")[[1, 2]].any()
    assert (bigin.KeyedTable(2, "ones", dtype="complex64")["a"] == 1).all()
    with pytest.raises(bigin.InputError, match="expected a float dtype for random values"):
        bigin.KeyedTable(3, "normal", dtype="int32")


def test_many_rows_are_made_by_threads(users):
    """Of any size, in many tiles, in several regions, with the bits of one row alone."""
    keys = np.random.default_rng(1).integers(0, 2**64, 400_003, np.uint64)
    alone = bigin.KeyedTable(6, "normal", seed=3, name="users", threads=1)
    made = users[keys]
    assert made.tobytes() == alone[keys].tobytes()
    for i in (0, 1, 170, 171, 174_761, 174_762, 174_763, 400_002):
        assert made[i].tobytes() == row(int(keys[i])).tobytes()


def test_torch_tensors(users):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    keys = torch.tensor([[5, -1], [7, -(2**63)]])
    made = users[keys]
    assert isinstance(made, torch.Tensor)
    assert made.dtype == torch.float32
    assert made.numpy().tobytes() == users[keys.numpy()].tobytes()
    assert users[keys.T].numpy().tobytes() == users[keys.numpy().T].tobytes()
    assert users[torch.tensor(5)].shape == (6,)
    assert users[torch.tensor([5], dtype=torch.int32)].numpy().tobytes() == row(5).tobytes()
    assert users[torch.tensor([LARGE], dtype=torch.uint64)].numpy().tobytes() == row(LARGE).tobytes()
    for dtype in ("bfloat16", narrow("float8_e4m3fn"), "float64"):
        table = bigin.KeyedTable(6, "normal", seed=3, name="users", dtype=dtype)
        made = table[keys]
        assert made.dtype == getattr(torch, dtype)
        assert made.view(torch.uint8).numpy().tobytes() == table[keys.numpy()].tobytes()
        weight = torch.nn.Parameter(torch.zeros(2, 2, 6, dtype=getattr(torch, dtype)))
        assert table.rows(keys, out=weight) is weight
        assert weight.detach().view(torch.uint8).numpy().tobytes() == table[keys.numpy()].tobytes()
    with pytest.raises(bigin.InputError, match="expected dense keys on the CPU or a CUDA device"):
        users[torch.empty(3, dtype=torch.int64, device="meta")]
    with pytest.raises(bigin.InputError, match="got float32"):
        users[torch.tensor([1.0])]


def test_evicted_rows_come_back(users):
    """A cache of rows on two replicas, which see the keys in other orders and drop them: the same table."""
    rng = np.random.default_rng(2)
    replicas = [{}, {}]
    for step in range(30):
        for cache, order in zip(replicas, (1, -1), strict=True):
            for key in rng.permutation(12)[::order].tolist():
                if key not in cache:
                    cache[key] = users[key]
                if step % 3 == 0 and key % 2:
                    cache.pop(key)
    shared = replicas[0].keys() & replicas[1].keys()
    assert shared
    assert all((replicas[0][key] == replicas[1][key]).all() for key in shared)


METHODS = [
    ("xavier_normal", {}, r"xavier_normal: Normal\(.*\) for 1 row would be Normal\(.*\) for 1048576"),
    ("kaiming_normal", {"mode": "fan_out"}, "expected a method whose values do not depend on the number of rows"),
    ("lecun_normal", {"in_axis": -2, "out_axis": -1}, "expected a method whose values do not depend on the number"),
    ("sparse", {"sparsity": 0.5}, "expected a method whose values do not depend on the number of rows"),
    ("eye", {}, "expected independent draws or one value everywhere, got 1 on the diagonal; choose normal or uniform"),
    ("orthogonal", {}, "expected independent draws or one value everywhere"),
    ("sinusoidal", {}, "expected independent draws or one value everywhere"),
    ("arange", {}, "expected independent draws or one value everywhere"),
    ("identity_plus_noise", {"std": 1.0}, "expected independent draws or one value everywhere"),
    ("nomal", {}, "expected a method"),
    ("normal", {"sdt": 1}, "sdt"),
    ("normal", {"std": 1e39}, "expected values within float32's range"),
]


@pytest.mark.parametrize(("method", "parameters", "error"), METHODS)
def test_methods_that_are_refused(method, parameters, error):
    with pytest.raises(bigin.InputError, match=error) as caught:
        bigin.KeyedTable(8, method, **parameters)
    assert "\n" not in str(caught.value)


def table_of(name, method):
    """A table of a method, with something for each parameter that must be given; or why there is none."""
    given = {key: 0.5 + (key == "b") for key, value in method.defaults.items() if value == methods.REQUIRED}
    try:
        return bigin.KeyedTable(6, name, seed=3, name="users", **given)
    except bigin.InputError as error:
        return str(error)


@pytest.mark.slow
def test_every_method_is_made_or_refused():
    """By what it does, not by a list: what is made has the reference's bits."""
    made = []
    for name, method in methods.METHODS.items():
        table = table_of(name, method)
        if isinstance(table, str):
            assert re.search("depend|one value everywhere|3 or 4 or 5 dimensions", table), (name, table)
            continue
        parameters = dict(table.specification.parameters)
        assert table[5].tobytes() == reference.keyed_row(name, parameters, 6, "float32", 3, "users", 5).tobytes()
        made.append(name)
    assert {"normal", "uniform", "trunc_normal", "zeros", "kaiming_normal", "lecun_uniform"} <= {*made}


@pytest.mark.parametrize("dim", [0, -1, 1.5, True, "8", None, 2**40 + 1])
def test_dims_that_are_refused(dim):
    with pytest.raises(bigin.InputError, match="expected dim to be an integer from 1 to 2"):
        bigin.KeyedTable(dim, "normal")


NO_INTEGERS = [1.5, [1.0], [True], True, 2**64, -(2**63) - 1, [2**64, 1], np.array([1.5]), [[1], [1, 2]], slice(3)]
NO_TEXTS = [None, [1, "a"], [["a"], [1]], [1, None], b"a", [b"a"], np.array([1], "M8[s]"), {"a": 1}, "\ud800"]


@pytest.mark.parametrize("keys", [*NO_INTEGERS, *NO_TEXTS], ids=ascii)
def test_what_is_no_key(users, keys):
    with pytest.raises(bigin.InputError, match=r"expected (keys that are integers|text that UTF-8)") as caught:
        users[keys]
    assert "\n" not in str(caught.value)


def test_outputs_that_are_refused(users):
    for out in (np.zeros((2, 5), np.float32), np.zeros((2, 6)), np.zeros((1, 2, 6), np.float32), np.zeros(12, "f4")):
        with pytest.raises(bigin.InputError, match=r"expected out of shape \(2, 6\) and dtype float32, got"):
            users.rows([1, 2], out=out)
    frozen = np.zeros((2, 6), np.float32)
    frozen.flags.writeable = False
    for out in (frozen, [[0.0] * 6] * 2, "a"):
        with pytest.raises(bigin.InputError):
            users.rows([1, 2], out=out)


def test_what_it_is_called_and_sent_as(users):
    assert repr(users) == "bigin.KeyedTable(6, 'normal', seed=3, name='users', dtype='float32')"
    assert eval(repr(users)) == users
    assert users != bigin.KeyedTable(6, "normal", seed=4, name="users")
    for twin in (pickle.loads(pickle.dumps(users)), copy.deepcopy(users)):
        assert twin == users
        assert hash(twin) == hash(users)
        assert (twin[[1, 2]] == users[[1, 2]]).all()
    spec = users.specification
    assert KeyedSpec.from_record(json.loads(json.dumps(spec.record()))) == spec
    assert str(spec) == "normal(), seed 3, name users, rows of 6 float32 by key"
    for change in ({"keys": "int32"}, {"stream": 2}, {"dim": -1}, {"method": 3}, {"parameters": None}):
        with pytest.raises(bigin.RecordError):
            KeyedSpec.from_record(spec.record() | change)


def test_nothing_is_compiled_before_the_first_row():
    code = "import bigin, sys; bigin.KeyedTable(4, 'normal'); print('numba' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
