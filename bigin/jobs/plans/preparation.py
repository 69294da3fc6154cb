"""What is prepared once for all parts of a plan, in parts of its own."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from bigin.core.limits import Limits
from bigin.fillers.filler import Filler, Report
from bigin.fillers.model import ModelFiller
from bigin.jobs.plans.plan import WorkPlan
from bigin.jobs.workers import Workers, worker_memory
from bigin.methods.distributions import Orthogonal
from bigin.spec.record import spec_of
from bigin.spec.spec import Spec
from bigin.spec.tensor import TensorSpec
from bigin.targets.target import Target

KEPT = 2  # fillers that a process keeps for its next parts


def rounds_of(spec: Spec, parts: int) -> dict[str, int]:
    """The rounds of preparation that a fill in so many parts has, each with its number of parts."""
    if parts < 2 or not isinstance(spec, TensorSpec) or not isinstance(spec.distribution, Orthogonal):
        return {}
    from bigin.fillers.orthogonal_parts import counts

    rows, columns = spec.distribution.matrix(spec.shape)
    return counts(max(rows, columns), min(rows, columns), parts) if rows and columns else {}


_lock = threading.Lock()
_ready: OrderedDict[tuple[str, int, int], Filler] = OrderedDict()


def filler_of(plan: WorkPlan) -> Filler:
    """What makes the values of a plan; nothing is prepared."""
    return spec_of(plan.record).plan()()


def prepared(plan: WorkPlan, target: Target, filler: Filler, workers: Workers, limits: Limits) -> Filler:
    """The filler of a plan, ready to fill; one that needed a preparation is kept for the next parts of this process."""
    if not filler.has_setup or isinstance(filler, ModelFiller):
        _set_up(plan, target, filler, workers, limits)
        return filler
    key = (plan.fingerprint, workers.requests, limits.memory)
    with _lock:
        if key not in _ready:
            while len(_ready) >= KEPT:
                _ready.popitem(last=False)
            _set_up(plan, target, filler, workers, limits)
            _ready[key] = filler
        _ready.move_to_end(key)
        return _ready[key]


def _set_up(plan: WorkPlan, target: Target, filler: Filler, workers: Workers, limits: Limits) -> None:
    left = limits.memory - workers.requests * worker_memory(target, filler)
    if plan.rounds:
        from bigin.fillers.orthogonal_parts import Preparation, reflections_of

        Preparation(reflections_of(filler), plan.notes, plan.rounds["gram"]).load(workers.cores, left)
    elif filler.has_setup:
        filler.setup(workers.cores, left, lambda part: None)


def prepare_part(plan: WorkPlan, which: str, part: int, limits: Limits, report: Report) -> None:
    """Does a part of a round of preparation."""
    from bigin.fillers.orthogonal_parts import Preparation, reflections_of

    preparation = Preparation(reflections_of(filler_of(plan)), plan.notes, plan.rounds["gram"])
    do: dict[str, Callable[[], None]] = {
        "gram": lambda: preparation.gram(part, limits.threads, report),
        "triangle": lambda: preparation.triangle(
            range(part, preparation.layout.count, plan.rounds["triangle"]), limits.threads, limits.memory, report
        ),
    }
    do[which]()
