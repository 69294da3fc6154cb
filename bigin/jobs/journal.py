"""The journal of a fill: its progress, kept while it runs, from which another process can continue."""

from __future__ import annotations

import threading
import time

from bigin.core.disk import boot
from bigin.core.regions import Grid
from bigin.core.threads import leave
from bigin.jobs.retries import Retries
from bigin.targets.target import Target

FIRST = 1.0  # seconds until the first checkpoint, and at least between two
SHARE = 20  # the pause before a checkpoint, as a multiple of the time that the last one took


class Journal:
    """Keeps, from a thread of its own, how many regions at the front of the grid have reached the disk.

    A checkpoint brings the data to the disk before it says so. It works beside the workers, which never wait for it.
    `fill` identifies the fill. Where the target keeps no progress, nothing is kept.
    """

    def __init__(self, target: Target, grid: Grid, start: int, fill: str, retries: Retries) -> None:
        self._target = target
        self._grid = grid
        self._fill = fill
        self._retries = retries
        self._reached = self.kept = start
        self._wake = threading.Condition()
        self._stopping = False
        self._ended = threading.Event()
        self._error: BaseException | None = None
        if target.ledger is not None:  # a thread that never runs would hold on to the target, and to an array in memory
            threading.Thread(target=self._work, name="bigin-journal", daemon=True).start()
        else:
            self._ended.set()

    def reach(self, front: int) -> None:
        """Notes how many leading regions are stored, though perhaps not yet on the disk."""
        self._reached = front
        self.check()

    def check(self) -> None:
        """Raises what a checkpoint raised."""
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Ends the checkpoints, and waits for one that is running."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._ended.wait()

    def abandon(self) -> None:
        """Ends the checkpoints after an interruption; does not wait for long."""
        self._stopping = True  # not through the lock, which the interrupted thread may hold
        leave(self._ended)

    def checkpoint(self) -> None:
        """Keeps the progress."""
        reached, ledger = self._reached, self._target.ledger
        if reached > self.kept and ledger is not None:
            kept = progress(self._target, self._grid, reached, self._fill)
            self._retries.attempt(lambda: ledger.checkpoint(kept), lambda: self._stopping)
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
        finally:
            self._ended.set()

    def _wait(self, seconds: float) -> bool:
        with self._wake:
            return self._wake.wait_for(lambda: self._stopping, seconds)


def progress(target: Target, grid: Grid, reached: int, fill: str) -> dict[str, object]:
    """What the journal says: the regions at the front of which grid are stored, by which fill.

    Where a fill does not wait for the disk, that holds as long as the system runs, and the journal says which run that
    was.
    """
    return {
        "shape": list(grid.shape),
        "block": list(grid.block),
        "regions": len(grid),
        "done": reached,
        "fill": fill,
        "boot": "" if target.sync else boot(),
    }


def done_regions(target: Target, grid: Grid, fill: str) -> int:
    """How many regions at the front the journal of an incomplete fill says are stored; 0 where it speaks of another."""
    kept = (target.ledger.progress() if target.ledger is not None else None) or {}
    reached = kept.get("done")
    if not isinstance(reached, int) or isinstance(reached, bool) or not 0 <= reached <= len(grid):
        return 0
    said = progress(target, grid, reached, fill)
    return reached if kept in (said | {"boot": ""}, said | {"boot": boot()}) else 0
