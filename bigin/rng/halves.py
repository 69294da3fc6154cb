"""The sizes of the two halves in which a permutation's places are split, on the host."""

from __future__ import annotations

import math


def halves(size: int) -> tuple[int, int]:
    """(a, b): a is the square root of size, rounded up, b the least with a b >= size."""
    a = math.isqrt(max(size - 1, 0)) + 1
    return a, -(-max(size, 1) // a)
