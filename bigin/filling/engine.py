"""What runs a plan: threads, each with one buffer, taking the next region until none is left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from bigin.filling.floats import default_modes

Task = TypeVar("Task")
Result = TypeVar("Result")

REPORT = 0.1  # seconds between two reports of progress


def run_threads(
    tasks: Sequence[Task],
    make_worker: Callable[[], Callable[[Task], int]],
    threads: int,
    report: Callable[[int], None] | None = None,
) -> None:
    """Runs every task once. A worker does one task at a time and returns how many bytes it made.

    The first exception stops the others after the task they are at, and is raised once; so is an interruption of the
    calling thread, from which `report` is called with the bytes made so far.
    """
    state = _State(len(tasks))

    def work() -> None:
        try:
            with default_modes():
                worker = make_worker()
                while (index := state.take()) is not None:
                    state.add(worker(tasks[index]))
        except BaseException as error:  # carried to the calling thread
            state.fail(error)

    pool = [threading.Thread(target=work, name=f"bigin-{i}") for i in range(max(1, min(threads, len(tasks))))]
    for thread in pool:
        thread.start()
    try:
        for thread in pool:
            while thread.is_alive():
                thread.join(REPORT)
                if report is not None:
                    report(state.done)
    finally:
        state.stop()
        for thread in pool:
            thread.join()
    if state.error is not None:
        raise state.error


def map_threads(function: Callable[[Task], Result], tasks: Sequence[Task], threads: int) -> list[Result]:
    """The results of a function for every task, in the tasks' order."""
    results: list[Any] = [None] * len(tasks)

    def work(index: int) -> int:
        results[index] = function(tasks[index])
        return 1

    run_threads(range(len(tasks)), lambda: work, threads)
    return results


class _State:
    """What the threads share."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._next = 0
        self._count = count
        self.done = 0
        self.error: BaseException | None = None

    def take(self) -> int | None:
        with self._lock:
            if self._next >= self._count:
                return None
            self._next += 1
            return self._next - 1

    def add(self, size: int) -> None:
        with self._lock:
            self.done += size

    def stop(self) -> None:
        with self._lock:
            self._next = self._count

    def fail(self, error: BaseException) -> None:
        self.stop()
        with self._lock:
            self.error = self.error or error
