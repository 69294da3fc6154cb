"""Which rows of a table no longer hold their initial values."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from bigin.core.html import card
from bigin.core.record import Record
from bigin.core.regions import Grid, Region, stretches
from bigin.core.text import agree, counted, size_text
from bigin.fillers.filler import Array
from bigin.jobs.compare import BUFFERS, Difference, Sample, Verification, compare
from bigin.jobs.job import Job
from bigin.jobs.run import Progress, set_up
from bigin.jobs.workers import workers_within

BLOCK = 1 << 20  # rows that are listed together
LISTED = 1000  # stretches of rows that JSON has


class RowSet:
    """A set of rows of a table, in one bit a row.

    Example:
        >>> table = bigin.EmbeddingTable.create("users.npy", 1000, 64, "normal", std=0.01, seed=3)
        >>> table.update([5, 6, 900], np.ones((3, 64)))
        3
        >>> changed = table.verify().changed
        >>> len(changed), 5 in changed, changed.ids(), list(changed.stretches())
        (3, True, array([  5,   6, 900]), [(5, 7), (900, 901)])
        >>> table.reset(changed.ids())
        3
    """

    def __init__(self, size: int) -> None:
        self._bits = np.zeros(-(-size // 8), np.uint8)
        self._size = size
        self._lock = threading.Lock()

    def add(self, start: int, chosen: Array) -> None:
        """Add rows, from any thread.

        Args:
            start: a row.
            chosen: for it and each that follows, whether it is added.
        """
        first, gap = divmod(start, 8)
        packed = np.packbits(np.concatenate([np.zeros(gap, np.bool_), chosen]))
        with self._lock:
            self._bits[first : first + packed.size] |= packed

    def __len__(self) -> int:
        return int(np.bitwise_count(self._bits).sum(dtype=np.int64))

    def __contains__(self, row: int) -> bool:
        return 0 <= row < self._size and bool(self.of(row, row + 1)[0])

    def __repr__(self) -> str:
        return f"{counted(len(self), 'row')}: {self.text()}" if len(self) else "no rows"

    def _repr_html_(self) -> str:
        return card("rows of a table", {"rows": f"{len(self):,} of {self._size:,}", "which": self.text()})

    def of(self, start: int, stop: int) -> Array:
        """Whether the set has each of the rows from `start` to `stop - 1`.

        Args:
            start, stop: rows of the table.

        Returns:
            A boolean for each.
        """
        first = start // 8
        flags = np.unpackbits(self._bits[first : -(-stop // 8)])
        return flags[start - 8 * first : stop - 8 * first].view(np.bool_)

    def ids(self) -> Array:
        """The rows, in ascending order.

        Returns:
            An array of int64.
        """
        found = [block + np.flatnonzero(self.of(block, min(block + BLOCK, self._size))) for block in self._blocks()]
        return np.concatenate(found).astype(np.int64, copy=False) if found else np.empty(0, np.int64)

    def stretches(self) -> Iterator[tuple[int, int]]:
        """The rows as ranges of consecutive ones.

        Returns:
            An iterator over (first, last + 1).
        """
        held: tuple[int, int] | None = None
        for block in self._blocks():
            for start, stop in stretches(block + np.flatnonzero(self.of(block, min(block + BLOCK, self._size)))):
                if held is not None and held[1] == start:
                    held = held[0], stop
                    continue
                if held is not None:
                    yield held
                held = start, stop
        if held is not None:
            yield held

    def first(self, count: int) -> tuple[list[tuple[int, int]], bool]:
        """The first ranges.

        Args:
            count: how many at most.

        Returns:
            A list of (first, last + 1), and whether there are more.
        """
        found: list[tuple[int, int]] = []
        for stretch in self.stretches():
            if len(found) == count:
                return found, True
            found.append(stretch)
        return found, False

    def text(self, count: int = 20) -> str:
        """The first ranges as `bigin table rows` takes them: 5,7,9:12.

        Args:
            count: how many at most.

        Returns:
            The text, which ends in ... where there are more.
        """
        found, more = self.first(count)
        parts = [str(start) if stop == start + 1 else f"{start}:{stop}" for start, stop in found]
        return ",".join(parts) + (",..." if more else "")

    def _blocks(self) -> range:
        return range(0, self._size, BLOCK)


@dataclass(frozen=True)
class TableVerification(Verification):
    """The result of a verification of a table.

    Attributes:
        rows: how many rows there are in the regions that were compared.
        changed: the rows among them that differ, a RowSet.
    """

    rows: int = 0
    changed: RowSet = field(default_factory=lambda: RowSet(0), repr=False, compare=False)

    def _more(self) -> dict[str, str]:
        which = f": {self.changed.text()}" if len(self.changed) else ""
        return {"rows that differ": f"{len(self.changed):,} of {self.rows:,}{which}"}

    def as_dict(self) -> dict[str, Any]:
        """The verification as `bigin table verify --json` prints it.

        Returns:
            A dict of what JSON can hold; of the rows that differ the first 1000 stretches, as [first, last + 1].
        """
        plain = {key: value for key, value in vars(self).items() if key != "changed"}
        found, more = self.changed.first(LISTED)
        changed = {"count": len(self.changed), "stretches": [list(stretch) for stretch in found], "more": more}
        return plain | {
            "differences": [asdict(difference) for difference in self.differences],
            "equal": self.equal,
            "changed": changed,
        }


@dataclass(frozen=True)
class TableStatistics:
    """The number of rows of a table that differ from their initial values.

    Attributes:
        target: the table's label.
        rows: how many rows the table has.
        compared: how many of them were compared.
        changed: how many of those differ.
        error: the standard error of `fraction`; 0 where all rows were compared.
        nbytes: bytes of values that were compared.
        seconds: the time that it took.
    """

    target: str
    rows: int
    compared: int
    changed: int
    error: float
    nbytes: int
    seconds: float

    @property
    def fraction(self) -> float:
        """The share of the rows that differ; of a sample, the estimate for the table."""
        return self.changed / self.compared if self.compared else 0.0

    def _repr_html_(self) -> str:
        error = f", with a standard error of {100 * self.error:.2g}%" if self.compared < self.rows else ""
        differ = agree(self.changed, "differs", "differ")
        facts = {
            "trained": f"{100 * self.fraction:.3g}% of the rows{error}",
            "rows": f"{self.changed:,} of {counted(self.compared, 'compared row')} {differ} from their initial values",
            "table": counted(self.rows, "row"),
            "read": f"{size_text(self.nbytes)} in {self.seconds:.2f} s",
        }
        return card(self.target, facts)

    def as_dict(self) -> dict[str, Any]:
        """The statistics as `bigin table stats --json` prints them.

        Returns:
            A dict of what JSON can hold.
        """
        return asdict(self) | {"fraction": self.fraction}

    def __str__(self) -> str:
        share = f"{100 * self.fraction:.3g}%"
        if self.compared == self.rows:
            return f"{self.target}: {share} of rows trained ({self.changed:,} of {self.rows:,})"
        return (
            f"{self.target}: {share} of rows trained, with a standard error of {100 * self.error:.2g}% "
            f"({self.changed:,} of {counted(self.compared, 'row')} compared, of {self.rows:,})"
        )


@dataclass(frozen=True)
class Compared:
    """Stretches of a table's rows that were compared with their initial values."""

    grid: Grid
    bands: Sequence[int]  # regions side by side hold whole rows: a band
    differences: list[Difference]
    changed: RowSet
    nbytes: int
    seconds: float

    def rows_of(self, band: int) -> tuple[int, int]:
        """The rows of a band."""
        return self.grid[band * self.grid.counts[1]][0]

    @property
    def rows(self) -> int:
        """How many rows were compared."""
        return sum(stop - start for start, stop in map(self.rows_of, self.bands))

    def error(self) -> float:
        """The standard error of the share of rows that differ, of bands drawn without replacement.

        The ratio estimator of cluster sampling (Cochran 1977, section 9.2 and 6.3).
        """
        total, count = self.grid.counts[0], len(self.bands)
        if count == total:
            return 0.0
        sizes = np.array([stop - start for start, stop in map(self.rows_of, self.bands)], np.float64)
        found = np.array([np.count_nonzero(self.changed.of(*self.rows_of(band))) for band in self.bands], np.float64)
        left = found - found.sum() / sizes.sum() * sizes
        variance = (1 - count / total) * (left @ left) / (count - 1) / count
        return float(math.sqrt(variance) / sizes.mean())


