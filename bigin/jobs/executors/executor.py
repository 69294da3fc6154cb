"""What every executor offers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from bigin.core.threads import Stopping

Task = Callable[[int], int]  # does the task of a number; returns the bytes that it made
Start = Callable[[Stopping], Task]  # called once by every worker, which then does one task at a time
TaskProgress = Callable[[int, int], None]  # bytes made so far, and how many tasks at the front are all done


class Executor(Protocol):
    """Runs numbered tasks, each once, in the order of their numbers as far as workers are free.

    A task is named by its number alone: any two attempts at it write the same bytes. The first exception stops the
    others, and is raised once.
    """

    def run(self, start: Start, tasks: int, report: TaskProgress | None = None) -> int:
        """Runs so many tasks; returns the bytes that they made. `report` is called from the calling thread."""
