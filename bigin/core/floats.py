"""The floating-point modes that the law stands on: rounding to nearest, and subnormal numbers."""

from __future__ import annotations

import ctypes
import sys
from functools import cache

import numpy as np

from bigin.core.errors import FillError


class default_modes:  # noqa: N801 (used as a function)
    """With it the calling thread has the default modes, and afterwards what it had.

    A thread inherits its modes from the one that starts it, and there `torch.set_flush_denormal(True)`, or a library
    that was built with -ffast-math, changes the bits of small values. It takes a microsecond, as a single row does.
    """

    def __enter__(self) -> None:
        if sys.platform != "linux":
            check_modes()
            return
        library = libc()
        self.before = Environment()
        library.fegetenv(self.before)
        library.fesetenv(DEFAULT)
        check_once()

    def __exit__(self, *error: object) -> None:
        if sys.platform == "linux":
            libc().fesetenv(self.before)


Environment = ctypes.c_char * 512  # more than any platform's fenv_t
DEFAULT = ctypes.c_void_p(-1)  # FE_DFL_ENV of glibc and musl


@cache
def libc() -> ctypes.PyDLL:
    """The C library, where the modes are set; so quickly that other threads need not run meanwhile."""
    return ctypes.PyDLL(None)


@cache
def check_once() -> None:
    """Whether the default modes are what they are called: a fact of the machine."""
    check_modes()


def check_modes() -> None:
    """Refuses other modes, which bits would depend on."""
    tiny = np.full(2, np.finfo(np.float32).tiny)
    third = np.float32(1) / np.array([3, -3], np.float32)
    if not (tiny * np.float32(0.5)).all() or third.tobytes().hex() != "abaaaa3eabaaaabe":
        raise FillError(
            "expected rounding to nearest with subnormal numbers, got another floating-point mode; turn off "
            "flush-to-zero (torch.set_flush_denormal(False)) before filling"
        )
