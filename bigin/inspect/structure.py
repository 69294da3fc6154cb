"""What only a whole matrix shows: whether it is orthogonal, and how many zeros its columns have."""

from __future__ import annotations

import math

import numpy as np

from bigin.inspect.checks import Verdict, bernstein
from bigin.methods.distributions import Normal, Orthogonal, Sparse
from bigin.methods.expected import at_zero, of_normal
from bigin.spec.tensor import TensorSpec
from bigin.targets.target import Array, Target

MOST_BYTES = 64 << 20  # of a matrix that is looked at whole
MOST_PRODUCTS = 1 << 34  # multiplications to check that one is orthogonal
APART = {"float32": 3e-6, "float64": 1e-13}  # the largest |Q'Q - I| that is promised


def structure_verdicts(target: Target, specification: TensorSpec, max_memory: int) -> list[Verdict]:
    """The verdicts on a target that holds a whole tensor, if it is small enough to be read at once."""
    distribution = specification.distribution
    copies = 4 * 8 // target.dtype.itemsize
    if target.nbytes > MOST_BYTES or copies * target.nbytes > max_memory or specification.padding_idx is not None:
        return []
    match distribution:
        case Orthogonal(gain, False) if gain and target.dtype.name in APART:
            rows = target.shape[0]
            size, columns = sorted((rows, math.prod(target.shape) // rows), reverse=True)
            if size * columns**2 > MOST_PRODUCTS:
                return []
            matrix = whole(target).astype(np.float64).reshape(rows, -1) / gain
            apart = apart_from_orthogonal(matrix if rows == size else matrix.T)
            return [Verdict("max |Q'Q - I|", apart, 0.0, APART[target.dtype.name])]
        case Sparse(zeros, std):
            held = np.count_nonzero(whole(target) == 0, axis=0)
            others = target.shape[0] - zeros
            chance = at_zero(of_normal(Normal(0.0, std), target.dtype).marginal)
            most = zeros + math.floor(others * min(1.0, chance + bernstein(1.0, chance, others)))
            most = most if target.dtype.itemsize <= 2 else zeros + 1
            return [
                Verdict("fewest zeros in a column", int(held.min()), zeros, most),
                Verdict("most zeros in a column", int(held.max()), zeros, most),
            ]
    return []


def whole(target: Target) -> Array:
    """All values of a target."""
    return target.read(tuple((0, size) for size in target.shape))


def apart_from_orthogonal(matrix: Array) -> float:
    """max |Q'Q - I|; infinite where an element is not finite."""
    if not np.isfinite(matrix).all():
        return math.inf
    return float(abs(matrix.T @ matrix - np.eye(matrix.shape[1])).max())
