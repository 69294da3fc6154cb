"""What a target holds, compared bit for bit with what its specification says."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import FillError, InputError, StoreError
from bigin.core.html import card, listing
from bigin.core.record import Record
from bigin.core.regions import Grid, Picked, Region, Shape, extent
from bigin.core.text import agree, counted, size_text
from bigin.core.threads import Stopped, Stopping
from bigin.fillers.filler import Filler
from bigin.jobs.executors.threads import ThreadExecutor
from bigin.jobs.retries import Retries, Unreadable, one_line
from bigin.jobs.workers import Gate, Workers
from bigin.spec.record import described
from bigin.targets.target import Array, Scratch, Target

Unequal = Callable[[Region, Array], None]  # gets a part of a region, and which of its elements differ
BUFFERS = 2  # of a worker: what is stored, and what it should be


@dataclass(frozen=True)
class Difference:
    """A region whose stored bits are not those of the specification.

    Attributes:
        region: its number in the grid.
        where: where it lies in the target.
        elements: how many elements differ; all, where it cannot be read.
        first: the index of the first one.
        reason: why it cannot be read, or nothing.
    """

    region: int
    where: str
    elements: int
    first: Shape
    reason: str = ""

    def __str__(self) -> str:
        first = "[" + ", ".join(map(str, self.first)) + "]"
        if self.reason:
            return f"{self.where}: cannot be read, from {first} on: {self.reason}"
        differ = agree(self.elements, "differs", "differ")
        return f"{self.where}: {counted(self.elements, 'element')} {differ}, the first at {first}"


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    Attributes:
        target: the target's label.
        record: what the values were compared with.
        regions, total: how many regions of how many were compared.
        nbytes: bytes of values that were compared.
        seconds: the time that it took.
        differences: the regions that differ, in the order of the grid.
        repaired: whether those were filled again.
        by: what said what the values should be, where no record did: a recipe or a configuration.
        missing: names of tensors that should be there and are not.
        extra: names of tensors that are there and of which nothing is said.
        unlike: lines about tensors of another shape or dtype.
        skipped: names of tensors that the recipe skips, which were not compared.
    """

    target: str
    record: Record = field(repr=False)
    regions: int
    total: int
    nbytes: int
    seconds: float
    differences: list[Difference] = field(default_factory=list)
    repaired: bool = False
    by: str = ""
    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    unlike: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def wanted(self) -> str:
        """What the values were compared with, in words."""
        return self.by or described(self.record)

    @property
    def equal(self) -> bool:
        """Whether all compared values are equal, and the tensors are the expected ones."""
        return not (self.differences or self.tensors)

    @property
    def tensors(self) -> list[str]:
        """A line for every tensor that is missing, is unknown, or has another shape or dtype."""
        missing = [f"{name}: expected it, got no tensor of that name" for name in self.missing]
        extra = [f"{name}: there, but {self.by or 'the record'} says nothing of it" for name in self.extra]
        return [*missing, *self.unlike, *extra]

    def as_dict(self) -> dict[str, Any]:
        """The verification as `bigin verify --json` prints it.

        Returns:
            A dict of what JSON can hold.
        """
        return asdict(self) | {"equal": self.equal}

    def _repr_html_(self) -> str:
        count = len(self.differences)
        differ = f"{counted(count, 'region')} of {self.regions} {agree(count, 'differs', 'differ')}"
        if self.tensors:
            differ += f", {counted(len(self.tensors), 'tensor')} not as expected"
        facts = {
            "result": "equal, bit for bit" if self.equal else differ + (", repaired" if self.repaired else ""),
            "compared with": self.wanted,
            **self._more(),
            "regions": f"{self.regions} of {self.total}, {size_text(self.nbytes)} in {self.seconds:.2f} s",
        }
        rows = [*([line] for line in self.tensors), *([str(difference)] for difference in self.differences)]
        return card(self.target, facts, listing(["differences"], rows) if rows else "")

    def _more(self) -> dict[str, str]:
        """Return further facts for a notebook."""
        return {}


@dataclass(frozen=True)
class Sample:
    """Which of the regions are looked at: a fraction of them, above 0 and up to 1, chosen by a seed."""

    fraction: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.fraction, bool) or not isinstance(self.fraction, int | float):
            raise InputError(f"expected a sample above 0 and up to 1, got {self.fraction!r}")
        if not 0 < self.fraction <= 1:
            raise InputError(f"expected a sample above 0% and up to 100%, got {100 * self.fraction:g}%")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise InputError(f"expected a sample seed that is an integer, got {self.seed!r}")

    def of(self, count: int) -> Sequence[int]:
        """The numbers of the regions, at least one of so many, in order."""
        if self.fraction == 1 or count == 0:
            return range(count)
        chosen = random.Random(self.seed).sample(range(count), max(1, round(self.fraction * count)))
        return sorted(chosen)


