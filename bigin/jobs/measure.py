"""Statistics of what a target holds, in one reading, in bounded memory, from several threads."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np

from bigin.core import dtypes
from bigin.core.regions import Grid, Region
from bigin.core.threads import Stopped, Stopping
from bigin.jobs.executors.threads import ThreadExecutor
from bigin.jobs.retries import Retries
from bigin.jobs.workers import Workers
from bigin.methods.marginals import Bins
from bigin.targets.target import Array, Scratch, Target

Span = tuple[float, float]  # the interval in which most values are expected

BINS = 2048
SPAN = 5.5  # standard deviations from the mean that the histogram reaches
LOOKED_AT = 8  # regions whose first elements are read to choose the bins
TABLES = 4 << 20  # bytes of a worker's tables


@dataclass(frozen=True)
class Statistics:
    """Of `count` values; mean, std (of the population), minimum, maximum, zeros and the histogram are those of the
    finite ones, and NaN where there are none. histogram: how many in each bin, with those below and above all.
    """

    count: int
    nan: int
    infinite: tuple[int, int]  # inf, -inf
    zeros: int
    mean: float
    std: float
    minimum: float
    maximum: float
    bins: Bins
    histogram: Array

    @property
    def finite(self) -> int:
        """How many are finite."""
        return self.count - self.nan - sum(self.infinite)

    @property
    def rms(self) -> float:
        """The root of the mean square."""
        return math.hypot(self.mean, self.std)


def statistics_of(
    target: Target,
    grid: Grid,
    tasks: Sequence[int],
    expected: Span | None,
    workers: Workers,
    retries: Retries,
    report: Callable[[int], None] | None = None,
) -> Statistics:
    """The statistics of the regions that the tasks number; `report` gets the bytes read so far.

    `expected` is where most values are expected, which the histogram then covers. The result is the same to the last
    digit whatever the threads: counts are integers, and moments are joined in the tasks' order.
    """
    collected = collector(target, grid, tasks, expected)
    count_regions(collected, target, Numbered(grid, tasks), workers, retries, report)
    return collected.statistics(expected)


@dataclass(frozen=True)
class Numbered(Sequence[Region]):
    """Some regions of a grid, by their numbers."""

    grid: Grid
    tasks: Sequence[int]

    def __len__(self) -> int:
        return len(self.tasks)

    def __getitem__(self, index: int) -> Region:  # type: ignore[override]
        return self.grid[self.tasks[index]]


def count_regions(
    collected: Collected[Any],
    target: Target,
    regions: Sequence[Region],
    workers: Workers,
    retries: Retries,
    report: Callable[[int], None] | None,
) -> None:
    """Adds the values of some regions to what is collected."""
    gate = workers.gate()

    def worker(stopping: Stopping) -> Callable[[int], int]:
        scratch, table = Scratch(), collected.table()

        def read_region(index: int) -> int:
            return retries.attempt(lambda: read(index), stopping)

        def read(index: int) -> int:
            size = 0
            table.clear()
            with gate.region(stopping), closing(parts_of(target, regions[index], scratch)) as parts:
                for _, values in parts:
                    if stopping():
                        raise Stopped
                    with gate.making():
                        table.add(np.ascontiguousarray(values).reshape(-1))
                    size += values.nbytes
            collected.join(index, table)
            return size

        return read_region

    told = None if report is None else (lambda size, front: report(size))
    ThreadExecutor(workers.requests).run(worker, len(regions), told)


def collector(target: Target, grid: Grid, tasks: Sequence[int], expected: Span | None) -> Collected[Any]:
    """The collector for a dtype: for dtypes of one or two bytes, the count of every bit pattern is enough."""
    if target.dtype.itemsize <= 2:
        return Patterns(target.dtype)
    return Values(target.dtype, looked_at(target, grid, tasks, expected))


def compile_for(dtype: np.dtype[Any]) -> None:
    """Compiles or loads the kernel now, so that the time is not counted as reading."""
    collected: Collected[Any] = Patterns(dtype) if dtype.itemsize <= 2 else Values(dtype, Bins(0.0, 1.0, BINS))
    collected.table().add(np.zeros(1, dtype))


def parts_of(target: Target, region: Region, scratch: Scratch) -> Any:
    """What a region holds, as a generator that can be closed."""
    yield from target.stored(region, scratch)


def looked_at(target: Target, grid: Grid, tasks: Sequence[int], expected: Span | None) -> Bins:
    """Bins for what the beginnings of some regions hold."""
    begun = []
    count = min(LOOKED_AT, len(tasks))
    for i in range(count):
        with closing(parts_of(target, grid[tasks[i * len(tasks) // count]], Scratch())) as parts:
            for _, values in parts:
                begun.append(np.ravel(values)[: 1 << 16].astype(np.float64))
                break
    values = np.concatenate(begun) if begun else np.empty(0)
    values = values[np.isfinite(values)]
    return bins_for(expected, values, np.ones(values.size))


def span_of(mean: float, std: float, low: float, high: float) -> Span:
    """Where most values of a distribution lie, which lies between low and high."""
    return max(low, mean - SPAN * std), min(high, mean + SPAN * std)


def bins_for(expected: Span | None, values: Array, weights: Array) -> Bins:
    """Bins over the middle of weighted values, and over an expected span; zeros, which may be many, aside."""
    others = values != 0
    values, weights = (values[others], weights[others]) if others.any() else (np.zeros(1), np.ones(1))
    with np.errstate(over="ignore", invalid="ignore"):
        mean = float(np.average(values, weights=weights))
        std = math.sqrt(np.average((values - mean) ** 2, weights=weights))
    low, high = max(values.min(), mean - SPAN * std), min(values.max(), mean + SPAN * std)
    if expected is not None:
        low, high = min(low, expected[0]), max(high, expected[1])
    if not math.isfinite(high - low):
        low, high = -FAR, FAR
    width = max(high - low, 1e-6 * max(abs(low), abs(high)), 1e-290)
    if low == high:
        low -= width / 2
    return Bins(float(low), float(max(high, low + width) + width * 2.0**-30), BINS)


FAR = 8e307  # of values whose range is no float64


Table = TypeVar("Table", "ValuesTable", "PatternsTable")


class Collected(ABC, Generic[Table]):
    """The sum of what the workers counted."""

    def __init__(self) -> None:
        self.total: Table = self.table()
        self._lock = threading.Lock()

    @abstractmethod
    def table(self) -> Table:
        """What a worker adds a region's values to."""

    @abstractmethod
    def join(self, index: int, table: Table) -> None:
        """Adds what a worker counted in a region, which is the task of this index."""

    @abstractmethod
    def statistics(self, expected: Span | None) -> Statistics:
        """Of all regions."""

    @abstractmethod
    def state(self) -> dict[str, Array]:
        """What was counted, for another process."""

    @abstractmethod
    def merge(self, state: Mapping[str, Array]) -> None:
        """Adds what another process has counted in the regions that come next."""


