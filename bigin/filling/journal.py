"""The journal of a fill: how far it has come, kept while it goes on, so that another process can go on from there."""

from __future__ import annotations

import threading
import time

from bigin.regions import Grid
from bigin.targets.base import Target

FIRST = 0.25  # seconds until the first checkpoint, and at least between two
SHARE = 10  # a checkpoint waits so many times as long as the last one took


class Journal:
    """Keeps, from a thread of its own, how many regions at the front of the grid have reached the disk.

    A checkpoint brings the data to the disk before it says so. It works beside the workers, which never wait for it.
    """

    def __init__(self, target: Target, grid: Grid, start: int) -> None:
        self._target = target
        self._grid = grid
        self._reached = self.kept = start
        self._wake = threading.Condition()
        self._stopping = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        if target.keeps_progress:  # a thread that never ran would hold on to the target, and an array in memory with it
            self._thread = threading.Thread(target=self._work, name="bigin-journal", daemon=True)
            self._thread.start()

    def reach(self, front: int) -> None:
        """So many regions at the front are stored, though perhaps not on the disk."""
        self._reached = front
        self.check()

    def check(self) -> None:
        """Raises what a checkpoint raised."""
        if self._error is not None:
            raise self._error

    def stop(self, wait: bool = True) -> None:
        """The end of checkpoints. Without waiting, one that is under way may still complete."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if wait and self._thread is not None:
            self._thread.join()

    def checkpoint(self) -> None:
        """Keeps how far the fill has come."""
        reached = self._reached
        if reached > self.kept:
            self._target.checkpoint(progress(self._grid, reached))
            self.kept = reached

    def _work(self) -> None:
        pause = FIRST
        try:
            while not self._wait(pause):
                start = time.perf_counter()
                self.checkpoint()
                pause = max(FIRST, SHARE * (time.perf_counter() - start))
        except BaseException as error:  # carried to the fill, at its next report
            self._error = error

    def _wait(self, seconds: float) -> bool:
        with self._wake:
            return self._wake.wait_for(lambda: self._stopping, seconds)


def progress(grid: Grid, reached: int) -> dict[str, object]:
    """What the journal says: the regions at the front of which grid are stored."""
    return {"shape": list(grid.shape), "block": list(grid.block), "regions": len(grid), "done": reached}


def done_regions(target: Target, grid: Grid) -> int:
    """How many regions at the front the journal of an incomplete fill says are stored; 0 where it speaks of another."""
    kept = target.progress() or {}
    reached = kept.get("done")
    if not isinstance(reached, int) or isinstance(reached, bool) or not 0 <= reached <= len(grid):
        return 0
    return reached if kept == progress(grid, reached) else 0
