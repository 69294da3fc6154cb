"""Which entries `sparse` sets to zero."""

from __future__ import annotations

import numpy as np
from numba import njit

from bigin.rng.permutation import permute_back_once, permute_once
from bigin.rng.philox import philox
from bigin.rng.portable import u64

loop = njit(nogil=True, error_model="numpy")


@loop
def permuted(places, left, right, a, b, keys):
    """Where the permutation of each column sends one row; may be beyond the rows, and is to be walked on then."""
    for j in range(u64(places.shape[0])):
        c = u64(j)
        x, y = permute_once(left, right, a, b, keys[u64(0), c], keys[u64(1), c], keys[u64(2), c], keys[u64(3), c])
        places[c] = x * b + y


@loop
def clear_permuted(out, first_row, first_column, rows, zeros, a, b, stream, key):
    """Sets out[i, j] to 0 where the permutation of column j sends row i below `zeros`.

    out is a 2-d array of unsigned integers, the bits of a region; all other arguments are uint64.
    """
    columns = out.shape[1]
    keys = np.empty((4, columns), np.uint64)
    for j in range(columns):
        k0, k1, k2, k3 = philox(first_column + u64(j), stream, key)
        keys[0, j], keys[1, j], keys[2, j], keys[3, j] = u64(k0), u64(k1), u64(k2), u64(k3)
    places = np.empty(columns, np.uint64)
    for i in range(out.shape[0]):
        row = first_row + u64(i)
        permuted(places, row // b, row % b, a, b, keys)
        for j in range(columns):
            place = places[j]
            while place >= rows:
                x, y = permute_once(place // b, place % b, a, b, keys[0, j], keys[1, j], keys[2, j], keys[3, j])
                place = x * b + y
            if place < zeros:
                out[i, j] = 0


@loop
def origins(places, first, a, b, k0, k1, k2, k3):
    """Which rows one column's permutation sends to first, first + 1, ...; may be beyond the rows."""
    for t in range(u64(places.shape[0])):
        place = first + u64(t)
        x, y = permute_back_once(place // b, place - place // b * b, a, b, k0, k1, k2, k3)
        places[u64(t)] = x * b + y


@loop
def mark_origins(marks, first_column, rows, first, last, a, b, stream, key):
    """Sets marks[i, j] to 1 where the permutation of column first_column + j sends row i into [first, last)."""
    places = np.empty(1024, np.uint64)
    for j in range(marks.shape[1]):
        w0, w1, w2, w3 = philox(first_column + u64(j), stream, key)
        k0, k1, k2, k3 = u64(w0), u64(w1), u64(w2), u64(w3)
        start = first
        while start < last:
            count = min(u64(places.shape[0]), last - start)
            origins(places[:count], start, a, b, k0, k1, k2, k3)
            for t in range(count):
                place = places[u64(t)]
                while place >= rows:
                    x, y = permute_back_once(place // b, place % b, a, b, k0, k1, k2, k3)
                    place = x * b + y
                marks[place, j] = 1
            start += count


@loop
def clear_marked(out, marks, first_row, first_column, mark):
    """Sets out[i, j] to 0 where marks has `mark` at its place; out is the bits of a region."""
    for i in range(out.shape[0]):
        row = marks[first_row + i]
        for j in range(out.shape[1]):
            value = out[i, j]
            out[i, j] = 0 if row[first_column + j] == mark else value
