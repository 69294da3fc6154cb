"""An overview of a target: what it is, how much of it is filled, and its values beside what their method promises."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bigin.api.filling import on_network, opened, told_as_fill_errors
from bigin.api.verifying import recorded_layout
from bigin.core import memory
from bigin.core.errors import FillError, InputError
from bigin.core.floats import default_modes
from bigin.core.regions import Grid, parse_region
from bigin.core.text import parse_shape, size_text
from bigin.core.threads import Stopped
from bigin.inspect.checks import Verdict, verdicts
from bigin.inspect.structure import structure_verdicts
from bigin.jobs.compare import sampled
from bigin.jobs.journal import done_regions
from bigin.jobs.measure import TABLES, Statistics, compile_for, statistics_of
from bigin.jobs.resume import identity
from bigin.jobs.retries import Retries, one_line
from bigin.methods.expected import Promise, promise_of
from bigin.spec.record import filler_of, specification_of
from bigin.spec.tensor import Specification, part_shape
from bigin.targets.records import Record
from bigin.targets.target import Target, record_of

Array = np.ndarray[Any, np.dtype[Any]]
REGION = 4 << 20  # bytes that are read at once where the target is free to choose
JSON_BINS = 64


@dataclass(frozen=True)
class Histogram:
    """edges: of the bins, one more than there are; counts: of the values; expected: counts that are promised, or None.
    below, above: how many values lie outside, and how many are expected to.
    """

    edges: Array
    counts: Array
    expected: Array | None
    below: tuple[int, float]
    above: tuple[int, float]
    without_zeros: bool


@dataclass(frozen=True)
class Overview:
    """What `show` found.

    layout: how the values lie, by target. nbytes: what the values take, stored_bytes: what the target takes. done:
    which part of a fill that is not complete has reached the disk; None where there is no such fill. wanted: what the
    values were compared with, or "" and the reason why with nothing. regions: how many of `total` were read, in so many
    seconds. statistics, verdicts: of their values.
    """

    target: str
    shape: tuple[int, ...]
    dtype: str
    layout: Mapping[str, Any]
    nbytes: int
    stored_bytes: int
    record: Record | None
    done: float | None
    wanted: str
    reason: str
    regions: int
    total: int
    seconds: float
    statistics: Statistics | None = None
    promise: Promise | None = None
    verdicts: Sequence[Verdict] = field(default_factory=tuple)

    @property
    def looks_right(self) -> bool | None:
        """Whether every statistic is as promised; None where nothing was promised, or nothing looked at."""
        return all(verdict.right for verdict in self.verdicts) if self.verdicts else None

    def histogram(self, bins: int, outside: float = 5e-4) -> Histogram | None:
        """The middle of the values, with at most such a part of them outside on either side.

        Without zeros where those are more than a fifth; None where there is nothing to draw.
        """
        found = self.statistics
        if found is None or found.finite == 0 or found.minimum == found.maximum:
            return None
        counts = found.histogram.astype(np.float64)
        marginal = self.promise.marginal if self.promise is not None and self.promise.known else None
        expected = None if marginal is None else found.finite * marginal.binned(found.bins)
        without = 0.2 * found.finite < found.zeros < found.finite
        if without:
            zero = found.bins.place(np.zeros(1))
            counts[zero] -= found.zeros
            if expected is not None and marginal is not None:
                at = np.zeros(1)
                expected[zero] -= found.finite * (1.0 - marginal.below(at) - marginal.above(at))
        drawn = (counts > 0) | (0 if expected is None else expected > 0.5)
        if np.count_nonzero(drawn) < 2:
            return None
        return rebinned(found, counts, None if expected is None else np.maximum(expected, 0.0), bins, outside, without)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: no NaN, no infinity."""
        found = self.statistics
        return {
            "target": self.target,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "layout": dict(self.layout),
            "nbytes": self.nbytes,
            "stored_bytes": self.stored_bytes,
            "record": self.record,
            "done": self.done,
            "wanted": self.wanted or None,
            "reason": self.reason or None,
            "regions": self.regions,
            "total": self.total,
            "seconds": self.seconds,
            "statistics": None if found is None else as_dict(found) | {"histogram": self._histogram()},
            "verdicts": [
                {
                    "what": verdict.what,
                    "got": number(verdict.got),
                    "low": number(verdict.low),
                    "high": number(verdict.high),
                    "off": None if verdict.off is None else number(verdict.off),
                    "right": verdict.right,
                }
                for verdict in self.verdicts
            ],
            "looks_right": self.looks_right,
        }

    def _histogram(self) -> dict[str, Any] | None:
        found = self.histogram(JSON_BINS)
        if found is None:
            return None
        return {
            "edges": found.edges.tolist(),
            "counts": found.counts.astype(int).tolist(),
            "expected": None if found.expected is None else found.expected.tolist(),
            "below": found.below[0],
            "above": found.above[0],
            "without_zeros": found.without_zeros,
        }


