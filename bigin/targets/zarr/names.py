"""The names of zarr arrays: their paths below the outermost group around them, however they were opened."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, ZipStore

from bigin.core.disk import read_small
from bigin.core.errors import InputError
from bigin.core.names import dotted, file_name
from bigin.targets.orbax import written_by_orbax
from bigin.targets.zarr.cloud import CloudZarr
from bigin.targets.zarr.private import get_bytes, wait


@dataclass(frozen=True)
class TensorPath:
    """Where an array lies: `inner` is its path in its hierarchy, or empty; `root` the file name of a root array."""

    inner: str
    root: str = ""

    @property
    def name(self) -> str:
        """The name of the tensor there."""
        return dotted(self.inner) or file_name(self.root)

    @property
    def name_from(self) -> str:
        """Where the name comes from."""
        return "hierarchy" if self.inner else "file" if self.root else "unnamed"


def root_of(place: Any, path: str = "") -> str:
    """What a root array's path, URL or store is called, with its path in the store; empty where it has no name."""
    if path:
        return path
    if isinstance(place, LocalStore):
        return place.root.resolve().name
    if isinstance(place, FsspecStore | ZipStore | CloudZarr):
        return str(place.path).rstrip("/")
    if isinstance(place, Path):
        return place.resolve().name
    return place if isinstance(place, str) else ""


def hierarchy_name(store: Store, path: str) -> str:
    """An array's path below the outermost group that it lies in, however it was opened; empty for a root array."""
    if isinstance(store, LocalStore):
        full = (store.root / path).resolve()
        if written_by_orbax(full.parent):
            return full.name
        for folder in reversed(full.parents):
            if local_group(folder):
                return full.relative_to(folder).as_posix()
        return ""
    for group, prefix, rest in levels(store, path):
        if wait(_is_group(group, prefix)):
            return rest
    return ""


def levels(store: Store, path: str) -> Iterator[tuple[Store, str, str]]:
    """Every path above an array, the outermost first, as (store, prefix in it, the array's path from there)."""
    if isinstance(store, FsspecStore):
        outside = store.path.rstrip("/").split("/")
        for i in range(1, len(outside)):
            above = FsspecStore(fs=store.fs, read_only=True, path="/".join(outside[:i]))
            yield above, "", "/".join([*outside[i:], *filter(None, [path])])
    if isinstance(store, CloudZarr):
        outside = store.path.split("/") if store.path else []
        for i in range(len(outside)):
            yield store.above("/".join(outside[:i])), "", "/".join([*outside[i:], *filter(None, [path])])
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
        return False  # a prefix that may not be read, such as a bucket's root; other errors must cost no name


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


def check_links(path: Path) -> None:
    """Refuses a path in a group that a link leads out of it: whoever names the group means what lies in it."""
    absolute = Path(os.path.abspath(path))
    for folder in reversed(absolute.parents):
        if local_group(folder):
            end = absolute.resolve()
            if not end.is_relative_to(folder.resolve()):
                raise InputError(
                    f"{path}: expected an array in the group {folder}, got a link that leads out of it; name {end} "
                    "itself"
                )
            return


def check_above(path: Path) -> None:
    """Refuses a path in an array, whose folder is for its chunks."""
    for folder in path.resolve().parents:
        if (folder / ".zarray").is_file() or ((folder / "zarr.json").is_file() and not local_group(folder)):
            raise InputError(f"{path}: expected a path outside of arrays, got one in {folder}; choose another one")
