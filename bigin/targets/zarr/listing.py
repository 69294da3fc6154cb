"""What a store holds of an array, by listing it: one request for a thousand chunks, and not one for each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import zarr
from zarr.storage import FsspecStore, LocalStore

from bigin.core.regions import Region
from bigin.targets.zarr.chunks import BytesWriter, Writer
from bigin.targets.zarr.cloud import CloudZarr
from bigin.targets.zarr.private import wait


def lost_regions(array: zarr.Array[Any], writer: Writer, regions: Sequence[Region]) -> list[int]:
    """The regions whose chunk or shard is missing, or has another size than it is given where that is known."""
    held = dict(listed(array))
    expected = writer.size if isinstance(writer, BytesWriter) else None
    lost = []
    for number, region in enumerate(regions):
        size = held.get(writer.key(region), -1)
        if size == -1 or (expected is not None and size is not None and size != expected(region)):
            lost.append(number)
    return lost


def listed(array: zarr.Array[Any]) -> Iterator[tuple[str, int | None]]:
    """The store's keys below an array, each with its size where the store tells it."""
    store, path = array.store_path.store, array.store_path.path
    if isinstance(store, LocalStore):
        yield from _files(str(store.root), path)
    elif isinstance(store, CloudZarr):
        yield from store.sizes(path)
    elif isinstance(store, FsspecStore):
        yield from wait(_objects(store, path))
    else:
        yield from wait(_keys(store, path))


def _files(root: str, path: str) -> Iterator[tuple[str, int]]:
    folders = [path]
    while folders:
        inside = folders.pop()
        try:
            entries = list(os.scandir(os.path.join(root, inside)))
        except FileNotFoundError:
            continue
        for entry in entries:
            key = f"{inside}/{entry.name}" if inside else entry.name
            if entry.is_dir():
                folders.append(key)
            elif not key.endswith(".partial"):
                yield key, entry.stat().st_size


async def _objects(store: FsspecStore, path: str) -> list[tuple[str, int | None]]:
    root = store.fs._strip_protocol(store.path).strip("/")
    found = await store.fs._find(f"{root}/{path}".rstrip("/"), detail=True)
    start = len(root) + 1 if root else 0
    return [(key.lstrip("/")[start:], held.get("size")) for key, held in found.items()]


async def _keys(store: Any, path: str) -> list[tuple[str, int | None]]:
    return [(key, None) async for key in store.list_prefix(f"{path}/" if path else "")]
