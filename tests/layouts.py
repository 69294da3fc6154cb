"""Every kind of target, as one table: a new target is a row here, and runs every test that follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.storage import LocalStore, MemoryStore

try:
    import torch
except ModuleNotFoundError:  # it is optional
    torch = None

import bigin
from bigin.core.dtypes import DTYPES, ML_DTYPES

bigin.register_dtypes()


@dataclass(frozen=True)
class Layout:
    """`make` returns what bigin.fill takes, `read` its values, `keeps` whether it is data that outlives the process."""

    name: str
    make: Callable[[Path, tuple[int, ...], str], Any]
    read: Callable[[Any], np.ndarray]
    keeps: bool = True
    dtypes: tuple[str, ...] = tuple(DTYPES)
    arguments: Callable[[tuple[int, ...], str], dict[str, Any]] = lambda shape, dtype: {}
    ndim: tuple[int, ...] = (0, 1, 2, 3, 4)

    def suits(self, shape: tuple[int, ...], dtype: str) -> bool:
        return dtype in self.dtypes and len(shape) in self.ndim


def memory(order: str) -> Callable[..., Any]:
    return lambda folder, shape, dtype: np.zeros(shape, DTYPES[dtype], order=order)


def strided(folder: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    whole = np.zeros(tuple(2 * size + 1 for size in shape), DTYPES[dtype])
    return whole[..., *(slice(1, None, 2) for _ in shape)]


def reversed_rows(folder: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.zeros(shape, DTYPES[dtype])[::-1]


def swapped(folder: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.zeros(shape, DTYPES[dtype].newbyteorder(">"))


def lent(folder: Path, shape: tuple[int, ...], dtype: str) -> Any:
    """What numpy knows only by its __array_interface__."""

    class Lender:
        def __init__(self) -> None:
            self.array = np.zeros(shape, DTYPES[dtype])
            self.__array_interface__ = self.array.__array_interface__

        def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
            raise AssertionError("a copy")

    return Lender()


def tensor(folder: Path, shape: tuple[int, ...], dtype: str) -> Any:
    return torch.zeros(shape, dtype=getattr(torch, dtype))


def parameter(folder: Path, shape: tuple[int, ...], dtype: str) -> Any:
    return torch.nn.Parameter(tensor(folder, shape, dtype), requires_grad=True)


def strided_tensor(folder: Path, shape: tuple[int, ...], dtype: str) -> Any:
    return tensor(folder, tuple(2 * size + 1 for size in shape[::-1]), dtype).permute(*range(len(shape))[::-1])[
        tuple(slice(1, None, 2) for _ in shape)
    ]


def read_tensor(target: Any) -> np.ndarray:
    """By way of Python's numbers, which every float of torch becomes exactly."""
    name = str(target.dtype).removeprefix("torch.")
    kind = torch.float64 if target.dtype.is_floating_point else torch.int64
    return target.detach().to(kind).numpy().astype(DTYPES[name])


