"""Parts through anything that has submit(function, *arguments) -> Future: processes, dask, mpi4py, a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from bigin.jobs.executors.waiting import cancel, done_of

REPORT = 0.1  # seconds between two reports of progress


def run_submitted(
    executor: Any, function: Callable[[Any], int], parts: Sequence[Any], report: Callable[[int, int], None]
) -> int:
    """Runs a function for every part; returns the sum of the bytes that it returned.

    `report` is called from the calling thread with the bytes made so far, and how many parts at the front are all done.
    The first exception cancels the parts that have not started, and is raised.
    """
    futures = [executor.submit(function, part) for part in parts]
    left = set(futures)
    try:
        while left:
            done = done_of(left, REPORT)
            left -= done
            for future in done:
                future.result()
            size = sum(future.result() for future in futures if future not in left)
            front = next((i for i, future in enumerate(futures) if future in left), len(futures))
            report(size, front)
    except BaseException:
        cancel(left)
        raise
    return sum(future.result() for future in futures)