def compare_rows(job: Job, sample: Sample, progress: Progress | None, *, least: int = 1) -> Compared:
    """Makes the rows of a sample of the bands (at least so many) again and compares them with what the table holds."""
    target, filler = job.target, job.filler
    workers = workers_within(target, filler, job.limits, BUFFERS)
    grid = target.grid(filler.region_bytes)
    across = grid.counts[1]
    bands = replace(sample, fraction=min(1, max(sample.fraction, least / max(1, grid.counts[0])))).of(grid.counts[0])
    if target.remote and len(bands) < grid.counts[0]:  # what a store has lost is listed, and not left to chance
        bands = sorted({*bands, *(number // across for number in job.retries.attempt(lambda: target.unstored(grid)))})
    whole = len(bands) == grid.counts[0]
    tasks = range(len(grid)) if whole else [band * across + i for band in bands for i in range(across)]
    changed = RowSet(target.shape[0])

    def unequal(part: Region, differs: Array) -> None:
        changed.add(part[0][0], np.asarray(differs.any(axis=1)))

    start = time.perf_counter()
    set_up(target, filler, workers, job.limits, None)
    total = target.nbytes if whole else sum(target.bytes_of(grid[task]) for task in tasks)
    told = None if progress is None else (lambda size: progress(min(size, total), total))
    differences = compare(target, filler, grid, tasks, workers, job.retries, told, unequal)
    return Compared(grid, bands, differences, changed, total, time.perf_counter() - start)


def verification(job: Job, found: Compared, record: Record) -> TableVerification:
    """What was compared, as a verification."""
    regions = len(found.bands) * found.grid.counts[1]
    return TableVerification(
        job.target.label,
        record,
        regions,
        len(found.grid),
        found.nbytes,
        found.seconds,
        found.differences,
        rows=found.rows,
        changed=found.changed,
    )


def statistics(job: Job, found: Compared) -> TableStatistics:
    """What was compared, in numbers."""
    rows = job.target.shape[0]
    return TableStatistics(
        job.target.label, rows, found.rows, len(found.changed), found.error(), found.nbytes, found.seconds
    )
