"""How tables are opened and made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bigin.core.errors import ExistsError, InputError
from bigin.core.regions import Shape
from bigin.targets.files import FileTarget
from bigin.targets.npy import npy_target
from bigin.targets.open import is_npy, local_or_url, open_target
from bigin.targets.paths import local_file
from bigin.targets.rows import Rows
from bigin.targets.rows_npy import NpyRows
from bigin.targets.target import Target, record_of


def open_rows(table: Any) -> Rows:
    """The rows of the 2-d array that a path, a URL, a zarr array or a zarr store names.

    Raises InputError where it names anything else.
    """
    target = open_target(as_it_is_now(table))
    if len(target.shape) != 2:
        raise InputError(f"{target.label}: expected a table of 2 dimensions, got shape {target.shape}")
    if type(target) is FileTarget and target.ledger is not None:
        return NpyRows(target)
    from bigin.targets.zarr.array import ZarrTarget
    from bigin.targets.zarr.rows import ZarrRows

    if not isinstance(target, ZarrTarget):
        raise InputError(f"expected the path of a .npy file, or a zarr array, got {target.label}")
    return ZarrRows(target)


def as_it_is_now(table: Any) -> Any:
    """A zarr array, opened again because its shape may have changed; a path as it is."""
    if not hasattr(table, "store_path"):
        return table
    from bigin.targets.zarr.open import reopened

    return reopened(table)


def recorded_table(path: Any) -> Target | None:
    """The target that a fill has begun or finished; None where there is none."""
    try:
        target = open_target(path)
    except InputError:
        return None
    return target if record_of(target) is not None else None


def new_table(
    path: str | Path, shape: Shape, dtype: np.dtype[Any], chunks: int | None, shards: int | None, zarr_format: int
) -> Target:
    """The target of a table that is still to be made, with so many whole rows in a chunk, and in a shard."""
    if is_npy(path):
        if chunks is not None or shards is not None:
            raise InputError("expected no chunks or shards for a .npy file, which is one piece; leave them out")
        file = local_file(path)
        if file.exists():
            raise ExistsError(f"{file}: expected nothing there, got a file; choose another path or remove it")
        return npy_target(file, shape, dtype)
    from bigin.targets.zarr.make import ZarrLayout, new_target, rows_in_chunk

    rows = rows_in_chunk(shape, dtype) if chunks is None else chunks
    shard = None if shards is None else (shards, shape[1])
    return new_target(local_or_url(path), ZarrLayout(shape, dtype, (rows, shape[1]), shard, zarr_format))
