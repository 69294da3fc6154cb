"""A table in its target: what its record says, rows that are added and rows that are reset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from bigin.core.errors import FillError, InputError, Interrupted, NotFoundError, RecordError, Terminated
from bigin.core.handlers import let_through
from bigin.core.limits import Limits
from bigin.core.record import Record
from bigin.core.regions import Shape
from bigin.core.text import counted, parse_shape
from bigin.fillers.families import family
from bigin.fillers.filler import Array
from bigin.fillers.rows import KeptFiller, ResetFiller, UpdateFiller, initial_rows
from bigin.jobs.job import FillOptions
from bigin.jobs.retries import Retries, explain
from bigin.jobs.run import fill_regions
from bigin.jobs.workers import workers_within
from bigin.methods.distributions import Distribution
from bigin.spec.tensor import TensorSpec
from bigin.targets.memory import numbers_of
from bigin.targets.paths import local_path
from bigin.targets.rows import Rows
from bigin.targets.tables import open_rows
from bigin.targets.target import record_of

GROWING = "growing"  # the record's note of a grow that has begun, and may have been killed
PLAN = "plan"  # in that note: the fingerprint of the plan that grows the table in parts
BATCH = 1 << 20  # elements of rows that are made at once


def open_table(place: Any) -> tuple[Rows, TensorSpec]:
    """The rows of a table and what decides their initial values; raises InputError where there is no table."""
    if (path := local_path(place)) is not None and not path.exists():
        raise NotFoundError(f"{place}: expected a table, got nothing; make it with `bigin table create`")
    rows = open_rows(place)
    return rows, _table_spec(rows)


def _table_spec(rows: Rows) -> TensorSpec:
    """What the record of a table says of its initial values; raises RecordError."""
    target, record = rows.target, record_of(rows.target)
    if record is None:
        raise RecordError(
            f"{target.label}: expected a table that bigin has filled, got one without a record; make it with "
            "`bigin table create` (EmbeddingTable.create), or fill it"
        )
    if record.get("complete") is not True:
        raise RecordError(
            f"{target.label}: expected a complete table, got one that is partly filled; rerun the command that makes "
            "it, which continues where it stopped"
        )
    if "region" in record:
        raise RecordError(f"{target.label}: expected a whole table, got a region of shape {record.get('shape')}")
    spec = TensorSpec.from_record(record)
    if grows_to(record) == target.shape[0]:  # killed when the array had its new shape, and the record not yet
        spec = replace(spec, shape=(target.shape[0], *spec.shape[1:]))
    for what, expected, got in (("shape", spec.shape, target.shape), ("dtype", spec.dtype, target.dtype)):
        if expected != got:
            raise RecordError(
                f"{target.label}: expected {what} {expected}, which its record says, got {got}; fill it again"
            )
    return spec


def grows_to(record: Record) -> int | None:
    """The number of rows that a grow that was begun will make, according to the record."""
    note = record.get(GROWING)
    rows = note.get("to") if isinstance(note, dict) else None
    return rows if isinstance(rows, int) else None


def settled_record(record: Record, shape: Shape) -> Record:
    """The record of a table that is not being grown, with a shape."""
    return {key: value for key, value in record.items() if key != GROWING} | {"shape": list(shape)}


def planned_growth(label: str, note: Mapping[str, Any], rows: int) -> str:
    """What is wrong where a table is being grown by a plan."""
    return (
        f"{label}: expected a table that no plan grows, got one that plan {note[PLAN]} grows to {note.get('to')}; "
        f"finish that plan, or give it up with `bigin table grow` to the {counted(rows, 'row')} that the table has"
    )


def larger(spec: TensorSpec, rows: int, label: str) -> TensorSpec:
    """The specification of a table of another number of rows, if that changes none of the rows that both have."""
    wanted = replace(spec, shape=parse_shape((rows, *spec.shape[1:])))
    if why := obstacle(spec, rows):
        raise InputError(
            f"{label}: expected a method whose values do not depend on the number of rows, {why}; make a new table"
        )
    return wanted


def obstacle(spec: TensorSpec, rows: int) -> str:
    """Why a table with another number of rows would have other values in this one's rows; empty if it would not."""
    if rows == spec.shape[0]:
        return ""
    old, new = (resolved(spec, max(1, n)) for n in (spec.shape[0], rows))
    if family(new).grows(old, new):
        return ""
    if old == new:
        return f"got {spec.method}, where every value depends on all rows"
    return f"got {spec.method}: {old} for {spec.shape[0]} rows would be {new} for {rows}"


def resolved(spec: TensorSpec, rows: int) -> Distribution:
    """What the method resolves to for a table of so many rows."""
    return replace(spec, shape=(rows, *spec.shape[1:])).distribution


