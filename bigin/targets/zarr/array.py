"""zarr arrays, format 2 and 3, in any store."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.store import Store
from zarr.codecs import ShardingCodec
from zarr.storage import LocalStore, MemoryStore, ZipStore

from bigin.core import dtypes
from bigin.core.disk import open_file
from bigin.core.errors import InputError
from bigin.core.regions import Grid, Region, Shape, slices
from bigin.targets.records import JOURNAL, Record
from bigin.targets.target import Array, Parts, Scratch, Target
from bigin.targets.zarr.chunks import LocalWriter, is_big_endian, is_plain, writer
from bigin.targets.zarr.cloud import LOCK, CloudZarr
from bigin.targets.zarr.listing import lost_regions
from bigin.targets.zarr.names import TensorPath
from bigin.targets.zarr.private import moved, stored_bytes, wait
from bigin.targets.zarr.to_disk import sync_regions

LOCAL = (LocalStore, MemoryStore, ZipStore)  # whose errors do not pass
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata", JOURNAL)


class ZarrTarget(Target):
    """An array of a zarr store. `make` makes it with a record where it is missing; until then `array` stands for it in
    memory."""

    def __init__(
        self,
        array: zarr.Array[Any],
        label: str,
        path: TensorPath,
        folder: Path | None,
        make: Callable[[Record | None], zarr.Array[Any]] | None = None,
        above: Path | None = None,
        cloud: CloudZarr | None = None,
    ) -> None:
        self.label = label
        self.array = array
        self.path = path.inner
        self.name, self.name_from = path.name, path.name_from
        self.make = make
        self.folder = folder  # where it lies, in a local store
        self.above = above  # where its hierarchy lies, whose makers take turns
        self.shape = array.shape
        self.dtype = dtypes.stored_dtype(array.dtype, label)
        for blocks in (array.chunks, array.shards or array.chunks):
            if any(block < 1 <= size for block, size in zip(blocks, array.shape, strict=True)):
                raise InputError(f"{label}: expected chunks of at least 1, got {blocks}")
        # An array that is still to be made needs the memory of the writer that it will have.
        local = isinstance(array.store_path.store, LocalStore) if make is None else folder is not None
        store = array.store_path.store
        self.cloud = store if isinstance(store, CloudZarr) else cloud
        self.writer = writer(array, local=local, cloud=self.cloud is not None)
        self.remote = make is None and not isinstance(array.store_path.store, LOCAL)

    @property
    def byte_order(self) -> str:
        return ">" if is_big_endian(self.array) else "="

    @property
    def blocks(self) -> tuple[Shape, Shape | None] | None:
        return self.array.chunks, self.array.shards

    def grid(self, size: int = 0) -> Grid:
        """The grid of the shards, or of the chunks where there are none."""
        return Grid(self.shape, self.writer.outer)

    def block_memory(self, size: int = 0) -> int:
        """What the writer needs for a chunk or shard."""
        return self.writer.memory(size)

    def block(self, region: Region, scratch: Scratch) -> Parts:
        """Arrays that the writer has laid out for the chunk or shard."""
        return self.writer.block(region, scratch, sync_data=self.sync)

    def batches(self, grid: Grid) -> Sequence[range]:
        """Chunks of a few KiB, in files of a local store."""
        return self.writer.batches(grid)

    def batch(self, regions: Sequence[Region], scratch: Scratch) -> Parts:
        """An array for all of them, of which the writer makes the files."""
        return self.writer.batch(regions, scratch, sync_data=self.sync)

    def stored_batch(self, regions: Sequence[Region], scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        """The chunks, read as the writer lays them out."""
        return self.writer.stored_batch(regions, scratch)

    def read(self, region: Region) -> Array:
        """The values of a region."""
        return np.asarray(self.array[slices(region)], dtype=self.dtype)

    def exists(self) -> bool:
        return self.make is None

    def holds_data(self) -> bool:
        """Whether the store holds any chunk of the array."""
        return self.make is None and wait(_holds_chunk(self.array))

    def stored(self, region: Region, scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        """The chunk or shard, read as the writer lays it out."""
        return self.writer.stored(region, scratch)

    def where(self, region: Region) -> str:
        """The chunk's or shard's key."""
        return ("shard " if self.array.shards else "chunk ") + self.writer.key(region)

    def layout(self) -> dict[str, Any]:
        """The format, the grid, what chunks pass through, and how many chunks (or shards) there are of how many."""
        array = self.array
        return {
            "format": f"zarr {array.metadata.zarr_format}",
            "chunks": list(array.chunks),
            "shards": None if array.shards is None else list(array.shards),
            "codecs": codecs(array.metadata),
            "stored": wait(_count_chunks(array)),
            "of": len(self.grid()),
        }

    def stored_bytes(self) -> int:
        """What the store's keys take."""
        return stored_bytes(self.array)

    def whole(self) -> bool:
        """Whether all files have their sizes; other stores would have to be asked for every chunk."""
        if self.make is not None or not isinstance(self.writer, LocalWriter):
            return True
        return not self.writer.gone(self.grid())

    def replace(self, array: zarr.Array[Any]) -> None:
        """The array in its store, where one in memory stood for it."""
        self.array = array
        self.make = None
        store = array.store_path.store
        self.writer = writer(array, local=isinstance(store, LocalStore), cloud=isinstance(store, CloudZarr))
        self.remote = not isinstance(array.store_path.store, LOCAL)

    def move(self, store: Store) -> None:
        """Moves it to another store, which holds the same metadata under the same path."""
        self.replace(moved(self.array, store))

    def unstored(self, grid: Grid) -> Sequence[int]:
        """Local stores are looked at by the ledger, file by file."""
        return self.lost(grid) if self.remote else ()

    def lost(self, regions: Sequence[Region]) -> Sequence[int]:
        """The store is listed."""
        return lost_regions(self.array, self.writer, regions)

    def intact(self, region: Region) -> bool | None:
        """Whether the chunk's or shard's key has the size that it was given."""
        return None if self.make is not None else self.writer.intact(region)

    def bring_to_disk(self) -> None:
        """Brings a local store's chunks to the disk; other stores have kept theirs."""
        store = self.array.store_path.store
        if self.sync and isinstance(store, LocalStore):
            sync_regions(store.root, [(self.writer, self.grid())])

    flush = bring_to_disk

    def settle(self, regions: Sequence[Region]) -> None:
        """Only these chunks' files: other processes are at work in the file system, and bring their own to the disk."""
        for region in regions:
            path = self.writer.file(region)
            if path is not None:
                with open_file(path) as file:
                    os.fsync(file.fileno())


