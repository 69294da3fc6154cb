"""How zarr's chunks and shards are laid out and stored.

A chunk without a codec is its bytes, so those are made and stored as they are: streamed into a file of a local store,
or handed to any other store. A shard of such chunks is the chunks and an index behind them. That is two to ten times
faster than assigning to the array, which remains the way for every other layout (compressed, filtered, transposed,
big-endian). A chunk or shard always belongs to one task.
"""

from __future__ import annotations

import math
import os
import stat
import threading
import uuid
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numcodecs  # type: ignore[import-untyped]
import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, GzipCodec, ShardingCodec, ZstdCodec
from zarr.storage import LocalStore

from bigin.core import dtypes
from bigin.core.disk import open_file, read_all, read_file, replacing, reserve, start_writeback, write_all
from bigin.core.errors import DamagedError, FillError
from bigin.core.regions import Grid, Region, Shape, Stretches, block_of_rows, extent, indices, runs, slices, within
from bigin.targets.target import BATCH, MANY, Array, Parts, Scratch
from bigin.targets.zarr.cloud import CloudZarr
from bigin.targets.zarr.dtypes import register_dtypes
from bigin.targets.zarr.private import chunk_keys, encode_chunk_key, set_array, wait
from bigin.targets.zarr.shards import SMALL, group_bytes, groups, index_bytes, join, shard_index, split

register_dtypes()  # whoever opens an array by bigin comes by this file

CLOUD_COPIES = 2  # of a chunk, while obstore sends it: 1.6 as measured
FOLDERS = 4096  # of which it is known that they lie in the array's
PART = 1 << 20  # bytes of a chunk that are made and written at once, if no more are asked for: they stay in the cache


