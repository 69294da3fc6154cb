"""Checks that need a whole matrix: whether it is orthogonal, and how many zeros its columns have."""

from __future__ import annotations

import math

import numpy as np

from bigin.inspect.checks import Check, bernstein
from bigin.methods.distributions import Orthogonal
from bigin.methods.expected import Expected
from bigin.targets.target import Array, Target

MOST_BYTES = 64 << 20  # of a matrix that is read whole
MOST_PRODUCTS = 1 << 34  # multiplications to check that one is orthogonal
TOLERANCES = {"float32": 3e-6, "float64": 1e-13}  # the largest |Q'Q - I| of a correct fill


def structure_checks(target: Target, expected: Expected, max_memory: int) -> list[Check]:
    """The checks of a target that holds a whole tensor, if it is small enough to be read at once."""
    copies = 4 * 8 // target.dtype.itemsize
    if target.nbytes > MOST_BYTES or copies * target.nbytes > max_memory:
        return []
    if expected.orthogonal is not None:
        return orthogonal_checks(target, expected.orthogonal)
    if expected.column_zeros is not None:
        return sparse_checks(target, expected.column_zeros, expected.chance)
    return []


def orthogonal_checks(target: Target, distribution: Orthogonal) -> list[Check]:
    """How far the columns, or rows, are from orthonormal."""
    matrix = distribution.matrix(target.shape)
    size, columns = max(matrix), min(matrix)
    tolerance = TOLERANCES.get(target.dtype.name)
    if tolerance is None or size * columns**2 > MOST_PRODUCTS:
        return []
    order = (*distribution.out_axes, *distribution.columns(len(target.shape)))
    values = whole(target).astype(np.float64).transpose(order).reshape(matrix) / distribution.gain
    apart = apart_from_orthogonal(values if matrix[0] == size else values.T)
    return [Check("max |Q'Q - I|", apart, 0.0, tolerance)]


def sparse_checks(target: Target, zeros: int, chance: float) -> list[Check]:
    """How many zeros the columns have: those of the structure, and others by chance."""
    held = np.count_nonzero(whole(target) == 0, axis=0)
    others = target.shape[0] - zeros
    most = zeros + math.floor(others * min(1.0, chance + bernstein(1.0, chance, others)))
    most = most if target.dtype.itemsize <= 2 else zeros + 1
    return [
        Check("fewest zeros in a column", int(held.min()), zeros, most),
        Check("most zeros in a column", int(held.max()), zeros, most),
    ]


def whole(target: Target) -> Array:
    """All values of a target."""
    return target.read(tuple((0, size) for size in target.shape))


def apart_from_orthogonal(matrix: Array) -> float:
    """max |Q'Q - I|; infinite where an element is not finite."""
    if not np.isfinite(matrix).all():
        return math.inf
    return float(abs(matrix.T @ matrix - np.eye(matrix.shape[1])).max())