async def _holds_chunk(array: zarr.Array[Any]) -> bool:
    async for _ in _chunk_keys(array):
        return True
    return False


async def _count_chunks(array: zarr.Array[Any]) -> int:
    count = 0
    async for _ in _chunk_keys(array):
        count += 1
    return count


async def _chunk_keys(array: zarr.Array[Any]) -> AsyncIterator[str]:
    prefix = array.store_path.path
    async for key in array.store_path.store.list_prefix(f"{prefix}/" if prefix else ""):
        name = key.rsplit("/", 1)[-1]
        if name not in METADATA and not name.endswith(".partial") and not name.startswith(LOCK):
            yield key


def codecs(metadata: Any) -> list[str]:
    """What a chunk's values pass through on their way to the store, as names with numbers; a plain chunk: nothing."""
    if metadata.zarr_format == 2:
        named = [*(metadata.filters or ()), *filter(None, [metadata.compressor])]
        order = ["Fortran order"] if metadata.order == "F" else []
        big = ["big-endian"] if getattr(metadata.dtype, "endianness", "little") == "big" else []
        return [*order, *big, *(_codec_text(codec.get_config(), "id") for codec in named)]
    chain = metadata.codecs
    if len(chain) == 1 and isinstance(chain[0], ShardingCodec):
        chain = chain[0].codecs
    return [_codec_text(codec.to_dict(), "name") for codec in chain if not is_plain(codec)]


def _codec_text(config: dict[str, Any], name: str) -> str:
    given = config.get("configuration", config)
    said = [f"{key}={value}" for key, value in given.items() if key != name and isinstance(value, int | str)]
    return f"{config[name]}({', '.join(said)})" if said else str(config[name])
