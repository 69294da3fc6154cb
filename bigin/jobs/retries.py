"""Errors while values are stored: which of them may pass if they are tried again, and the messages of the others."""

from __future__ import annotations

import errno
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from bigin.core.disk import FULL
from bigin.core.errors import DamagedError, FillError, InputError, StoreError
from bigin.core.handlers import let_through
from bigin.core.threads import Stopped

Result = TypeVar("Result")

log = logging.getLogger(__name__)

ATTEMPTS = 6  # of one region
PAUSE = 0.1  # seconds before the second attempt; each further one waits twice as long: 3.1 s in all
THROTTLED = 120.0  # seconds in which a store that asks for fewer requests is asked again
LONGEST_PAUSE = 15.0  # seconds between two of those attempts, at most

LONGEST = 300  # characters of an error's text
PASSING = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.EINTR,
    errno.ECONNABORTED,
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
LASTING = (
    FillError,
    InputError,
    Stopped,
    MemoryError,
    PermissionError,
    NotImplementedError,
    TypeError,
    AttributeError,
    AssertionError,
)


class Unreadable(Exception):  # noqa: N818 (the error is its cause)
    """Something that is stored could not be read or decoded."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


def may_pass(error: Exception, *, remote: bool) -> bool:
    """Whether another attempt may succeed. On a network, any error that is no plain mistake may be a passing one."""
    if isinstance(error, Unreadable):
        error = error.cause
    if isinstance(error, StoreError):
        return error.passes
    if isinstance(error, LASTING):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in PASSING
    return remote or isinstance(error, ConnectionError | TimeoutError)


def is_final(error: Exception) -> bool:
    """Whether no other attempt at the same fill can succeed, so that what it has stored is of no use."""
    return isinstance(error, DamagedError) or (isinstance(error, StoreError) and not error.passes)


def is_throttling(error: Exception) -> bool:
    """Whether a store asks for fewer requests: 429, or 503 Slow Down."""
    if isinstance(error, Unreadable):
        error = error.cause
    return isinstance(error, StoreError) and error.throttled


class Retries:
    """Counts the attempts of all workers that had to be made again."""

    def __init__(self, *, remote: bool, stopping: Callable[[], bool] = lambda: False) -> None:
        self.remote = remote
        self.stopping = stopping
        self.count = 0
        self.last = ""
        self._lock = threading.Lock()

    def attempt(self, function: Callable[[], Result], stopping: Callable[[], bool] | None = None) -> Result:
        """A function's result; errors that may pass are waited out, a bounded number of times."""
        failed = throttled = 0
        until = 0.0  # when a store that asks for fewer requests has been asked for long enough
        while True:
            try:
                return function()
            except Exception as error:
                let_through(error)
                if not may_pass(error, remote=self.remote):
                    raise
                if is_throttling(error):
                    now = time.monotonic()
                    until = until or now + THROTTLED
                    if now >= until:
                        raise
                    # Of all times up to the longest, so that those who were refused together do not come back so.
                    pause = random.uniform(PAUSE, min(LONGEST_PAUSE, PAUSE * 2 ** (throttled + 1)))
                    throttled += 1
                elif failed == ATTEMPTS - 1:
                    raise
                else:
                    pause = PAUSE * 2**failed
                    failed += 1
                with self._lock:
                    self.count += 1
                    self.last = one_line(error)
                log.info("tried again in %.1f s: %s", pause, self.last)
                self._pause(pause, stopping or self.stopping)

    def _pause(self, seconds: float, stopping: Callable[[], bool]) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if stopping():
                raise Stopped
            time.sleep(min(left, 0.05))


def explain(error: Exception, label: str) -> str:
    """One line: where, what, and what to do."""
    if isinstance(error, OSError) and error.errno in FULL:
        reason = f"{FULL[error.errno]} ({error.strerror}); make room and rerun the same command"
    elif isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename and str(error.filename) not in label else ""
        reason = f"{place}{one_line(error.strerror or error)}; fix this and rerun the same command"
    else:
        reason = f"{one_line(error)}; fix this and rerun the same command"
    return f"{label}: {reason}"


def one_line(error: object) -> str:
    """An error's text in a line of bounded length, with its type where that says more."""
    text = " ".join(str(error).split())
    text = text if len(text) <= LONGEST else text[:LONGEST] + "..."
    if not isinstance(error, Exception) or (isinstance(error, OSError | ValueError | StoreError) and text):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
