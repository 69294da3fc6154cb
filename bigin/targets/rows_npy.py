"""The rows of a .npy file."""

from __future__ import annotations

import ast
import mmap
import os
from collections.abc import Sequence
from functools import cached_property

import numpy as np

from bigin.core.disk import write_all
from bigin.core.errors import InputError
from bigin.core.regions import Region, Tail, stretches
from bigin.core.text import counted
from bigin.targets.files import FileTarget
from bigin.targets.records import Record, write_sidecar
from bigin.targets.rows import Rows, at_once
from bigin.targets.target import Array, Target

PART = 1024  # rows that are read by one call


class NpyRows(Rows):
    """Rows that lie one behind the other. New ones are written behind the end, where a header that says the old number
    of rows lets nobody look; that header is then replaced in one write.
    """

    def __init__(self, target: FileTarget) -> None:
        super().__init__(target)
        self.file = target
        self.row_bytes = target.shape[1] * target.dtype.itemsize
        if target.fortran:
            raise InputError(f"{target.label}: expected a table whose rows lie together, got Fortran order")

    def gather(self, ids: Array) -> Array:
        if not self._mapped.size:
            return np.empty((ids.size, self.file.shape[1]), self.file.dtype)
        out = np.empty((ids.size, self.file.shape[1]), self.file.stored_dtype)

        def take(start: int) -> None:
            part = slice(start, start + PART)
            np.take(self._mapped, ids[part], axis=0, out=out[part], mode="clip")  # "raise" would copy once more

        at_once(take, range(0, ids.size, PART))
        return out.astype(self.file.dtype, copy=False)

    @cached_property
    def _mapped(self) -> Array:
        """The rows as the file has them now. They never move, so that the mapping outlives every change."""
        if not self.file.nbytes:
            return np.empty(self.file.shape, self.file.stored_dtype)
        mapped = np.memmap(self.file.path, self.file.stored_dtype, "r", self.file.offset, self.file.shape)
        mapped._mmap.madvise(mmap.MADV_RANDOM)  # type: ignore[attr-defined]  # else a cold row reads 128 KiB around it
        return np.asarray(mapped)

    def scatter(self, ids: Array, values: Array) -> Array:
        values = values.astype(self.file.stored_dtype, copy=False)
        done = 0
        with self.file.path.open("r+b", buffering=0) as file:
            for start, stop in stretches(ids):
                rows = values[done : done + stop - start]
                done += stop - start
                write_all(file.fileno(), rows.reshape(-1).view(np.uint8).data, self._end(start))
        return ids[:0]

    def holders(self, ids: Array) -> Sequence[Region]:
        return []  # every row is written in place

    def grown(self, rows: int, *, begun: bool = False) -> tuple[Target, Tail]:
        self._header(rows)
        old, end = self.file, self._end(self.file.shape[0])
        size = old.path.stat().st_size
        if size > end and not begun:
            raise InputError(f"{old.label}: expected nothing behind the table, got {size - end} bytes; save it alone")
        target = FileTarget(old.path, (rows, old.shape[1]), old.stored_dtype, old.offset)
        return target, Tail.of(target.grid(), old.shape[0])

    def reserve(self, grown: Target) -> None:
        grown.start()

    def keep(self, record: Record) -> None:
        write_sidecar(self.file.path, record)

    def sync(self, regions: Sequence[Region]) -> None:
        with self.file.path.open("r+b") as file:
            os.fsync(file.fileno())

    def commit(self, rows: int, record: Record, *, sync: bool) -> None:
        with self.file.path.open("r+b", buffering=0) as file:
            os.pwrite(file.fileno(), self._header(rows), 0)
            if sync:
                os.fsync(file.fileno())
        write_sidecar(self.file.path, record)

    def discard(self, rows: int) -> None:
        os.truncate(self.file.path, self._end(self.file.shape[0]))

    def _end(self, rows: int) -> int:
        return self.file.offset + rows * self.row_bytes

    def _header(self, rows: int) -> bytes:
        """The file's header with another number of rows, as long as it is; numpy leaves room for that."""
        with self.file.path.open("rb") as file:
            old = file.read(self.file.offset)
        start = 10 if old[6] == 1 else 12  # magic, version and length
        fields = ast.literal_eval(old[start:].decode())
        fields["shape"] = (rows, self.file.shape[1])
        text = "{" + "".join(f"{key!r}: {fields[key]!r}, " for key in sorted(fields)) + "}"
        room = len(old) - start - 1
        if len(text) > room:
            raise InputError(
                f"{self.file.path}: expected a header with room for {counted(rows, 'row')}, got one of {room} "
                f"characters that needs {len(text)}; save the array again with numpy.save"
            )
        return old[:start] + text.ljust(room).encode() + b"\n"
