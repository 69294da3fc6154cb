"""The floating-point modes that the law stands on: rounding to nearest, and subnormal numbers."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from bigin.errors import FillError


@contextmanager
def default_modes() -> Iterator[None]:
    """The default modes for the calling thread, and afterwards what it had.

    A thread inherits its modes from the one that starts it, and there `torch.set_flush_denormal(True)`, or a library
    that was built with -ffast-math, changes the bits of small values.
    """
    if sys.platform != "linux":
        check_modes()
        yield
        return
    libc = ctypes.CDLL(None)
    before = ctypes.create_string_buffer(512)  # more than any platform's fenv_t
    libc.fegetenv(before)
    libc.fesetenv(ctypes.c_void_p(-1))  # FE_DFL_ENV of glibc and musl
    try:
        check_modes()
        yield
    finally:
        libc.fesetenv(before)


def check_modes() -> None:
    """Refuses other modes, which bits would depend on."""
    tiny = np.full(2, np.finfo(np.float32).tiny)
    third = np.float32(1) / np.array([3, -3], np.float32)
    if not (tiny * np.float32(0.5)).all() or third.tobytes().hex() != "abaaaa3eabaaaabe":
        raise FillError(
            "expected rounding to nearest with subnormal numbers, got another floating-point mode; turn off "
            "flush-to-zero (torch.set_flush_denormal(False)) before filling"
        )
