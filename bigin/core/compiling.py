"""How long this process has compiled kernels, and saying so while it does."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

log = logging.getLogger(__name__)

LONG = 1.0  # seconds of compiling before it is said


class Clock:
    """Counts the seconds of compiling; `tell` is called once, from another thread, when they become many."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.tell: Callable[[], None] | None = None
        self._depth = 0
        self._start = 0.0
        self._timer: threading.Timer | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Runs the clock meanwhile."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def begin(self) -> None:
        """A kernel, or a function that it calls, begins to compile. Numba compiles in one thread at a time."""
        self._depth += 1
        if self._depth > 1:
            return
        self._start = time.perf_counter()
        if self.tell is not None:
            self._timer = threading.Timer(max(0.0, LONG - self.seconds), self._tell_once)
            self._timer.daemon = True
            self._timer.start()

    def end(self) -> None:
        """It is compiled, or has failed to."""
        self._depth -= 1
        if self._depth > 0:
            return
        spent = time.perf_counter() - self._start
        self.seconds += spent
        log.info("compiled a kernel in %.2f s", spent)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell_once(self) -> None:
        tell, self.tell = self.tell, None
        if tell is not None:
            tell()


clock = Clock()
