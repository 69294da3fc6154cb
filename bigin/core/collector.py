"""Python's collector of cycles, paused while many objects are made that all stay."""

from __future__ import annotations

import gc
import threading
from contextlib import ContextDecorator
from typing import Any, Self

_lock = threading.Lock()
_pausing = 0
_enabled = False


class paused(ContextDecorator):  # noqa: N801 (a decorator)
    """While a function runs: the collector would look through the objects of 100,000 tensors again and again.

    It took a third of the time of opening such a checkpoint. Threads may pause it at once; the last one starts it.
    """

    def __enter__(self) -> Self:
        global _pausing, _enabled
        with _lock:
            if _pausing == 0:
                _enabled = gc.isenabled()
                gc.disable()
            _pausing += 1
        return self

    def __exit__(self, *error: Any) -> None:
        global _pausing
        with _lock:
            _pausing -= 1
            if _pausing == 0 and _enabled:
                gc.enable()