class Values(Collected["ValuesTable"]):
    """Statistics of values of four or eight bytes."""

    def __init__(self, dtype: np.dtype[Any], bins: Bins) -> None:
        self.dtype, self.bins = dtype, bins
        super().__init__()
        self._next = 0
        self._waiting: dict[int, Array] = {}  # moments of regions behind one that is not done
        self.apart: list[Array] | None = None  # the moments of every region, where they are not to be joined here

    def table(self) -> ValuesTable:
        return ValuesTable(self.dtype, self.bins)

    def join(self, index: int, table: ValuesTable) -> None:
        with self._lock:
            self.total.join(table)
            self._waiting[index] = table.moments.copy()
            while self._next in self._waiting:
                self._add_moments(self._waiting.pop(self._next))
                self._next += 1

    def _add_moments(self, moments: Array) -> None:
        if self.apart is None:
            add_moments(self.total.moments, moments)
        else:
            self.apart.append(moments)

    def state(self) -> dict[str, Array]:
        total = self.total
        return {
            "counts": total.counts,
            "histogram": total.histogram,
            "keys": total.keys,
            "integers": np.array(total.integers, self.dtype),
            "moments": np.array(self.apart or [total.moments]),
        }

    def merge(self, state: Mapping[str, Array]) -> None:
        table = self.table()
        table.counts, table.histogram, table.keys = state["counts"], state["histogram"], state["keys"]
        table.integers = tuple(state["integers"].tolist())
        self.total.join(table)
        for moments in state["moments"]:
            self._add_moments(moments)

    def statistics(self, expected: Span | None) -> Statistics:
        total = self.total
        nan, above, below, zeros = map(int, total.counts)
        count, mean, squares = map(float, total.moments)
        least, most = total.extremes() if count else (math.nan, math.nan)
        if not count:
            mean = squares = math.nan
        std = math.sqrt(squares / count) if count else math.nan
        histogram = total.histogram.reshape(2, -1).sum(axis=0)
        return Statistics(
            int(count) + nan + above + below, nan, (above, below), zeros, mean, std, least, most, self.bins, histogram
        )


def add_moments(total: Array, moments: Array) -> None:
    """Joins (count, mean, sum of squared deviations) of two samples, as kernels.statistics does it."""
    (count, mean, squares), (more, its_mean, its_squares) = total.tolist(), moments.tolist()
    if more:
        both = count + more
        apart = its_mean - mean
        squares += its_squares + apart * (count * (more / both)) * apart
        total[:] = both, mean + apart * (more / both), squares


