"""Opening an existing target, for `verify` and `show`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from bigin.core.errors import NotFoundError
from bigin.core.floats import default_modes
from bigin.jobs.retries import Retries
from bigin.jobs.where import Where, as_fill_error, opened
from bigin.targets.target import Target


@contextmanager
def existing(where: Where, purpose: str) -> Iterator[tuple[Target, Retries]]:
    """A target that is there, and what retries its store operations; raises NotFoundError where there is none."""
    if where.missing:
        raise NotFoundError(f"{where.target}: expected a target to {purpose}, got nothing")
    retries = Retries(remote=where.remote)
    with default_modes(), opened(where, retries) as target, as_fill_error(target.label):
        retries.remote = target.remote
        if not target.exists():
            raise NotFoundError(f"{target.label}: expected a target to {purpose}, got nothing")
        yield target, retries


def record_of(target: Target, retries: Retries) -> dict[str, Any] | None:
    """The record that a target keeps; None where there is none."""
    return None if target.ledger is None else retries.attempt(target.ledger.record)
