"""Parts of a plan that reads a target for its statistics, and what they say together: the numbers of one process."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigin.core.errors import DamagedError
from bigin.core.limits import Limits
from bigin.core.regions import Grid
from bigin.jobs.measure import (
    Collected,
    Numbered,
    Patterns,
    Span,
    Statistics,
    Values,
    collector,
    compile_for,
    count_regions,
)
from bigin.jobs.plans.opening import check_grid
from bigin.jobs.plans.plan import WorkPlan
from bigin.jobs.plans.reading import sampled
from bigin.jobs.reading import REGION, readers_within
from bigin.jobs.retries import Retries
from bigin.jobs.run import Progress
from bigin.methods.marginals import Bins
from bigin.targets.target import Target


@dataclass(frozen=True)
class Measured:
    """What the parts of a plan have measured, and from when to when."""

    statistics: Statistics
    seconds: float
    regions: int


def bins_of(target: Target, grid: Grid, tasks: Any, expected: Span | None) -> list[float] | None:
    """The bins of all parts, chosen once from what the target holds; None where every pattern is counted."""
    chosen = collector(target, grid, tasks, expected)
    return [chosen.bins.low, chosen.bins.high, chosen.bins.count] if isinstance(chosen, Values) else None


def empty(plan: WorkPlan, target: Target) -> Collected[Any]:
    """What a part counts in."""
    bins = plan.given["bins"]
    return Patterns(target.dtype) if bins is None else Values(target.dtype, Bins(bins[0], bins[1], int(bins[2])))


def key_of(part: int) -> str:
    """The key of what a part has counted. It is no part of the marker, which is to stay small."""
    return f"statistics/{part // 1000:06d}/{part}"


def measure_part(
    plan: WorkPlan, target: Target, part: int, limits: Limits, retries: Retries, progress: Progress
) -> int:
    """Counts the values of a part's regions, and keeps what was counted; returns their bytes."""
    grid, tasks = check_grid(plan, target, REGION), sampled(plan, part)
    workers = readers_within(target, grid, limits)
    compile_for(target.dtype)
    collected = empty(plan, target)
    if isinstance(collected, Values):
        collected.apart = []  # moments are joined in the order of all regions, as one process does it
    total = sum(target.bytes_of(grid[task]) for task in tasks)
    count_regions(
        collected, target, Numbered(grid, tasks), workers, retries, lambda size: progress(min(size, total), total)
    )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **collected.state())  # type: ignore[arg-type]
    retries.attempt(lambda: plan.notes.put(key_of(part), buffer.getvalue()))
    return total


def statistics_of_parts(plan: WorkPlan, target: Target, retries: Retries) -> Statistics:
    """What all parts have counted, joined in their order."""
    collected = empty(plan, target)
    for part in range(plan.parts):
        data = retries.attempt(lambda: plan.notes.get(key_of(part)))  # noqa: B023 (called at once)
        collected.merge(_state(plan, part, data))
    span = plan.given["span"]
    return collected.statistics(None if span is None else (span[0], span[1]))


def _state(plan: WorkPlan, part: int, data: bytes | None) -> Mapping[str, Any]:
    try:
        with np.load(io.BytesIO(data or b""), allow_pickle=False) as held:
            return dict(held)
    except Exception:  # numpy raises errors of many kinds
        raise DamagedError(
            f"{plan.ledger}: expected the counts of part {part}, got nothing or damaged data; run `bigin work` with "
            f"--again --part {part}"
        ) from None
