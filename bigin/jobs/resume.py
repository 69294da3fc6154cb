"""What to do with a target that an earlier fill has begun."""

from __future__ import annotations

import hashlib
import json
import random

from bigin.core.errors import InputError
from bigin.core.regions import Grid
from bigin.fillers.filler import Filler
from bigin.jobs.compare import compare
from bigin.jobs.journal import done_regions
from bigin.jobs.retries import Retries
from bigin.jobs.run import Plan
from bigin.spec.record import specification_of
from bigin.targets.records import Record
from bigin.targets.target import Target

# What a record says beyond the values: the fill goes on if these alone are other than before.
ASIDE = ("complete", "name_from", "bigin")
SPOTS = 8  # regions that must be as the journal says, if it is to be believed


def state_of(target: Target, record: Record, overwrite: bool) -> str:
    """Whether the fill that the record describes is to begin ("new"), to go on ("begun"), or is "done" already.

    Raises InputError where the target holds something else, which only `overwrite` may replace.
    """
    if target.ledger is None:
        return "new"
    held = target.ledger.record()
    if overwrite or held is None:
        if not overwrite and target.holds_data():
            raise InputError(f"{target.label} already holds data; --overwrite (overwrite=True) fills it anew")
        return "new"
    if values(held) == values(record):
        if held.get("complete") is True and target.holds_data():
            if not target.whole():
                raise InputError(
                    f"{target.label} {describe(held, record)}, but some of it is missing; `bigin verify --repair` "
                    "mends it"
                )
            return "done"
        return "begun" if held.get("complete") is False else "new"
    if target.holds_data():
        raise InputError(f"{target.label} {describe(held, record)}; --overwrite (overwrite=True) fills it anew")
    return "new"


def values(record: Record) -> Record:
    """What of a record decides the values."""
    return {key: value for key, value in record.items() if key not in ASIDE}


def identity(record: Record) -> str:
    """What tells one fill from another, in a few letters."""
    text = json.dumps(values(record), sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def describe(held: Record, wanted: Record) -> str:
    """What a target that must not be overwritten holds, beside what was asked for."""
    if not isinstance(held.get("method"), str):  # edited by hand, or damaged
        return "holds data under a record that cannot be used"
    if held.get("complete") is not False:
        return f"is filled with {held.get('method')}, seed {held.get('seed')}"
    return f"is half filled with {told(held)}, not with {told(wanted)}"


def told(record: Record) -> str:
    """A record in words."""
    part = f", region {record['region']}" if "region" in record else ""
    try:
        return f"{specification_of(record)}{part}"
    except InputError:  # edited by hand
        return f"{record.get('method')}, seed {record.get('seed')}{part}"


def plan_on(target: Target, filler: Filler, grid: Grid, fill: str, threads: int, retries: Retries) -> Plan:
    """What is left of a fill that was begun: what its journal does not say is done, and what is no longer whole."""
    start = retries.attempt(lambda: done_regions(target, grid, fill))
    unknown, again = [], []
    for number in range(start):
        intact = retries.attempt(lambda: target.intact(grid[number]))  # noqa: B023 (called at once)
        if intact is None:
            unknown.append(number)
        elif not intact:
            again.append(number)
    if not believed(target, filler, grid, start, {*unknown, *again}, threads, retries):
        assert target.ledger is not None
        target.ledger.forget()
        return Plan(grid, fill=fill)
    again += [difference.region for difference in compare(target, filler, grid, unknown, threads, retries)]
    return Plan(grid, start, sorted(again), fill)


def believed(
    target: Target, filler: Filler, grid: Grid, start: int, known: set[int], threads: int, retries: Retries
) -> bool:
    """Whether the journal speaks of this data: of the regions that it says are done the first, the last and some
    others are compared. The file may have been written anew in its place, and then all of it is to be filled.
    """
    others = random.Random(start).sample(range(start), min(start, SPOTS - 2))
    spots = sorted({*others, *range(min(start, 1)), *range(max(0, start - 1), start)} - known)
    return not compare(target, filler, grid, spots, threads, retries)
