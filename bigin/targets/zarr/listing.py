"""What a store holds of an array. One on a network is listed: a thousand chunks by one request."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import zarr
from zarr.storage import FsspecStore, LocalStore

from bigin.core.regions import Region
from bigin.core.threads import map_threads
from bigin.targets.zarr.chunks import BytesWriter, Writer
from bigin.targets.zarr.cloud import CloudZarr
from bigin.targets.zarr.private import wait

MISSING = -1
FILES, AT_ONCE = 1000, 16  # files that one thread looks at; threads, as each waits for a file system on a network


def lost_regions(array: zarr.Array[Any], writer: Writer, regions: Sequence[Region]) -> list[int]:
    """The regions whose chunk or shard is missing, or has another size than it is given where that is known."""
    local = isinstance(array.store_path.store, LocalStore)
    sizes = _sizes_of_files(writer, regions) if local else _sizes_of_keys(array, writer, regions)
    expected = writer.size if isinstance(writer, BytesWriter) else None
    return [
        number
        for number, (region, size) in enumerate(zip(regions, sizes, strict=True))
        if size == MISSING or (expected is not None and size is not None and size != expected(region))
    ]


def _sizes_of_files(writer: Writer, regions: Sequence[Region]) -> Iterator[int]:
    """A folder holds few chunks, mostly one: to read it costs more than to look at the file."""

    def look(start: int) -> list[int]:
        return [_size(writer.file(regions[at])) for at in range(start, min(start + FILES, len(regions)))]

    starts = range(0, len(regions), FILES)
    for sizes in map_threads(look, starts, min(AT_ONCE, max(1, len(starts)))):
        yield from sizes


def _size(path: str | None) -> int:
    assert path is not None
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return MISSING


def _sizes_of_keys(array: zarr.Array[Any], writer: Writer, regions: Sequence[Region]) -> Iterator[int | None]:
    held = dict(listed(array))
    return (held.get(writer.key(region), MISSING) for region in regions)


def listed(array: zarr.Array[Any]) -> Iterable[tuple[str, int | None]]:
    """The store's keys below an array, each with its size where the store tells it."""
    store, path = array.store_path.store, array.store_path.path
    if isinstance(store, CloudZarr):
        return store.sizes(path)
    if isinstance(store, FsspecStore):
        return wait(_objects(store, path))
    return wait(_keys(store, path))


async def _objects(store: FsspecStore, path: str) -> list[tuple[str, int | None]]:
    root = store.fs._strip_protocol(store.path).strip("/")
    found = await store.fs._find(f"{root}/{path}".rstrip("/"), detail=True)
    start = len(root) + 1 if root else 0
    return [(key.lstrip("/")[start:], held.get("size")) for key, held in found.items()]


async def _keys(store: Any, path: str) -> list[tuple[str, int | None]]:
    return [(key, None) async for key in store.list_prefix(f"{path}/" if path else "")]
