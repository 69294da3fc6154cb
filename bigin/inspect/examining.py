"""Which tensors of a model do not look as they should, at a level of significance that holds for the whole model."""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bigin.core.limits import Limits
from bigin.core.regions import Region, Shape, extent
from bigin.core.text import agree, counted
from bigin.core.threads import Stopped, Stopping
from bigin.fillers.filler import Filler
from bigin.inspect.causes import cause
from bigin.inspect.checks import EVENTS, Level, checks, expected_of, span_for
from bigin.inspect.pieces import Array, Given, Piece, pieces_of, shifted, values_at
from bigin.inspect.repeats import Rows, equal_shards, few, of_rows, row_axis
from bigin.jobs.compare import Sample
from bigin.jobs.executors.threads import ThreadExecutor
from bigin.jobs.in_order import grid_in_order, read_in_order
from bigin.jobs.measure import Patterns, Span, Statistics, Values, bins_for
from bigin.jobs.retries import Retries
from bigin.methods.expected import Expected, at_zero
from bigin.methods.marginals import DiscreteMarginal, WithZeros
from bigin.spec.layered import LayeredSpec
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec
from bigin.targets.target import Target

ALARMS = 1e-6  # the probability that a correct model is reported as wrong
REPEATS = 64  # the largest number of comparisons of parts of a tensor
COLLISION = 2.0**-20  # the probability that two draws of a fine dtype are equal, at the most
REACH = 5.5  # standard deviations that the draws of any generator reach: some draw from 24 bits
CLOSE = 8.0  # units in the last place by which given values may differ, as libraries compute them


@dataclass(frozen=True)
class Finding:
    """What is wrong with a tensor.

    Attributes:
        kind: untouched, not finite, std, mean, distribution, values, identical, replicas, missing, extra or unlike.
        text: what it is, in words.
    """

    kind: str
    text: str