class TableJob:
    """A table that is being written: its rows, what decides them, limits and options, opened together."""

    def __init__(self, rows: Rows, spec: TensorSpec, limits: Limits, options: FillOptions) -> None:
        self.rows = rows
        self.spec = spec
        self.limits = limits
        self.options = options
        self._undo: list[Callable[[], None]] = []  # functions that undo a grow that was not finished

    def take_back(self) -> None:
        """Undoes a grow that was not finished, once none of its threads is running.

        A grow that was not taken back is as one that was killed.
        """
        with suppress(Exception):  # the first error is the one to report
            for step in reversed(self._undo):
                step()

    def grow(self, number: int) -> Record:
        """Adds rows up to the given number; returns the new record."""
        rows, target, record = self.rows, self.rows.target, record_of(self.rows.target)
        assert record is not None
        old = target.shape[0]
        if number < old:
            raise InputError(f"{target.label}: expected {old} rows or more, got {number}; a table does not shrink")
        wanted = larger(self.spec, number, target.label)
        note = record.get(GROWING)
        if number > old and isinstance(note, dict) and PLAN in note:
            raise InputError(planned_growth(target.label, note, old))
        settled = settled_record(record, target.shape)
        retries = Retries(remote=target.remote)
        if GROWING in record:  # a grow was killed
            retries.attempt(lambda: rows.discard(grows_to(record) or old))
            retries.attempt(lambda: rows.keep(settled))
        if number == old:
            return settled
        filler = KeptFiller(wanted.plan()(), old, rows.read, target.block_memory())
        workers = workers_within(target, filler, self.limits)
        grown, regions = rows.grown(number)
        grown.sync = self.options.sync
        final = settled_record(record, filler.shape)
        left = "the table is as it was"
        try:
            self._undo += [lambda: rows.keep(settled), lambda: rows.discard(number), grown.close]
            retries.attempt(lambda: rows.keep(settled | {GROWING: {"to": number}}))
            rows.reserve(grown)
            fill_regions(grown, filler, regions, workers, retries, self.options.progress)
            if self.options.sync:
                rows.sync(regions)
            self._undo[:] = [grown.close]
            left = "the table is as it was, or grown"
            retries.attempt(lambda: rows.commit(number, final, sync=self.options.sync))
        except BaseException as error:
            raise _stopped(error, f"{target.label}: the grow", left) from None
        grown.close()
        self._undo.clear()
        return final

    def reset(self, ids: Array) -> None:
        """Gives rows (sorted, distinct) their initial values again."""
        filler = self.spec.plan()()
        replaced = ResetFiller(filler, ids, self.rows.read, self.rows.target.block_memory())
        self._replace(replaced, lambda part: initial_rows(filler, ids[part], self.rows.target.dtype), "reset")

    def update(self, ids: Array, values: Array) -> None:
        """Gives rows (sorted, distinct) other values, of the table's dtype."""
        replaced = UpdateFiller(self.spec.plan()(), ids, values, self.rows.read, self.rows.target.block_memory())
        self._replace(replaced, lambda part: values[part], "update")

    def _replace(self, replaced: ResetFiller, values: Callable[[slice], Array], what: str) -> None:
        """Writes rows: in place where the layout allows, and else with the others of their chunks.

        A writer that is killed leaves rows with their old or their new values, and can do all of it again.
        """
        rows, target, ids = self.rows, self.rows.target, replaced.ids
        workers = workers_within(target, replaced, self.limits)
        step = max(1, BATCH // max(1, target.shape[1]))
        left = [ids[:0]]
        try:
            for start in range(0, ids.size, step):
                part = slice(start, start + step)
                left.append(rows.scatter(ids[part], values(part)))
            regions = rows.holders(np.concatenate(left))
            fill_regions(target, replaced, regions, workers, Retries(remote=target.remote))
            if self.options.sync:
                rows.sync(rows.holders(ids))
        except BaseException as error:
            raise _stopped(error, f"{target.label}: the {what}", "some rows may be as they were") from None


def _stopped(error: BaseException, label: str, left: str) -> BaseException:
    """What stopped a writer, as the command line says it."""
    if isinstance(error, KeyboardInterrupt):
        kind = Terminated if isinstance(error, Terminated) else Interrupted
        return kind(f"{label} was {'terminated' if kind is Terminated else 'interrupted'}; {left}")
    if isinstance(error, InputError | FillError) or not isinstance(error, Exception):
        return error
    let_through(error)
    return FillError(explain(error, f"{label} failed and {left}"))


def parse_ids(ids: Any, rows: int) -> Array:
    """Row numbers of any shape as int64; raises InputError, which names the first that is none of the table's."""
    try:
        numbers = np.asarray(ids)
    except ValueError:
        raise InputError("expected an array of ids, got lists of different lengths") from None
    if numbers.size == 0:
        return np.zeros(numbers.shape, np.int64)
    if numbers.dtype == object and all(isinstance(each, int) for each in numbers.flat):
        raise InputError(f"expected ids below 2^63, got {max(numbers.flat, key=abs)}")
    if numbers.dtype.kind not in "iu":
        raise InputError(f"expected ids that are integers, got {numbers.dtype}")
    wrong = (numbers < 0) | (numbers >= rows)
    if wrong.any():
        first = int(wrong.argmax())
        which = f"ids from 0 to {rows - 1}" if rows else "no ids, as the table has no rows yet"
        raise InputError(f"expected {which}, got {numbers.reshape(-1)[first]} at index {first}")
    return numbers.astype(np.int64)


def parse_rows(rows: Any, ids: Array, columns: int, dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Rows as a table holds them, with their numbers (distinct, of any shape), sorted by these; raises InputError."""
    values = numbers_of(rows)
    if values.shape != (*ids.shape, columns):
        raise InputError(f"expected rows of shape {(*ids.shape, columns)}, one for each id, got {values.shape}")
    order = np.argsort(ids.reshape(-1), kind="stable")
    ids = ids.reshape(-1)[order]
    twice = ids[1:][ids[1:] == ids[:-1]]
    if twice.size:
        raise InputError(f"expected each id once, got {twice[0]} more than once; give one row for each id")
    values = values.reshape(ids.size, columns)
    if not (order[1:] > order[:-1]).all():
        values = values[order]
    with np.errstate(over="ignore"):
        return ids, np.ascontiguousarray(values.astype(dtype, copy=False))
