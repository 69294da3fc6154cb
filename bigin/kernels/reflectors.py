"""The small loops of orthogonal: on tiles of its Gaussian matrix and of its triangular factor, in a fixed order."""

from __future__ import annotations

import numpy as np

from bigin.rng.portable import fma, sqrt


def clear_above(tile, row, column):
    """Sets what lies above the matrix's diagonal to 0; the tile begins at (row, column)."""
    for i in range(tile.shape[0]):
        for j in range(max(0, row + i + 1 - column), tile.shape[1]):
            tile[i, j] = 0


def set_diagonal(tile, row, column, heads):
    """Puts the reflectors' heads on the matrix's diagonal; the tile begins at (row, column)."""
    for i in range(tile.shape[0]):
        j = row + i - column
        if 0 <= j < tile.shape[1]:
            tile[i, j] = heads[row + i]


def reflector_scalars(squares, diagonal, heads, scales, signs, drawn):
    """Of each column x with |x|^2 = squares[k] and x_k = diagonal[k]: the head x_k + sign(x_k) |x| of its reflector,
    the factor that scales the reflector to length 1, and the sign of R's diagonal, -sign(x_k).

    `drawn` is an array of the drawn type, through which the head is rounded once.
    """
    for k in range(squares.shape[0]):
        x = diagonal[k]
        sign = -1.0 if x < 0.0 else 1.0
        drawn[0] = fma(sign, sqrt(squares[k]), x)
        head = np.float64(drawn[0])
        rest = max(fma(-x, x, squares[k]), 0.0)
        length = fma(head, head, rest)
        if length == 0.0:  # a column of zeros: a last element that was drawn as 0
            head, length = 1.0, 1.0
        heads[k] = head
        scales[k] = 1.0 / sqrt(length)
        signs[k] = -sign


def triangle_tile(gram, top, scales, steps, row, column):
    """X'X to inv(T), in place: striu(V'V) + 1/2 on the diagonal, where V is X with its heads, scaled.

    V'V[j, k] = s_j s_k (X'X[j, k] + X[k, j] (head_k - X[k, k])); `top` is X[column tile's rows, row tile's columns].
    """
    for i in range(gram.shape[0]):
        j = row + i
        for c in range(gram.shape[1]):
            k = column + c
            if k < j:
                gram[i, c] = 0.0
            elif k == j:
                gram[i, c] = 0.5
            else:
                gram[i, c] = fma(np.float64(top[c, i]), steps[k], gram[i, c]) * (scales[j] * scales[k])


def invert_triangle(upper, inverse):
    """The inverse of an upper triangular matrix by back substitution, row by row from the last."""
    n = upper.shape[0]
    for i in range(n):
        for j in range(n):
            inverse[i, j] = 1.0 if i == j else 0.0
    for r in range(n - 1, -1, -1):
        factor = 1.0 / upper[r, r]
        for j in range(r, n):
            inverse[r, j] *= factor
        for q in range(r):
            scale = -upper[q, r]
            for j in range(r, n):
                inverse[q, j] = fma(scale, inverse[r, j], inverse[q, j])


def right_side(tile, scales, column):
    """A tile of V, transposed into the right side of inv(T) W = V1': scaled columns of X, whose heads are set."""
    for i in range(tile.shape[0]):
        for j in range(tile.shape[1]):
            tile[i, j] *= scales[column + j]


def finish_tile(tile, row, column, signs, gain):
    """(E - tile) D gain, in place, of the matrix's tile that begins at (row, column)."""
    for i in range(tile.shape[0]):
        for j in range(tile.shape[1]):
            value = (1.0 if row + i == column + j else 0.0) - tile[i, j]
            tile[i, j] = value * signs[column + j] * gain
