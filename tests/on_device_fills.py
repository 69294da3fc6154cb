"""Fills on and from a CUDA device against fills on the CPU; run as on_device.py is."""

from __future__ import annotations

import ctypes
import importlib.util
import pickle

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

import bigin
from bigin.cli import cli
from bigin.core.dtypes import DTYPES, FLOATS
from bigin.jobs import device as choice
from bigin.kernels.cuda import arrays as lending
from bigin.kernels.cuda import device as cuda_device

bigin.register_dtypes()

METHODS = {
    "uniform": {},
    "normal": {"std": 0.02},
    "trunc_normal": {"a": -1.0},
    "constant": {"val": 2},
    "eye": {},
    "sparse": {"sparsity": 0.4},
    "orthogonal": {"gain": 0.5},
    "xavier_uniform": {},
}


class Lent:
    """An array on the device as another library lends it, by __cuda_array_interface__ or by DLPack."""

    def __init__(self, values: np.ndarray, how: str, stream=None):
        bits = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
        self.memory = cuda_device.contiguous(bits.shape, values.dtype)
        with cuda_device.on_stream(None) as own:
            cuda_device.copy_to_device(bits, self.memory, own)
        self.dtype, self.shape, self.how, self.stream = values.dtype, values.shape, how, stream

    def view(self, index):
        """What numpy's indexing would make of it."""
        like = np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), self.shape, self.memory.strides)
        part = np.empty(0) if 0 in self.shape else like[index]
        first = self.memory.first + self.dtype.itemsize * (part.ctypes.data - like.ctypes.data)
        return Interface(first, part.shape, part.strides, self.dtype, self)

    def values(self):
        with cuda_device.on_stream(None) as own:
            return cuda_device.to_host(self.memory, self.dtype, own)


class Interface:
    def __init__(self, first, shape, steps, dtype, owner):
        self.dtype = dtype
        typestr = dtype.str if dtype.name not in bigin.core.dtypes.ML_DTYPES else f"|V{dtype.itemsize}"
        strides = tuple(step * dtype.itemsize for step in steps)
        self.owner = owner
        self.interface = {"shape": shape, "typestr": typestr, "data": (first, False), "strides": strides, "version": 3}
        self.interface["stream"] = owner.stream
        if owner.how == "interface":
            self.__cuda_array_interface__ = self.interface

    def __dlpack_device__(self):
        return (2, 0)

    def __dlpack__(self, stream=None):
        assert stream == 1
        capsule, self.keep = dlpack_capsule(self.interface, self.dtype)
        return capsule


def dlpack_code(dtype):
    """The type code of dlpack.h."""
    others = {"bfloat16": 4, "float8_e4m3fn": 10, "float8_e5m2": 12}
    return others.get(dtype.name, {"i": 0, "u": 1, "f": 2}.get(dtype.kind))


