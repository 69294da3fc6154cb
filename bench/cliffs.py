"""Layouts of many small pieces, whose cost is the pieces': zarr's own assignment of ready values beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarr

from bench import check
from bench.check import QUICK
from bench.measure import Work, WrongError
from bench.ours import check_zarr
from bench.setting import Setting
from bigin.api.filling import fill
from bigin.api.models import initialize
from bigin.api.verifying import verify
from bigin.targets.safetensors.header import lay_out, pack_header, read_header

SIDE = 4000  # rows and columns
TENSORS = 50_000  # of 8 values
RECIPE = '[default]\nmethod = "normal"\n'

# Shape, chunks and shards by the name of a layout, of which a quick run takes a tenth of the rows.
LAYOUTS: dict[str, dict[str, Any]] = {
    "62,500 inner chunks of 16 x 16 in shards": {"chunks": (16, 16), "shards": (400, 400)},
    "1,600 chunks of 100 x 100": {"chunks": (100, 100)},
    "1,600 chunks of 100 x 100, zstd": {"chunks": (100, 100), "compressors": "auto"},
    "4,000 chunks of 32 KiB": {"shape": (SIDE, 8192), "chunks": (1, 8192)},
    "4,000 chunks of a column": {"chunks": (SIDE, 1)},
    "4,000 chunks of a row": {"chunks": (1, SIDE)},
}


def layout_of(setting: Setting, name: str) -> dict[str, Any]:
    """The arguments of zarr.create_array."""
    given = {"shape": (SIDE, SIDE), "compressors": None, "dtype": "float32", **LAYOUTS[name]}
    rows, columns = given["shape"]
    return {**given, "shape": (rows // 10, columns) if setting.size <= QUICK else (rows, columns)}


def in_zarr(setting: Setting, name: str) -> Work:
    """bigin.fill of an array that is there, all cores, to the page cache."""
    path, layout = setting.folder / "ours" / "w.zarr", layout_of(setting, name)
    shape = layout["shape"]

    def run() -> int:
        return fill(path, "normal", name="", sync=False).nbytes

    def prepare() -> None:
        zarr.create_array(path, **layout)

    return Work(run, lambda: check_zarr(path, shape), path.parent, 4 * shape[0] * shape[1], prepare)


def assigned(setting: Setting, name: str) -> Work:
    """zarr's z[...] = x of values that are ready."""
    path, layout = setting.folder / "peer" / "w.zarr", layout_of(setting, name)
    values = np.random.default_rng(0).standard_normal(layout["shape"], np.float32)

    def run() -> int:
        array: Any = zarr.open_array(path, mode="r+")
        array[...] = values
        return values.nbytes

    def look() -> None:
        array: Any = zarr.open_array(path, mode="r")
        if not np.array_equal(array[:100, :100], values[:100, :100]):
            raise WrongError("zarr: other values than were assigned")

    def prepare() -> None:
        zarr.create_array(path, **layout)

    return Work(run, look, path.parent, values.nbytes, prepare)


def small_tensors(setting: Setting, verified: bool = False) -> Work:
    """bigin.initialize of a checkpoint of tensors of 8 values, or its verification."""
    folder = setting.folder / "ours"
    names = [f"layers.{i}.weight" for i in range(TENSORS // 100 if setting.size <= QUICK else TENSORS)]

    def initialized() -> int:
        recipe, like = folder / "recipe.toml", folder / "like.safetensors"
        return initialize(recipe, folder / "w.safetensors", like=like, sync=False).nbytes

    def prepare() -> None:
        (folder / "recipe.toml").write_text(RECIPE)
        write_tensors(folder / "like.safetensors", names)
        if verified:
            initialized()

    def run() -> int:
        if not verified:
            return initialized()
        result = verify(folder / "w.safetensors")
        if not result.equal:
            raise WrongError(f"verify: {result.differences[0]}")
        return result.nbytes

    def look() -> None:
        path = folder / "w.safetensors"
        header = read_header(path)
        for name in (names[0], names[-1]):
            values = np.fromfile(path, np.float32, 8, offset=header.start + header.entries[name].begin)
            expected = np.asarray(check.reference().elements("normal", {}, (8,), "float32", 0, name, list(range(8))))
            if expected.tobytes() != values.tobytes():
                raise WrongError(f"{name}: elements differ from the reference")

    return Work(run, look, folder, 32 * len(names), prepare)


def write_tensors(path: Any, names: list[str]) -> None:
    """A file of tensors of 8 zeros."""
    entries = lay_out((name, "float32", (8,)) for name in names)
    with path.open("wb") as file:
        file.write(pack_header(entries, {}))
        file.truncate(file.tell() + max(entry.end for entry in entries.values()))


def saved(setting: Setting) -> Work:
    """safetensors' own save_file of as many ready arrays."""
    from safetensors.numpy import save_file

    path = setting.folder / "peer" / "w.safetensors"
    count = TENSORS // 100 if setting.size <= QUICK else TENSORS
    arrays = {f"layers.{i}.weight": np.full(8, i, np.float32) for i in range(count)}

    def run() -> int:
        save_file(arrays, path)
        return 32 * count

    def look() -> None:
        if len(read_header(path).entries) != count:
            raise WrongError("safetensors: other tensors than were saved")

    return Work(run, look, path.parent, 32 * count)