class ValuesTable:
    """What a worker counted in a region. Integers are counted as float64; their extremes are exact."""

    def __init__(self, dtype: np.dtype[Any], bins: Bins) -> None:
        from bigin.kernels.loops import Fixed, add_statistics

        self.kernel: Any = add_statistics
        self.bins = bins
        self.dtype = dtype
        self.counted_as = dtype if dtype.kind == "f" else np.dtype(np.float64)
        self.keys = np.empty(2, f"i{self.counted_as.itemsize}")  # a float's bits, as an integer in the floats' order
        info = np.iinfo(self.keys.dtype)
        self.shift, self.mask = self.keys.dtype.type(info.bits - 1), self.keys.dtype.type(info.max)
        self.histogram = np.zeros(2 * (bins.count + 2), np.int64)
        self.moments = np.zeros(3)
        self.counts = np.zeros(4, np.int64)
        scale = (self.shift, self.mask, float(bins.low), float(bins.scale))
        self.fixed = Fixed(*scale, self.histogram, self.moments, self.keys, self.counts)
        self.clear()

    def clear(self) -> None:
        """Resets the counts."""
        for array in (self.histogram, self.moments, self.counts):
            array.fill(0)
        info = np.iinfo(self.keys.dtype)
        self.keys[:] = info.max, info.min
        self.integers: tuple[int, ...] = ()  # least and most

    def add(self, values: Array) -> None:
        """Adds values."""
        if values.size and self.dtype.kind != "f":
            self.join_integers((int(values.min()), int(values.max())))
        values = np.ascontiguousarray(values, self.counted_as)
        self.kernel(values, values.view(self.keys.dtype), self.fixed)

    def join(self, other: ValuesTable) -> None:
        """Adds what another table counted, but for the moments, whose order matters."""
        self.counts += other.counts
        self.histogram += other.histogram
        self.keys[:] = min(self.keys[0], other.keys[0]), max(self.keys[1], other.keys[1])
        self.join_integers(other.integers)

    def join_integers(self, extremes: tuple[int, ...]) -> None:
        """Adds the extremes of integers."""
        if integers := self.integers + extremes:
            self.integers = min(integers), max(integers)

    def extremes(self) -> tuple[float, float]:
        """The smallest and largest value."""
        bits = self.keys ^ ((self.keys >> self.shift) & self.mask)
        least, most = self.integers or bits.view(self.counted_as).tolist()
        return least, most


class Patterns(Collected["PatternsTable"]):
    """Statistics of values of one or two bytes, of which every bit pattern is counted."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        super().__init__()

    def table(self) -> PatternsTable:
        return PatternsTable(self.dtype)

    def join(self, index: int, table: PatternsTable) -> None:
        with self._lock:
            self.total.counts += table.counts

    def state(self) -> dict[str, Array]:
        return {"counts": self.total.counts}

    def merge(self, state: Mapping[str, Array]) -> None:
        self.total.counts += state["counts"]

    def statistics(self, expected: Span | None) -> Statistics:
        size = self.total.counts.size // 2
        counts = self.total.counts.reshape(2, -1).sum(axis=0)
        with np.errstate(invalid="ignore"):  # signalling NaNs
            values = np.arange(size, dtype=dtypes.unsigned(self.dtype)).view(self.dtype).astype(np.float64)
        nan, above, below = (
            int(counts[kind].sum()) for kind in (np.isnan(values), values == np.inf, values == -np.inf)
        )
        held = np.isfinite(values) & (counts > 0)
        numbers, weights = values[held], counts[held]
        count = int(weights.sum())
        mean = std = least = most = math.nan
        if count:
            mean = math.fsum(numbers * weights) / count
            std = math.sqrt(math.fsum((numbers - mean) ** 2 * weights) / count)
            least, most = float(numbers.min()), float(numbers.max())
        bins = bins_for(expected, numbers, weights)
        histogram = np.zeros(bins.count + 2, np.int64)
        np.add.at(histogram, bins.index(numbers), weights)
        zeros = int(weights[numbers == 0].sum())
        return Statistics(
            count + nan + above + below, nan, (above, below), zeros, mean, std, least, most, bins, histogram
        )


class PatternsTable:
    """How often a worker counted each pattern in a region: two tables, to be added."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        from bigin.kernels.loops import add_patterns

        self.kernel: Any = add_patterns
        self.unsigned = dtypes.unsigned(dtype)
        self.counts = np.zeros(2 << (8 * dtype.itemsize), np.int64)

    def clear(self) -> None:
        """Resets the counts."""
        self.counts.fill(0)

    def add(self, values: Array) -> None:
        """Adds values."""
        self.kernel(values.view(self.unsigned), self.counts)