def dlpack_capsule(interface, dtype):
    """A capsule as a library would make it, and what must outlive it."""
    from bigin.kernels.cuda.arrays import _Device, _Tensor, _Type

    ndim = len(interface["shape"])
    shape = (ctypes.c_int64 * ndim)(*interface["shape"])
    strides = (ctypes.c_int64 * ndim)(*(s // dtype.itemsize for s in interface["strides"]))
    kind = _Type(dlpack_code(dtype), 8 * dtype.itemsize, 1)
    offset = 16  # the address is to be taken with it
    data = interface["data"][0] - offset
    tensor = _Tensor(data, _Device(2, 0), ndim, kind, shape, strides, offset)
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
    return new(ctypes.addressof(tensor), b"dltensor", None), (tensor, shape, strides)


INDEXES = {
    "whole": (slice(None), slice(None)),
    "rows": (slice(2, 9), slice(None)),
    "columns": (slice(None), slice(3, 6)),
    "steps": (slice(1, None, 2), slice(None, None, 3)),
    "backwards": (slice(None, None, -1), slice(6, 0, -2)),
}


@pytest.mark.parametrize("how", ["interface", "dlpack"])
@pytest.mark.parametrize("index", INDEXES)
def test_lent_arrays(how, index):
    for method, dtype in (("normal", "float32"), ("uniform", "bfloat16"), ("constant", "int64"), ("eye", "float16")):
        values = np.full((11, 8), 77).astype(DTYPES[dtype])
        lent = Lent(values, how)
        expected = values.copy()
        part = np.zeros_like(expected[INDEXES[index]])
        bigin.fill(part, method, seed=5, **METHODS[method])
        expected[INDEXES[index]] = part
        report = bigin.fill(lent.view(INDEXES[index]), method, seed=5, **METHODS[method])
        assert report.device.startswith("cuda:0")
        assert lent.values().tobytes() == expected.tobytes(), (method, dtype)


@pytest.mark.parametrize("method", METHODS)
def test_methods_and_regions(method):
    """A region of a larger tensor, as a rank's shard is."""
    whole = np.zeros((12, 7), np.float32)
    bigin.fill(whole, method, seed=1, name="w", **METHODS[method])
    lent = Lent(np.zeros((5, 7), np.float32), "interface")
    target = lent.view(INDEXES["whole"])
    bigin.fill(target, method, seed=1, name="w", shape=(12, 7), region=[slice(4, 9)], **METHODS[method])
    assert lent.values().tobytes() == whole[4:9].tobytes()


def test_flat_stretches_and_padding():
    whole = np.zeros((9, 5), np.float32)
    bigin.fill(whole, "normal", seed=2, padding_idx=3)
    lent = Lent(np.ones((9, 5), np.float32), "interface", stream=1)
    bigin.fill(lent.view(INDEXES["whole"]), "normal", seed=2, padding_idx=3)
    assert lent.values().tobytes() == whole.tobytes()
    bigin.fill(whole, "normal", seed=2)
    flat = Lent(np.zeros(17, np.float32), "dlpack")
    bigin.fill_flat(flat.view((slice(None),)), "normal", shape=(9, 5), offset=11, seed=2)
    assert flat.values().tobytes() == whole.reshape(-1)[11:28].tobytes()


def test_what_cannot_be_filled_is_one_clear_line():
    lent = Lent(np.zeros((4, 4), np.float32), "interface")
    read_only = lent.view(INDEXES["whole"])
    read_only.__cuda_array_interface__ = read_only.interface | {"data": (lent.memory.first, True)}
    broadcast = lent.view(INDEXES["whole"])
    broadcast.__cuda_array_interface__ = broadcast.interface | {"strides": (0, 4)}
    swapped = lent.view(INDEXES["whole"])
    swapped.__cuda_array_interface__ = swapped.interface | {"typestr": ">f4"}
    for target, said in ((read_only, "can be written"), (broadcast, "memory of their own"), (swapped, "byte order")):
        with pytest.raises(bigin.InputError, match=said):
            bigin.fill(target, "normal")
    with pytest.raises(bigin.InputError, match="leave the device out"):
        bigin.fill(lent.view(INDEXES["whole"]), "normal", device="cpu")
    with pytest.raises(bigin.InputError, match="expected a device among"):
        bigin.fill(np.zeros(3), "normal", device="gpu")
    with pytest.raises(bigin.InputError, match=f"from 0 to {cuda_device.count() - 1}, got 99"):
        bigin.fill(np.zeros(3), "normal", device="cuda:99")
    assert lent.values().tobytes() == bytes(64)


LAYOUTS = ["plain", "sharded", "compressed", "npy", "memory"]


@pytest.mark.parametrize(
    ("layout", "method"), [*((layout, m) for layout in LAYOUTS for m in ("normal", "sparse")), ("npy", "orthogonal")]
)
def test_from_the_device_to_the_host(method, layout, tmp_path):
    """The same bytes in every target; several workers take turns."""
    shape, results = (37, 6), []
    for device in ("cpu", "cuda"):
        if layout == "memory":
            target = np.zeros(shape, np.float32)[::-1]
        elif layout == "npy":
            target = tmp_path / f"{device}.npy"
        else:
            target = zarr.create_array(
                tmp_path / f"{device}.zarr",
                shape=shape,
                chunks=(4, 3),
                shards=(8, 6) if layout == "sharded" else None,
                dtype="float32",
                compressors="auto" if layout == "compressed" else None,
            )
        given = {"shape": shape} if layout == "npy" else {}
        report = bigin.fill(target, method, seed=4, name="", device=device, threads=3, **given, **METHODS[method])
        assert report.device.startswith(device)
        results.append(np.load(target) if layout == "npy" else np.asarray(target[:]))
    assert results[0].tobytes() == results[1].tobytes()


@pytest.mark.parametrize("dtype", FLOATS)
def test_every_dtype_in_a_zarr_array(dtype, tmp_path):
    values = []
    for device in ("cpu", "cuda"):
        path = tmp_path / f"{device}.zarr"
        bigin.fill(path, "normal", name="", shape=(33, 5), dtype=dtype, device=device)
        values.append(zarr.open_array(path, mode="r")[:].tobytes())
    assert values[0] == values[1]


def test_the_command_line_says_where(tmp_path):
    command = ["fill", "-m", "normal", str(tmp_path / "a.zarr"), "--shape", "20,3"]
    made = CliRunner().invoke(cli, [*command, "--device", "cuda"], catch_exceptions=False)
    assert "computed on cuda:0 (" in made.output
    made = CliRunner().invoke(cli, [*command[:3], str(tmp_path / "b.zarr"), *command[4:], "--device", "auto"])
    assert "computed on cpu (CUDA would not pay" in made.output


def test_auto_takes_the_device_where_it_pays(monkeypatch):
    monkeypatch.setattr(choice, "STARTED", 0.0)
    monkeypatch.setattr(choice, "COPIED", 1e15)
    values = np.zeros((5, 5), np.float32)
    assert bigin.fill(values, "normal", device="auto").device.startswith("cuda:0")


def test_too_little_device_memory():
    """Refused before anything is changed, or left to the CPU where the device was left open."""
    values = np.zeros((40, 30), np.float32)
    with pytest.raises(bigin.InputError, match=r"of the device's memory, got the 1\.0 KiB of --max-device-memory"):
        bigin.fill(values, "orthogonal", device="cuda", max_device_memory="1KiB")
    assert not values.any()


def test_too_little_device_memory_is_no_hindrance_to_auto(monkeypatch):
    monkeypatch.setattr(choice, "seconds", lambda *_: (1.0, 0.0))
    report = bigin.fill(np.zeros((40, 30), np.float32), "orthogonal", device="auto", max_device_memory="1KiB")
    assert report.device.startswith("cpu (expected ")


@pytest.mark.parametrize("method", ["normal", "sparse", "eye", "orthogonal"])
def test_virtual_arrays(method):
    """The parts of bigin.virtual, made on the device."""
    there = bigin.virtual((13, 9), method, seed=3, device="cuda", **METHODS[method])
    here = bigin.virtual((13, 9), method, seed=3, **METHODS[method])
    for key in (..., 4, (slice(2, 9), slice(None, None, 2)), (slice(None), 5), (slice(3, 3),), (None, slice(1, 5), 2)):
        part, expected = there[key], np.asarray(here[key])
        assert (part.shape, part.dtype) == (expected.shape, expected.dtype)
        assert np.asarray(part).tobytes() == expected.tobytes(), key
    assert np.asarray(pickle.loads(pickle.dumps(there))).tobytes() == np.asarray(here).tobytes()
    with pytest.raises(IndexError, match="slices with steps above 0"):
        there[[1, 2]]
    with pytest.raises(bigin.InputError, match="got 'auto'"):
        bigin.virtual((13, 9), method, device="auto", **METHODS[method])
    small = bigin.virtual((13, 9), method, device="cuda", max_device_memory=100, **METHODS[method])
    with pytest.raises(bigin.InputError, match="of the device's memory"):
        small[...]


def test_parts_of_virtual_arrays_are_lent(monkeypatch):
    """By both protocols; what was lent by DLPack is kept until it is given back, or never taken."""
    values = bigin.virtual((6, 5), "normal", seed=3, dtype="bfloat16", device="cuda")[1:4]
    expected = np.asarray(values)
    assert values.__dlpack_device__() == (lending.CUDA, 0)
    with pytest.raises(AttributeError, match="bfloat16; use DLPack"):
        _ = values.__cuda_array_interface__
    before = len(lending._LENT)
    capsule = values.__dlpack__(stream=1)
    assert len(lending._LENT) == before + 1
    del capsule
    assert len(lending._LENT) == before
    others = (ctypes.c_double, ctypes.c_double)  # another library's prototype
    monkeypatch.setattr(ctypes.pythonapi.PyCapsule_GetPointer, "argtypes", others)
    found = lending.from_dlpack(values)
    assert ctypes.pythonapi.PyCapsule_GetPointer.argtypes == others
    assert (found.shape, found.strides, found.dtype) == ((3, 5), (5, 1), expected.dtype)
    singles = bigin.virtual((6, 5), "normal", seed=3, device="cuda")[1:4]
    assert singles.__cuda_array_interface__["data"] == (singles._array.first, False)
    if not cuda_device.SIMULATED:
        return
    monkeypatch.setattr(lending, "CUDA", 1)  # the simulator's memory is the host's, which numpy can take
    taken = np.from_dlpack(singles)
    expected = np.asarray(singles)
    del singles, values, found
    assert taken.tobytes() == expected.tobytes()
    assert len(lending._LENT) == before + 1
    del taken
    assert len(lending._LENT) == before


TORCH = importlib.util.find_spec("torch") is not None
CUPY = importlib.util.find_spec("cupy") is not None
REAL = pytest.mark.skipif(cuda_device.SIMULATED, reason="the simulator lends its memory to no other library")


@REAL
@pytest.mark.skipif(not TORCH, reason="torch is not installed: pip install 'bigin[torch]'")
@pytest.mark.parametrize("dtype", FLOATS)
def test_torch_tensors(dtype):
    """On torch's current stream, which is not waited for; views, parameters and transposes."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("this torch has no CUDA")
    kind = getattr(torch, dtype)
    expected = np.zeros((300, 70), DTYPES[dtype])
    bigin.fill(expected, "normal", seed=9)
    bits = torch.uint8 if expected.itemsize == 1 else getattr(torch, f"int{8 * expected.itemsize}")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        plain = torch.nn.Parameter(torch.empty(300, 70, device="cuda", dtype=kind), requires_grad=False)
        turned = torch.empty(70, 300, device="cuda", dtype=kind).t()
        part = torch.empty(600, 150, device="cuda", dtype=kind)[::2, 3:73]
        for tensor in (plain, turned, part):
            bigin.fill(tensor, "normal", seed=9)
            made = tensor.detach().view(bits) if tensor is plain else tensor.contiguous().view(bits)
            assert made.cpu().numpy().tobytes() == expected.tobytes()


@REAL
@pytest.mark.skipif(not CUPY, reason="cupy is not installed: pip install cupy-cuda13x")
def test_cupy_arrays():
    import cupy

    expected = np.zeros((300, 70), np.float32)
    bigin.fill(expected, "uniform", seed=9)
    for array in (cupy.empty((300, 70), "f4"), cupy.empty((70, 300), "f4").T, cupy.empty((600, 70), "f4")[::-2]):
        with cupy.cuda.Stream(non_blocking=True):
            bigin.fill(array, "uniform", seed=9)
            assert cupy.asnumpy(array).tobytes() == expected.tobytes()


@REAL
def test_several_streams_at_once():
    """Fills from several threads, each on its own stream, do not disturb each other."""
    from concurrent.futures import ThreadPoolExecutor

    def fill(seed):
        lent = Lent(np.zeros((1000, 1000), np.float32), "interface")
        bigin.fill(lent.view(INDEXES["whole"]), "normal", seed=seed)
        return lent.values()

    with ThreadPoolExecutor(8) as pool:
        for seed, made in enumerate(pool.map(fill, range(16))):
            expected = np.zeros((1000, 1000), np.float32)
            bigin.fill(expected, "normal", seed=seed)
            assert made.tobytes() == expected.tobytes()


@REAL
def test_a_whole_store(tmp_path):
    """A gigabyte, in chunks, by several workers through pinned memory."""
    for device in ("cpu", "cuda"):
        bigin.fill(tmp_path / f"{device}.zarr", "normal", name="", shape=(2**18, 1024), device=device, sync=False)
    one, two = (zarr.open_array(tmp_path / f"{device}.zarr", mode="r") for device in ("cpu", "cuda"))
    for row in range(0, 2**18, 2**14):
        assert one[row : row + 2**14].tobytes() == two[row : row + 2**14].tobytes()


@pytest.mark.parametrize("how", ["interface", "dlpack"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float8_e5m2"])
def test_rows_by_key_are_made_where_the_keys_lie(how, dtype):
    keys = np.array([[5, 2**63, 5], [7, 0, 2**64 - 1]], np.uint64)
    for method in ("normal", "ones"):
        table = bigin.KeyedTable(6, method, seed=3, name="users", dtype=dtype)
        expected = table[keys]
        for lent in (keys, keys.view(np.int64)):
            made = table[Lent(lent, how).view(...)]
            assert (made.shape, made.dtype) == ((2, 3, 6), DTYPES[dtype])
            assert np.asarray(made).tobytes() == expected.tobytes()
        if how == "dlpack" or dtype in ("float32", "float64"):
            out = Lent(np.zeros((2, 3, 6), DTYPES[dtype]), how)
            given = out.view(...)
            assert table.rows(Lent(keys, how).view(...), out=given) is given
            assert out.values().tobytes() == expected.tobytes()


def test_rows_by_key_refuse_other_keys_and_outputs_on_a_device():
    table = bigin.KeyedTable(6, "normal")
    keys = Lent(np.arange(6).reshape(2, 3), "interface")
    for bad, error in (
        (Lent(np.arange(3, dtype=np.int32), "interface").view(...), "expected keys of int64 or uint64 on a device"),
        (keys.view((slice(None), slice(None, None, 2))), "expected keys one after the other"),
    ):
        with pytest.raises(bigin.InputError, match=error):
            table[bad]
    for out, error in (
        (Lent(np.zeros((2, 3, 5), np.float32), "interface").view(...), "expected out of shape"),
        (np.zeros((2, 3, 6), np.float32), "expected out on the device of the keys"),
    ):
        with pytest.raises(bigin.InputError, match=error):
            table.rows(keys.view(...), out=out)
