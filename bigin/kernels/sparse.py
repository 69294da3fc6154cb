"""Which entries `sparse` sets to zero."""

from __future__ import annotations

import numpy as np

from bigin.kernels.compile import inner, on_stack
from bigin.rng.permutation import permute_back_once, permute_once
from bigin.rng.philox import philox
from bigin.rng.portable import u64


@inner
def permuted(places, left, right, a, b, keys):
    """Where the permutation of each column sends one row; may be beyond the rows, and is to be walked on then."""
    for j in range(u64(places.shape[0])):
        c = u64(j)
        x, y = permute_once(left, right, a, b, keys[u64(0), c], keys[u64(1), c], keys[u64(2), c], keys[u64(3), c])
        places[c] = x * b + y


def clear_permuted(out, first_row, first_column, rows, zeros, a, b, stream, key, keys, places):
    """Sets out[i, j] to 0 where the permutation of column j sends row i below `zeros`.

    out is a 2-d array of unsigned integers, the bits of a region. keys, places: uint64 buffers of (4, columns) and of
    columns. All other arguments are uint64.
    """
    columns = out.shape[1]
    for j in range(columns):
        k0, k1, k2, k3 = philox(first_column + u64(j), stream, key)
        keys[0, j], keys[1, j], keys[2, j], keys[3, j] = u64(k0), u64(k1), u64(k2), u64(k3)
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


@inner
def origins(places, left, right, a, b, k0, k1, k2, k3):
    """Which rows one column's permutation sends to (left, right), (left, right + 1), ...; may be beyond the rows."""
    for t in range(u64(places.shape[0])):
        x, y = permute_back_once(left, right + u64(t), a, b, k0, k1, k2, k3)
        places[u64(t)] = x * b + y


places_of = on_stack(np.dtype(np.uint64), 1024)


def mark_origins(marks, first_column, columns, rows, first, last, a, b, stream, key):
    """Sets bit j of marks[i] where the permutation of column first_column + j sends row i into [first, last)."""
    places = places_of()
    for j in range(columns):
        w0, w1, w2, w3 = philox(first_column + u64(j), stream, key)
        k0, k1, k2, k3 = u64(w0), u64(w1), u64(w2), u64(w3)
        bit = u64(u64(1) << u64(j))
        start = first
        while start < last:
            left = start // b
            right = start - left * b
            count = min(min(u64(places.shape[0]), last - start), b - right)  # no division inside the loop
            origins(places[:count], left, right, a, b, k0, k1, k2, k3)
            for t in range(count):
                place = places[u64(t)]
                while place >= rows:
                    x, y = permute_back_once(place // b, place % b, a, b, k0, k1, k2, k3)
                    place = x * b + y
                marks[place] |= bit
            start += count


@inner
def clear_bits(out, word, first, clear):
    """Sets out[j] to 0 where bit first + j of a word is `clear`."""
    zero = out.dtype.type(0)  # a literal 0 beside a uint64 would make both a float64, which loses bits
    for j in range(u64(out.shape[0])):
        bit = u64(u64(word >> u64(first + u64(j))) & u64(1))
        value = out[u64(j)]
        out[u64(j)] = zero if bit == clear else value


def clear_marked(out, marks, first_row, first_column, clear):
    """Sets out[i, j] to 0 where the mark of its row and column is `clear`; out is the bits of a region.

    marks[w, row] holds the marks of columns 64 w to 64 w + 63, one bit each.
    """
    for i in range(out.shape[0]):
        column = first_column
        end = first_column + out.shape[1]
        while column < end:
            stop = min(end, (column // 64 + 1) * 64)
            part = out[i, column - first_column : stop - first_column]
            clear_bits(part, marks[column // 64, first_row + i], u64(column % 64), clear)
            column = stop
