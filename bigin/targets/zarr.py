"""zarr arrays, format 2 and 3, in any store.

A chunk without a codec is its bytes, so those are made in place and handed to the store; a shard of such chunks is
the chunks and an index behind them. That is two to ten times faster than assigning to the array, which remains the way
for every other layout (compressed, filtered, transposed, big-endian). A chunk or shard always belongs to one task.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import google_crc32c
import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore

from bigin import dtypes
from bigin.errors import InputError
from bigin.regions import Grid, Region, Shape, extent, slices
from bigin.targets.base import Array, Block, Scratch, Target
from bigin.targets.record import KEY, Record
from bigin.targets.zarr_dtypes import register_dtypes

register_dtypes()

METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
EMPTY = np.uint64(2**64 - 1)  # offset and size of an inner chunk that a shard does not hold


class ZarrTarget(Target):
    """An array of a zarr store. `make` makes it where it is missing; until then `array` stands for it in memory."""

    def __init__(
        self, array: zarr.Array[Any], label: str, name: str, make: Callable[[], zarr.Array[Any]] | None = None
    ) -> None:
        self.label = label
        self.array = array
        self.name = name
        self.make = make
        self.shape = array.shape
        self.dtype = dtypes.parse_dtype(array.dtype)
        if make is None and array.store_path.store.read_only:
            raise InputError(f"{self.label}: expected a store that can be written, got a read-only one")
        self.writer = writer(array)

    def grid(self, size: int = 0) -> Grid:
        """The grid of the shards, or of the chunks where there are none."""
        return Grid(self.shape, tuple(max(1, size) for size in self.array.shards or self.array.chunks))

    def block_memory(self, size: int = 0) -> int:
        """A chunk or shard, as often as its writer holds it."""
        return self.writer.copies * int(np.prod(self.grid().block, dtype=object)) * self.dtype.itemsize

    def block(self, region: Region, scratch: Scratch) -> Block:
        """Arrays that the writer has laid out for the chunk or shard."""
        return self.writer.block(region, scratch)

    def read(self, region: Region) -> Array:
        """The values of a region."""
        return np.asarray(self.array[slices(region)], dtype=self.dtype)

    def holds_data(self) -> bool:
        """Whether the store holds any chunk of the array."""
        return self.make is None and sync(_holds_chunk(self.array))

    def begin(self, record: Record) -> None:
        """Makes the array where it is missing."""
        if self.make is not None:
            self.array = self.make()
            self.writer = writer(self.array)
        self.array.attrs[KEY] = record

    def finish(self, record: Record) -> None:
        """Brings a local store's chunks to the disk, and only then keeps the complete record."""
        store = self.array.store_path.store
        if self.sync and isinstance(store, LocalStore):
            sync_file_system(store.root)
        self.array.attrs[KEY] = record

    def record(self) -> Record | None:
        """The array's attribute."""
        record = self.array.attrs.asdict().get(KEY)
        return record if isinstance(record, dict) else None


def sync_file_system(folder: Path) -> None:
    """Brings everything under a folder to the disk.

    One call for the file system: an fsync behind every chunk keeps the disk's queue short, and took a third longer.
    """
    fd = os.open(folder, os.O_RDONLY)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:
            os.sync()  # no such call outside Linux
        elif syncfs(fd) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
    finally:
        os.close(fd)


async def _holds_chunk(array: zarr.Array[Any]) -> bool:
    prefix = array.store_path.path
    async for key in array.store_path.store.list_prefix(f"{prefix}/" if prefix else ""):
        if key.rsplit("/", 1)[-1] not in METADATA and not key.endswith(".partial"):
            return True
    return False


