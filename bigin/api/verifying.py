"""Verifying: a target's values made again and compared with what it holds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bigin.api.filling import on_network, opened, told_as_fill_errors
from bigin.core import memory
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.regions import Grid, parse_region
from bigin.core.text import parse_shape
from bigin.core.threads import apart
from bigin.fillers.filler import Filler
from bigin.jobs.compare import BUFFERS, Difference, compare, sampled
from bigin.jobs.resume import describe, values
from bigin.jobs.retries import Retries
from bigin.jobs.run import Plan, run, set_up, workers_within
from bigin.spec.record import filler_of, specification_of
from bigin.spec.tensor import Specification, part_record, part_shape
from bigin.targets.model import ModelTarget
from bigin.targets.records import Record, read_sidecar
from bigin.targets.target import Target, record_of


@dataclass(frozen=True)
class Verification:
    """What a verification found: which of the `regions` that were compared, of `total`, differ, and where.

    nbytes is how many bytes of values were compared; record is what they were compared with; repaired says that the
    differing regions were filled again.
    """

    target: str
    record: Record
    regions: int
    total: int
    nbytes: int
    seconds: float
    differences: list[Difference] = field(default_factory=list)
    repaired: bool = False

    @property
    def wanted(self) -> str:
        """What it was compared with, in words."""
        return str(specification_of(self.record))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"equal": self.equal}

    @property
    def equal(self) -> bool:
        """Whether all that was compared was equal."""
        return not self.differences


def verify(
    target: Any,
    method: str | None = None,
    *,
    seed: int = 0,
    name: str | None = None,
    shape: Any = None,
    dtype: Any = None,
    raw: bool = False,
    offset: int = 0,
    region: Any = None,
    padding_idx: int | None = None,
    sample: float = 1.0,
    sample_seed: int = 0,
    repair: bool = False,
    threads: int | None = None,
    max_memory: int | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    **parameters: Any,
) -> Verification:
    """Make a target's values again and compare them with what it holds, bit for bit.

    Args:
        target: as in `fill`.
        method, seed, name, shape, dtype, region, padding_idx, **parameters: what it should hold, as in `fill`; without
            a method, what its record says.
        raw, offset, threads, max_memory, progress: as in `fill`.
        sample: which fraction of the chunks is compared, above 0 and up to 1.
        sample_seed: which ones.
        repair: fill those chunks again that differ.

    Raises:
        InputError: there is nothing to compare with, or something is wrong with what was asked for.
        FillError: the target could not be read, or not be repaired.
    """
    if raw and method is None and shape is None and dtype is None:
        shape, dtype, offset = recorded_layout(target, offset)
    whole = None if shape is None else parse_shape(shape)
    ranges = None if region is None else parse_region(region, whole)
    retries = Retries(on_network(target))
    with (
        default_modes(),
        opened(
            target,
            part_shape(whole, ranges),
            dtype,
            raw,
            offset,
            damaged=True,
            models=method is None,
            retries=retries,
        ) as place,
        told_as_fill_errors(str(target)),
    ):
        retries.remote = place.remote
        if not place.exists():
            raise InputError(f"{place.label}: expected a target to verify, found nothing")
        if method is None:
            if parameters:
                raise InputError(f"expected a method for {', '.join(parameters)}; give --method (method=)")
            record = retries.attempt(lambda: recorded(place))
        else:
            stream = place.name if name is None else name
            specification = Specification.parse(
                method, parameters, seed, stream, whole or place.shape, place.dtype, padding_idx
            )
            record = specification.record() | part_record(ranges) | {"complete": True}
            if repair:
                check_record(place, record)
        limit = memory.limit(max_memory)
        filler = filler_of(record)
        workers = workers_within(place, filler, memory.threads() if threads is None else threads, limit, BUFFERS)
        return _verify(place, filler, record, sample, sample_seed, repair, workers, limit, retries, progress)


def recorded_layout(target: Any, offset: int) -> tuple[Any, Any, int]:
    """Shape, dtype and offset of the values in a raw file, as its record says."""
    held = read_sidecar(Path(target)) if isinstance(target, str | os.PathLike) else None
    if held is None:
        raise InputError(f"{target}: expected a record of a fill, found none; give --shape, --dtype and --method")
    place = held.get("offset", 0)
    return filler_of(held).shape, held["dtype"], offset or (place if isinstance(place, int) else 0)


def check_record(target: Target, record: Record) -> None:
    """Refuses to repair what the record says is something else: that would be another fill."""
    held = record_of(target)
    if held is not None and (held.get("complete") is not True or values(held) != values(record)):
        raise InputError(
            f"{target.label}: expected to repair what its record says, but it {describe(held, record)}; leave the "
            "method out, or fill with --overwrite"
        )


def recorded(target: Target) -> Record:
    """A target's record, if it says what all of it should hold."""
    record = record_of(target)
    if record is None:
        raise InputError(f"{target.label}: expected a record of a fill, found none; give --method and its parameters")
    try:
        filler = filler_of(record)
    except InputError as error:
        raise InputError(
            f"{target.label}: its record cannot be used: {error}; give --method and its parameters"
        ) from None
    if record.get("complete") is not True:
        raise InputError(f"{target.label}: {incomplete(target, record)}")
    if not target.matches(filler.shape, record):
        raise InputError(
            f"{target.label}: expected shape {filler.shape} and {record['dtype']}, as its record says, got "
            f"{target.shape} and {target.dtype.name}; give --method and its parameters"
        )
    return record


