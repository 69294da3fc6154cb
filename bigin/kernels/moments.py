"""Sums of rows, and the triangular factor of a covariance, in a fixed order of operations."""

from __future__ import annotations

from bigin.rng.portable import fma, sqrt


def add_rows(values, sums):
    """sums[j] += values[i, j], i ascending; sums are float64."""
    for i in range(values.shape[0]):
        row = values[i]
        for j in range(row.shape[0]):
            sums[j] += row[j]


def factor_rows(a, first, stop, least):
    """Rows of the upper triangular R with R'R = a, in place of those rows of a, which lack what is above `first`.

    A row whose diagonal is not above least[i] becomes zeros: of a singular covariance, what the rows above explain.
    """
    columns = a.shape[1]
    for i in range(first, stop):
        row = a[i]
        for p in range(first, i):
            above = a[p]
            factor = -above[i]
            for j in range(i, columns):
                row[j] = fma(factor, above[j], row[j])
        for j in range(i):
            row[j] = 0.0
        square = row[i]
        if square > least[i]:
            root = sqrt(square)
            for j in range(i, columns):
                row[j] /= root
        else:
            for j in range(i, columns):
                row[j] = 0.0