def compare(
    target: Target,
    filler: Filler,
    grid: Grid,
    tasks: Sequence[int],
    workers: Workers,
    retries: Retries,
    report: Callable[[int], None] | None = None,
    unequal: Unequal | None = None,
) -> list[Difference]:
    """The regions that differ among the numbered ones, in order; `report` gets the bytes compared so far.

    `unequal` gets every part that differs, and which of its elements do, from several threads.
    """
    differences: list[Difference] = []
    gate = workers.gate()

    def worker(stopping: Stopping) -> Callable[[int], int]:
        stored, made = Scratch(part=filler.region_bytes), Scratch(filler.buffer, filler.region_bytes)

        def compare_region(task: int) -> int:
            number, region = tasks[task], grid[tasks[task]]
            try:
                parts = retries.attempt(
                    lambda: differing_parts(target, filler, region, (stored, made), stopping, gate, unequal), stopping
                )
                reason = ""
            except Unreadable as error:
                if target.remote and isinstance(error.cause, OSError | StoreError):  # the network, not this region
                    raise error.cause from None
                whole = int(np.prod(extent(region), dtype=object))  # what cannot be read differs as a whole
                parts, reason = [(whole, tuple(start for start, _ in region))], one_line(error.cause)
                if unequal is not None:
                    unequal(region, np.ones(extent(region), np.bool_))
            if parts:
                elements, first = sum(count for count, _ in parts), target.index_of(parts[0][1])
                differences.append(Difference(number, target.where(region), elements, first, reason))
            return target.bytes_of(region)

        def compare_batch(number: int) -> int:
            if len(batches[number]) == 1:  # a region of a large tensor, or a small one between others that are not
                return compare_region(batches[number][0])
            regions = Picked(grid, batches[number])
            try:
                equal = retries.attempt(lambda: same(target, filler, regions, (stored, made), stopping, gate), stopping)
            except Unreadable:
                equal = False
            if equal:
                return sum(map(target.bytes_of, regions))
            return sum(map(compare_region, batches[number]))  # it says which elements differ

        return compare_batch if batches else compare_region

    whole = workers.together and isinstance(tasks, range) and tasks == range(len(grid))
    batches = target.batches(grid) if whole else ()
    told = None if report is None else (lambda size, front: report(size))
    ThreadExecutor(workers.requests).run(worker, len(batches or tasks), told)
    return sorted(differences, key=lambda difference: difference.region)


def differing_parts(
    target: Target,
    filler: Filler,
    region: Region,
    buffers: tuple[Scratch, Scratch],
    stopping: Stopping,
    gate: Gate,
    unequal: Unequal | None = None,
) -> list[tuple[int, Shape]]:
    """The parts of a region that differ: how many elements of each, and the index of the first; raises Unreadable."""
    parts = []
    stored, made = buffers
    with gate.region(stopping):
        values = target.stored(region, stored)
        while (read := next_part(values)) is not None:
            if stopping():
                raise Stopped
            with gate.making():
                count, first = differing(*read, filler, made, unequal)
            if first is not None:
                parts.append((count, first))
    return parts


def same(
    target: Target,
    filler: Filler,
    regions: Sequence[Region],
    buffers: tuple[Scratch, Scratch],
    stopping: Stopping,
    gate: Gate,
) -> bool:
    """Whether a batch of regions holds the values that it should; raises Unreadable."""
    stored, made = buffers
    with gate.region(stopping):
        values = target.stored_batch(regions, stored)
        while (read := next_part(values)) is not None:
            if stopping():
                raise Stopped
            with gate.making():
                if differing(*read, filler, made)[1] is not None:
                    return False
    return True


def next_part(parts: Iterator[tuple[Region, Array]]) -> tuple[Region, Array] | None:
    """The next part of what is stored, or None at the end; raises Unreadable."""
    try:
        return next(parts, None)
    except (Stopped, FillError):
        raise
    except Exception as error:  # codecs raise errors of many kinds, of damaged sizes even MemoryError
        raise Unreadable(error) from error


def differing(
    part: Region, values: Array, filler: Filler, scratch: Scratch, told: Unequal | None = None
) -> tuple[int, Shape | None]:
    """How many elements of a part differ, and the index of the first."""
    made = scratch.array(values.shape, values.dtype)
    filler(part, made)
    bits = dtypes.unsigned(values.dtype)
    unequal = np.ascontiguousarray(values).reshape(-1).view(bits) != made.reshape(-1).view(bits)
    count = int(np.count_nonzero(unequal))
    if count == 0:
        return 0, None
    if told is not None:
        told(part, unequal.reshape(extent(part)))
    first = np.unravel_index(int(np.argmax(unequal)), extent(part))
    return count, tuple(start + int(at) for (start, _), at in zip(part, first, strict=True))
