"""bigin's sides of the cases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bench.check import against_reference, some
from bench.measure import Work, burst
from bench.setting import COLUMNS, Setting, zarr_layout
from bigin.api.filling import create, fill
from bigin.core.dtypes import parse_dtype
from bigin.fillers.families import plan
from bigin.methods import table

BLOCK = 1 << 20


def kernel(setting: Setting, method: str, dtype: str = "float32") -> Work:
    """Blocks of a tensor of 1 TiB, one after the other into one buffer, in the calling thread."""
    row = table.find(method)
    kind = parse_dtype(dtype)
    shape = (1 << 20, BLOCK // kind.itemsize)
    filler = plan(table.resolve(row, shape, row.parse({})), shape, kind, 0, "")()
    out = np.empty((1, shape[1]), kind)

    def block(i: int) -> int:
        i = i % shape[0]
        filler(((i, i + 1), (0, shape[1])), out)
        return out.nbytes

    def check() -> None:
        for i in (0, shape[0] // 3, shape[0] - 1):
            block(i)
            indices = some(i * shape[1], (i + 1) * shape[1])
            against_reference(method, shape, dtype, indices, out.reshape(-1)[np.array(indices) - i * shape[1]])

    return Work(lambda: burst(block, setting.seconds), check)


def npy(setting: Setting, dtype: str = "float32", sync: bool = True) -> Work:
    """bigin.fill of a .npy file that is not there yet, all cores."""
    path = setting.folder / "ours" / "w.npy"
    kind = parse_dtype(dtype)
    shape = (setting.size // kind.itemsize // COLUMNS, COLUMNS)

    def run() -> int:
        return fill(path, "normal", name="", shape=shape, dtype=dtype, sync=sync).nbytes

    def check() -> None:
        values = np.load(path, mmap_mode="r").reshape(-1)
        indices = some(0, values.size)
        against_reference("normal", shape, dtype, indices, np.asarray(values[indices]).view(kind))

    return Work(run, check, path.parent, setting.size)


def in_zarr(setting: Setting, sharded: bool = False, sync: bool = False) -> Work:
    """bigin.create and bigin.fill of a zarr array, all cores."""
    path = setting.folder / "ours" / "w.zarr"
    layout = zarr_layout(setting.size, sharded)

    def run() -> int:
        create(path, **layout)
        return fill(path, "normal", name="", sync=sync).nbytes

    return Work(run, lambda: check_zarr(path, layout["shape"]), path.parent, setting.size)


def check_zarr(path: Path, shape: tuple[int, ...]) -> None:
    """Compares elements as zarr reads them."""
    array: Any = zarr.open_array(path, mode="r")
    indices = some(0, shape[0] * shape[1])
    against_reference("normal", shape, "float32", indices, array.vindex[np.unravel_index(indices, shape)])
