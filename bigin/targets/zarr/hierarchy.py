"""Where zarr arrays lie: their names, and how they are opened and made."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.errors import ContainsArrayError
from zarr.storage import FsspecStore, LocalStore, MemoryStore

from bigin.core.errors import InputError, TargetError
from bigin.core.regions import Shape, block_of_rows
from bigin.targets.disk import SMALL, read_small, remove_stale
from bigin.targets.records import KEY, Record
from bigin.targets.zarr.array import METADATA, ZarrTarget
from bigin.targets.zarr.ledger import ZarrLedger
from bigin.targets.zarr.private import get_bytes, wait

CHUNK = 16 << 20  # bytes in a chunk of a new array
PLAIN_MISTAKES = (ImportError, ValueError, TypeError, KeyError, NotImplementedError)
MANY = 10_000  # above this many chunks they are made larger, up to LARGEST bytes
LARGEST = 256 << 20


def zarr_target(
    place: str | Path | Store | zarr.Array[Any], shape: Shape | None, dtype: np.dtype[Any] | None
) -> ZarrTarget:
    """The array at a path, a URL or the root of a store; a missing one is made later if it is given a shape."""
    if isinstance(place, zarr.Array):
        return existing(place, str(place.store_path))
    label = str(place)
    found = open_node(place, label)
    if found is not None:
        return existing(found, label)
    if shape is None or dtype is None:
        raise InputError(f"{label}: expected a zarr array, found nothing; give --shape (shape=) to make one")
    return missing(place, label, shape, dtype)


def open_node(store: Any, label: str) -> zarr.Array[Any] | None:
    """The array at the root of a store; None where there is nothing, InputError for anything else.

    Other errors are those of a store on a network, and may pass.
    """
    if isinstance(store, Path):
        check_links(store)
        if not store.exists():
            return None
    try:
        if isinstance(store, Path):
            check_metadata(store)
        node = zarr.open(store, mode="r" if getattr(store, "read_only", False) else "r+")
    except FileNotFoundError:
        if isinstance(store, Path) and store.is_dir() and any(item.suffix != ".partial" for item in store.iterdir()):
            raise InputError(f"{label}: expected a zarr array, got a folder that holds something else") from None
        return None
    except PermissionError as error:
        raise TargetError(f"{label}: expected a store that can be written: {error.strerror}") from None
    except Exception as error:
        if not isinstance(store, Path) and not isinstance(error, PLAIN_MISTAKES):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{label}: expected a zarr array, got one that cannot be opened: {reason}") from None
    if isinstance(node, zarr.Group):
        arrays = sorted(name for name, member in node.members(max_depth=None) if isinstance(member, zarr.Array))
        inside = f", such as {label}/{arrays[0]}" if arrays else ""
        raise InputError(f"{label}: expected a zarr array, got a group; name an array in it{inside}")
    return node


def existing(array: zarr.Array[Any], label: str) -> ZarrTarget:
    """The target of an array that is there."""
    store = array.store_path.store
    folder = store.root / array.store_path.path if isinstance(store, LocalStore) else None
    name = hierarchy_name(store, array.store_path.path)
    try:
        return with_ledger(ZarrTarget(array, label, name, folder))
    except InputError:
        raise
    except Exception as error:  # metadata that zarr opens and that make no sense
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{label}: expected a zarr array, got one whose layout cannot be used: {reason}") from None


def check_links(path: Path) -> None:
    """Refuses a path in a group that a link leads out of it: whoever names the group means what lies in it."""
    place = Path(os.path.abspath(path))
    for folder in reversed(place.parents):
        if local_group(folder):
            end = place.resolve()
            if not end.is_relative_to(folder.resolve()):
                raise InputError(
                    f"{path}: expected an array in the group {folder}, got a link that leads out of it; name {end} "
                    "itself"
                )
            return


def check_above(path: Path) -> None:
    """Refuses a place in an array, whose folder is for its chunks."""
    for folder in path.resolve().parents:
        if (folder / ".zarray").is_file() or ((folder / "zarr.json").is_file() and not local_group(folder)):
            raise InputError(f"{path}: expected a place in a group or in none, got one in the array {folder}")


def check_metadata(folder: Path) -> None:
    """Refuses metadata that are no small files: a pipe would never end, and a huge file fill the memory."""
    for key in METADATA:
        path = folder / key
        if path.exists() and not (path.is_file() and path.stat().st_size <= SMALL):
            raise InputError(f"{path}: expected a file of zarr metadata, got something else or a huge one")


def missing(
    place: str | Path | Store,
    label: str,
    shape: Shape,
    dtype: np.dtype[Any],
    chunks: Shape | None = None,
    shards: Shape | None = None,
    zarr_format: Any = 3,
) -> ZarrTarget:
    """The target of an array that is still to be made; raises InputError where its layout is not possible."""
    if zarr_format not in (2, 3):
        raise InputError(f"expected zarr format 2 or 3, got {zarr_format!r}")
    try:
        stand_in = new_array(MemoryStore(), "", shape, dtype, chunks, shards, zarr_format)
    except (ValueError, TypeError) as error:
        raise InputError(f"{label}: {error}") from None
    if isinstance(place, Path):
        check_above(place)
    root, inner = local_root(place) if isinstance(place, Path) else (place, "")
    folder = place.resolve() if isinstance(place, Path) else None
    above = root.parent if isinstance(root, Path) else None

    def make(record: Record | None) -> zarr.Array[Any]:
        try:
            return new_array(root, inner, shape, dtype, chunks, shards, zarr_format, record)
        except ContainsArrayError:
            found = None if above is not None else open_node(place, label)
            if found is None or record is None or found.attrs.asdict().get(KEY) != record:
                raise
            return found  # an attempt that failed has made it all the same

    return with_ledger(ZarrTarget(stand_in, label, inner, folder, above=above, make=make))


def with_ledger(target: ZarrTarget) -> ZarrTarget:
    """An array's target, with what is remembered of it."""
    target.ledger = ZarrLedger(target)
    return target


