"""Parts of plans that add rows to a table."""

from __future__ import annotations

from bigin.core.limits import Limits
from bigin.jobs.plans.plan import WorkPlan
from bigin.jobs.retries import Retries
from bigin.jobs.run import Progress
from bigin.targets.target import Target


def grow_part(plan: WorkPlan, target: Target, part: int, limits: Limits, retries: Retries, progress: Progress) -> int:
    """Fills the new rows of a part; returns their bytes."""
    raise NotImplementedError