def chunk_key(array: zarr.Array[Any], region: Region, block: Shape) -> str:
    """The store's key of the chunk or shard that covers a region."""
    places = tuple(start // size for (start, _), size in zip(region, block, strict=True))
    path = array.store_path.path
    return f"{path}/{array.metadata.encode_chunk_key(places)}".lstrip("/")


class Writer:
    """How a chunk or shard is laid out and stored; `copies` is how often it lies in memory."""

    copies: ClassVar[int]

    def __init__(self, array: zarr.Array[Any]) -> None:
        self.array = array
        self.dtype = dtypes.parse_dtype(array.dtype)

    def block(self, region: Region, scratch: Scratch) -> Block:
        """See Target.block."""
        raise NotImplementedError


class AssignWriter(Writer):
    """Leaves everything to zarr: z[region] = values."""

    copies = 4  # the values, zarr's copy, its encoded form and what the encoder needs; measured below 4

    def __init__(self, array: zarr.Array[Any]) -> None:
        # Without this, zarr compares every chunk with the fill value, and deletes those that equal it.
        super().__init__(array.with_config({"write_empty_chunks": True}))

    def block(self, region: Region, scratch: Scratch) -> Block:
        """Scratch that zarr encodes."""
        made = scratch.array(extent(region), self.dtype)

        def commit() -> None:
            self.array[slices(region)] = made

        return Block([(region, made)], commit)


class BytesWriter(Writer):
    """Stores a chunk's bytes as they are made, and a shard's with the index behind them."""

    def __init__(self, array: zarr.Array[Any]) -> None:
        super().__init__(array)
        self.outer = tuple(map(max, array.shards or array.chunks, (1,) * array.ndim))
        self.inner = tuple(map(max, array.chunks, (1,) * array.ndim))
        self.sharded = array.shards is not None
        self.chunk_bytes = int(np.prod(self.inner, dtype=object)) * self.dtype.itemsize
        # A store in memory keeps the very buffer that it is given; one on a disk is done with it when it returns.
        self.reuse = isinstance(array.store_path.store, LocalStore)

    copies = 1

    def block(self, region: Region, scratch: Scratch) -> Block:
        """The chunks, one behind the other in C order."""
        in_shard = tuple((0, stop - start) for start, stop in region)
        covered = Grid(extent(in_shard), self.inner)
        size = len(covered) * self.chunk_bytes
        index_bytes = 16 * int(np.prod([o // i for o, i in zip(self.outer, self.inner, strict=True)])) + 4
        total = size + (index_bytes if self.sharded else 0)
        buffer = scratch.bytes(total) if self.reuse else np.empty(total, np.uint8)
        parts, padded = [], []
        for i, chunk in enumerate(covered):
            place = buffer[i * self.chunk_bytes : (i + 1) * self.chunk_bytes]
            whole = place.view(self.dtype).reshape(self.inner)
            where = tuple((a + start, b + start) for (a, b), (start, _) in zip(chunk, region, strict=True))
            if extent(chunk) == self.inner:
                parts.append((where, whole))
            else:
                made = np.empty(extent(chunk), self.dtype)
                parts.append((where, made))
                padded.append((whole, made))
        if self.sharded:
            buffer[size:] = np.frombuffer(self.index(covered), np.uint8)

        def commit() -> None:
            for whole, made in padded:
                whole[...] = self.array.fill_value
                whole[tuple(slice(0, n) for n in made.shape)] = made
            value = default_buffer_prototype().buffer.from_array_like(buffer)
            key = chunk_key(self.array, region, self.outer)
            sync(self.array.store_path.store.set(key, value))

        return Block(parts, commit)

    def index(self, covered: Grid) -> bytes:
        """A shard's index: (offset, size) of every inner chunk, in C order, and a CRC-32C."""
        counts = tuple(o // i for o, i in zip(self.outer, self.inner, strict=True))
        index = np.full((*counts, 2), EMPTY, "<u8")
        held = index[tuple(slice(0, n) for n in covered.counts)]
        held[..., 0] = np.arange(len(covered), dtype="<u8").reshape(covered.counts) * np.uint64(self.chunk_bytes)
        held[..., 1] = self.chunk_bytes
        data = index.tobytes()
        return data + int(google_crc32c.value(data)).to_bytes(4, "little")


def writer(array: zarr.Array[Any]) -> Writer:
    """The fastest writer that the array's layout allows."""
    if array.metadata.zarr_format == 2 and array.dtype.name in dtypes.ML_DTYPES and not stores_plain_bytes(array):
        raise InputError(
            f"{array.store_path}: expected {array.dtype.name} in zarr format 3, or in format 2 without compressor, "
            "filters and Fortran order, got such a layout, which numcodecs cannot encode; make the array in format 3"
        )
    return BytesWriter(array) if stores_plain_bytes(array) else AssignWriter(array)


def stores_plain_bytes(array: zarr.Array[Any]) -> bool:
    """Whether a chunk is stored as its values' little-endian bytes in C order, alone or in a plain shard."""
    metadata = array.metadata
    if metadata.zarr_format == 2:
        plain = metadata.compressor is None and not metadata.filters and metadata.order == "C"
        return plain and getattr(metadata.dtype, "endianness", "little") == "little"
    codecs = metadata.codecs
    if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec):
        shard = codecs[0]
        location = getattr(shard.index_location, "value", shard.index_location)
        index_is_plain = len(shard.index_codecs) == 2 and isinstance(shard.index_codecs[1], Crc32cCodec)
        if location != "end" or not index_is_plain or not _little(shard.index_codecs[0]):
            return False
        codecs = shard.codecs
    return len(codecs) == 1 and _little(codecs[0])


def _little(codec: Any) -> bool:
    return isinstance(codec, BytesCodec) and getattr(codec.endian, "value", codec.endian) in (None, "little")
