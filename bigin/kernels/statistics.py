"""Statistics of a block in one reading of it: moments, extremes, zeros, a histogram.

A block is read from memory once, in stretches that stay in the L1 cache for the few short loops that each needs.
"""

from __future__ import annotations

import math

import numpy as np

from bigin.kernels.compile import inner, on_stack, part_of, stack_like
from bigin.rng.portable import u64

STRETCH = 2048  # elements that are read at once


def reordered(function):
    """`inner` for a sum of floats, which LLVM vectorizes only if it may reorder it.

    What it adds up are statistics and no values of a tensor: their last digits may depend on the width of the CPU's
    vectors, though never on the threads.
    """
    return inner(function, fastmath={"reassoc", "nsz"})


@reordered
def sum_of(values):
    """The sum of a stretch."""
    total = 0.0
    for i in range(values.shape[0]):
        total += np.float64(values[i])
    return total


@reordered
def squares_of(values, mean):
    """The sum of the squared deviations of a stretch."""
    total = 0.0
    for i in range(values.shape[0]):
        deviation = np.float64(values[i]) - mean
        total += deviation * deviation
    return total


@inner
def least_and_most(bits, shift, mask):
    """The extremes of a stretch as keys: integers in the values' order (for floats, a sign and a magnitude)."""
    least = bits[0] ^ ((bits[0] >> shift) & mask)
    most = least
    for i in range(bits.shape[0]):
        key = bits[i] ^ ((bits[i] >> shift) & mask)
        least = min(least, key)
        most = max(most, key)
    return least, most


@inner
def places(values, low, scale, bins, found):
    """The bin of every value of a stretch: 0 below `low`, bins + 1 from the last one's end on."""
    for i in range(values.shape[0]):
        place = (np.float64(values[i]) - low) * scale
        place = place if place > -1.0 else -1.0
        place = place if place < bins else bins
        found[i] = np.uint32(np.int32(place + 1.0))


@inner
def count_zeros(values):
    """How many are 0."""
    zeros = 0
    for i in range(values.shape[0]):
        zeros += 1 if values[i] == 0 else 0
    return zeros


@inner
def finite_of(values, bits, finite, finite_bits, counts):
    """Copies the finite values of a stretch, and their bits; counts NaN, inf and -inf. Returns how many are finite."""
    count = 0
    for i in range(values.shape[0]):
        value = values[i]
        if math.isnan(value):
            counts[0] += 1
        elif math.isinf(value):
            counts[1 if value > 0 else 2] += 1
        else:
            finite[count] = value
            finite_bits[count] = bits[i]
            count += 1
    return count


places_of, finite_of_type = on_stack(np.dtype(np.uint32), STRETCH), stack_like(STRETCH)


def add_statistics(values, bits, shift, mask, low, scale, histogram, moments, keys, counts):
    """Adds a block to what is known of its predecessors.

    values: 1-d. bits: the same as integers. shift, mask: see least_and_most. low, scale: where the histogram begins and
    how many bins there are to 1. histogram: int64, two tables of bins + 2, to be added. moments: float64 (count, mean,
    sum of squared deviations). keys: (least, most). counts: int64 (NaN, inf, -inf, zeros).
    """
    size = np.uint32(histogram.shape[0] // 2)
    bins = np.float64(size) - 2.0
    found, finite, finite_bits = places_of(), finite_of_type(values), finite_of_type(bits)
    for start in range(0, values.shape[0], STRETCH):
        count = min(STRETCH, values.shape[0] - start)
        stretch = part_of(values, u64(start), u64(count))
        stretch_bits = part_of(bits, u64(start), u64(count))
        total = sum_of(stretch)
        if not math.isfinite(total):
            count = finite_of(stretch, stretch_bits, finite, finite_bits, counts)
            if count == 0:
                continue
            stretch = part_of(finite, u64(0), u64(count))
            stretch_bits = part_of(finite_bits, u64(0), u64(count))
            total = sum_of(stretch)
        mean = total / count
        squares = squares_of(stretch, mean)
        # Chan, Golub and LeVeque 1983, Algorithms for computing the sample variance: two samples' moments to one's.
        both = moments[0] + count
        apart = mean - moments[1]
        moments[1] += apart * (count / both)
        moments[2] += squares + apart * (moments[0] * (count / both)) * apart
        moments[0] = both
        least, most = least_and_most(stretch_bits, shift, mask)
        keys[0] = min(keys[0], least)
        keys[1] = max(keys[1], most)
        counts[3] += count_zeros(stretch)
        places(stretch, low, scale, bins, part_of(found, u64(0), u64(count)))
        for i in range(0, count - 1, 2):  # two tables, as an addition to the same place waits for the last one
            histogram[found[i]] += 1
            histogram[found[i + 1] + size] += 1
        if count & 1:
            histogram[found[count - 1]] += 1


def add_patterns(patterns, table):
    """Counts every bit pattern of a block. table: int64, two tables of all patterns, to be added."""
    size = np.uint32(table.shape[0] // 2)
    count = patterns.shape[0]
    for i in range(0, count - 1, 2):
        table[np.uint32(patterns[i])] += 1
        table[np.uint32(patterns[i + 1]) + size] += 1
    if count & 1:
        table[np.uint32(patterns[count - 1])] += 1
