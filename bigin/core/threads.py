"""What runs a plan: threads, each with one buffer, taking the next region until none is left."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from bigin.core.floats import default_modes

Task = TypeVar("Task")
Result = TypeVar("Result")
Stopping = Callable[[], bool]  # whether a worker should give up the task that it is at

REPORT = 0.1  # seconds between two reports of progress
PATIENCE = 0.6  # seconds that an interruption waits for what is at work


class Stopped(Exception):  # noqa: N818 (not an error: another one, or an interruption, is the reason)
    """A worker gave up its task because it was asked to."""


def run_threads(
    tasks: Sequence[Task],
    make_worker: Callable[[Stopping], Callable[[Task], int]],
    threads: int,
    report: Callable[[int, int], None] | None = None,
) -> int:
    """Runs every task once; returns the bytes made. A worker does one task at a time and returns how many it made.

    The first exception stops the others, and is raised once. From the calling thread `report` is called with the bytes
    made so far, and how many tasks at the front are all done. An interruption of that thread waits for a moment only:
    see `after_stragglers`.
    """
    state = _State(len(tasks), max(1, min(threads, len(tasks))))

    def work() -> None:
        if not state.begin_one():
            return
        try:
            with default_modes():
                worker = make_worker(state.stopping)
                while (index := state.take()) is not None:
                    state.add(index, worker(tasks[index]))
        except Stopped:
            pass
        except BaseException as error:  # carried to the calling thread
            state.fail(error)
        finally:
            state.end_one()

    pool = [threading.Thread(target=work, name=f"bigin-{i}", daemon=True) for i in range(state.running)]
    try:
        for thread in pool:
            thread.start()
        try:
            while not state.ended.wait(REPORT):
                if report is not None:
                    report(state.size, state.front)
            if report is not None:
                report(state.size, state.front)
        finally:
            state.stop()
            if not isinstance(sys.exception(), KeyboardInterrupt):
                state.ended.wait()
    except BaseException:
        state.stop()
        state.begin_no_more()
        leave(state.ended)
        raise
    finally:
        if state.ended.is_set():
            for thread in pool:
                if thread.ident is not None:
                    thread.join()
    if state.error is not None:
        raise state.error
    return state.size


def map_threads(function: Callable[[Task], Result], tasks: Sequence[Task], threads: int) -> list[Result]:
    """The results of a function for every task, in the tasks' order."""
    results: list[Any] = [None] * len(tasks)

    def work(index: int) -> int:
        results[index] = function(tasks[index])
        return 1

    run_threads(range(len(tasks)), lambda stopping: work, threads)
    return results


def apart(function: Callable[[], object]) -> None:
    """Calls a function that may wait for long, for a disk say, where an interruption need not wait for it."""
    map_threads(lambda _: function(), [None], 1)


_stragglers: set[threading.Event] = set()  # the ends of what an interruption has left at work


def leave(ended: threading.Event) -> None:
    """Waits a moment for what has been asked to stop; if it takes longer, it goes on alone."""
    if not ended.wait(PATIENCE):
        _stragglers.add(ended)


def after_stragglers(function: Callable[[], None]) -> None:
    """Calls a function once nothing is at work that an interruption has left: as a rule at once."""
    for ended in [ended for ended in _stragglers if ended.is_set()]:
        _stragglers.discard(ended)
    waiting = list(_stragglers)

    def wait() -> None:
        for ended in waiting:
            ended.wait()
        function()

    if waiting:
        threading.Thread(target=wait, name="bigin-close", daemon=True).start()
    else:
        function()


class _State:
    """What the threads share.

    Their end is an event of its own: Thread.join that is interrupted takes a thread that runs for one that has ended.
    """

    def __init__(self, count: int, running: int) -> None:
        self._lock = threading.Lock()
        self._next = 0
        self._count = count
        self._stopping = False
        self._closed = False
        self._begun = 0
        self._threads = running
        self._ahead: set[int] = set()  # done, but behind a task that is not
        self.running = running
        self.ended = threading.Event()
        self.front = 0  # all tasks before this one are done
        self.size = 0
        self.error: BaseException | None = None

    def take(self) -> int | None:
        with self._lock:
            if self._stopping or self._next >= self._count:
                return None
            self._next += 1
            return self._next - 1

    def add(self, index: int, size: int) -> None:
        with self._lock:
            self.size += size
            self._ahead.add(index)
            while self.front in self._ahead:
                self._ahead.remove(self.front)
                self.front += 1

    def stopping(self) -> bool:
        return self._stopping

    def stop(self) -> None:
        self._stopping = True

    def fail(self, error: BaseException) -> None:
        self.stop()
        with self._lock:
            self.error = self.error or error

    def begin_one(self) -> bool:
        """Whether a thread may still begin."""
        with self._lock:
            self._begun += not self._closed
            return not self._closed

    def begin_no_more(self) -> None:
        """Nobody waits any longer for the threads that have not begun.

        An interruption of Thread.start leaves it open whether there is a thread that will begin in a moment.
        """
        with self._lock:
            self._closed = True
            self.running -= self._threads - self._begun
            if self.running == 0:
                self.ended.set()

    def end_one(self) -> None:
        with self._lock:
            self.running -= 1
            if self.running == 0:
                self.ended.set()
