"""The rows of a table in a target: read and written by their ids, and more of them added."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from bigin.core.errors import InputError
from bigin.core.regions import Region, Shape
from bigin.targets.files import FileTarget
from bigin.targets.npy import npy_target
from bigin.targets.open import is_npy, local_file, local_or_url, open_target
from bigin.targets.records import Record
from bigin.targets.target import Array, Target, record_of

AT_ONCE = 8  # reads that wait for the disk together: 2000 cold rows took 0.45 s one by one, and 0.14 s so


def at_once(read: Callable[[Any], None], parts: Sequence[Any]) -> None:
    """Several reads side by side: they wait for the disk more than they work."""
    if len(parts) == 1:
        read(parts[0])
    elif parts:
        with ThreadPoolExecutor(min(AT_ONCE, len(parts))) as pool:
            list(pool.map(read, parts))


class Rows(ABC):
    """The rows of a 2-d target, whose shape says how many there are.

    Growing is done in steps of which each leaves a valid table behind, whenever the process is killed:
    `keep` a record that says how far; `reserve`; fill the regions of `grown`, which no reader of the old shape looks
    at, or which hold the old rows as they were; `sync`; `commit` the new shape and its record. `discard` takes back
    what was not committed.
    """

    def __init__(self, target: Target) -> None:
        self.target = target

    def read(self, region: Region) -> Array:
        """The values of any region, in no more memory than the target takes to write one."""
        return self.target.read(region)

    @abstractmethod
    def gather(self, ids: Array) -> Array:
        """The values of rows in the order asked: ids of shape (n,) to values of shape (n, elements of a row)."""

    @abstractmethod
    def scatter(self, ids: Array, values: Array) -> Array:
        """Writes rows in place where the layout allows; ids sorted and distinct. Returns the ids that are left."""

    @abstractmethod
    def holders(self, ids: Array) -> Sequence[Region]:
        """The regions of the target that hold rows, to replace them whole; ids sorted."""

    @abstractmethod
    def grown(self, rows: int) -> tuple[Target, Sequence[Region]]:
        """The target with that many rows and its regions that hold new ones; changes nothing.

        Raises InputError where the table cannot have so many.
        """

    @abstractmethod
    def reserve(self, grown: Target) -> None:
        """Opens the larger target and reserves its space; raises InputError where there is none."""

    @abstractmethod
    def keep(self, record: Record) -> None:
        """Replaces the record."""

    @abstractmethod
    def sync(self) -> None:
        """Brings all rows to the disk."""

    @abstractmethod
    def commit(self, rows: int, record: Record, sync: bool) -> None:
        """Makes the new rows a part of the array, then replaces the record; with `sync` both have reached the disk."""

    @abstractmethod
    def discard(self, rows: int) -> None:
        """Takes back what a grow to that many rows has left behind the table's end."""


def open_rows(place: Any) -> Rows:
    """The rows of the 2-d array that a path, a URL, a zarr array or a zarr store names; else raises InputError."""
    target = open_target(fresh(place))
    if len(target.shape) != 2:
        raise InputError(f"{target.label}: expected a table of 2 dimensions, got shape {target.shape}")
    if type(target) is FileTarget:
        from bigin.targets.rows_npy import NpyRows

        return NpyRows(target)
    from bigin.targets.zarr.array import ZarrTarget
    from bigin.targets.zarr.rows import ZarrRows

    if not isinstance(target, ZarrTarget):
        raise InputError(f"expected the path of a .npy file, or a zarr array, got {target.label}")
    return ZarrRows(target)


def fresh(place: Any) -> Any:
    """A place as it is now: a zarr array that was opened earlier has the shape of that time."""
    if not hasattr(place, "store_path"):
        return place
    import zarr

    return zarr.open_array(place.store_path, mode="r" if place.store_path.store.read_only else "r+")


def begun(place: Any) -> Target | None:
    """What a fill at a place has begun and not finished."""
    try:
        target = open_target(place)
    except InputError:
        return None
    return target if (record_of(target) or {}).get("complete") is False else None


def new_table(
    place: str | Path, shape: Shape, dtype: np.dtype[Any], chunks: int | None, shards: int | None, zarr_format: int
) -> Target:
    """A target that is still to be made, in chunks (and shards) of so many whole rows."""
    if is_npy(place):
        if chunks is not None or shards is not None:
            raise InputError("expected no chunks or shards for a .npy file, which is one piece; leave them out")
        path = local_file(place)
        if path.exists():
            raise InputError(f"{path}: expected nothing there, found a file; choose another path or remove it")
        return npy_target(path, shape, dtype)
    from bigin.targets.zarr.hierarchy import new_target, rows_in_chunk

    if chunks is None:
        chunks = rows_in_chunk(shape, dtype)
    shard = None if shards is None else (shards, shape[1])
    return new_target(local_or_url(place), shape, dtype, (chunks, shape[1]), shard, zarr_format)
