"""How zarr arrays are made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.codecs import BytesCodec
from zarr.errors import ContainsArrayError
from zarr.storage import MemoryStore

from bigin.core.disk import remove_stale
from bigin.core.errors import ExistsError, InputError, NotFoundError
from bigin.core.regions import Shape, block_of_rows
from bigin.targets.paths import check_ending, local_path
from bigin.targets.records import KEY, Record
from bigin.targets.zarr.array import ZarrTarget
from bigin.targets.zarr.cloud import CloudZarr, resolved
from bigin.targets.zarr.names import TensorPath, check_above, local_root, root_of
from bigin.targets.zarr.open import existing, open_node, with_ledger
from bigin.targets.zarr.zip import ZIP, missing_zip, zip_target

CHUNK = 16 << 20  # bytes in a chunk of a new array
MANY = 10_000  # above this many chunks they are made larger, up to LARGEST bytes
LARGEST = 256 << 20


@dataclass(frozen=True)
class ZarrLayout:
    """How a new array is laid out. `chunks` and `shards` are shapes; without, good chunks and no shards."""

    shape: Shape
    dtype: np.dtype[Any]
    chunks: Shape | None = None
    shards: Shape | None = None
    zarr_format: int = 3

    def __post_init__(self) -> None:
        if self.zarr_format not in (2, 3):
            raise InputError(f"expected zarr format 2 or 3, got {self.zarr_format!r}")

    def check(self, label: str) -> None:
        """Raises InputError for shards that do not have whole chunks, of which zarr says less."""
        chunks, shards = self.chunks or (), self.shards or ()
        if len(chunks) == len(shards) and any(a > 0 and b % a for a, b in zip(chunks, shards, strict=True)):
            raise InputError(
                f"{label}: expected shards of whole chunks, got shards of {shards} and chunks of {chunks}; make each "
                "size of a shard a multiple of the chunk's"
            )


def zarr_target(
    target: str | Path | Store | zarr.Array[Any],
    shape: Shape | None,
    dtype: np.dtype[Any] | None,
    blocks: tuple[Shape | None, Shape | None] | None = None,
) -> ZarrTarget:
    """The array at a path, a URL or the root of a store; a missing one is made later if it is given a shape."""
    if isinstance(target, zarr.Array):
        return existing(target, str(target.store_path))
    label = str(target)
    place: str | Path | Store = resolved(target)
    array = open_node(place, label)
    if array is not None:
        there = existing(array, label)
        return zip_target(there, target) if isinstance(target, Path) and target.suffix == ZIP else there
    if shape is None or dtype is None:
        raise NotFoundError(f"{label}: expected a zarr array, got nothing; give --shape (shape=) to make one")
    return missing(place, label, ZarrLayout(shape, dtype, *(blocks or ())))


def missing(path: str | Path | Store, label: str, layout: ZarrLayout) -> ZarrTarget:
    """The target of an array that is still to be made; raises InputError where its layout is not possible."""
    layout.check(label)
    try:
        stand_in = new_array(MemoryStore(), "", layout)
    except (ValueError, TypeError) as error:
        raise InputError(f"{label}: {error}") from None
    if isinstance(path, Path):
        check_above(path)
    root, inner = local_root(path) if isinstance(path, Path) else (path, "")
    if isinstance(path, str | Path | CloudZarr) and not inner:
        check_ending(label)
    if isinstance(path, Path) and path.suffix == ZIP:
        return missing_zip(path, label, stand_in)
    folder = path.resolve() if isinstance(path, Path) else None
    above = root.parent if isinstance(root, Path) else None
    cloud = path if isinstance(path, CloudZarr) else None

    def make(record: Record | None) -> zarr.Array[Any]:
        try:
            return new_array(root, inner, layout, record)
        except ContainsArrayError:
            array = None if above is not None else open_node(path, label)
            if array is None or record is None or array.attrs.asdict().get(KEY) != record:
                raise
            return array  # an attempt that failed has made it all the same

    return with_ledger(
        ZarrTarget(stand_in, label, TensorPath(inner, root_of(path)), folder, above=above, make=make, cloud=cloud)
    )


def new_target(path: str | Path, layout: ZarrLayout) -> ZarrTarget:
    """The target of an array that is still to be made; raises ExistsError where there is one."""
    label, path = str(path), resolved(path)
    if open_node(path, label) is not None:
        raise ExistsError(f"{label}: expected nothing there, got an array; choose another path or remove it")
    return missing(path, label, layout)


def create_array(path: str | Path, layout: ZarrLayout) -> zarr.Array[Any]:
    """Makes a new array at a path or a URL; raises ExistsError where there is one."""
    local = local_path(path)
    target = new_target(local or path, layout)
    if local is not None and local.suffix == ZIP:
        raise InputError(f"{path}: expected a folder or a URL, as a zip file is made by a fill; fill it with a shape")
    assert target.make is not None
    return target.make(None)


def new_array(store: Any, inner: str, layout: ZarrLayout, record: Record | None = None) -> zarr.Array[Any]:
    """Makes a new array without compression, which random values would only slow down; `inner` is its path there."""
    zarr_format: Any = layout.zarr_format
    make_groups(store, inner, zarr_format)
    swapped = not layout.dtype.isnative  # format 3 keeps the byte order in a codec, format 2 in the dtype
    serializer: Any = BytesCodec(endian="big") if swapped and zarr_format == 3 else "auto"
    return zarr.create_array(
        store,
        name=inner or None,
        shape=layout.shape,
        dtype=layout.dtype.str if swapped and zarr_format == 2 else layout.dtype.name,
        chunks=layout.chunks or good_chunks(layout.shape, layout.dtype),
        shards=layout.shards,
        serializer=serializer,
        compressors=None,
        zarr_format=zarr_format,
        attributes=None if record is None else {KEY: record},
    )


def make_groups(store: Any, inner: str, zarr_format: Any) -> None:
    """Makes the groups above an array that are missing, the outermost first.

    zarr would make them and the array in any order, and a process killed then would leave an array in no group.
    """
    parts = inner.split("/")[:-1] if inner else []
    for depth in range(len(parts) + 1 if inner else 0):
        if isinstance(store, Path):
            remove_stale(store.joinpath(*parts[:depth]))
        zarr.open_group(store, path="/".join(parts[:depth]), mode="a", zarr_format=zarr_format)


def good_chunks(shape: Shape, dtype: np.dtype[Any]) -> Shape:
    """Whole rows, 16 MiB of them; more where that would make many chunks."""
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    chunk = CHUNK
    while size // chunk > MANY and chunk < LARGEST:
        chunk *= 2
    return tuple(map(max, block_of_rows(shape, chunk // dtype.itemsize), (1,) * len(shape)))


def rows_in_chunk(shape: Shape, dtype: np.dtype[Any]) -> int:
    """The number of rows in a chunk of a table that may grow: not fewer because there are few rows yet."""
    few = CHUNK // (shape[1] * dtype.itemsize) + 1
    return good_chunks((max(few, shape[0]), shape[1]), dtype)[0]
