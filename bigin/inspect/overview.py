"""An overview of a target: what it is, how much of it is filled, and its values beside what is expected of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bigin.core.record import Record
from bigin.inspect.checks import Check
from bigin.jobs.measure import Statistics
from bigin.methods.expected import Expected

Array = np.ndarray[Any, np.dtype[Any]]
JSON_BINS = 64


@dataclass(frozen=True)
class Histogram:
    """edges: of the bins, one more than there are; counts: of the values; expected: expected counts, or None.
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
    """The result of `show`: a target's layout, record and statistics.

    layout: how the values lie, by target. nbytes: what the values take, stored_bytes: what the target takes. done:
    which part of a fill that is not complete has reached the disk; None where there is no such fill. wanted: what the
    values were compared with, or "" and the reason why with nothing. regions: how many of `total` were read, in so many
    seconds. statistics, checks: of their values.
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
    total: int
    regions: int = 0
    seconds: float = 0.0
    statistics: Statistics | None = None
    expected: Expected | None = None
    checks: Sequence[Check] = field(default_factory=tuple)

    @property
    def looks_right(self) -> bool | None:
        """Whether every check passes; None if nothing is expected or nothing was measured."""
        return all(check.right for check in self.checks) if self.checks else None

    def _repr_html_(self) -> str:
        from bigin.inspect.markup import overview_html

        return overview_html(self)

    def histogram(self, bins: int, outside: float = 5e-4) -> Histogram | None:
        """The histogram of the middle of the values. Zeros are left out if they are more than a fifth.

        Args:
            bins: the number of bins.
            outside: the largest part of the values that may lie outside of the bins, on either side.

        Returns:
            The histogram, or None if there is nothing to draw.
        """
        return None if self.statistics is None else histogram_of(self.statistics, self.expected, bins, outside)

    def as_dict(self) -> dict[str, Any]:
        """The overview as `bigin show --json` prints it.

        Returns:
            A dict of what JSON can hold, without NaN and infinity.
        """
        measured = self.statistics
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
            "statistics": None if measured is None else as_dict(measured) | {"histogram": self._histogram()},
            "verdicts": [
                {
                    "what": check.what,
                    "got": number(check.got),
                    "low": number(check.low),
                    "high": number(check.high),
                    "off": None if check.off is None else number(check.off),
                    "right": check.right,
                }
                for check in self.checks
            ],
            "looks_right": self.looks_right,
        }

    def _histogram(self) -> dict[str, Any] | None:
        measured = self.histogram(JSON_BINS)
        if measured is None:
            return None
        return {
            "edges": measured.edges.tolist(),
            "counts": measured.counts.astype(int).tolist(),
            "expected": None if measured.expected is None else measured.expected.tolist(),
            "below": measured.below[0],
            "above": measured.above[0],
            "without_zeros": measured.without_zeros,
        }


def as_dict(measured: Statistics) -> dict[str, Any]:
    """The statistics for JSON."""
    names = ("count", "finite", "nan", "zeros", "mean", "std", "minimum", "maximum")
    return {name: number(getattr(measured, name)) for name in names} | {"inf": list(measured.infinite)}


def number(value: float) -> float | None:
    """A number as JSON has them."""
    return value if math.isfinite(value) else None


def histogram_of(measured: Statistics, wanted: Expected | None, bins: int, outside: float = 5e-4) -> Histogram | None:
    """The histogram of the middle of some values; None if there is nothing to draw."""
    if measured.finite == 0 or measured.minimum == measured.maximum:
        return None
    counts = measured.histogram.astype(np.float64)
    marginal = wanted.marginal if wanted is not None and wanted.known else None
    expected = None if marginal is None else measured.finite * marginal.binned(measured.bins)
    without = 0.2 * measured.finite < measured.zeros < measured.finite
    if without:
        zero = measured.bins.index(np.zeros(1))
        counts[zero] -= measured.zeros
        if expected is not None and marginal is not None:
            at = np.zeros(1)
            expected[zero] -= measured.finite * (1.0 - marginal.below(at) - marginal.above(at))
    drawn = (counts > 0) | (0 if expected is None else expected > 0.5)
    if np.count_nonzero(drawn) < 2:
        return None
    return rebinned(
        measured, counts, None if expected is None else np.maximum(expected, 0.0), bins, outside, without_zeros=without
    )


def rebinned(
    measured: Statistics, counts: Array, expected: Array | None, bins: int, outside: float, *, without_zeros: bool
) -> Histogram:
    """A histogram of so many bins over the fine bins that hold nearly all values, and nearly all that are expected."""
    shown = [part / max(part.sum(), 1.0) for part in (counts, expected) if part is not None]
    first = min(int(np.searchsorted(part.cumsum(), outside, "right")) for part in shown)
    last = max(len(part) - 1 - int(np.searchsorted(part[::-1].cumsum(), outside, "right")) for part in shown)
    first, last = max(1, min(first, measured.bins.count)), min(measured.bins.count, max(last, 1))
    group = -(-(last - first + 1) // bins)
    first = max(1, first - (group * bins - (last - first + 1)) // 2)
    starts = [start for start in range(first, first + group * bins, group) if start <= measured.bins.count]
    stop = min(starts[-1] + group, measured.bins.count + 1)
    edges = measured.bins.edges()[[start - 1 for start in starts] + [stop - 1]]

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
        without_zeros=without_zeros,
    )
