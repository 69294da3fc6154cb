"""What Numba does when it begins to compile, and none of our kernels needs."""

from __future__ import annotations

import contextlib
import importlib.util
import sys


def skip() -> None:
    """Instead of looking for Numba's extensions in all installed packages: 0.1 s."""


def spare_scipy() -> None:
    """Has Numba ask whether scipy is installed without importing it, which takes 0.13 s or more.

    Numba imports scipy's BLAS to learn whether np.dot can be compiled, in every process that compiles. What compiles
    np.dot imports it again, so nothing is lost.
    """
    if "numba.np.arraymath" in sys.modules:
        return
    with contextlib.suppress(Exception):  # where Numba has changed, it does as it likes
        from numba.np import linalg

        ensure_blas = linalg.ensure_blas
        linalg.ensure_blas = _require_scipy
        try:
            from numba.np import arraymath

            arraymath.ensure_blas = ensure_blas
        finally:
            linalg.ensure_blas = ensure_blas


def _require_scipy() -> None:
    if importlib.util.find_spec("scipy") is None:
        raise ImportError("scipy")
