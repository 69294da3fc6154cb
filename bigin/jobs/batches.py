"""Small regions of a plan that are made together, so that they share what a call costs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


class Batches(Sequence[range]):
    """The positions of a plan in batches, each of which is one task; without batches each position is a task.

    count: the number of positions. batches: stretches of the grid's regions, one behind the other, up to the last
    region. The first `alone` positions are regions of their own, and the others those from region `start` on, of which
    the ones before the next whole batch are regions of their own, too. Computed, not stored: an array may have billions
    of chunks.
    """

    def __init__(self, count: int, batches: Sequence[range] = (), alone: int = 0, start: int = 0) -> None:
        self._batches = batches
        self._left = bisect_left(batches, start, key=lambda batch: batch.start)
        self._shift = alone - start
        whole = self._left < len(batches)
        self._alone = batches[self._left].start + self._shift if whole else count

    def __len__(self) -> int:
        return self._alone + len(self._batches) - self._left

    def __getitem__(self, task: int) -> range:  # type: ignore[override]
        if task < self._alone:
            return range(task, task + 1)
        batch = self._batches[self._left + task - self._alone]
        return range(batch.start + self._shift, batch.stop + self._shift)

    def front(self, tasks: int) -> int:
        """How many positions at the front so many tasks take."""
        return self[tasks - 1].stop if tasks else 0
