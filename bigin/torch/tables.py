"""Embedding tables on disk, loaded into the parameters of a model and saved from them, whole or in parts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from bigin.api.tables import EmbeddingTable
from bigin.core import dtypes
from bigin.core.errors import InputError, LockedError
from bigin.core.limits import Limits
from bigin.jobs.grow import parse_rows
from bigin.jobs.job import FillOptions
from bigin.targets.memory import numbers_of
from bigin.torch.distributed import is_distributed, local_parts
from bigin.torch.files import tensor_of
from bigin.torch.modules import Member, members, parse

BLOCK = 16 << 20  # bytes of rows that are read or written at once
TURN = 0.05  # seconds between two looks at whether another process has finished writing

Tables = Mapping[str, Any]


def load_tables(module: Any, tables: Tables) -> list[str]:
    """Load rows of tables on disk into the parameters of a module, in place and a few megabytes at a time.

    Each rank reads only its own parts. The number of ranks and the sharding may differ from those at the time of
    saving.

    Args:
        module: a torch.nn.Module. Its parameters may be tensors, DTensors, or tables that TorchRec has sharded.
        tables: from patterns of parameters' names, such as "*.users.weight", to the path of a table, an EmbeddingTable,
            or whatever else EmbeddingTable.open takes. Values are rounded to the dtype of the parameter.

    Returns:
        The names of the parameters.

    Raises:
        InputError: a pattern matches no parameter, or more than one, or a table has another shape; nothing was changed.

    Example:
        >>> table = bigin.EmbeddingTable.create("users.npy", 1000, 8, "normal", std=0.01, seed=3)
        >>> model = torch.nn.ModuleDict({"users": torch.nn.EmbeddingBag(1000, 8)})
        >>> bigin.torch.load_tables(model, {"users.weight": "users.npy"})
        ['users.weight']
        >>> np.array_equal(model["users"].weight.detach(), table)
        True
    """
    pairs = matched(module, tables)
    with torch.no_grad():
        for member, table in pairs:
            for part, (rows, columns) in parts_of(member.tensor):
                for start, stop in stretches(rows, table):
                    values = table.rows(np.arange(start, stop))[:, columns]
                    part[start - rows.start : stop - rows.start].copy_(tensor_of(np.ascontiguousarray(values)))
    return [member.name for member, _ in pairs]


def save_tables(module: Any, tables: Tables, *, sync: bool = True, timeout: float = 600.0) -> list[str]:
    """Save the parameters of a module into tables on disk, in place and a few megabytes at a time.

    Each rank writes only its own parts; ranks that write the same table take turns. If a process is killed, each row
    has its old or its new values, as with EmbeddingTable.update.

    Args:
        module, tables: as in load_tables. The tables must exist. Values are rounded to the dtype of the table.
        sync: whether to wait until the rows are on the disk.
        timeout: seconds to wait for another writer of a table.

    Returns:
        The names of the parameters.

    Raises:
        InputError: as in load_tables, or another process was still writing after the timeout.
        FillError: a table could not be written.

    Example:
        >>> table = bigin.EmbeddingTable.create("users.npy", 1000, 8, "normal", std=0.01, seed=3)
        >>> model = torch.nn.ModuleDict({"users": torch.nn.EmbeddingBag(1000, 8)})
        >>> bigin.torch.save_tables(model, {"users.weight": "users.npy"})
        ['users.weight']
        >>> print(table.stats())
        users.npy: 100% of rows trained (1,000 of 1,000)
    """
    pairs = matched(module, tables)
    for member, table in pairs:
        for part, (rows, columns) in parts_of(member.tensor):
            with writing(table, FillOptions(sync=sync), timeout) as job:
                for start, stop in stretches(rows, table):
                    ids, given = np.arange(start, stop), part[start - rows.start : stop - rows.start]
                    if given.shape[1] < table.embedding_dim:  # the columns of other shards stay as they are
                        whole = table.rows(ids)
                        whole[:, columns] = numbers_of(given).astype(table.dtype, copy=False)
                        given = whole
                    job.update(*parse_rows(given, ids, table.embedding_dim, table.dtype))
    return [member.name for member, _ in pairs]


def matched(module: Any, tables: Tables) -> list[tuple[Member, EmbeddingTable]]:
    """The parameters that patterns match, each with its table, checked; raises InputError."""
    if not isinstance(tables, Mapping):
        raise InputError(f"expected tables as a mapping from names of parameters to paths, got {tables!r}")
    every, pairs = [member for member in members(module) if not member.is_buffer], []
    for pattern, place in tables.items():
        found = [member for member in every if parse(pattern).match(member.name) is not None]
        if len(found) != 1:
            names = ", ".join(member.name for member in (found or every)[:10])
            what = f"{len(found)}: {names}" if found else f"none; there are {names}"
            raise InputError(f"expected {pattern!r} to match one parameter, got {what}")
        table = place if isinstance(place, EmbeddingTable) else EmbeddingTable.open(place)
        if tuple(found[0].tensor.shape) != table.shape:
            raise InputError(
                f"{table.label}: expected a table of shape {tuple(found[0].tensor.shape)} for {found[0].name}, got "
                f"{table.shape}"
            )
        dtypes.parse_dtype(found[0].tensor.dtype)
        pairs.append((found[0], table))
    return pairs


def parts_of(tensor: Any) -> list[tuple[Any, tuple[slice, slice]]]:
    """What of a table lies here: (part, its rows and columns)."""
    if is_distributed(tensor):
        return local_parts(tensor)  # type: ignore[return-value]
    rows, columns = tensor.shape
    return [(tensor.detach(), (slice(0, rows), slice(0, columns)))]


def stretches(rows: slice, table: EmbeddingTable) -> Iterator[tuple[int, int]]:
    """Rows in stretches that fit in memory."""
    step = max(1, BLOCK // (table.embedding_dim * table.dtype.itemsize))
    for start in range(rows.start, rows.stop, step):
        yield start, min(start + step, rows.stop)


@contextmanager
def writing(table: EmbeddingTable, options: FillOptions, timeout: float) -> Iterator[Any]:
    """A table that only this process writes, once others have finished; raises LockedError after the timeout."""
    end = time.monotonic() + timeout
    with ExitStack() as stack:
        while True:
            try:
                job = stack.enter_context(table._writing(Limits.parse(None, None), options))
                break
            except LockedError:
                if time.monotonic() >= end:
                    raise
                time.sleep(TURN)
        yield job
