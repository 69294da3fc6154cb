"""Parts of plans that read a target: what differs in each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bigin.core.limits import Limits
from bigin.jobs.compare import BUFFERS, Difference, Sample, compare
from bigin.jobs.plans.opening import check_grid
from bigin.jobs.plans.plan import WorkPlan
from bigin.jobs.plans.preparation import filler_of
from bigin.jobs.retries import Retries
from bigin.jobs.run import Progress, set_up
from bigin.jobs.workers import tell_sizes, workers_within
from bigin.targets.target import Target


def sample_of(plan: WorkPlan) -> Sequence[int]:
    """The regions that all parts read."""
    return Sample(plan.given["sample"], plan.given["sample_seed"]).of(plan.regions)


def sampled(plan: WorkPlan, part: int) -> Sequence[int]:
    """The regions of the sample that a part reads."""
    chosen = sample_of(plan)
    return chosen[len(chosen) * part // plan.parts : len(chosen) * (part + 1) // plan.parts]


def compare_part(
    plan: WorkPlan, target: Target, part: int, limits: Limits, retries: Retries, progress: Progress
) -> tuple[int, list[dict[str, Any]]]:
    """Compares the regions of a part with their values made again: the bytes, and what differs."""
    filler = filler_of(plan)
    tell_sizes(target, filler)
    workers = workers_within(target, filler, limits, BUFFERS)
    grid, tasks = check_grid(plan, target, filler.region_bytes), sampled(plan, part)
    set_up(target, filler, workers, limits, None)
    total = sum(target.bytes_of(grid[task]) for task in tasks)
    differences = compare(target, filler, grid, tasks, workers, retries, lambda size: progress(size, total))
    return total, [asdict(difference) for difference in differences]


def difference_of(held: dict[str, Any]) -> Difference:
    """A difference from a marker."""
    return Difference(**(held | {"first": tuple(held["first"])}))
