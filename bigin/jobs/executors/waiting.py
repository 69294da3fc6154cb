"""Waiting for futures of any executor: those of concurrent.futures, and others that have done() and result()."""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

PAUSE = 0.02  # seconds between two polls of futures that cannot be waited for


def done_of(futures: Collection[Any], seconds: float) -> set[Any]:
    """Those that are done, once one is or so many seconds have passed."""
    if all(isinstance(future, Future) for future in futures):
        return set(wait(futures, timeout=seconds, return_when=FIRST_COMPLETED).done)
    end = time.monotonic() + seconds
    while not (done := {future for future in futures if future.done()}) and time.monotonic() < end:
        time.sleep(PAUSE)
    return done


def cancel(futures: Collection[Any]) -> None:
    """Cancels what has not begun, where the executor can."""
    for future in futures:
        if hasattr(future, "cancel"):
            future.cancel()
