"""The three standard streams, any of which may be closed, full, or of another encoding than UTF-8."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class OutputError(Exception):
    """The standard output cannot be written."""


class Stream:
    """A standard stream as click, rich and print use it, whose errors are told apart from those of a target.

    Characters that its encoding lacks are replaced. What cannot be written to the standard error is dropped, as there
    is nobody to tell, and a fill must not end for it.
    """

    def __init__(self, stream: Any, name: str, *, drop: bool) -> None:
        self._stream = stream
        self._name = name
        self._drop = drop

    def write(self, text: str) -> int:
        """Write a text."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        with self._named():
            self._stream.write(text.encode(encoding, "replace").decode(encoding, "replace"))
        return len(text)

    def flush(self) -> None:
        """Write what is buffered."""
        with self._named():
            self._stream.flush()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            if not self._drop:
                raise
        except OSError as error:
            if not self._drop:
                raise OutputError(f"{self._name}: {error.strerror or error}") from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Make the standard streams safe to use, for as long as a command runs."""
    open_closed()
    held = sys.stdout, sys.stderr
    sys.stdout = Stream(sys.stdout or open(os.devnull, "w"), "the standard output", drop=False)  # noqa: SIM115
    sys.stderr = Stream(sys.stderr or open(os.devnull, "w"), "the standard error", drop=True)  # noqa: SIM115
    try:
        yield
    finally:
        sys.stdout, sys.stderr = held


def open_closed() -> None:
    """Open the null device for every standard stream that is closed.

    The next file that is opened would get its number, and with it whatever a library writes to that stream.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
