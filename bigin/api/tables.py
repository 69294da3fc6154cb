"""Embedding tables on disk: made, grown, read by ids, and reset, row by row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bigin.api.opening import existing
from bigin.core import dtypes
from bigin.core.errors import ExistsError, InputError, TableWarning
from bigin.core.floats import default_modes
from bigin.core.html import card
from bigin.core.indexing import pick
from bigin.core.limits import Limits
from bigin.core.paths import expand
from bigin.core.text import counted, size_text
from bigin.core.threads import after_stragglers
from bigin.core.warning import warn
from bigin.jobs.changes import TableStatistics, TableVerification, compare_rows, statistics, verification
from bigin.jobs.compare import Sample
from bigin.jobs.exporting import export_rows
from bigin.jobs.grow import TableJob, obstacle, open_table, parse_ids, parse_rows
from bigin.jobs.job import FillOptions, Job, check_progress
from bigin.jobs.report import Report
from bigin.jobs.resume import values
from bigin.jobs.what import What
from bigin.targets.tables import as_it_is_now, new_table, recorded_table
from bigin.targets.target import record_of

ATTEMPTS = 5  # at opening a table, which another process may be growing just then
PAUSE = 0.01  # seconds between two of them
TWO = 2  # the least number of chunks that are compared: one gives no standard error
BLOCK = 1 << 20  # bytes of rows that are read together while they are iterated over


class EmbeddingTable:
    """A table of shape (num_embeddings, embedding_dim) in a .npy file or a zarr array, which may be larger than memory.

    The initial values of a row depend only on seed, name, method, embedding_dim and the row's number. So rows can be
    added, or reset to their initial values, at any time. Rows that were written in between (by `update`, or through
    zarr or numpy) stay unchanged.

    A table is indexed like a numpy array: `table[5]`, `table[5:9]`, `table[[5, 7]]`, `table[-1]`, `table[:, 0]`.
    `numpy.asarray(table)` reads all of it; iterating reads a megabyte at a time.

    The shape is that at the time of opening. Open the table again to see rows that another process has added. Any
    number of processes may read. `grow` and `reset` lock each other out.

    Attributes:
        report: the report of the `create` or `grow` call of this object, or None.
        specification: the specification of the initial values.

    Example:
        >>> table = bigin.EmbeddingTable.create("users.npy", 1000, 64, "normal", std=0.01, seed=3)
        >>> table.grow(1500).nbytes
        128000
        >>> table.rows([5, 7, 5]).shape
        (3, 64)
        >>> table[5:9].shape, len(table)
        ((4, 64), 1500)
        >>> table.update([5, 6], np.zeros((2, 64)))
        2
        >>> print(table.stats())
        users.npy: 0.133% of rows trained (2 of 1,500)
        >>> table.verify().changed
        2 rows: 5:7
        >>> table.reset([5, 7, 6])
        3
        >>> table.verify().equal
        True
    """

    def __init__(self, path: Any) -> None:
        self._path = expand(path)
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
        requests: int | None = None,
        sync: bool = True,
        progress: Callable[[int, int], None] | None = None,
        **parameters: Any,
    ) -> EmbeddingTable:
        """Create a table with its initial values.

        If the same call was interrupted, it continues. If the table is complete already, it is opened.

        Args:
            path: path of a new .npy file, or path or URL of a new zarr array.
            num_embeddings: number of rows; may be 0.
            embedding_dim: number of columns.
            padding_idx: the row of zeros, as in torch.nn.Embedding; a negative number counts from the end. It does not
                move when the table grows.
            chunks, shards: rows per chunk and per shard of the zarr array. By default chunks of 16 MiB, also for a
                small table, and no shards.
            method, dtype, seed, name, threads, max_memory, requests, sync, progress, **parameters: as in `bigin.fill`.

        Returns:
            The table.

        Raises:
            InputError: an argument is invalid; nothing was created.
            ExistsError: something else exists at the path.
            FillError: the table could not be finished.

        Warns (TableWarning) if the method's values depend on the number of rows, so that the table cannot grow.

        Example:
            >>> table = bigin.EmbeddingTable.create("users.zarr", 1000, 16, "normal", std=0.01, seed=3)
            >>> table.rows([5, 7]).shape
            (2, 16)
            >>> table.grow(1500).nbytes
            32000
        """
        shape = (count("num_embeddings", num_embeddings, 0), count("embedding_dim", embedding_dim, 1))
        rows = [
            None if given is None else count(what, given, 1) for what, given in (("chunks", chunks), ("shards", shards))
        ]
        what = What.parse(method, parameters, seed, name, shape, padding_idx=padding_idx)
        limits, options = (
            Limits.parse(threads, max_memory, requests=requests),
            FillOptions(sync=sync, progress=progress),
        )
        path = expand(path)
        with default_modes():
            target = recorded_table(path)
            held = {} if target is None else record_of(target) or {}
            if target is None or (held.get("complete") is True and values(held) != values(what.spec(target).record())):
                target = new_table(path, shape, dtypes.parse_stored(dtype), rows[0], rows[1], zarr_format)
                held = {}
            try:
                spec = what.spec(target)
                if held and values(held) != values(spec.record()):
                    raise ExistsError(
                        f"{path}: expected nothing there, got another table that is partly filled; remove it"
                    )
                report = Job(spec, target, limits).fill(options)
            finally:
                target.close()
        table = cls(path)
        table.report = report
        if report.nbytes and (why := obstacle(table.specification, table.num_embeddings + 1)):
            warn(
                f"{table.label}: the table cannot grow: expected a method whose values do not depend on the number of "
                f"rows, {why}",
                TableWarning,
            )
        return table

    @classmethod
    def open(cls, path: Any) -> EmbeddingTable:
        """Open a table that `create` or `bigin.fill` has filled completely.

        Args:
            path: a path, a URL, a zarr.Array or a zarr store.

        Returns:
            The table, with the number of rows that it has now.

        Raises:
            InputError: there is no table there.
        """
        return cls(path)

    def _load(self) -> None:
        """Opens the array as it is now. What is read while another process replaces it is read again."""
        for attempt in range(ATTEMPTS):
            try:
                self._rows, self.specification = open_table(self._path)
                return
            except InputError:
                if attempt == ATTEMPTS - 1:
                    raise
                time.sleep(PAUSE)

    @property
    def label(self) -> str:
        """The name of the table in messages."""
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
        """The number of columns."""
        return self.shape[1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the elements, in native byte order."""
        return self.specification.dtype

    @property
    def padding_idx(self) -> int | None:
        """The row whose initial values are zeros, if there is one."""
        return self.specification.padding_idx

    @property
    def ndim(self) -> int:
        """The number of axes: 2."""
        return 2

    @property
    def nbytes(self) -> int:
        """Bytes that the values take in memory."""
        return self.num_embeddings * self.embedding_dim * self.dtype.itemsize

    def __len__(self) -> int:
        return self.num_embeddings

    def __getitem__(self, key: Any) -> Any:
        picked = pick(key, self.shape)
        values = self._picked(picked.ranges, picked.points, picked.at).reshape(picked.shape)
        if picked.turn is not None:
            values = values[picked.turn]
        return values[()] if picked.scalar else values

    def _picked(self, ranges: Any, points: Any, at: int) -> np.ndarray[Any, Any]:
        """The values at ranges of rows and of columns, or at the points that stand for one of them or for both."""
        rows, columns = ranges
        if points is None:
            return self._range(rows)[:, columns.start : columns.stop : columns.step]
        numbers = points.astype(np.int64)
        if rows is not None:  # the points are columns
            values = self._range(rows)[:, numbers]
            return values if at else np.ascontiguousarray(values.T)
        if columns is not None:
            return self._rows.gather(numbers // self.embedding_dim)[:, columns.start : columns.stop : columns.step]
        number, place = np.divmod(numbers, self.embedding_dim)
        return self._rows.gather(number)[np.arange(number.size), place]

    def _range(self, rows: range) -> np.ndarray[Any, Any]:
        """Rows in a rising range."""
        if rows.step == 1 and len(rows) > 1:
            return self._rows.read(((rows.start, rows.stop), (0, self.embedding_dim)))
        return self._rows.gather(np.arange(rows.start, rows.stop, rows.step, dtype=np.int64))

    def __iter__(self) -> Iterator[Any]:
        step = max(1, BLOCK // (self.embedding_dim * self.dtype.itemsize))
        for first in range(0, self.num_embeddings, step):
            yield from self._range(range(first, min(first + step, self.num_embeddings)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        if copy is False:
            raise ValueError("Unable to avoid copy while creating an array as requested.")
        values: np.ndarray[Any, Any] = self[...]
        return values if dtype is None else values.astype(dtype, copy=False)

    def __repr__(self) -> str:
        return f"EmbeddingTable({self.label}: {self.specification})"

    def _repr_html_(self) -> str:
        spec = self.specification
        rows, columns = self.shape
        facts = {
            "rows": f"{rows:,}, each of {counted(columns, 'element')}, {self.dtype.name}",
            "size": size_text(rows * columns * self.dtype.itemsize),
            "initial values": spec.call,
            "seed": spec.seed,
            "name": spec.name,
        }
        return card(f"embedding table, {self.label}", facts)

    def rows(self, ids: Any) -> np.ndarray[Any, Any]:
        """Read rows in the order of the ids, which may repeat. Rows that other processes have written are included.

        Negative ids are refused, as in torch.nn.Embedding.

        Args:
            ids: integers from 0 to num_embeddings - 1, of any shape.

        Returns:
            The values, of shape (*ids.shape, embedding_dim) and the table's dtype.

        Raises InputError for an id that the table does not have.
        """
        numbers = parse_ids(ids, self.num_embeddings)
        return self._rows.gather(numbers.reshape(-1)).reshape(*numbers.shape, self.embedding_dim)

    def grow(
        self,
        num_embeddings: int,
        *,
        threads: int | None = None,
        max_memory: int | str | None = None,
        requests: int | None = None,
        sync: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Add rows with the values that a new table of that size would have. All other rows keep their values.

        If the process is killed, the table is unchanged or grown, and the call can be repeated.

        Args:
            num_embeddings: the new number of rows, at least the present one.
            threads, max_memory, requests, sync, progress: as in `bigin.fill`.

        Returns:
            A report: the bytes of the new rows, the seconds and the record.

        Raises:
            InputError: the method's values depend on the number of rows, an argument is invalid, or another process is
                writing; nothing was changed.
            FillError, OSError: the table could not be grown; it is unchanged.
        """
        number = count("num_embeddings", num_embeddings, 0)
        limits, options = (
            Limits.parse(threads, max_memory, requests=requests),
            FillOptions(sync=sync, progress=progress),
        )
        start = time.perf_counter()
        with default_modes(), self._writing(limits, options) as job:
            record = job.grow(number)
        added = (number - self.num_embeddings) * self.embedding_dim * self.dtype.itemsize
        self._load()
        self.report = Report(self.label, added, time.perf_counter() - start, record)
        return self.report

    def reset(
        self,
        ids: Any,
        *,
        threads: int | None = None,
        max_memory: int | str | None = None,
        requests: int | None = None,
        sync: bool = True,
    ) -> int:
        """Reset rows to their initial values.

        In a compressed chunk, the other rows are read and written again. No other program may write them at the same
        time.

        Args:
            ids: integers from 0 to num_embeddings - 1, of any shape.
            threads, max_memory, requests, sync: as in `bigin.fill`.

        Returns:
            The number of different rows.

        Raises:
            InputError: something is no id of the table; nothing was changed. Or another writer is at work.
            FillError: it could not be finished, and can be run again.
        """
        with (
            default_modes(),
            self._writing(Limits.parse(threads, max_memory, requests=requests), FillOptions(sync=sync)) as job,
        ):
            numbers = np.unique(parse_ids(ids, self.num_embeddings))
            job.reset(numbers)
        return int(numbers.size)

    def update(
        self,
        ids: Any,
        rows: Any,
        *,
        threads: int | None = None,
        max_memory: int | str | None = None,
        requests: int | None = None,
        sync: bool = True,
    ) -> int:
        """Write rows, such as trained ones.

        Rows are written as `reset` writes them. If the process is killed, each row has its old or its new values;
        repeat the call to finish.

        Args:
            ids: distinct integers from 0 to num_embeddings - 1, of any shape.
            rows: real numbers of shape (*ids.shape, embedding_dim): an array, a tensor on any device, or lists. They
                are rounded to the table's dtype.
            threads, max_memory, requests, sync: as in `bigin.fill`.

        Returns:
            The number of rows.

        Raises:
            InputError: something is no id of the table, or the rows do not fit; nothing was changed. Or another writer
                is at work.
            FillError: it could not be finished, and can be run again.

        Example:
            >>> table = bigin.EmbeddingTable.create("users.npy", 1000, 4, "normal", std=0.01, seed=3)
            >>> table.update([7, 5], [[1, 2, 3, 4], [5, 6, 7, 8]])
            2
            >>> table[5]
            array([5., 6., 7., 8.], dtype=float32)
        """
        with (
            default_modes(),
            self._writing(Limits.parse(threads, max_memory, requests=requests), FillOptions(sync=sync)) as job,
        ):
            numbers = parse_ids(ids, self.num_embeddings)
            number, values = parse_rows(rows, numbers, self.embedding_dim, self.dtype)
            job.update(number, values)
        return int(number.size)

    def export(self, path: str | Path, ids: Any = None) -> int:
        """Write rows to another file, a few megabytes at a time.

        Args:
            path: path of a new file: .npy for an array of shape (number of ids, embedding_dim) and the table's dtype
                (numpy reads bfloat16 and the 8-bit floats as opaque bytes); .csv for one line per row, which begins
                with the id.
            ids: integers from 0 to num_embeddings - 1, along one axis; by default all rows.

        Returns:
            The number of rows.

        Raises:
            InputError: the table does not have an id, or the path is not a new .npy or .csv file; nothing was written.

        Example:
            >>> table = bigin.EmbeddingTable.create("users.npy", 1000, 4, "normal", std=0.01, seed=3)
            >>> table.export("some.npy", [5, 7])
            2
            >>> np.array_equal(np.load("some.npy"), table[[5, 7]])
            True
        """
        numbers = range(self.num_embeddings) if ids is None else parse_ids(ids, self.num_embeddings)
        return export_rows(self._rows, numbers, Path(expand(path)))

    def verify(
        self,
        *,
        sample: float = 1.0,
        sample_seed: int = 0,
        threads: int | None = None,
        max_memory: int | str | None = None,
        requests: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> TableVerification:
        """Compute all rows again and compare them with the stored ones, bit for bit.

        Args:
            sample: the fraction of the chunks that is compared, above 0 and up to 1; adjacent chunks count as one.
            sample_seed, threads, max_memory, requests, progress: as in `bigin.verify`.

        Returns:
            A verification with the regions that differ; its `changed` has the rows that differ.

        Raises:
            InputError: an argument is invalid.
        """
        chosen, limits = Sample(sample, sample_seed), Limits.parse(threads, max_memory, requests=requests)
        check_progress(progress)
        with self._comparing(limits) as job:
            return verification(job, compare_rows(job, chosen, progress), job.spec.record() | {"complete": True})

    def stats(
        self,
        *,
        sample: float = 1.0,
        sample_seed: int = 0,
        threads: int | None = None,
        max_memory: int | str | None = None,
        requests: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> TableStatistics:
        """Count the rows that differ from their initial values.

        Args:
            sample, sample_seed, threads, max_memory, requests, progress: as in `verify`. A sample has two
                chunks or more.

        Returns:
            The number of rows that were compared and of those that differ; for a sample also the standard error.

        Raises:
            InputError: an argument is invalid.

        Example:
            >>> table = bigin.EmbeddingTable.create("users.npy", 1000, 4, "normal", std=0.01, seed=3)
            >>> table.update(np.arange(110), np.zeros((110, 4)))
            110
            >>> print(table.stats())
            users.npy: 11% of rows trained (110 of 1,000)
        """
        chosen, limits = Sample(sample, sample_seed), Limits.parse(threads, max_memory, requests=requests)
        check_progress(progress)
        with self._comparing(limits) as job:
            return statistics(job, compare_rows(job, chosen, progress, least=TWO))

    @contextmanager
    def _comparing(self, limits: Limits) -> Iterator[Job]:
        """The table as it is now, also a truncated one, with its initial values."""
        held = self.specification
        what = What(held.method, held.parameters, held.seed, held.name, padding_idx=held.padding_idx)
        where = what.where(as_it_is_now(self._path), None, damaged=True)
        with existing(where, "verify") as (opened, retries):
            yield Job(what.spec(opened), opened, limits, retries)

    def torch(self, mode: str = "r") -> Any:
        """Return the table as a torch tensor that is mapped into memory, without a copy.

        Args:
            mode: "r" or "r+", as in `bigin.torch.open`.

        Returns:
            The tensor.

        Raises:
            InputError: the layout cannot be mapped.
        """
        import bigin

        return bigin.torch.open(self._path, mode)

    @contextmanager
    def _writing(self, limits: Limits, options: FillOptions) -> Iterator[TableJob]:
        """The table as it is now, locked until the last thread is done."""
        held = self._rows.target
        jobs: list[TableJob] = []

        def end() -> None:
            try:
                for job in jobs:
                    job.take_back()
            finally:
                held.close()

        assert held.ledger is not None
        held.ledger.lock()
        try:
            self._load()
            jobs.append(TableJob(self._rows, self.specification, limits, options))
            yield jobs[0]
        finally:
            after_stragglers(end)

    def close(self) -> None:
        """Close the files of the table."""
        self._rows.target.close()

    def __enter__(self) -> EmbeddingTable:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def count(what: str, value: Any, least: int) -> int:
    """An integer that is not below `least`."""
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < least:
        raise InputError(f"expected {what} to be an integer of {least} or more, got {value!r}")
    return int(value.__index__())