def create_array(
    place: str | Path,
    shape: Shape,
    dtype: np.dtype[Any],
    chunks: Shape | None,
    shards: Shape | None,
    zarr_format: int,
) -> zarr.Array[Any]:
    """A new array at a path or a URL where there is none."""
    target = new_target(place if "://" in str(place) else Path(place), shape, dtype, chunks, shards, zarr_format)
    assert target.make is not None
    return target.make(None)


def new_target(
    place: str | Path,
    shape: Shape,
    dtype: np.dtype[Any],
    chunks: Shape | None,
    shards: Shape | None,
    zarr_format: int,
) -> ZarrTarget:
    """The target of an array that is still to be made, where there is none."""
    if open_node(place, str(place)) is not None:
        raise InputError(f"{place}: expected nothing there, found an array; choose another path or remove it")
    return missing(place, str(place), shape, dtype, chunks, shards, zarr_format)


def new_array(
    store: Any,
    inner: str,
    shape: Shape,
    dtype: np.dtype[Any],
    chunks: Shape | None = None,
    shards: Shape | None = None,
    zarr_format: Any = 3,
    record: Record | None = None,
) -> zarr.Array[Any]:
    """A new array without compression, which random values would only slow down; `inner` is its path in the store."""
    make_groups(store, inner, zarr_format)
    return zarr.create_array(
        store,
        name=inner or None,
        shape=shape,
        dtype=dtype.name,
        chunks=chunks or good_chunks(shape, dtype),
        shards=shards,
        compressors=None,
        zarr_format=zarr_format,
        attributes=None if record is None else {KEY: record},
    )


def make_groups(store: Any, inner: str, zarr_format: Any) -> None:
    """The groups above an array that are missing, outermost first: zarr would make them and the array in any order, and
    whoever was killed then would leave an array in no group."""
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
    """How many rows a chunk of a table has that may grow: not fewer because there are few rows yet."""
    few = CHUNK // (shape[1] * dtype.itemsize) + 1
    return good_chunks((max(few, shape[0]), shape[1]), dtype)[0]


def local_root(path: Path) -> tuple[Path, str]:
    """A path as a hierarchy's root and a path in it: the outermost zarr group above, else the outermost *.zarr."""
    path = path.resolve()
    above = [folder for folder in reversed(path.parents) if local_group(folder)]
    above += [folder for folder in reversed(path.parents) if folder.suffix == ".zarr"]
    return (above[0], path.relative_to(above[0]).as_posix()) if above else (path, "")


def local_group(folder: Path) -> bool:
    """Whether a folder is a zarr group."""
    try:
        return is_group_metadata(read_small(folder / "zarr.json"))
    except OSError as error:
        if isinstance(error, PermissionError) and (folder / "zarr.json").exists():
            raise InputError(
                f"{folder / 'zarr.json'}: expected zarr metadata that can be read, as names depend on them"
            ) from None
        return (folder / ".zgroup").is_file()


def is_group_metadata(data: bytes) -> bool:
    """Whether the text of a zarr.json is that of a group."""
    try:
        return bool(json.loads(data).get("node_type") == "group")
    except (ValueError, AttributeError, RecursionError):
        return False


def hierarchy_name(store: Store, path: str) -> str:
    """An array's path below the outermost group that it lies in, however it was opened; empty for a root array."""
    if isinstance(store, LocalStore):
        full = (store.root / path).resolve()
        for folder in reversed(full.parents):
            if local_group(folder):
                return full.relative_to(folder).as_posix()
        return ""
    for group, prefix, rest in levels(store, path):
        if wait(_is_group(group, prefix)):
            return rest
    return ""


def levels(store: Store, path: str) -> Iterator[tuple[Store, str, str]]:
    """Every place above an array, outermost first, as (store, prefix in it, the array's path from there)."""
    if isinstance(store, FsspecStore):
        outside = store.path.rstrip("/").split("/")
        for i in range(1, len(outside)):
            above = FsspecStore(fs=store.fs, read_only=True, path="/".join(outside[:i]))
            yield above, "", "/".join([*outside[i:], *filter(None, [path])])
    parts = path.split("/") if path else []
    for i in range(len(parts)):
        yield store, "/".join(parts[:i]), "/".join(parts[i:])


async def _is_group(store: Store, prefix: str) -> bool:
    slash = f"{prefix}/" if prefix else ""
    try:
        data = await get_bytes(store, f"{slash}zarr.json")
        if data is not None:
            return is_group_metadata(data)
        return await store.exists(f"{slash}.zgroup")
    except (PermissionError, FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError):
        return False  # a place that may not be looked at, such as a bucket's root; other errors must cost no name