def incomplete(target: Target, record: Record) -> str:
    """Why a record does not say what all of a target should hold, and what to do."""
    held = record.get("tensors")
    if isinstance(target, ModelTarget) and isinstance(held, dict):
        without = [name for name in target.members if name not in held]
        if without:  # skipped by the recipe, or a checkpoint of which only some tensors were filled
            more = f" and {len(without) - 1} more" if len(without) > 1 else ""
            return (
                f"expected a record of every tensor, found none for {without[0]}{more}; verify the others one by one, "
                "or if a fill was interrupted, give its command again"
            )
    return (
        "expected a complete fill, got one that was interrupted; give its command again, which goes on where it stopped"
    )


def _verify(
    target: Target,
    filler: Filler,
    record: Record,
    sample: float,
    sample_seed: int,
    repair: bool,
    workers: int,
    limit: int,
    retries: Retries,
    progress: Callable[[int, int], None] | None,
) -> Verification:
    grid = target.grid(filler.region_bytes)
    tasks = sampled(grid, sample, sample_seed)
    total = target.nbytes * len(tasks) // max(1, len(grid))
    if repair and target.ledger is not None:
        target.ledger.lock()
    start = time.perf_counter()
    set_up(target, filler, workers, limit, None)
    report = None if progress is None else (lambda size: progress(min(size, total), total))
    differences = compare(target, filler, grid, tasks, workers, retries, report)
    if repair and differences:
        keep = record_of(target) is not None or len(tasks) == len(grid)  # else it would speak of what nobody looked at
        repair_regions(target, filler, record if keep else None, grid, differences, workers, retries)
    seconds = time.perf_counter() - start
    return Verification(
        target.label, record, len(tasks), len(grid), total, seconds, differences, repair and bool(differences)
    )


def repair_regions(
    target: Target,
    filler: Filler,
    record: Record | None,
    grid: Grid,
    differences: list[Difference],
    workers: int,
    retries: Retries,
) -> None:
    """Fills the differing regions again, and keeps the record, if there is one to keep."""
    ledger = target.ledger
    target.start() if ledger is None else ledger.resume()
    again = [difference.region for difference in differences]
    run(target, filler, Plan(grid, len(grid), again), workers, retries, None)
    if ledger is None:
        retries.attempt(lambda: apart(target.flush))
    elif record is not None:
        retries.attempt(lambda: apart(lambda: ledger.finish(record)))
    else:
        retries.attempt(lambda: apart(lambda: ledger.checkpoint({})))  # to the disk
        ledger.forget()
