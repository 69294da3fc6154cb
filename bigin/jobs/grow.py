"""A table in its target: what its record says, rows added and rows brought back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bigin.core.errors import FillError, InputError, Interrupted, Terminated
from bigin.core.text import parse_shape
from bigin.fillers.filler import Array, Filler
from bigin.fillers.rows import KeptFilled, ResetFilled, fill_regions, initial_rows
from bigin.jobs.retries import Retries, explain
from bigin.jobs.run import Progress, workers_within
from bigin.methods.distributions import Distribution, Orthogonal, Sparse
from bigin.spec.tensor import Specification
from bigin.targets.records import Record
from bigin.targets.rows import Rows
from bigin.targets.tables import open_rows
from bigin.targets.target import record_of

GROWING = "growing"  # the record's note of a grow that has begun, and may have been killed
BATCH = 1 << 20  # elements of rows that are made at once
Undo = list[Callable[[], None]]  # what takes back what was done, if it comes to no end


def open_table(place: Any) -> tuple[Rows, Specification]:
    """The rows at a place and what decides their initial values; raises InputError where there is no table."""
    if isinstance(place, str | os.PathLike) and "://" not in str(place) and not os.path.exists(place):
        raise InputError(f"{place}: expected a table, found nothing; make it with `bigin table create`")
    rows = open_rows(place)
    target, record = rows.target, record_of(rows.target)
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


def larger(specification: Specification, rows: int, label: str) -> Specification:
    """The specification of a table of another number of rows, if that changes none of the rows that both have."""
    wanted = replace(specification, shape=parse_shape((rows, *specification.shape[1:])))
    if rows == specification.shape[0]:
        return wanted
    old, new = (resolved(specification, max(1, n)) for n in (specification.shape[0], rows))
    if isinstance(new, Orthogonal | Sparse):
        why = f"got {specification.method}, where every value depends on all rows"
    elif old != new:
        why = f"got {specification.method}: {old} for {specification.shape[0]} rows would be {new} for {rows}"
    else:
        return wanted
    raise InputError(
        f"{label}: expected a method whose values do not depend on the number of rows, {why}; make a new table"
    )


def resolved(specification: Specification, rows: int) -> Distribution:
    """What the method resolves to for a table of so many rows."""
    return replace(specification, shape=(rows, *specification.shape[1:])).distribution


def add_rows(
    rows: Rows,
    filler: Filler,
    record: Record,
    undo: Undo,
    threads: int,
    max_memory: int,
    sync: bool,
    progress: Progress | None,
) -> Record:
    """Adds the rows that a larger table's filler has more; returns the new record.

    `undo` is to be called, the last first, when this raises and none of its threads is at work any longer. A grow
    that was not taken back is as one that was killed.
    """
    old, new = rows.target.shape[0], filler.shape[0]
    settled = {key: value for key, value in record.items() if key != GROWING} | {"shape": list(rows.target.shape)}
    retries = Retries(rows.target.remote)
    if GROWING in record:  # a grow was killed
        retries.attempt(lambda: rows.discard(grows_to(record) or old))
        retries.attempt(lambda: rows.keep(settled))
    if new == old:
        return settled
    filler = KeptFilled(filler, old, rows.read, rows.target.block_memory())
    workers = workers_within(rows.target, filler, threads, max_memory)
    target, regions = rows.grown(new)
    target.sync = sync
    final = settled | {"shape": list(filler.shape)}
    left = "the table is as it was"
    try:
        undo += [lambda: rows.keep(settled), lambda: rows.discard(new), target.close]
        retries.attempt(lambda: rows.keep(settled | {GROWING: {"to": new}}))
        rows.reserve(target)
        fill_regions(target, filler, regions, workers, retries, progress)
        if sync:
            rows.sync()
        undo[:] = [target.close]
        left = "the table is as it was, or grown"
        retries.attempt(lambda: rows.commit(new, final, sync))
    except BaseException as error:
        raise told(error, f"{rows.target.label}: the grow", left) from None
    target.close()
    undo.clear()
    return final


def reset_rows(rows: Rows, filler: Filler, ids: Array, threads: int, max_memory: int, sync: bool) -> None:
    """Brings rows (sorted, distinct) back to what the filler makes."""
    dtype = rows.target.dtype
    replaced = ResetFilled(filler, ids, rows.read, rows.target.block_memory())
    workers = workers_within(rows.target, replaced, threads, max_memory)
    step = max(1, BATCH // max(1, filler.shape[1]))
    left = [ids[:0]]
    try:
        for start in range(0, ids.size, step):
            part = ids[start : start + step]
            left.append(rows.scatter(part, initial_rows(filler, part, dtype)))
        retries = Retries(rows.target.remote)
        fill_regions(rows.target, replaced, rows.holders(np.concatenate(left)), workers, retries)
        if sync:
            rows.sync()
    except BaseException as error:
        raise told(error, f"{rows.target.label}: the reset", "some rows may be as they were") from None


def told(error: BaseException, label: str, left: str) -> BaseException:
    """What stopped a writer, as the command line says it."""
    if isinstance(error, KeyboardInterrupt):
        kind = Terminated if isinstance(error, Terminated) else Interrupted
        return kind(f"{label} was {'terminated' if kind is Terminated else 'interrupted'}; {left}")
    if isinstance(error, InputError | FillError) or not isinstance(error, Exception):
        return error
    return FillError(explain(error, f"{label} failed and {left}"))


def parse_ids(ids: Any, rows: int) -> Array:
    """Row numbers of any shape as int64; raises InputError, which names the first that is none of the table's."""
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
