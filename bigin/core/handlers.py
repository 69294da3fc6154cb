"""Exceptions that handlers of signals raise, as timeouts do: they are the caller's, not of what was at work."""

from __future__ import annotations

import signal
from functools import partial
from typing import Any


def let_through(error: Exception) -> None:
    """Raises an exception again if a handler of a signal raised it."""
    handlers = {_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    traceback = error.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_code in handlers:
            raise error
        traceback = traceback.tb_next


def _code(handler: Any) -> Any:
    """The code of a handler in Python; None for the system's own."""
    while isinstance(handler, partial):
        handler = handler.func
    if not callable(handler):
        return None
    calls = (vars(of).get("__call__") for of in type(handler).__mro__)  # not the class's own call, which makes objects
    return getattr(handler, "__code__", None) or getattr(next(filter(None, calls), None), "__code__", None)