def as_dict(found: Statistics) -> dict[str, Any]:
    """The statistics for JSON."""
    names = ("count", "finite", "nan", "zeros", "mean", "std", "minimum", "maximum")
    return {name: number(getattr(found, name)) for name in names} | {"inf": list(found.infinite)}


def number(value: float) -> float | None:
    """A number as JSON has them."""
    return value if math.isfinite(value) else None


def rebinned(
    found: Statistics, counts: Array, expected: Array | None, bins: int, outside: float, without_zeros: bool
) -> Histogram:
    """A histogram of so many bins over the fine bins that hold nearly all values, and nearly all that are expected."""
    shown = [part / max(part.sum(), 1.0) for part in (counts, expected) if part is not None]
    first = min(int(np.searchsorted(part.cumsum(), outside, "right")) for part in shown)
    last = max(len(part) - 1 - int(np.searchsorted(part[::-1].cumsum(), outside, "right")) for part in shown)
    first, last = max(1, min(first, found.bins.count)), min(found.bins.count, max(last, 1))
    group = -(-(last - first + 1) // bins)
    first = max(1, first - (group * bins - (last - first + 1)) // 2)
    starts = [start for start in range(first, first + group * bins, group) if start <= found.bins.count]
    stop = min(starts[-1] + group, found.bins.count + 1)
    edges = found.bins.edges()[[start - 1 for start in starts] + [stop - 1]]

    def grouped(part: Array) -> Array:
        return np.add.reduceat(part[:stop], starts)

    def beyond(part: slice) -> tuple[int, float]:
        return int(counts[part].sum()), 0.0 if expected is None else float(expected[part].sum())

    return Histogram(
        edges,
        grouped(counts),
        None if expected is None else grouped(expected),
        beyond(slice(0, first)),
        beyond(slice(stop, None)),
        without_zeros,
    )


def show(
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
    statistics: bool = True,
    sample: float = 1.0,
    sample_seed: int = 0,
    threads: int | None = None,
    max_memory: int | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    **parameters: Any,
) -> Overview:
    """Tell what a target is, and how its values look beside what their method promises.

    Statistics are no proof: `verify` compares every bit.

    Args:
        target: as in `fill`.
        method, seed, name, shape, dtype, region, padding_idx, **parameters: what it should hold, as in `fill`; without
            a method, what its record says, or nothing.
        raw, offset, threads, max_memory, progress: as in `fill`.
        statistics: whether the values are read at all.
        sample: which fraction of the chunks is read, above 0 and up to 1.
        sample_seed: which ones.

    Raises:
        InputError: there is no such target, or something is wrong with what was asked for.
        FillError: the target could not be read.
    """
    if is_missing(target):
        raise InputError(f"{target}: expected a target to show, found nothing")
    if raw and shape is None and dtype is None:
        shape, dtype, offset = recorded_layout(target, offset)
    whole = None if shape is None else parse_shape(shape)
    ranges = None if region is None else parse_region(region, whole)
    retries = Retries(on_network(target))
    with (
        default_modes(),
        opened(target, part_shape(whole, ranges), dtype, raw, offset, damaged=True, retries=retries) as place,
        told_as_fill_errors(str(target)),
    ):
        retries.remote = place.remote
        if not place.exists():
            raise InputError(f"{place.label}: expected a target to show, found nothing")
        record = retries.attempt(lambda: record_of(place))
        if method is None:
            if parameters or padding_idx is not None:
                given = ", ".join([*parameters, *([] if padding_idx is None else ["padding_idx"])])
                raise InputError(f"expected a method for {given}; give --method (method=)")
            wanted, reason = recorded(place, record)
            part = record is not None and not {"region", "stretch"}.isdisjoint(record)
        else:
            stream = place.name if name is None else name
            wanted, reason = (
                Specification.parse(method, parameters, seed, stream, whole or place.shape, place.dtype, padding_idx),
                "",
            )
            wanted.filler()  # refuses what the dtype cannot hold
            part = ranges is not None
        limit = memory.limit(max_memory)
        count = memory.threads() if threads is None else threads
        grid, done = retries.attempt(lambda: reached(place, record))
        tasks = sampled(range(done), sample, sample_seed) if statistics else ()
        found, promise, judged, seconds = None, None, [], 0.0
        if tasks:
            entire = not part and len(tasks) == len(grid)
            promise = None if wanted is None else promise_of(wanted, entire)
            compile_for(place.dtype)
            start = time.perf_counter()
            found = read(place, grid, tasks, promise, workers_within(place, grid, count, limit), retries, progress)
            seconds = time.perf_counter() - start
            if wanted is not None and promise is not None:
                judged = verdicts(found, promise)
                if entire and found.finite == found.count:
                    judged += retries.attempt(lambda: structure_verdicts(place, wanted, limit))
        return Overview(
            target=place.label,
            shape=place.shape,
            dtype=place.dtype.name,
            layout=retries.attempt(place.layout),
            nbytes=place.nbytes,
            stored_bytes=retries.attempt(place.stored_bytes),
            record=record,
            done=done / max(1, len(grid)) if is_incomplete(record) else None,
            wanted="" if wanted is None else wanted.call,
            reason=reason,
            regions=len(tasks),
            total=len(grid),
            seconds=seconds,
            statistics=found,
            promise=promise,
            verdicts=judged,
        )


def is_missing(target: Any) -> bool:
    """Whether a path names nothing; a tensor in a checkpoint is path#name."""
    if not isinstance(target, str | os.PathLike) or "://" in str(target):
        return False
    return not any(map(os.path.lexists, (target, str(target).partition("#")[0])))


def is_incomplete(record: Record | None) -> bool:
    """Whether a record is that of a fill that was interrupted."""
    return record is not None and record.get("complete") is not True


def recorded(target: Target, record: Record | None) -> tuple[Specification | None, str]:
    """What a target's record says that it holds, or why it says nothing."""
    if record is None:
        return None, "no record"
    try:
        filler = filler_of(record)
        specification = specification_of(record)
        if not isinstance(specification, Specification):
            return None, "its record is of several tensors, each with a promise of its own"
        if not target.matches(filler.shape, record):
            shape = "x".join(map(str, filler.shape)) or "scalar"
            return None, f"its record is of {shape} {record['dtype']}"
        return specification, ""
    except InputError as error:
        return None, f"its record cannot be used: {error}"


def reached(target: Target, record: Record | None) -> tuple[Grid, int]:
    """The grid to read by, and how many regions at its front are filled: all, but of an incomplete fill."""
    if record is None or not is_incomplete(record):
        grid = target.grid(REGION)
        return grid, len(grid)
    try:
        grid = target.grid(filler_of(record).region_bytes)
    except InputError:  # a record that was edited by hand
        return target.grid(), 0
    return grid, done_regions(target, grid, identity(record))


def read(
    target: Target,
    grid: Grid,
    tasks: Sequence[int],
    promise: Promise | None,
    threads: int,
    retries: Retries,
    progress: Callable[[int, int], None] | None,
) -> Statistics:
    """The statistics of some regions, with a report of progress."""
    total = target.nbytes * len(tasks) // len(grid)
    report = None if progress is None else (lambda size: progress(min(size, total), total))
    try:
        return statistics_of(target, grid, tasks, promise, threads, retries, report)
    except (InputError, FillError, Stopped, OSError):
        raise
    except Exception as error:  # codecs raise errors of many kinds
        if target.remote:
            raise
        told = f"{target.label}: cannot be read: {one_line(error)}"
        raise FillError(f"{told}; `bigin verify` tells which part, and its --repair makes it anew") from error


def workers_within(target: Target, grid: Grid, threads: int, limit: int) -> int:
    """How many threads the memory allows."""
    if threads < 1:
        raise InputError(f"expected at least 1 thread, got {threads}")
    need = target.block_memory(math.prod(grid.block) * target.dtype.itemsize) + TABLES
    if need > limit:
        raise InputError(
            f"{target.label}: expected a chunk or shard that fits in {size_text(limit)}, got one that takes "
            f"{size_text(need)} to read; raise --max-memory (max_memory=) to that"
        )
    return min(threads, limit // need)
