"""Tensors in objects of a store as what others are copied from: read by ranges."""

from __future__ import annotations

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

from bigin.core import storage
from bigin.core.errors import SourceError
from bigin.core.regions import Region
from bigin.core.source import Array, Reader, Source, digested, gone, stretches, stretches_of
from bigin.targets.objects.folder import Folder, read_headers
from bigin.targets.objects.open import store_at
from bigin.targets.objects.store import FEW, Stat, Store
from bigin.targets.safetensors.tensor import stored_dtype

AT_ONCE = 8  # requests of one region
PAGES = 32  # requests for the pages of a digest
REGION = AT_ONCE * FEW  # bytes
KNOWN = 10.0  # seconds for which the answer about an object holds


class ObjectReader(Reader):
    """An object of a store. Requests are small enough that the store's client tries them again."""

    region_bytes = REGION
    worker_memory = 2 * REGION

    def read(self, region: Region, out: Array) -> None:
        store, key = reached(self.source.file)

        def fill(piece: tuple[int, memoryview]) -> None:
            start, data = piece
            data[:] = memoryview(store.get_range(key, start, len(data))).cast("B")

        pieces = [
            (start + at, data[at : at + FEW])
            for start, data in stretches_of(self.source, region, out)
            for at in range(0, len(data), FEW)
        ]
        at_once(fill, pieces, AT_ONCE)

    def digest(self) -> str:
        file = self.source.file
        try:
            stat = _known(file, *_options(), int(time.monotonic() / KNOWN))
        except (FileNotFoundError, PermissionError) as error:
            raise gone(file, error.strerror or error) from None
        return _digest(file, stat.size, stat.tag, str(stat.modified))


def at_once(function: Any, items: list[Any], count: int) -> Iterable[Any]:
    """The results of a function, called for so many items at the same time."""
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(count, len(items))) as pool:
        return list(pool.map(function, items))


def reached(url: str) -> tuple[Store, str]:
    """The store of a URL, which is asked once whether it is there, and the key."""
    return _reached(url, *_options())


def _options() -> tuple[tuple[str, str], ...]:
    return tuple(sorted(storage.given().items()))


@lru_cache(maxsize=4096)
def _reached(url: str, *options: tuple[str, str]) -> tuple[Store, str]:
    return store_at(url)


@lru_cache(maxsize=4096)
def _known(url: str, *options_and_time: Any) -> Stat:
    """What a store says of an object; raises SourceError where there is none."""
    store, key = reached(url)
    stat = store.head(key)
    if stat is None:
        raise gone(url, "No such object")
    return stat


@lru_cache(maxsize=4096)
def _digest(url: str, size: int, tag: str, modified: str) -> str:
    store, key = reached(url)
    try:
        return digested(size, at_once(lambda stretch: store.get_range(key, *stretch), stretches(size), PAGES))
    except (OSError, ValueError) as error:
        raise SourceError(f"{url}: expected the file of which tensors were copied, got {error}") from None


def sources_at(folder: Folder) -> dict[str, Source]:
    """Every tensor of a checkpoint in a store by its name; raises InputError for a dtype that numpy has not."""
    sources = {}
    for file, header in read_headers(folder).items():
        url = folder.store.label(folder.key_of(file))
        for name, entry in header.entries.items():
            dtype = stored_dtype(url, name, entry)
            sources[name] = Source(url, name, header.start + entry.begin, entry.stored[1], dtype)
    return sources
