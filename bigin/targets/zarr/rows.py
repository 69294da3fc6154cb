"""The rows of a zarr array."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
import zarr
from zarr.storage import LocalStore

from bigin.core.disk import read_all, replace_file, require_space, write_all
from bigin.core.errors import DamagedError
from bigin.core.regions import Region, Tail, stretches
from bigin.core.text import counted
from bigin.targets.records import KEY, Record
from bigin.targets.rows import Rows, at_once
from bigin.targets.target import Array, Target
from bigin.targets.zarr.array import ZarrTarget
from bigin.targets.zarr.chunks import stores_plain_bytes
from bigin.targets.zarr.names import TensorPath
from bigin.targets.zarr.private import encode_chunk_key, get_bytes, reshaped, set_bytes, wait
from bigin.targets.zarr.shards import EMPTY
from bigin.targets.zarr.to_disk import sync_regions

FEW = 64  # rows of a file that are read one by one; mapping a file and its pages costs more than so many calls


class ZarrRows(Rows):
    """Rows in chunks or shards. New ones are written to chunks that the old shape does not reach; the chunk that old
    and new rows share is replaced whole, its old rows as they were. Then the metadata is replaced, with the shape.
    """

    def __init__(self, target: ZarrTarget) -> None:
        super().__init__(target)
        self.zarr = target
        self.array = target.array
        store = self.array.store_path.store
        self.root = store.root.absolute() if isinstance(store, LocalStore) else None  # a missing chunk is no error
        self.outer = target.writer.outer
        self.plain = plain_rows(self.array)

    def read(self, region: Region) -> Array:
        if not self.plain:
            return super().read(region)
        rows, columns = region  # zarr would read a whole chunk for a part of it
        return self.gather(np.arange(*rows))[:, slice(*columns)]

    def gather(self, ids: Array) -> Array:
        out = np.empty((ids.size, self.zarr.shape[1]), self.zarr.dtype)
        order = np.argsort(ids, kind="stable")
        ids = ids[order]
        if not self.plain:
            if ids.size:
                out[order] = self.array.oindex[ids, :]
            return out

        def take(group: tuple[int, slice]) -> None:
            number, rows = group
            with ChunkFile(self.array, self._path(number)) as chunk:
                out[order[rows]] = chunk.gather(ids[rows] - number * self.outer[0])

        at_once(take, list(groups(ids, self.outer[0])))
        return out

    def scatter(self, ids: Array, values: Array) -> Array:
        if not self.plain:
            return ids
        left = []
        for number, rows in groups(ids, self.outer[0]):
            with ChunkFile(self.array, self._path(number), write=True) as chunk:
                if not chunk.scatter(ids[rows] - number * self.outer[0], values[rows]):
                    left.append(ids[rows])
        return np.concatenate(left) if left else ids[:0]

    def holders(self, ids: Array) -> Sequence[Region]:
        grid = self.zarr.grid()
        across = grid.counts[1]
        return [grid[int(number) * across + i] for number in np.unique(ids // self.outer[0]) for i in range(across)]

    def grown(self, rows: int, *, begun: bool = False) -> tuple[Target, Tail]:
        old = self.zarr
        target = ZarrTarget(
            reshaped(self.array, (rows, old.shape[1])), old.label, TensorPath(old.path, old.name), old.folder
        )
        return target, Tail.of(target.grid(), old.shape[0] // self.outer[0] * self.outer[0])

    def reserve(self, grown: Target) -> None:
        """Only asks whether there is room; each chunk reserves its own."""
        if self.zarr.folder is not None and stores_plain_bytes(self.array):
            require_space(self.zarr.folder, grown.nbytes - self.zarr.nbytes)

    def keep(self, record: Record) -> None:
        document = "zarr.json" if self.array.metadata.zarr_format == 3 else ".zattrs"
        self._edit(document, lambda held: _with_record(held, document, record))

    def sync(self, regions: Sequence[Region]) -> None:
        if self.root is not None:
            sync_regions(self.root, [(self.zarr.writer, regions)])

    def commit(self, rows: int, record: Record, *, sync: bool) -> None:
        shape = {"shape": [rows, self.zarr.shape[1]]}
        if self.array.metadata.zarr_format == 3:
            self._edit("zarr.json", lambda held: _with_record(held, "zarr.json", record) | shape)
        else:
            self._edit(".zarray", lambda held: held | shape)
            self.keep(record)

    def discard(self, rows: int) -> None:
        """The chunks behind the table's end, and what killed writers left under temporary names."""
        first, last = (-(-count // self.outer[0]) for count in (self.zarr.shape[0], rows))
        store = self.array.store_path.store
        for number in range(max(0, first - 1), last):
            for i in range(self.zarr.grid().counts[1]):
                if number >= first:
                    wait(store.delete(self._key(number, i)))
                if self.root is not None:
                    folder = self._path(number, i).parent
                    for partial in folder.glob("*.partial"):
                        partial.unlink(missing_ok=True)
                    with suppress(OSError):  # not empty, or not there
                        folder.rmdir()

    def _key(self, number: int, across: int = 0) -> str:
        return encode_chunk_key(self.array, (number, across))

    def _path(self, number: int, across: int = 0) -> Path:
        assert self.root is not None
        return self.root / self._key(number, across)

    def _edit(self, name: str, change: Any) -> None:
        """Replaces a document of the metadata, whole or not at all, and leaves what it does not know as it is."""
        store, prefix = self.array.store_path.store, self.array.store_path.path
        key = f"{prefix}/{name}".lstrip("/")
        held = wait(get_bytes(store, key))
        data = json.dumps(change(json.loads(held) if held is not None else {}), indent=2).encode()
        if self.root is not None:
            replace_file(self.root / key, data)
        else:
            wait(set_bytes(store, key, data))


def _with_record(document: dict[str, Any], name: str, record: Record) -> dict[str, Any]:
    if name == ".zattrs":
        return document | {KEY: record}
    return document | {"attributes": document.get("attributes", {}) | {KEY: record}}


def groups(ids: Array, size: int) -> Iterator[tuple[int, slice]]:
    """Sorted ids by the block of so many rows that holds them: (block, which of the ids)."""
    blocks = ids // size
    cuts = [0, *(np.flatnonzero(np.diff(blocks)) + 1).tolist(), ids.size]
    for start, stop in pairwise(cuts):
        if start < stop:
            yield int(blocks[start]), slice(start, stop)


def plain_rows(array: zarr.Array[Any]) -> bool:
    """Whether the rows of an array lie whole and as they are in the files of a local store."""
    outer = array.shards or array.chunks
    one_across = array.chunks[1] >= array.shape[1] and outer[1] == array.chunks[1]
    return isinstance(array.store_path.store, LocalStore) and stores_plain_bytes(array) and one_across


class ChunkFile:
    """A chunk or shard of whole rows that lie as they are in a file, which may be missing. Its first row is row 0."""

    def __init__(self, array: zarr.Array[Any], path: Path, *, write: bool = False) -> None:
        self.array = array
        self.path = path
        self.inner = array.chunks
        self.dtype = array.dtype
        self.row_bytes = self.inner[1] * self.dtype.itemsize
        self.chunk_bytes = self.inner[0] * self.row_bytes
        self.file: BinaryIO | None = None
        with suppress(FileNotFoundError):
            self.file = path.open("r+b" if write else "rb", buffering=0)
        try:
            self.offsets = self._offsets()
        except BaseException:
            self.close()
            raise

    def _offsets(self) -> list[int | None]:
        """Where each inner chunk begins in the file; None for one that it does not hold."""
        count = (self.array.shards or self.inner)[0] // self.inner[0]
        if self.file is None:
            return [None] * count
        size = os.fstat(self.file.fileno()).st_size
        if self.array.shards is None:
            if size != self.chunk_bytes:
                raise DamagedError(f"{self.path}: expected a chunk of {self.chunk_bytes} bytes, got {size}")
            return [0]
        data = os.pread(self.file.fileno(), 16 * count + 4, max(0, size - 16 * count - 4))
        if int(google_crc32c.value(data[:-4])).to_bytes(4, "little") != data[-4:]:
            raise DamagedError(
                f"{self.path}: expected a shard with an index of {counted(count, 'chunk')}, got a damaged one"
            )
        index = np.frombuffer(data[:-4], "<u8").reshape(count, 2)
        return [None if offset == EMPTY else int(offset) for offset, _ in index]

    def gather(self, ids: Array) -> Array:
        """The values of sorted rows; of those that are missing, the fill value."""
        out = np.empty((ids.size, self.array.shape[1]), self.dtype)
        few = ids.size <= FEW
        mapped = None if few or self.file is None else mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)
        for number, rows in groups(ids, self.inner[0]):
            offset = self.offsets[number]
            local = ids[rows] - number * self.inner[0]
            if offset is None:
                out[rows] = self.array.fill_value
            elif mapped is None:
                self._read(local, offset, out[rows])
            else:
                values = np.frombuffer(mapped, self.dtype, self.inner[0] * self.inner[1], offset).reshape(self.inner)
                out[rows] = np.take(values, local, axis=0, mode="clip")[:, : out.shape[1]]
        return out

    def _read(self, ids: Array, offset: int, out: Array) -> None:
        assert self.file is not None
        size = out.shape[1] * self.dtype.itemsize
        for row, number in zip(out, ids.tolist(), strict=True):
            read_all(self.file.fileno(), row.view(np.uint8).data[:size], offset + number * self.row_bytes)

    def scatter(self, ids: Array, values: Array) -> bool:
        """Writes sorted rows in place; False, and nothing is written, where one of them is missing."""
        held = [(rows, self.offsets[number], number) for number, rows in groups(ids, self.inner[0])]
        if any(offset is None for _, offset, _ in held):
            return False
        assert self.file is not None
        for rows, offset, number in held:
            assert offset is not None
            done = rows.start
            for start, stop in stretches(ids[rows] - number * self.inner[0]):
                data = np.zeros((stop - start, self.inner[1]), values.dtype)
                data[:, : values.shape[1]] = values[done : done + stop - start]
                done += stop - start
                write_all(self.file.fileno(), data.reshape(-1).view(np.uint8).data, offset + start * self.row_bytes)
        return True

    def close(self) -> None:
        """Closes the file."""
        if self.file is not None:
            self.file.close()

    def __enter__(self) -> ChunkFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
