"""Processes of this machine, started again where one of them is killed."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from typing import Any


class Processes:
    """So many processes. A pool of concurrent.futures breaks when one of its processes is lost: see `renew`."""

    def __init__(self, count: int) -> None:
        self._max_workers = count
        self._lock = threading.Lock()
        self._pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        # Not fork: threads and numba's locks would be copied as they are.
        return ProcessPoolExecutor(self._max_workers, mp_context=multiprocessing.get_context("spawn"))

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Runs a function in one of the processes."""
        try:
            return self._pool.submit(function, *arguments)
        except BrokenExecutor:
            self.renew()
            return self._pool.submit(function, *arguments)

    def renew(self) -> None:
        """Starts other processes, where one was lost."""
        with self._lock:
            if getattr(self._pool, "_broken", False):
                self._pool.shutdown(wait=False)
                self._pool = self._new()

    def shutdown(self) -> None:
        """Ends the processes."""
        self._pool.shutdown(cancel_futures=True)