def chunk_key(array: zarr.Array[Any], region: Region, block: Shape) -> str:
    """The store's key of the chunk or shard that covers a region."""
    return encode_chunk_key(array, tuple(start // size for (start, _), size in zip(region, block, strict=True)))


class Writer:
    """How a chunk or shard is laid out and stored."""

    def __init__(self, array: zarr.Array[Any]) -> None:
        self.array = array
        self.dtype = dtypes.parse_dtype(array.dtype)
        self.outer = tuple(max(1, size) for size in array.shards or array.chunks)
        self.fill_value: Any = 0 if array.fill_value is None else array.fill_value  # format 2 knows none
        store = array.store_path.store
        self.local = store.root if isinstance(store, LocalStore) else None
        self.folder = "" if self.local is None else os.path.join(self.local, array.store_path.path).rstrip("/")
        self._checked = {self.folder}  # folders that lie in the array's
        self._keys = chunk_keys(array)
        self._process = uuid.uuid4().hex  # which no other writer's temporary files have in their names
        self._numbers = count()
        self._metadata = os.path.join(self.folder, "zarr.json" if array.metadata.zarr_format == 3 else ".zarray")

    def file(self, region: Region) -> str | None:
        """The file of a chunk or shard in a local store. A text: pathlib takes longer than writing it."""
        return None if self.local is None else f"{self.local}/{self.key(region)}"

    def there(self, region: Region) -> bool:
        """Whether a chunk's file is where it was stored, as far as its size tells."""
        path = self.file(region)
        return path is None or os.path.isfile(path)

    def gone(self, grid: Grid) -> int:
        """How many chunks or shards of a grid are not where they were stored, as far as the sizes of files tell."""
        return sum(not self.there(region) for region in grid)

    def check_there(self) -> None:
        """Raises FillError where the array has been removed: writing would make a part of it again."""
        if self.local is not None and not os.path.isfile(self._metadata):
            raise DamagedError(f"{self.folder}: was removed while it was filled; rerun the fill")

    def make_room(self, path: str | None) -> None:
        """Makes the folder of a chunk's file; raises FillError where a link would lead it out of the array's folder."""
        if path is not None and not self._inside(path[: path.rindex("/")]):
            raise FillError(
                f"{path}: expected a path in {self.folder}, got a link that leads out of it; remove the link"
            )

    def path(self, region: Region) -> str:
        """The file of a chunk or shard in what is a local store."""
        path = self.file(region)
        assert path is not None
        return path

    def new_file(self, path: str) -> replacing:
        """A chunk's file to be written, under a name that no other writer uses."""
        return replacing(path, f"{path}.{self._process}{next(self._numbers)}.partial", make_folder=True)

    def _inside(self, folder: str) -> bool:
        """Whether a folder below the array's, which is made where it is missing, lies in it once links are followed."""
        if folder in self._checked:
            return True
        above = folder[: folder.rindex("/")]
        inside = len(above) >= len(self.folder) and self._inside(above)
        if inside:
            try:
                os.mkdir(folder)
            except FileExistsError:
                inside = not os.path.islink(folder)
        if not inside:
            real = os.path.realpath(self.folder)
            inside = f"{os.path.realpath(folder)}/".startswith(f"{real}/")
        if inside:
            if len(self._checked) >= FOLDERS:
                self._checked = {self.folder}
            self._checked.add(folder)
        return inside

    def memory(self, size: int = 0) -> int:
        """How many bytes a worker needs."""
        raise NotImplementedError

    def block(self, region: Region, scratch: Scratch, *, sync_data: bool) -> Parts:
        """See Target.block."""
        raise NotImplementedError

    def batches(self, grid: Grid) -> Sequence[range]:
        """See Target.batches."""
        return ()

    def batch(self, regions: Sequence[Region], scratch: Scratch, *, sync_data: bool) -> Parts:
        """See Target.batch."""
        for region in regions:
            yield from self.block(region, scratch, sync_data=sync_data)

    def stored_batch(self, regions: Sequence[Region], scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        """See Target.stored_batch."""
        for region in regions:
            yield from self.stored(region, scratch)

    def stored(self, region: Region, scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        """See Target.stored."""
        path = self.file(region)
        if path is not None and os.path.exists(path):
            open_file(path).close()  # zarr would wait for a pipe
        for part in self.readable(region):
            yield part, np.asarray(self.array[slices(part)], dtype=self.dtype)

    def readable(self, region: Region) -> Iterator[Region]:
        """The parts that are read at once."""
        yield region

    def intact(self, region: Region) -> bool | None:
        """See Target.intact."""
        return None

    def key(self, region: Region) -> str:
        """The store's key of a chunk or shard."""
        return self._keys(tuple(start // size for (start, _), size in zip(region, self.outer, strict=True)))

    def _bytes(self, shape: Shape) -> int:
        return math.prod(shape) * self.dtype.itemsize


class AssignWriter(Writer):
    """Leaves everything to zarr: z[region] = values."""

    def __init__(self, array: zarr.Array[Any], *, cloud: bool = False) -> None:
        # Without this, zarr compares every chunk with the fill value, and deletes those that equal it.
        super().__init__(array.with_config({"write_empty_chunks": True}))
        self.copies = 4 + (CLOUD_COPIES if cloud else 0)

    def memory(self, size: int = 0) -> int:
        """The values, zarr's copy, its encoded form and what the encoder needs; tests/jobs/test_memory.py measures."""
        return self.copies * self._bytes(self.outer)

    def block(self, region: Region, scratch: Scratch, *, sync_data: bool) -> Parts:
        """Scratch that zarr encodes."""
        self.check_there()
        self.make_room(self.file(region))
        made = scratch.array(extent(region), self.dtype)
        yield region, made
        try:
            self.array[slices(region)] = made
        except OSError:
            raise
        except Exception:  # zarr reads what is there before it replaces it, and that may be torn
            store = self.array.store_path.store
            if not store.supports_deletes:
                raise
            wait(store.delete(self.key(region)))
            self.array[slices(region)] = made


class FileWriter(Writer):
    """Stores a chunk in a file of its own; small ones are made together and then put into their files."""

    def encode(self, chunk: Array) -> memoryview:
        """The bytes of a file, from a whole chunk's."""
        return chunk.data

    def decode(self, data: bytes) -> Array:
        """The whole chunk's bytes; raises ValueError where there are others."""
        return np.frombuffer(data, np.uint8)

    def batches(self, grid: Grid) -> Sequence[range]:
        size = self._bytes(self.outer)
        if self.array.shards is not None or size > SMALL or len(grid) < MANY:
            return ()
        return Stretches(grid, BATCH // max(1, size))

    def batch(self, regions: Sequence[Region], scratch: Scratch, *, sync_data: bool) -> Parts:
        self.check_there()
        together, made, chunks = self._together(regions, scratch)
        yield together, made
        split(made, self.outer, chunks, self.fill_value)
        for path, chunk in zip(self.files(together), chunks.reshape(len(regions), -1).view(np.uint8), strict=True):
            if path[: path.rindex("/")] not in self._checked:
                self.make_room(path)
            with self.new_file(path) as fd:
                write_all(fd, self.encode(chunk), 0)
                if sync_data:
                    start_writeback(fd)

    def stored_batch(self, regions: Sequence[Region], scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        together, made, chunks = self._together(regions, scratch)
        for path, chunk in zip(self.files(together), chunks.reshape(len(regions), -1), strict=True):
            try:
                data = read_file(path)
            except FileNotFoundError:
                chunk.fill(self.fill_value)
            else:
                chunk.view(np.uint8)[...] = self.decode(data)
        join(chunks, self.outer, made)
        yield together, made

    def files(self, region: Region) -> Iterator[str]:
        """The files of the chunks of a region, in C order: their keys alone, without a region for each."""
        spans = [range(start // size, -(-stop // size)) for (start, stop), size in zip(region, self.outer, strict=True)]
        return (f"{self.local}/{self._keys(index)}" for index in indices(spans))

    def gone(self, grid: Grid) -> int:
        if self.array.shards is not None:
            return super().gone(grid)
        expected = self.file_bytes
        gone = 0
        for path in self.files(tuple((0, size) for size in grid.shape)):
            try:
                status = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                gone += 1
                continue
            gone += not stat.S_ISREG(status.st_mode) or (expected is not None and status.st_size != expected)
        return gone

    @property
    def file_bytes(self) -> int | None:
        """How many bytes the file of a chunk takes; None where that depends on its values."""
        return self._bytes(self.outer)

    def _together(self, regions: Sequence[Region], scratch: Scratch) -> tuple[Region, Array, Array]:
        """The region of a batch, an array of its values, and one of its chunks."""
        together = tuple((start, stop) for (start, _), (_, stop) in zip(regions[0], regions[-1], strict=True))
        counts = Grid(extent(together), self.outer).counts
        size = len(regions) * self._bytes(self.outer)
        scratch.bytes(2 * size)  # so that both arrays lie in one buffer
        made = scratch.array(extent(together), self.dtype, size)
        return together, made, scratch.array((*counts, *self.outer), self.dtype)


class EncodedWriter(FileWriter):
    """Encodes chunks as zarr does, and writes their files. zarr's event loop and its threads take 2 ms for each."""

    def __init__(self, array: zarr.Array[Any], codec: Any) -> None:
        super().__init__(array)
        self.codec = codec

    def memory(self, size: int = 0) -> int:
        """The values, a padded copy, what they are encoded to and what the encoder needs."""
        return 4 * self._bytes(self.outer)

    def block(self, region: Region, scratch: Scratch, *, sync_data: bool) -> Parts:
        """Scratch that is encoded; a chunk at the array's edge as a whole, with the fill value beyond."""
        path = self.path(region)
        self.check_there()
        self.make_room(path)
        made = scratch.array(extent(region), self.dtype)
        yield region, made
        if made.shape != self.outer:
            whole = np.full(self.outer, self.fill_value, self.dtype)
            whole[tuple(slice(0, size) for size in made.shape)] = made
            made = whole
        data = self.encode(made.reshape(-1).view(np.uint8))
        with self.new_file(path) as fd:
            write_all(fd, data, 0)

    @property
    def file_bytes(self) -> int | None:
        return None

    def encode(self, chunk: Array) -> memoryview:
        return memoryview(self.codec.encode(chunk)).cast("B")

    def decode(self, data: bytes) -> Array:
        values: Array = np.frombuffer(self.codec.decode(data), np.uint8)
        if values.size != (expected := self._bytes(self.outer)):
            raise ValueError(f"it holds {values.size} bytes where {expected} were expected")
        return values

    def stored(self, region: Region, scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        try:
            with open_file(self.path(region)) as file:
                data = file.readall()  # type: ignore[attr-defined]
        except FileNotFoundError:  # a chunk of the fill value
            yield region, np.full(extent(region), self.fill_value, self.dtype)
            return
        whole = self.decode(data).view(self.dtype).reshape(self.outer)
        yield region, whole[tuple(slice(0, size) for size in extent(region))]


class BytesWriter(Writer):
    """Makes the bytes of a chunk, or of a shard: its inner chunks in C order, and the index behind them."""

    copies = 1  # of the bytes, which a store makes while it takes them

    def __init__(self, array: zarr.Array[Any]) -> None:
        super().__init__(array)
        self.inner = tuple(max(1, size) for size in array.chunks)
        self.counts = tuple(o // i for o, i in zip(self.outer, self.inner, strict=True))
        self.sharded = array.shards is not None
        self.chunk_bytes = self._bytes(self.inner)
        self.grouped = self.sharded and self.chunk_bytes <= SMALL

    def memory(self, size: int = 0) -> int:
        """A chunk or shard, and a store's copy of it; a group of small chunks before it is reordered."""
        return (1 + self.copies) * self._bytes(self.outer) + self.group_memory()

    def group_memory(self) -> int:
        """The bytes of the values of a group of chunks."""
        return group_bytes(self.outer, self.inner, self.chunk_bytes) if self.grouped else 0

    def block(self, region: Region, scratch: Scratch, *, sync_data: bool) -> Parts:
        """The chunks, in a buffer of their own: a store in memory keeps the very one that it is given."""
        covered = self.covered(region)
        size = len(covered) * self.chunk_bytes
        buffer = self.buffer(size + len(self.index(covered)))
        for first, counts, part in self.together(covered):
            position = first * self.chunk_bytes
            data = buffer[position : position + math.prod(counts) * self.chunk_bytes].view(self.dtype)
            if extent(part) == self.inner:
                yield within(region, part), data.reshape(self.inner)
            else:
                made = scratch.array(extent(part), self.dtype)
                yield within(region, part), made
                split(made, self.inner, data.reshape(*counts, *self.inner), self.fill_value)
        buffer[size:] = np.frombuffer(self.index(covered), np.uint8)
        self.keep(region, buffer)

    def buffer(self, size: int) -> Array:
        """So many bytes for a chunk or shard."""
        return np.empty(size, np.uint8)

    def keep(self, region: Region, buffer: Array) -> None:
        """Hands the bytes of a chunk or shard to the store."""
        wait(set_array(self.array.store_path.store, self.key(region), buffer))

    def size(self, region: Region) -> int:
        """How many bytes a chunk or shard takes."""
        if not self.sharded:  # at the array's edge, too
            return self.chunk_bytes
        return len(self.covered(region)) * self.chunk_bytes + index_bytes(self.counts)

    def intact(self, region: Region) -> bool | None:
        try:
            return wait(self.array.store_path.store.getsize(self.key(region))) == self.size(region)
        except FileNotFoundError:
            return False

    def together(self, covered: Grid) -> Iterator[tuple[int, Shape, Region]]:
        """The chunks that are made at once: the number of the first, how many along each axis, and their region."""
        if self.grouped:
            return groups(covered, self.chunk_bytes)
        one = (1,) * len(self.inner)
        if not self.sharded:
            return iter([(0, one, tuple((0, size) for size in covered.shape))])
        return ((number, one, chunk) for number, chunk in enumerate(covered))

    def covered(self, region: Region) -> Grid:
        """The inner chunks that hold elements of a chunk or shard, from its first element on."""
        return Grid(extent(region), self.inner)

    def index(self, covered: Grid) -> bytes:
        """A shard's index: (offset, size) of every inner chunk, in C order, and a CRC-32C; nothing for a chunk."""
        return shard_index(self.counts, covered, self.chunk_bytes) if self.sharded else b""


class CloudWriter(BytesWriter):
    """Hands the same bytes to a store by obstore, in one request and without zarr's event loop."""

    copies = CLOUD_COPIES

    def __init__(self, array: zarr.Array[Any]) -> None:
        super().__init__(array)
        self._own = threading.local()

    def buffer(self, size: int) -> Array:
        """The thread's own, as obstore keeps nothing of it: new memory would be mapped page by page."""
        scratch = getattr(self._own, "scratch", None)
        if scratch is None:
            scratch = self._own.scratch = Scratch()
        return scratch.bytes(size)

    def keep(self, region: Region, buffer: Array) -> None:
        self._store.put(self.key(region), buffer)

    @property
    def _store(self) -> CloudZarr:
        store = self.array.store_path.store
        assert isinstance(store, CloudZarr)
        return store

    def stored(self, region: Region, scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        """A chunk as it is stored; shards are read through zarr."""
        if self.sharded:
            yield from super().stored(region, scratch)
            return
        data = self._store.read(self.key(region), self.chunk_bytes)
        if data is None:  # a chunk of the fill value
            yield region, np.full(extent(region), self.fill_value, self.dtype)
            return
        whole = np.frombuffer(data, self.dtype).reshape(self.inner)
        yield region, whole[tuple(slice(0, size) for size in extent(region))]


class LocalWriter(BytesWriter, FileWriter):
    """Streams the same bytes into a file: from a small buffer that stays in the cache, and without the event loop that
    a store's calls pass through. Under a temporary name, so that a chunk is there whole or not at all.
    """

    def __init__(self, array: zarr.Array[Any]) -> None:
        super().__init__(array)
        self._grids: dict[int, Grid] = {}

    def memory(self, size: int = 0) -> int:
        """A part; a whole chunk where some are at the array's edge; a group of small chunks, in both orders."""
        if self.grouped:
            return 2 * self.group_memory()
        whole = all(size % chunk == 0 for size, chunk in zip(self.array.shape, self.inner, strict=True))
        return min(max(PART, size), self.chunk_bytes) if whole else 2 * self.chunk_bytes

    def parts(self, size: int) -> Grid:
        """The parts of a chunk: of at least so many bytes, as far as it has them."""
        if size not in self._grids:
            self._grids[size] = Grid(self.inner, block_of_rows(self.inner, max(PART, size) // self.dtype.itemsize))
        return self._grids[size]

    def block(self, region: Region, scratch: Scratch, *, sync_data: bool) -> Parts:
        """Parts of the chunks, one after the other."""
        path = self.path(region)
        self.check_there()
        self.make_room(path)
        covered = self.covered(region)
        index = self.index(covered)
        size = len(covered) * self.chunk_bytes
        with self.new_file(path) as fd:
            if size > PART:  # a smaller one finds a full disk when it is written, at once
                reserve(fd, size + len(index), Path(path), FillError)
            for part, made, data, offset in self.pieces(covered, scratch):
                yield within(region, part), made
                if data is not made:
                    split(made, self.inner, data, self.fill_value)
                write_all(fd, data.reshape(-1).view(np.uint8).data, offset)
            if index:
                write_all(fd, memoryview(index), size)
            if sync_data:
                start_writeback(fd)

    def there(self, region: Region) -> bool:
        return bool(self.intact(region))

    def readable(self, region: Region) -> Iterator[Region]:
        """The inner chunks: a shard of another layout is not read as a whole, for which the memory is not counted."""
        return (within(region, chunk) for chunk in self.covered(region))

    def intact(self, region: Region) -> bool | None:
        try:
            return os.stat(self.path(region)).st_size == self.size(region)
        except FileNotFoundError:
            return False

    def stored(self, region: Region, scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        """The same parts, where the file is laid out as `block` does it; all other layouts are read through zarr."""
        covered = self.covered(region)
        index = self.index(covered)
        try:
            file = open_file(self.path(region))
        except FileNotFoundError:  # a chunk of the fill value
            for part, made, _, _ in self.pieces(covered, scratch):
                made.fill(self.fill_value)
                yield within(region, part), made
            return
        with file:
            size, expected = os.fstat(file.fileno()).st_size, self.size(region)
            if self.sharded and (size != expected or os.pread(file.fileno(), len(index), size - len(index)) != index):
                yield from super().stored(region, scratch)
                return
            if size != expected:
                raise ValueError(f"it has {size} bytes where {expected} were expected")
            for part, made, data, offset in self.pieces(covered, scratch):
                read_all(file.fileno(), data.reshape(-1).view(np.uint8).data, offset)
                if data is not made:
                    join(data, self.inner, made)
                yield within(region, part), made

    def pieces(self, covered: Grid, scratch: Scratch) -> Iterator[tuple[Region, Array, Array, int]]:
        """What is made at once: its region, the array to fill, the array to write (chunk by chunk), and at which byte.

        Both arrays are one where the bytes are those of the region.
        """
        parts = self.parts(scratch.part)
        for first, counts, chunk in self.together(covered):
            offset = first * self.chunk_bytes
            if extent(chunk) == self.inner and len(parts) == 1:
                made = scratch.array(self.inner, self.dtype)
                yield chunk, made, made, offset
                continue
            if extent(chunk) == self.inner:
                for part in parts:
                    made = scratch.array(extent(part), self.dtype)
                    yield within(chunk, part), made, made, offset + runs(self.inner, part)[0] * self.dtype.itemsize
                continue
            size = math.prod(counts) * self.chunk_bytes
            scratch.bytes(2 * size)  # so that both arrays lie in one buffer
            made = scratch.array(extent(chunk), self.dtype, size)
            yield chunk, made, scratch.array((*counts, *self.inner), self.dtype), offset


def writer(array: zarr.Array[Any], *, local: bool, cloud: bool = False) -> Writer:
    """The fastest writer that the array's layout allows where it is or will be: locally, by obstore or elsewhere."""
    if not stores_plain_bytes(array):
        codec = plain_codec(array) if local else None
        return AssignWriter(array, cloud=cloud) if codec is None else EncodedWriter(array, codec)
    return LocalWriter(array) if local else CloudWriter(array) if cloud else BytesWriter(array)


def plain_codec(array: zarr.Array[Any]) -> Any:
    """The numcodecs codec of an array whose chunks are their plain bytes, encoded by it; None for other arrays."""
    if array.metadata.zarr_format == 2 or array.shards is not None:
        return None
    match array.metadata.codecs:
        case (BytesCodec() as serializer, ZstdCodec() as codec) if is_plain(serializer):
            return numcodecs.Zstd(level=codec.level, checksum=codec.checksum)
        case (BytesCodec() as serializer, GzipCodec() as codec) if is_plain(serializer):
            return numcodecs.GZip(level=codec.level)
    return None


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
        if location != "end" or not index_is_plain or not is_plain(shard.index_codecs[0]):
            return False
        codecs = shard.codecs
    return len(codecs) == 1 and is_plain(codecs[0])


def is_big_endian(array: zarr.Array[Any]) -> bool:
    """Whether an array stores its values in the byte order that this machine has not."""
    metadata = array.metadata
    if metadata.zarr_format == 2:
        return getattr(metadata.dtype, "endianness", "little") == "big"
    codecs = metadata.codecs
    if len(codecs) == 1 and isinstance(codecs[0], ShardingCodec):
        codecs = codecs[0].codecs
    order = [getattr(codec.endian, "value", codec.endian) for codec in codecs if isinstance(codec, BytesCodec)]
    return order == ["big"]


def is_plain(codec: Any) -> bool:
    """Whether a codec makes a chunk's little-endian bytes, and nothing else."""
    return isinstance(codec, BytesCodec) and getattr(codec.endian, "value", codec.endian) in (None, "little")