def memmap(folder: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return np.memmap(folder / "map.bin", DTYPES[dtype], "w+", 24, shape)


def memmap_view(folder: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    return memmap(folder, (shape[0] + 3, *shape[1:]), dtype)[2 : 2 + shape[0]]


def memmap_copy(folder: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    memmap(folder, shape, dtype)
    return np.memmap(folder / "map.bin", DTYPES[dtype], "c", 24, shape)


def npy(order: str, byteorder: str = "=") -> Callable[..., Any]:
    def make(folder: Path, shape: tuple[int, ...], dtype: str) -> Path:
        path = folder / "array.npy"
        kind = DTYPES[dtype] if byteorder == "=" else DTYPES[dtype].newbyteorder(byteorder)
        np.save(path, np.zeros(shape, kind, order=order))
        return path

    return make


def read_npy(path: Path) -> np.ndarray:
    values = np.load(path)
    if values.dtype.kind == "V":  # .npy has no names for these: the record does
        import json

        values = values.view(DTYPES[json.loads(Path(f"{path}.bigin.json").read_text())["dtype"]])
    return values


def new_npy(folder: Path, shape: tuple[int, ...], dtype: str) -> Path:
    return folder / "new.npy"


def raw(folder: Path, shape: tuple[int, ...], dtype: str) -> Path:
    path = folder / "raw.bin"
    path.write_bytes(b"")
    RAW[path] = (shape, dtype)
    return path


RAW: dict[Path, tuple[tuple[int, ...], str]] = {}
RAW_OFFSET = 13


def read_raw(path: Path) -> np.ndarray:
    shape, dtype = RAW[path]
    return np.fromfile(path, DTYPES[dtype], offset=RAW_OFFSET).reshape(shape)


def safetensors_tensor(folder: Path, shape: tuple[int, ...], dtype: str) -> str:
    """A tensor of zeros between two others."""
    from bigin.targets.safetensors.header import lay_out, pack_header

    entries = lay_out([("a", dtype, (3,)), ("w", dtype, shape), ("z", "int8", (5,))])
    end = max(entry.end for entry in entries.values())
    (folder / "x.safetensors").write_bytes(pack_header(entries, {}) + bytes(end))
    return f"{folder}/x.safetensors#w"


def read_safetensors(target: str) -> np.ndarray:
    from bigin.targets.safetensors.header import read_header

    path = target.removesuffix("#w")
    header = read_header(Path(path))
    entry = header.entries["w"]
    data = Path(path).read_bytes()[header.start + entry.begin : header.start + entry.end]
    return np.frombuffer(data, DTYPES[str(entry.dtype)]).reshape(entry.shape)


def stored(store: str = "local", inner: str = "", **options: Any) -> Callable[..., Any]:
    """A zarr array with uneven chunks (3 along each axis, 5 along the last; shards of 2 x 2 of them)."""

    def make(folder: Path, shape: tuple[int, ...], dtype: str) -> zarr.Array:
        chunks = tuple(5 if axis == len(shape) - 1 else 3 for axis in range(len(shape)))
        given = {"chunks": chunks, "compressors": None, **options}
        if given.pop("sharded", False):
            given["shards"] = tuple(2 * size for size in chunks)
        place = {"local": LocalStore(folder / "array.zarr"), "memory": MemoryStore()}[store]
        if inner:
            zarr.open_group(place, mode="a")
        name = DTYPES[dtype].newbyteorder(">") if given.pop("swapped", False) else dtype
        return zarr.create_array(place, name=inner or None, shape=shape, dtype=name, **given)

    return make


def read_zarr(array: Any) -> np.ndarray:
    """What another opening of the array sees."""
    if isinstance(array, Path | str):
        return np.asarray(zarr.open_array(array)[...])
    place = array.store_path
    return np.asarray(zarr.open_array(place.store, path=place.path)[...])


def new_zarr(folder: Path, shape: tuple[int, ...], dtype: str) -> Path:
    return folder / "new.zarr"


def make_arguments(shape: tuple[int, ...], dtype: str) -> dict[str, Any]:
    return {"shape": shape, "dtype": dtype}


NUMPYS = tuple(name for name in DTYPES if name not in ML_DTYPES)
SOME = (1, 2, 3, 4)
LAYOUTS = [
    Layout("memory C", memory("C"), np.asarray, False),
    Layout("memory Fortran", memory("F"), np.asarray, False),
    Layout("memory strided", strided, np.asarray, False),
    Layout("memory reversed", reversed_rows, np.asarray, False, ndim=SOME),
    Layout("memory big-endian", swapped, np.asarray, False, NUMPYS),
    Layout("memory lent", lent, lambda lender: lender.array, False, NUMPYS),
    Layout("memmap", memmap, np.asarray, False, ndim=SOME),
    Layout("memmap view", memmap_view, np.asarray, False, ndim=SOME),
    Layout("memmap copy-on-write", memmap_copy, np.asarray, False, ndim=SOME),
    Layout("npy", npy("C"), read_npy, dtypes=NUMPYS),
    Layout("npy Fortran", npy("F"), read_npy, dtypes=NUMPYS),
    Layout("npy big-endian", npy("C", ">"), read_npy, dtypes=NUMPYS),
    Layout("npy Fortran big-endian", npy("F", ">"), read_npy, dtypes=NUMPYS),
    Layout("npy made", new_npy, read_npy, arguments=make_arguments),
    Layout("raw", raw, read_raw, arguments=lambda s, d: {"raw": True, "offset": RAW_OFFSET, "shape": s, "dtype": d}),
    Layout("safetensors", safetensors_tensor, read_safetensors, arguments=lambda s, d: {"name": ""}),
    Layout("zarr", stored(), read_zarr),
    Layout("zarr in memory", stored("memory"), read_zarr),
    Layout("zarr sharded", stored(sharded=True), read_zarr, ndim=SOME),
    Layout("zarr sharded in memory", stored("memory", sharded=True), read_zarr, ndim=SOME),
    Layout("zarr compressed", stored(compressors="auto"), read_zarr),
    Layout("zarr sharded compressed", stored(sharded=True, compressors="auto"), read_zarr, ndim=SOME),
    Layout("zarr big-endian", stored(serializer=zarr.codecs.BytesCodec(endian="big")), read_zarr, dtypes=NUMPYS),
    Layout("zarr fill value", stored(fill_value=1), read_zarr),
    Layout("zarr v2", stored(zarr_format=2), read_zarr),
    Layout("zarr v2 Fortran", stored(zarr_format=2, order="F"), read_zarr, dtypes=NUMPYS),
    Layout("zarr v2 big-endian", stored(zarr_format=2, swapped=True), read_zarr, dtypes=NUMPYS),
    Layout("zarr v2 compressed", stored(zarr_format=2, compressors="auto"), read_zarr, dtypes=NUMPYS),
    Layout("zarr made", new_zarr, read_zarr, arguments=make_arguments),
]
if torch is not None:
    TORCHS = tuple(name for name in DTYPES if hasattr(torch, name))
    LAYOUTS += [
        Layout("tensor", tensor, read_tensor, False, TORCHS),
        Layout("parameter", parameter, read_tensor, False, tuple(name for name in TORCHS if "float" in name)),
        Layout("tensor strided", strided_tensor, read_tensor, False, TORCHS, ndim=SOME),
    ]
