"""The target of a plan, opened by a process that does a part of it or finishes it."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bigin.core.errors import NotFoundError, RecordError
from bigin.core.record import Record
from bigin.core.regions import Grid
from bigin.core.threads import after_stragglers
from bigin.jobs.plans.plan import WorkPlan
from bigin.jobs.resume import values
from bigin.jobs.retries import Retries
from bigin.jobs.where import as_fill_error, opened
from bigin.targets import orbax
from bigin.targets.distcp import begun_distcp
from bigin.targets.model import ModelTarget
from bigin.targets.objects.open import begun_checkpoint
from bigin.targets.paths import local_path
from bigin.targets.safetensors.checkpoint import CheckpointFiles, new_checkpoint
from bigin.targets.target import Target, record_of

PLAN = "plan"  # what an incomplete record says beside the values: the fingerprint of the plan that it is filled by


@contextmanager
def opened_plan(plan: WorkPlan, retries: Retries) -> Iterator[Target]:
    """The target of a plan; raises NotFoundError where this machine does not see it."""
    check_seen(plan)
    if plan.model is not None:
        with as_fill_error(plan.target):
            target: Target = retries.attempt(lambda: model_target(plan.target, plan.model or {}))
        try:
            retries.remote = target.remote
            yield target
        finally:
            after_stragglers(target.close)
        return
    reads = plan.task != "fill"
    where = plan.where(damaged=reads, models=plan.task == "verify")
    with ExitStack() as stack:
        try:
            target = stack.enter_context(opened(where, retries))
        except NotFoundError:
            raise not_seen(plan.target) from None
        retries.remote = target.remote
        yield target


def check_seen(plan: WorkPlan) -> None:
    """Refuses to work where the target is on a file system that this machine does not have."""
    if plan.model is None and plan.where().missing:
        raise not_seen(plan.target)


def not_seen(target: str) -> NotFoundError:
    """The error of a process to which the target of its plan is not there."""
    return NotFoundError(
        f"{target}: expected the target of the plan, got nothing on {socket.gethostname()}; put it on a file system "
        "that every worker sees under the same path, or make the plan again if it was removed"
    )


def model_target(label: str, model: Mapping[str, Any]) -> ModelTarget:
    """The target of a model that is made: a checkpoint under its temporary names, or a group that is there."""
    if model["kind"] == "checkpoint":
        files = {
            name: {tensor: (dtype, tuple(shape)) for tensor, (dtype, shape) in tensors.items()}
            for name, tensors in model["files"].items()
        }
        return new_checkpoint(label, CheckpointFiles(Path(model["folder"]), files, model["index"]), model["records"])
    if model["kind"] == "objects":
        return begun_checkpoint(label, model)
    if model["kind"] == "distcp":
        return begun_distcp(model)
    from bigin.targets.zarr.groups import group_arrays, group_target, open_group

    group = open_group(local_path(label) or label, label)
    if group is None:
        raise not_seen(label)
    target = group_target(group, label, group_arrays(group), model["records"])
    if model["kind"] == orbax.FORMAT:
        target.beside = orbax.tree_files(model["records"])
    return target


def begun(plan: WorkPlan, target: Target) -> bool:
    """Whether the fill of a plan is still to be finished; False where it is complete.

    Raises RecordError where the target holds anything else.
    """
    held = record_of(target)
    if held is None or values(held) != values(plan.record):
        raise RecordError(
            f"{target.label}: expected the fill that plan {plan.fingerprint} began, got "
            f"{'none' if held is None else 'another one'}; make the plan again"
        )
    if held.get("complete") is True:
        return False
    if held.get(PLAN) != plan.fingerprint:
        raise RecordError(f"{target.label}: {other_plan(plan.fingerprint, held)}")
    return True


def other_plan(fingerprint: str, held: Record) -> str:
    """What is wrong where a target is filled by something else than a plan."""
    other = held.get(PLAN)
    by = "a fill without a plan" if other is None else f"plan {other}"
    return (
        f"expected to be filled by plan {fingerprint}, but it is being filled by {by}; finish that one, or start over "
        "with --overwrite (overwrite=True)"
    )


def check_grid(plan: WorkPlan, target: Target, size: int) -> Any:
    """The grid of a target; raises RecordError where its chunks are no longer those that were planned."""
    grid = target.grid(size)
    check_fits(plan, grid, len(grid), target.label)
    return grid


def check_fits(plan: WorkPlan, grid: Grid, regions: int, label: str) -> None:
    """Raises RecordError where a grid is not the one that was planned."""
    if not plan.fits(grid, regions):
        raise RecordError(
            f"{label}: expected chunks of {plan.grid['block']} of shape {plan.grid['shape']}, as planned, "
            f"got {list(grid.block)} of {list(grid.shape)}; the target has changed: make the plan again"
        )
