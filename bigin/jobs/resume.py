"""Whether and how a fill that was begun continues."""

from __future__ import annotations

import hashlib
import random
from dataclasses import replace

from bigin.core.collector import paused
from bigin.core.errors import ExistsError, InputError
from bigin.core.record import Record, text_of
from bigin.core.threads import map_threads
from bigin.fillers.filler import Filler
from bigin.jobs.compare import compare
from bigin.jobs.journal import done_regions
from bigin.jobs.retries import Retries
from bigin.jobs.run import Pending
from bigin.jobs.workers import Workers
from bigin.spec.record import spec_of
from bigin.targets.target import Target

# Keys of a record that do not affect the values: a fill continues even if they have changed.
ASIDE = ("complete", "name_from", "bigin", "plan")
SPOTS = 8  # regions that are compared before the journal is trusted


def state_of(target: Target, record: Record, *, overwrite: bool) -> str:
    """Whether the fill that the record describes is to begin ("new"), to continue ("begun"), or is "done" already.

    Raises InputError where the target holds something else, which only `overwrite` may replace.
    """
    held = target.ledger.record() if target.ledger is not None else None
    if overwrite or held is None:
        if not overwrite and target.holds_data():
            raise ExistsError(f"{target.label} already holds data; --overwrite (overwrite=True) replaces it")
        return "new"
    if values(held) == values(record):
        if held.get("complete") is True and target.holds_data():
            if not target.whole():
                raise InputError(
                    f"{target.label} {describe(held, record)}, but some of it is missing; `bigin verify --repair` "
                    "fills that again"
                )
            return "done"
        return "begun" if held.get("complete") is False else "new"
    if target.holds_data():
        raise ExistsError(f"{target.label} {describe(held, record)}; --overwrite (overwrite=True) replaces it")
    return "new"


def values(record: Record) -> Record:
    """What of a record decides the values."""
    return {key: value for key, value in record.items() if key not in ASIDE}


@paused()
def identity(record: Record) -> str:
    """What tells one fill from another, in a few letters."""
    text = text_of(values(record), sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def describe(held: Record, wanted: Record) -> str:
    """What a target that must not be overwritten holds, beside what was asked for."""
    if not isinstance(held.get("method"), str):  # edited by hand, or damaged
        return "holds data under a record that cannot be used"
    if held.get("complete") is not False:
        return f"is filled with {held.get('method')}, seed {held.get('seed')}"
    return f"is half filled with {in_words(held)}, not with {in_words(wanted)}"


def in_words(record: Record) -> str:
    """A record in words."""
    try:
        return str(spec_of(record))
    except InputError:  # edited by hand
        return f"{record.get('method')}, seed {record.get('seed')}"


def plan_on(target: Target, filler: Filler, whole: Pending, workers: Workers, retries: Retries) -> Pending:
    """What is left of a fill that was begun: what its journal does not say is done, and what is no longer intact."""
    grid = whole.grid
    left = retries.attempt(lambda: target.left(grid))
    if left is not None:
        return replace(whole, start=len(grid), again=left)
    start = retries.attempt(lambda: done_regions(target, grid, whole.fill))
    unknown, again = [], []
    looks = workers.requests if target.remote else 1
    held = map_threads(lambda number: retries.attempt(lambda: target.intact(grid[number])), range(start), looks)
    for number, intact in enumerate(held):
        if intact is None:
            unknown.append(number)
        elif not intact:
            again.append(number)
    spots = spots_of(start, {*unknown, *again})
    if compare(target, filler, grid, spots, workers, retries):
        assert target.ledger is not None
        target.ledger.forget()
        return whole
    again += [difference.region for difference in compare(target, filler, grid, unknown, workers, retries)]
    return replace(whole, start=start, again=sorted(again))


def spots_of(start: int, known: set[int]) -> list[int]:
    """Regions that are compared before the journal is trusted: the first, the last and some others.

    The file may have been rewritten under its name, and then all of it is to be filled.
    """
    others = random.Random(start).sample(range(start), min(start, SPOTS - 2))
    return sorted({*others, *range(min(start, 1)), *range(max(0, start - 1), start)} - known)
