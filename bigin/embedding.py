"""Embedding tables on disk: made, grown, read by ids, and reset, row by row."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigin import dtypes
from bigin.api import Report, fill_target
from bigin.errors import FillError, InputError, Interrupted, Terminated
from bigin.filling import memory
from bigin.filling.faults import LASTING, explain
from bigin.filling.floats import default_modes
from bigin.filling.resume import values
from bigin.filling.run import workers_within
from bigin.filling.specification import Specification
from bigin.methods.distributions import Distribution, Orthogonal, Sparse
from bigin.text import parse_shape, parse_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from bigin.filling.filler import Filler
    from bigin.targets.record import Record
    from bigin.targets.rows import Rows
    from bigin.verification import Verification

GROWING = "growing"  # the record's note of a grow that has begun, and may have been killed
ATTEMPTS = 5  # at opening a table, which another process may be growing just then
PAUSE = 0.01  # seconds between two of them
BATCH = 1 << 20  # elements of rows that are made at once


class EmbeddingTable:
    """A table of shape (num_embeddings, embedding_dim) in a .npy file or a zarr array, which may be larger than memory.

    A row's initial values depend on seed, name, method, embedding_dim and the row's number alone, so that rows can be
    added, or brought back to what they were, at any time. What is written into the array in between (trained rows,
    through zarr or numpy) stays as it is.

    The shape is that of the moment of opening: another process's `grow` is seen by opening the table again. Any number
    of processes may read; `grow` and `reset` keep each other away.

    Attributes:
        report: what the `create` or `grow` of this object did, or None.
        specification: what decides the initial values.
    """

    def __init__(self, place: Any) -> None:
        self._place = place
        self.report: Report | None = None
        self._load()

    @classmethod
    def create(
        cls,
        path: str | Path,
        num_embeddings: int,
        embedding_dim: int,
        method: str,
        *,
        dtype: Any = "float32",
        padding_idx: int | None = None,
        seed: int = 0,
        name: str | None = None,
        chunks: int | None = None,
        shards: int | None = None,
        zarr_format: int = 3,
        threads: int | None = None,
        max_memory: int | str | None = None,
        sync: bool = True,
        progress: Callable[[int, int], None] | None = None,
        **parameters: Any,
    ) -> EmbeddingTable:
        """Make a table with its initial values. What the same call has begun, and not finished, goes on.

        Args:
            path: of a new .npy file, or a path or URL where a new zarr array is made.
            num_embeddings: the number of rows; 0 is a table that is still to grow.
            embedding_dim: elements in a row.
            padding_idx: the row that is zeros, as in torch.nn.Embedding; negative ones count from the end. Growing does
                not move it.
            chunks, shards: rows in a chunk and in a shard of the zarr array. By default chunks of 16 MiB, however few
                rows there are yet, and no shards.
            method, dtype, seed, name, threads, max_memory, sync, progress, **parameters: as in `bigin.fill`.

        Raises:
            InputError: something is wrong with what was asked for, or there is something at the path; nothing was made.
            FillError, OSError: the table could not be finished.
        """
        from bigin.targets.rows import begun, new_table

        shape = (count("num_embeddings", num_embeddings, 0), count("embedding_dim", embedding_dim, 1))
        rows = [
            None if given is None else count(what, given, 1) for what, given in (("chunks", chunks), ("shards", shards))
        ]
        with default_modes():
            half = begun(path)
            target = half or new_table(path, shape, dtypes.parse_dtype(dtype), rows[0], rows[1], zarr_format)
            stream = target.name if name is None else name
            specification = Specification.parse(
                method, parameters, seed, stream, shape, dtypes.parse_dtype(dtype), padding_idx
            )
            record = specification.record()
            if half is not None and values(half.record() or {}) != values(record):
                raise InputError(f"{path}: expected nothing there, found another table that is half made; remove it")
            record["name_from"] = "caller" if name is not None else "hierarchy" if stream else "unnamed"
            try:
                report = fill_target(target, specification.filler(), record, False, threads, max_memory, sync, progress)
            finally:
                target.close()
        table = cls(path)
        table.report = report
        return table

    @classmethod
    def open(cls, place: Any) -> EmbeddingTable:
        """Open a table: a path, a URL, a zarr.Array or a zarr store that `create` or `bigin.fill` has filled whole.

        Raises InputError where there is none.
        """
        return cls(place)

    def _load(self) -> None:
        """Opens the array as it is now. What is read while another process replaces it is read again."""
        for attempt in range(ATTEMPTS):
            try:
                self._rows, self.specification = opened(self._place)
                return
            except InputError:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(PAUSE)

    @property
    def label(self) -> str:
        """What messages call it."""
        return self._rows.target.label

    @property
    def shape(self) -> tuple[int, int]:
        """(num_embeddings, embedding_dim)"""
        rows, columns = self.specification.shape
        return rows, columns

    @property
    def num_embeddings(self) -> int:
        """The number of rows."""
        return self.shape[0]

    @property
    def embedding_dim(self) -> int:
        """Elements in a row."""
        return self.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements, in native byte order."""
        return self.specification.dtype

    @property
    def padding_idx(self) -> int | None:
        """The row that begins as zeros, if there is one."""
        return self.specification.padding_idx

    def __len__(self) -> int:
        return self.num_embeddings

    def __repr__(self) -> str:
        return f"EmbeddingTable({self.label}: {self.specification})"

    def rows(self, ids: Any) -> np.ndarray[Any, Any]:
        """Read rows, in the order asked; an id may come more than once. What other processes have written is seen.

        Negative ids are refused, as in torch.nn.Embedding: among ids they are more often a mistake than a row counted
        from the end.

        Args:
            ids: integers from 0 to num_embeddings - 1, of any shape.

        Returns:
            The values, of shape (*ids.shape, embedding_dim) and the table's dtype.

        Raises InputError for what is no id of the table.
        """
        numbers = parse_ids(ids, self.num_embeddings)
        return self._rows.gather(numbers.reshape(-1)).reshape(*numbers.shape, self.embedding_dim)

    def grow(
        self,
        num_embeddings: int,
        *,
        threads: int | None = None,
        max_memory: int | str | None = None,
        sync: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Add rows, with the values that a table of that size would have had from the start. Others stay as they are.

        Killed at any moment, it leaves the table as it was (or grown), and can be run again.

        Args:
            num_embeddings: the number of rows in the end, not below what there is.
            threads, max_memory, sync, progress: as in `bigin.fill`.

        Raises:
            InputError: the method's values depend on the number of rows, or something else is wrong with what was asked
                for; nothing was changed. Or another writer is at work.
            FillError, OSError: it could not be finished; the table is as it was.
        """
        wanted = count("num_embeddings", num_embeddings, 0)
        with default_modes(), self._writing() as rows:
            record = rows.target.record()
            assert record is not None
            if wanted < self.num_embeddings:
                raise InputError(
                    f"{self.label}: expected {self.num_embeddings} rows or more, got {wanted}; a table does not shrink"
                )
            larger = grown(self.specification, wanted, self.label)
            filler = larger.filler()
            start = time.perf_counter()  # kernels are compiled
            record = self._add(rows, filler, record, threads, max_memory, sync, progress)
        added = (wanted - self.num_embeddings) * self.embedding_dim * self.dtype.itemsize
        self._load()
        self.report = Report(self.label, added, time.perf_counter() - start, record)
        return self.report

    def _add(
        self,
        rows: Rows,
        filler: Filler,
        record: Record,
        threads: int | None,
        max_memory: int | str | None,
        sync: bool,
        progress: Callable[[int, int], None] | None,
    ) -> Record:
        """Writes the rows that are missing; returns the record."""
        from bigin.filling.rows import KeptFilled, fill_regions

        settled = {key: value for key, value in record.items() if key != GROWING} | {"shape": list(self.shape)}
        old, new = self.num_embeddings, filler.shape[0]
        if GROWING in record:  # a grow was killed
            rows.discard(grows_to(record) or old)
            rows.keep(settled)
        if new == old:
            return settled
        filler = KeptFilled(filler, old, rows.read, rows.target.block_memory())
        limit = memory.available() // 4 if max_memory is None else parse_size(max_memory)
        workers = workers_within(rows.target, filler, memory.threads() if threads is None else threads, limit)
        target, regions = rows.grown(new)
        try:
            rows.keep(settled | {GROWING: {"to": new}})
            target.sync = sync
            rows.reserve(target)
            fill_regions(target, filler, regions, workers, progress)
            if sync:
                rows.sync()
        except BaseException as error:
            target.close()
            rows.discard(new)
            rows.keep(settled)
            raise told(error, f"{self.label}: the grow", "the table is as it was") from None
        target.close()
        final = settled | {"shape": list(filler.shape)}
        rows.commit(new, final)
        return final

    def reset(
        self, ids: Any, *, threads: int | None = None, max_memory: int | str | None = None, sync: bool = True
    ) -> int:
        """Bring rows back to their initial values; returns how many different ones there were.

        In a chunk that is compressed the others are read and written again, so whoever writes them must wait.

        Args:
            ids: integers from 0 to num_embeddings - 1, of any shape.
            threads, max_memory, sync: as in `bigin.fill`.

        Raises:
            InputError: something is no id of the table; nothing was changed. Or another writer is at work.
            FillError: it could not be finished, and can be run again.
        """
        import numpy as np

        from bigin.filling.rows import ResetFilled, fill_regions

        with default_modes(), self._writing() as rows:
            numbers = np.unique(parse_ids(ids, self.num_embeddings))
            filler = self.specification.filler()
            replaced = ResetFilled(filler, numbers, rows.read, rows.target.block_memory())
            limit = memory.available() // 4 if max_memory is None else parse_size(max_memory)
            workers = workers_within(rows.target, replaced, memory.threads() if threads is None else threads, limit)
            try:
                left = self._write(rows, filler, numbers)
                fill_regions(rows.target, replaced, rows.holders(left), workers)
                if sync:
                    rows.sync()
            except BaseException as error:
                raise told(error, f"{self.label}: the reset", "some rows may be as they were") from None
        return int(numbers.size)

    def _write(self, rows: Rows, filler: Filler, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Initial values of rows, written in place; returns the ids of those that cannot be."""
        import numpy as np

        from bigin.filling.rows import initial_rows

        step = max(1, BATCH // self.embedding_dim)
        parts = [ids[start : start + step] for start in range(0, ids.size, step)]
        return np.concatenate(
            [ids[:0], *(rows.scatter(part, initial_rows(filler, part, self.dtype)) for part in parts)]
        )

    def verify(
        self,
        *,
        sample: float = 1.0,
        sample_seed: int = 0,
        threads: int | None = None,
        max_memory: int | str | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Verification:
        """Make all rows again and compare them with what the table holds, bit for bit: which ones were changed?

        As `bigin.verify`, which see, with what the table's record says.
        """
        from bigin.targets.rows import fresh
        from bigin.verification import verify

        what = self.specification
        return verify(
            fresh(self._place),
            what.method,
            seed=what.seed,
            name=what.name,
            padding_idx=what.padding_idx,
            sample=sample,
            sample_seed=sample_seed,
            threads=threads,
            max_memory=max_memory,
            progress=progress,
            **what.parameters,
        )

    def torch(self, mode: str = "r") -> Any:
        """The table as a torch tensor that is mapped into memory, without a copy, where the layout allows.

        See `bigin.torch.open`.
        """
        import bigin.torch

        return bigin.torch.open(self._place, mode)

    @contextmanager
    def _writing(self) -> Iterator[Rows]:
        """The table as it is now, with all other writers kept away."""
        held = self._rows.target
        held.lock()
        try:
            self._load()
            yield self._rows
        finally:
            held.close()

    def close(self) -> None:
        """Gives back what is open."""
        self._rows.target.close()

    def __enter__(self) -> EmbeddingTable:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def told(error: BaseException, label: str, left: str) -> BaseException:
    """What stopped a writer, as the command line says it."""
    if isinstance(error, KeyboardInterrupt):
        kind = Terminated if isinstance(error, Terminated) else Interrupted
        return kind(f"{label} was {'terminated' if kind is Terminated else 'interrupted'}; {left}")
    if isinstance(error, LASTING) or not isinstance(error, Exception):
        return error
    return FillError(explain(error, f"{label} failed and {left}"))


def opened(place: Any) -> tuple[Rows, Specification]:
    """The rows at a place and what decides their initial values; raises InputError where there is no table."""
    from bigin.targets.rows import open_rows

    if isinstance(place, str | os.PathLike) and "://" not in str(place) and not os.path.exists(place):
        raise InputError(f"{place}: expected a table, found nothing; make it with `bigin table create`")
    rows = open_rows(place)
    target, record = rows.target, rows.target.record()
    if record is None:
        raise InputError(
            f"{target.label}: expected a table that bigin has filled, got one without a record; make it with "
            "`bigin table create` (EmbeddingTable.create), or fill it"
        )
    if record.get("complete") is not True:
        raise InputError(
            f"{target.label}: expected a complete table, got one that is half made; give the command that makes it "
            "again, which goes on where it stopped"
        )
    if "region" in record:
        raise InputError(f"{target.label}: expected a whole table, got a region of shape {record.get('shape')}")
    specification = Specification.from_record(record)
    if grows_to(record) == target.shape[0]:  # killed when the array had its new shape, and the record not yet
        specification = replace(specification, shape=(target.shape[0], *specification.shape[1:]))
    for what, expected, got in (
        ("shape", specification.shape, target.shape),
        ("dtype", specification.dtype, target.dtype),
    ):
        if expected != got:
            raise InputError(
                f"{target.label}: expected {what} {expected}, which its record says, got {got}; fill it anew"
            )
    return rows, specification


def grows_to(record: Record) -> int | None:
    """How many rows a grow that was begun is to make, as the record notes it."""
    note = record.get(GROWING)
    rows = note.get("to") if isinstance(note, dict) else None
    return rows if isinstance(rows, int) else None


def grown(specification: Specification, rows: int, label: str) -> Specification:
    """The specification of a table of another number of rows, if that changes none of the rows that both have."""
    larger = replace(specification, shape=parse_shape((rows, *specification.shape[1:])))
    if rows == specification.shape[0]:
        return larger
    old, new = (resolved(specification, max(1, n)) for n in (specification.shape[0], rows))
    if isinstance(new, Orthogonal | Sparse):
        why = f"got {specification.method}, where every value depends on all rows"
    elif old != new:
        why = f"got {specification.method}: {old} for {specification.shape[0]} rows would be {new} for {rows}"
    else:
        return larger
    raise InputError(
        f"{label}: expected a method whose values do not depend on the number of rows, {why}; make a new table"
    )


def resolved(specification: Specification, rows: int) -> Distribution:
    """What the method resolves to for a table of so many rows."""
    return replace(specification, shape=(rows, *specification.shape[1:])).distribution


def count(what: str, value: Any, least: int) -> int:
    """An integer that is not below `least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < least:
        raise InputError(f"expected {what} to be an integer of {least} or more, got {value!r}")
    return int(value.__index__())


def parse_ids(ids: Any, rows: int) -> np.ndarray[Any, Any]:
    """Row numbers of any shape as int64; raises InputError, which names the first that is none of the table's."""
    import numpy as np

    try:
        numbers = np.asarray(ids)
    except ValueError:
        raise InputError("expected an array of ids, got lists of different lengths") from None
    if numbers.size == 0:
        return np.zeros(numbers.shape, np.int64)
    if numbers.dtype.kind not in "iu":
        raise InputError(f"expected ids that are integers, got {numbers.dtype}")
    wrong = (numbers < 0) | (numbers >= rows)
    if wrong.any():
        place = int(wrong.argmax())
        which = f"ids from 0 to {rows - 1}" if rows else "no ids, as the table has no rows yet"
        raise InputError(f"expected {which}, got {numbers.reshape(-1)[place]} at place {place}")
    return numbers.astype(np.int64)
