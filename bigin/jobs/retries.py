"""What goes wrong while values are stored: what may pass if it is tried again, and what to say of the rest."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from bigin.core.disk import FULL
from bigin.core.errors import FillError, InputError
from bigin.core.handlers import let_through
from bigin.core.threads import Stopped

Result = TypeVar("Result")

ATTEMPTS = 6  # of one region
PAUSE = 0.1  # seconds before the second attempt; each further one waits twice as long: 3.1 s in all

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


def may_pass(error: Exception, remote: bool) -> bool:
    """Whether another attempt may succeed. On a network, any error that is no plain mistake may be a passing one."""
    if isinstance(error, Unreadable):
        error = error.cause
    if isinstance(error, LASTING):
        return False
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in PASSING
    return remote or isinstance(error, ConnectionError | TimeoutError)


class Retries:
    """Counts the attempts of all workers that had to be made again."""

    def __init__(self, remote: bool, stopping: Callable[[], bool] = lambda: False) -> None:
        self.remote = remote
        self.stopping = stopping
        self.count = 0
        self.last = ""
        self._lock = threading.Lock()

    def attempt(self, function: Callable[[], Result], stopping: Callable[[], bool] | None = None) -> Result:
        """A function's result; errors that may pass are waited out, a bounded number of times."""
        for attempt in range(ATTEMPTS):
            try:
                return function()
            except Exception as error:
                let_through(error)
                if attempt == ATTEMPTS - 1 or not may_pass(error, self.remote):
                    raise
                with self._lock:
                    self.count += 1
                    self.last = one_line(error)
                self._pause(PAUSE * 2**attempt, stopping or self.stopping)
        raise AssertionError

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
    if not isinstance(error, Exception) or (isinstance(error, OSError | ValueError) and text):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