@dataclass(frozen=True)
class Examined:
    """A tensor beside what it should be.

    Attributes:
        tensor, shape, dtype: its name, its shape and its dtype.
        wanted: the method that it should have been made by, or nothing.
        mean, std, expected_mean, expected_std: of its values; NaN where they are not measured, or not known.
        findings: what is wrong.
        statistics, expected: of its values, where they are of one method.
    """

    tensor: str
    shape: Shape
    dtype: str
    wanted: str = ""
    mean: float = math.nan
    std: float = math.nan
    expected_mean: float = math.nan
    expected_std: float = math.nan
    findings: list[Finding] = field(default_factory=list)
    statistics: Statistics | None = field(default=None, repr=False)
    expected: Expected | None = field(default=None, repr=False)
    digest: str = field(default="", repr=False)
    random: float = field(default=0.0, repr=False)  # the logarithm of the probability that another one is equal

    @property
    def right(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


@dataclass(frozen=True)
class Item:
    """A tensor to look at. open: its target, or that of a part; origin: where the part begins, with `part` true."""

    name: str
    open: Callable[[], Target]
    spec: TensorValues | None
    shape: Shape
    dtype: str
    origin: Shape | None = None
    retries: Retries = field(default_factory=lambda: Retries(remote=False))


@dataclass(frozen=True)
class How:
    """How a model is looked at. alarms: see ALARMS; others: pieces that other processes look at, which share it."""

    limits: Limits
    sample: Sample = field(default_factory=Sample)
    alarms: float = ALARMS
    others: int = 0
    repeats: bool = True  # whether equal parts are looked for


def examine(items: Sequence[Item], how: How, progress: Callable[[int, int], None] | None = None) -> list[Examined]:
    """Examines the tensors of a model, one in each thread; of 1 / alarms correct models one has a finding."""
    levels = Levels.of(items, how)
    results: list[Examined | None] = [None] * len(items)
    total = sum(math.prod(item.shape) for item in items)
    known = Known()

    def worker(stopping: Stopping) -> Callable[[int], int]:
        def look(index: int) -> int:
            with np.errstate(all="ignore"):  # what memory held before may be any numbers
                results[index] = Looking(items[index], how, levels, stopping, known).examined()
            return math.prod(items[index].shape)

        return look

    told = None if progress is None else (lambda size, front: progress(size, total))
    threads = max(1, min(how.limits.threads, how.limits.memory // (64 << 20)))
    ThreadExecutor(threads).run(worker, len(items), told)
    made = [each for each in results if each is not None]
    return identical(made, levels) if how.repeats else made


@dataclass(frozen=True)
class Levels:
    """Bonferroni: half of the alarms for statistics, of which each event has the same share, half for equal parts."""

    statistics: Level
    repeats: float

    @classmethod
    def of(cls, items: Sequence[Item], how: How) -> Levels:
        """The levels at which a model of so many tensors is looked at."""
        pieces = how.others + sum(1 if item.spec is None else len(pieces_of(item.spec)) for item in items)
        return cls(
            Level(min(0.5, how.alarms / 2.0 / (EVENTS * max(1, pieces)))), how.alarms / 2.0 / (REPEATS * max(1, pieces))
        )


@dataclass
class Known:
    """What is expected of values, by what decides it: the layers of a model expect the same."""

    expected: dict[tuple[Any, ...], Expected] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Tally:
    """Statistics of a piece, as its values come."""

    def __init__(self, dtype: np.dtype[Any], span: Span | None) -> None:
        self.dtype, self.span = dtype, span
        self._collected: Patterns | Values | None = None
        self._table: Any = None
        self._count = 0

    def add(self, values: Array) -> None:
        """Adds values."""
        if self._collected is None:
            self._collected = (
                Patterns(self.dtype) if self.dtype.itemsize <= 2 else Values(self.dtype, self._bins(values))
            )
            self._table = self._collected.table()
        self._table.clear()
        self._table.add(values)
        self._collected.join(self._count, self._table)
        self._count += 1

    def _bins(self, values: Array) -> Any:
        some = values[: 1 << 16].astype(np.float64)
        some = some[np.isfinite(some)]
        return bins_for(self.span, some, np.ones(some.size))

    def statistics(self) -> Statistics | None:
        """Of all of them; None where there are none."""
        return None if self._collected is None else self._collected.statistics(self.span)


def tolerant(expected: Expected, dtype: np.dtype[Any]) -> Expected:
    """The same for values of any generator: some draw from as few bits as the dtype has, or reach less far."""
    if expected.exact or not expected.finite:
        return expected
    step = tolerance(dtype)
    resolution = max(expected.resolution, step)
    loose = replace(expected, resolution=resolution, beyond=max(expected.beyond, resolution))
    loose = replace(loose, reach=min(expected.reach, REACH))
    if expected.zeros is not None or not expected.known or isinstance(expected.marginal, WithZeros):
        return loose
    return replace(loose, zeros=0, chance=max(COLLISION, at_zero(expected.marginal)))


def collision(expected: Expected) -> float:
    """The probability that two values are equal; 1 where they are not known to be random."""
    if expected.exact or not expected.known or not expected.finite:
        return 1.0
    marginal = expected.marginal
    zeros, inner = (marginal.zeros, marginal.others) if isinstance(marginal, WithZeros) else (0.0, marginal)
    alike = (
        float(np.dot(inner.probabilities, inner.probabilities)) if isinstance(inner, DiscreteMarginal) else COLLISION
    )
    return min(1.0, zeros**2 + (1.0 - zeros) ** 2 * max(alike, COLLISION))


class Looking:
    """One tensor, which is read once in the order of its flat indices."""

    def __init__(self, item: Item, how: How, levels: Levels, stopping: Stopping, known: Known) -> None:
        self.item, self.how, self.levels, self.stopping, self.known = item, how, levels, stopping, known
        self.target = item.open()
        self.grid = grid_in_order(self.target, max(1 << 20, how.limits.memory // (4 * how.limits.threads)))
        self.tasks = how.sample.of(len(self.grid))
        self.pieces = [] if item.spec is None else pieces_of(item.spec)
        self.layered = isinstance(item.spec, LayeredSpec)
        self.all = len(self.tasks) == len(self.grid) and item.origin is None
        self.expected = [self._expected(piece) for piece in self.pieces]
        self.findings: list[Finding] = []
        self.filler: Filler | None = None  # of values that are given
        self.digest = hashlib.blake2b(digest_size=32)
        self.alike = max((1.0 if each is None else collision(each) for each in self.expected), default=1.0)

    def _expected(self, piece: Piece) -> Expected | None:
        if not isinstance(piece.spec, TensorSpec):
            return None
        spec, whole = piece.spec, piece.whole and self.all
        key = (spec.method, repr(spec.parameters), spec.shape, spec.dtype, spec.padding_idx, whole)
        with self.known.lock:  # tables of marginals are made once
            if key not in self.known.expected:
                self.known.expected[key] = tolerant(expected_of(spec, whole=whole), spec.dtype)
            return self.known.expected[key]

    def examined(self) -> Examined:
        """The tensor with its findings."""
        item = self.item
        made = Examined(item.name, self.target.shape, self.target.dtype.name, wanted_of(item.spec))
        if self.target.dtype.kind in "cbO" or not math.prod(self.target.shape):
            return made
        found = self._read()
        measured = [each for each in found if each is not None]
        if len(measured) == 1:
            stats, expected = measured[0], self.expected[0] if len(self.expected) == 1 else None
            made = replace(made, mean=stats.mean, std=stats.std, statistics=stats, expected=expected)
            if expected is not None and expected.known:
                made = replace(made, expected_mean=expected.marginal.mean, expected_std=expected.marginal.std)
        alone = bool(self.pieces) and self.alike < 1.0 and self.how.repeats
        random = math.prod(self.target.shape) * math.log(self.alike) if alone else 0.0
        named = f"{self.target.shape} {self.target.dtype.name} {self.grid.block} {len(self.tasks)} "
        if any(each.kind in ("untouched", "not finite") for each in self.findings):  # which says why parts are equal
            self.findings = [each for each in self.findings if each.kind != "identical"]
        return replace(made, findings=self.findings, digest=named + self.digest.hexdigest(), random=random)

    def _read(self) -> list[Statistics | None]:
        """The statistics of each piece; a tensor of which nothing is expected is one piece."""
        shape, spans = self.target.shape, [span_for(each) for each in self.expected] or [None]
        tallies: list[Tally | None] = [Tally(self.target.dtype, span) for span in spans]
        found: list[Statistics | None] = [None] * len(tallies)
        differing = [0] * len(tallies)
        axis = row_axis(shape)
        rows = Rows(shape, axis) if axis is not None and self._repeatable() else None
        origin = self.item.origin or (0,) * len(shape)
        for region, values in read_in_order(self.target, self.grid, self.tasks, self.item.retries):
            if self.stopping():
                raise Stopped
            if self.how.repeats:
                self.digest.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
            if rows is not None:
                rows.add(region, values)
            if shape and self._repeatable() and region == self.grid[self.tasks[0]]:
                self._shards(region, values)
            there = shifted(region, origin)
            for number, tally in enumerate(tallies):
                if tally is None:
                    continue
                for part in self._values(number, there, values):
                    tally.add(part)
                    differing[number] += self._given(number, there, part)
                if number < len(self.pieces) and self._passed(number, there):
                    found[number], tallies[number] = self._judged(number, tally.statistics(), differing[number]), None
        for number, tally in enumerate(tallies):
            if tally is not None:
                found[number] = self._judged(number, tally.statistics(), differing[number])
        if rows is not None:
            self._equal_rows(rows)
        return found

    def _values(self, number: int, there: Region, values: Array) -> Iterator[Array]:
        if len(self.pieces) <= 1 and not self.layered:
            yield np.ascontiguousarray(values).reshape(-1)
        else:
            yield from values_at(self.pieces, number, there, values, layered=self.layered)

    def _passed(self, number: int, there: Region) -> bool:
        """Whether no region that comes later holds values of a piece."""
        places = self.pieces[number].places
        return (
            len(self.pieces) > 1
            and bool(places)
            and len(places[0]) > 0
            and int(places[0][-1]) < there[0][1]
            and (all(bounds == (0, size) for bounds, size in zip(there[1:], self.target.shape[1:], strict=True)))
        )

    def _given(self, number: int, there: Region, values: Array) -> int:
        """How many values are not those that were given, but for the last places."""
        spec = self.item.spec
        if not isinstance(spec, Given):
            return 0
        if self.filler is None:
            self.filler = spec.plan()()
            if self.filler.has_setup:
                self.filler.setup(1, self.how.limits.memory, lambda part: None)
        wanted = np.empty(extent(there), spec.dtype)
        self.filler(there, wanted)
        a, b = values.astype(np.float64), wanted.reshape(-1).astype(np.float64)
        eps = 0.0 if spec.dtype.kind in "iu" else float(tolerance(spec.dtype))
        with np.errstate(invalid="ignore"):
            near = abs(a - b) <= CLOSE * eps * np.maximum(abs(a), abs(b))
        return int(np.count_nonzero(~(near | (a == b) | (np.isnan(a) & np.isnan(b)))))

    def _judged(self, number: int, stats: Statistics | None, differing: int) -> Statistics | None:
        """The statistics of a piece, after what is wrong with them is noted."""
        if stats is None or number >= len(self.pieces):
            return stats
        piece, expected = self.pieces[number], self.expected[number]
        about = f"{piece.spec.name}: " if len(self.pieces) > 1 else ""
        if expected is None or not isinstance(piece.spec, TensorSpec):
            if differing:
                text = f"{differing} of {counted(stats.count, 'value')} {agree(differing, 'is', 'are')} not as given"
                self.findings.append(Finding("values", about + text))
            return stats
        lines = checks(stats, expected, self.levels.statistics)
        if not all(line.right for line in lines):
            kind, text = cause(stats, expected, lines, piece.spec)
            self.findings.append(Finding(kind, about + text))
        return stats

    def _repeatable(self) -> bool:
        return self.how.repeats and bool(self.pieces) and self.alike < 1.0

    def _shards(self, region: Region, values: Array) -> None:
        some, whole = few(values, region, self.target.shape)
        if said := equal_shards(some, whole, self.alike, self.levels.repeats):
            self.findings.append(Finding("identical", said))

    def _equal_rows(self, rows: Rows) -> None:
        count = math.prod(self.target.shape) // rows.length
        chance = 2.0 * math.log(max(2, count)) + rows.length * math.log(self.alike)
        if chance > math.log(self.levels.repeats) or any(each.kind != "std" for each in self.findings):
            return
        if said := of_rows(rows.equal(self.target), count):
            self.findings.append(Finding("identical", said))


def tolerance(dtype: np.dtype[Any]) -> float:
    """The relative distance of neighbours in a dtype of floats."""
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]


def wanted_of(spec: TensorValues | None) -> str:
    """What a tensor should hold, in a few words."""
    if spec is None:
        return ""
    pieces = pieces_of(spec)
    calls = list(dict.fromkeys(p.spec.call if isinstance(p.spec, TensorSpec) else "given values" for p in pieces))
    text = ", ".join(calls[:2]) + (", ..." if len(calls) > 2 else "")
    return text if len(pieces) == 1 else f"{len(pieces)} parts: {text}"


def identical(made: Sequence[Examined], levels: Levels) -> list[Examined]:
    """The same, with what is said of tensors that are equal to others, though their values are drawn."""
    first: dict[str, str] = {}
    pairs = 2.0 * math.log(max(2, len(made)))
    found = []
    for each in made:
        if (
            each.random == 0.0
            or each.random + pairs > math.log(levels.repeats)
            or any(finding.kind in ("untouched", "not finite") for finding in each.findings)
        ):
            found.append(each)
            continue
        other = first.setdefault(each.digest, each.tensor)
        finding = Finding("identical", f"identical to {other}")
        found.append(each if other == each.tensor else replace(each, findings=[*each.findings, finding]))
    return found


def share_of(items: Sequence[Item]) -> int:
    """How many pieces the tensors have, for other processes."""
    return sum(1 if item.spec is None else len(pieces_of(item.spec)) for item in items)
