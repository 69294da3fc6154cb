"""Making a plan: the target is checked, made where it is missing, and marked as being filled by the plan."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from bigin.core.errors import InputError
from bigin.core.paths import is_path
from bigin.core.record import Record
from bigin.core.threads import apart
from bigin.fillers.families import family
from bigin.jobs.plans.measuring import bins_of
from bigin.jobs.plans.opening import PLAN, other_plan
from bigin.jobs.plans.plan import KEY, WorkPlan, check_parts, grid_of
from bigin.jobs.plans.preparation import rounds_of
from bigin.jobs.reading import REGION
from bigin.jobs.resume import state_of
from bigin.jobs.retries import Retries
from bigin.jobs.where import as_fill_error
from bigin.jobs.workers import tell_sizes
from bigin.spec.spec import Spec
from bigin.spec.tensor import TensorSpec
from bigin.targets.model import ModelTarget
from bigin.targets.part_ledger import ledger_place
from bigin.targets.paths import check_path, local_path, split_names
from bigin.targets.target import Target, record_of


def layout_of(target: Target, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a process needs to open a target that is there: for a file without a name for it, shape and dtype."""
    if given.get("raw"):
        order = ">" if target.byte_order == ">" else ""
        dtype = order + target.dtype.str.lstrip("<>|=") if order else target.dtype.name
        return {"raw": True, "offset": given["offset"], "shape": list(target.shape), "dtype": dtype}
    return {}


def absolute(target: Any) -> str:
    """The path or URL of a target for another process; raises InputError for what only this one has."""
    if not is_path(target):
        raise InputError(
            f"expected the path or the URL of a target, which other processes open, got {type(target).__name__}"
        )
    check_path(target)
    path = local_path(target)
    return os.fsdecode(target) if path is None else os.path.abspath(path)


def place_of(target: str, label: str) -> Any:
    """Where the ledger of a plan of a target lies, by the plan's fingerprint."""
    path = local_path(target)
    if path is None:
        return lambda fingerprint: ledger_place(target, None, fingerprint)
    path = next(split for split, _ in split_names(target))
    if not path.is_file() and path.suffix not in (".npy", ".safetensors"):
        from bigin.targets.zarr.names import local_root

        path = local_root(path)[0]
    return lambda fingerprint: ledger_place(target, path, fingerprint)


def region_bytes(spec: Spec) -> int:
    """The least size of a region that is worth making at once, without compiling anything where that is known."""
    if isinstance(spec, TensorSpec):
        return family(spec.distribution).region_bytes
    return spec.plan()().region_bytes


def plan_fill(
    spec: Spec,
    target: Target,
    place: str,
    parts: Any,
    *,
    layout: Mapping[str, Any],
    model: Mapping[str, Any] | None = None,
) -> WorkPlan:
    """The plan of a fill; nothing is changed."""
    if target.ledger is None or target.label.endswith(".zip"):
        raise InputError(
            f"{target.label}: expected a file, a zarr array or a model that other processes can open, got a target "
            "without one; fill it without a plan"
        )
    size = sizes_for(spec, target)
    grid = target.grid(size)
    count = check_parts(parts, len(grid), target.label)
    return WorkPlan.of(
        place_of(place, target.label),
        task="fill",
        target=place,
        layout=layout_of(target, layout),
        record=spec.record(),
        grid=grid_of(grid, len(grid)),
        parts=count if len(grid) else 0,
        rounds=rounds_of(spec, count),
        model=model,
    )


def sizes_for(spec: Spec, target: Target) -> int:
    """The size of a target's regions; a model's target learns those of each tensor."""
    if isinstance(target, ModelTarget):
        filler = spec.plan()()
        tell_sizes(target, filler)
        return filler.region_bytes
    return region_bytes(spec)


def begin_fill(plan: WorkPlan, target: Target, retries: Retries, *, overwrite: bool) -> None:
    """Makes the target, marks it as being filled by the plan, and keeps the plan beside it.

    The same plan may be begun again, and goes on. Raises InputError where the target holds something else.
    """
    ledger = target.ledger
    assert ledger is not None
    record = {**plan.record, "complete": False, PLAN: plan.fingerprint}
    with as_fill_error(target.label):
        ledger.lock()
        state = retries.attempt(lambda: state_of(target, record, overwrite=overwrite))
        if state == "done":
            raise InputError(
                f"{target.label}: expected something to fill, but it already holds these values; nothing to do"
            )
        held = record_of(target) or {}
        goes_on = state == "begun" and held.get(PLAN) == plan.fingerprint
        if state == "begun" and not goes_on and held.get(PLAN) is not None:
            raise InputError(f"{target.label}: {other_plan(plan.fingerprint, held)}")
        if not goes_on:
            retries.attempt(plan.notes.clear)
        retries.attempt(plan.notes.begin)
        retries.attempt(lambda: plan.notes.put(KEY, plan.text()))
        if not goes_on:
            retries.attempt(lambda: apart(lambda: ledger.begin(record)))


def plan_reading(task: str, spec: Spec, target: Target, place: str, parts: Any, given: Mapping[str, Any]) -> WorkPlan:
    """The plan of a verification; nothing is changed. `given` has layout, record and sample."""
    size = sizes_for(spec, target)
    grid, sample = target.grid(size), given["sample"]
    count = check_parts(parts, len(sample.of(len(grid))), target.label)
    return WorkPlan.of(
        place_of(place, target.label),
        task=task,
        target=place,
        layout=layout_of(target, given["layout"]),
        record=given["record"],
        grid=grid_of(grid, len(grid)),
        parts=count if len(grid) else 0,
        given={"sample": sample.fraction, "sample_seed": sample.seed},
    )


def plan_measuring(
    record: Record, target: Target, place: str, parts: Any, given: Mapping[str, Any], retries: Retries
) -> WorkPlan:
    """The plan of a measurement; of the target only the beginnings of some chunks are read.

    `given` has layout, sample, span (where most values are expected, or None) and reason (why none are).
    """
    grid, sample = target.grid(REGION), given["sample"]
    tasks = sample.of(len(grid))
    count = check_parts(parts, len(tasks), target.label)
    bins = retries.attempt(lambda: bins_of(target, grid, tasks, given["span"])) if len(tasks) else None
    return WorkPlan.of(
        place_of(place, target.label),
        task="show",
        target=place,
        layout=layout_of(target, given["layout"]),
        record=record,
        grid=grid_of(grid, len(grid)),
        parts=count if len(grid) else 0,
        given={
            "sample": sample.fraction,
            "sample_seed": sample.seed,
            "bins": bins,
            "span": given["span"],
            "reason": given["reason"],
        },
    )


def begin_reading(plan: WorkPlan, retries: Retries) -> None:
    """Keeps the plan of something that only reads beside its target. What an earlier one has found is forgotten."""
    retries.attempt(plan.notes.clear)
    retries.attempt(plan.notes.begin)
    retries.attempt(lambda: plan.notes.put(KEY, plan.text()))
