"""What a fill would do, and how long it would take by a rate that is measured where the target lies."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bigin.core.limits import Limits
from bigin.core.regions import Grid, Shape
from bigin.fillers.filler import Filler
from bigin.jobs.parts import PARTS
from bigin.jobs.resume import state_of
from bigin.jobs.retries import Retries
from bigin.jobs.run import fill_regions
from bigin.jobs.what import What
from bigin.jobs.workers import Workers, worker_memory, workers_within
from bigin.spec.spec import Spec
from bigin.spec.tensor import TensorSpec
from bigin.targets.files import FileTarget
from bigin.targets.target import Target

TRIAL = 256 << 20  # bytes that are written to measure a rate, or one chunk
BATCH = 16 << 20  # bytes of a region at least
LONGEST = 2.0  # seconds after which the measurement ends
ACTIONS = {"new": "fill", "begun": "continue", "done": "nothing"}


@dataclass(frozen=True)
class Preview:
    """What a fill would do.

    Attributes:
        target: the target's label.
        action: "fill", "continue" a fill that was begun, or "nothing" where it is complete.
        values: what it would be filled with, in words.
        nbytes: bytes of values.
        regions: how many chunks, shards or stretches of a file are written.
        chunks, shards: their shapes, where the target has any.
        parts: into how many parts an executor would get it.
        threads: how many would work.
        memory: bytes of buffers that they take together.
        rate: bytes per second, measured by writing and removing some values where the target lies; None without.
        seconds: the time that the fill would take at that rate.
        prepares: whether the method prepares something first, whose time is not in that.
    """

    target: str
    action: str
    values: str
    nbytes: int
    regions: int
    chunks: Shape | None
    shards: Shape | None
    parts: int
    threads: int
    memory: int
    rate: float | None
    seconds: float | None
    prepares: bool

    def as_dict(self) -> dict[str, Any]:
        """The preview as `bigin fill --dry-run --json` prints it.

        Returns:
            A dict of what JSON can hold.
        """
        return dict(vars(self))


def preview(what: What, target: Target, limits: Limits, retries: Retries, *, overwrite: bool) -> Preview:
    """What the fill of a target would do; raises InputError where it would."""
    spec = what.spec(target)
    filler = spec.plan()()
    workers = workers_within(target, filler, limits)
    state = "new"
    if target.ledger is not None:
        target.ledger.lock()
        state = retries.attempt(lambda: state_of(target, spec.record(), overwrite=overwrite))
    grid = target.grid(filler.region_bytes)
    stand_in = plain(spec, target) if filler.needs_setup else filler
    rate = None if state == "done" or not target.nbytes else measured(target, stand_in, grid, workers, retries)
    chunks, shards = target.blocks or (None, None)
    return Preview(
        target=target.label,
        action=ACTIONS[state],
        values=str(spec),
        nbytes=target.nbytes,
        regions=len(grid),
        chunks=chunks,
        shards=shards,
        parts=min(PARTS, len(grid)),
        threads=min(workers.requests, len(grid)),
        memory=min(workers.requests, len(grid)) * worker_memory(target, filler),
        rate=rate,
        seconds=target.nbytes / rate if rate else None,
        prepares=filler.needs_setup,
    )


def plain(spec: Spec, target: Target) -> Filler:
    """A filler of independent draws that takes the place of one with a preparation."""
    return TensorSpec.parse("normal", {}, 0, "", target.shape, target.dtype).plan()()


def measured(target: Target, filler: Filler, grid: Grid, workers: Workers, retries: Retries) -> float | None:
    """Bytes per second at which values reach the disk or the store beside the target; None where that has no place."""
    with trial(target) as other:
        if other is None:
            return None
        step = max(1, BATCH // max(1, other.bytes_of(grid[0])), workers.requests)
        size, count, start = 0, 0, time.perf_counter()
        while count < len(grid) and size < TRIAL and time.perf_counter() - start < LONGEST:
            regions = [grid[number] for number in range(count, min(count + step, len(grid)))]
            fill_regions(other, filler, regions, workers, retries)
            other.settle(regions)
            size, count = size + sum(map(other.bytes_of, regions)), count + len(regions)
        return size / (time.perf_counter() - start)


@contextmanager
def trial(target: Target) -> Iterator[Target | None]:
    """A target of the same layout beside another one, which is removed again; None for an array in memory."""
    if isinstance(target, FileTarget):
        other = target.beside()
        try:
            yield other
        finally:
            other.close()
            other.path.unlink(missing_ok=True)
    elif target.blocks is not None and target.ledger is not None:
        from bigin.targets.zarr.trial import trial_array

        with trial_array(target) as array:
            yield array
    else:
        yield None
