"""Threads of this process."""

from __future__ import annotations

from dataclasses import dataclass

from bigin.core.threads import run_threads
from bigin.jobs.executors.executor import Start, TaskProgress


@dataclass(frozen=True)
class ThreadExecutor:
    """So many threads, each of which takes the next task until none is left."""

    threads: int

    def run(self, start: Start, tasks: int, report: TaskProgress | None = None) -> int:
        """Runs the tasks; see Executor."""
        return run_threads(range(tasks), start, self.threads, report)
