"""Embedding tables on disk: made, grown, read by ids, and reset, row by row."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import ExistsError, InputError
from bigin.core.floats import default_modes
from bigin.core.html import card
from bigin.core.limits import Limits
from bigin.core.paths import expand
from bigin.core.text import counted, size_text
from bigin.core.threads import after_stragglers
from bigin.jobs.compare import Verification
from bigin.jobs.grow import TableJob, open_table, parse_ids
from bigin.jobs.job import FillOptions, Job
from bigin.jobs.report import Report
from bigin.jobs.resume import values
from bigin.jobs.what import What
from bigin.targets.tables import as_it_is_now, new_table, recorded_table
from bigin.targets.target import record_of

ATTEMPTS = 5  # at opening a table, which another process may be growing just then
PAUSE = 0.01  # seconds between two of them


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

    Example:
        >>> table = bigin.EmbeddingTable.create("users.npy", 1000, 64, "normal", std=0.01, seed=3)
        >>> table.grow(1500).nbytes
        128000
        >>> table.rows([5, 7, 5]).shape
        (3, 64)
        >>> table.reset([5, 7, 5])
        2
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
        """Make a table with its initial values.

        What the same call has begun and not finished continues, and a table that it has finished is opened as it is.

        Args:
            path: of a new .npy file, or a path or URL where a new zarr array is made.
            num_embeddings: the number of rows; 0 is a table that is still to grow.
            embedding_dim: elements in a row.
            padding_idx: the row that is zeros, as in torch.nn.Embedding; negative ones count from the end. Growing does
                not move it.
            chunks, shards: rows in a chunk and in a shard of the zarr array. By default chunks of 16 MiB, however few
                rows there are yet, and no shards.
            method, dtype, seed, name, threads, max_memory, requests, sync, progress, **parameters: as in `bigin.fill`.

        Returns:
            The table.

        Raises:
            InputError: something is wrong with what was asked for; nothing was made.
            ExistsError: there is something else at the path.
            FillError: the table could not be finished.

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
                    raise ExistsError(f"{path}: expected nothing there, got another table that is half made; remove it")
                report = Job(spec, target, limits).fill(options)
            finally:
                target.close()
        table = cls(path)
        table.report = report
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
        requests: int | None = None,
        sync: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Add rows, with the values that a table of that size would have had from the start. Others stay as they are.

        Killed at any moment, it leaves the table as it was (or grown), and can be run again.

        Args:
            num_embeddings: the number of rows in the end, not below what there is.
            threads, max_memory, requests, sync, progress: as in `bigin.fill`.

        Returns:
            What was done: the bytes of the new rows, the seconds, and the record.

        Raises:
            InputError: the method's values depend on the number of rows, or something else is wrong with what was asked
                for; nothing was changed. Or another writer is at work.
            FillError, OSError: it could not be finished; the table is as it was.
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
        """Bring rows back to their initial values.

        In a compressed chunk the other rows are read and written again, so no other program may write them meanwhile.

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

    def verify(
        self,
        *,
        sample: float = 1.0,
        sample_seed: int = 0,
        threads: int | None = None,
        max_memory: int | str | None = None,
        requests: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Verification:
        """Make all rows again and compare them with what the table holds, bit for bit.

        Args:
            sample, sample_seed, threads, max_memory, requests, progress: as in `bigin.verify`.

        Returns:
            Which regions hold rows that were changed.

        Raises:
            InputError: an argument is invalid.
        """
        from bigin.api.verifying import verify

        what = self.specification
        return verify(
            as_it_is_now(self._path),
            what.method,
            seed=what.seed,
            name=what.name,
            padding_idx=what.padding_idx,
            sample=sample,
            sample_seed=sample_seed,
            threads=threads,
            max_memory=max_memory,
            requests=requests,
            progress=progress,
            **what.parameters,
        )

    def torch(self, mode: str = "r") -> Any:
        """The table as a torch tensor that is mapped into memory, without a copy.

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
        """The table as it is now, with all other writers kept away until the last thread is done."""
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
        """Gives back what is open."""
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
