"""Warnings that name the line of whoever called bigin, and not one of bigin's own."""

from __future__ import annotations

import sys
import warnings
from types import FrameType

PASSED = (__name__.partition(".")[0], "contextlib")  # contextlib: a warning at the end of a with block


def warn(message: str, category: type[Warning]) -> None:
    """Warn of something, from the innermost call that does not come from this package."""
    frame: FrameType | None = sys._getframe(1)
    level = 2
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in PASSED:
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)
