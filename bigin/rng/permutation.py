"""A keyed permutation of 0..size-1 that is evaluated at one place alone: which rows `sparse` sets to zero.

A Feistel network over Z_a x Z_b with a b >= size, in which each half is added to modulo its size (J. Black and
P. Rogaway, "Ciphers with arbitrary finite domains", 2002), with Philox's multiplication as the round function and the
24 rounds of R. Mitchell et al., "Bandwidth-optimal random shuffling for GPUs" (2021). Places beyond `size`, of which
there are fewer than a, are walked on until they fall inside.
"""

from __future__ import annotations

from bigin.rng.philox import HALF, LOW, MULTIPLIER_0, WEYL_0
from bigin.rng.portable import inlined, u64

WEYLS = tuple(u64(i * int(WEYL_0)) for i in range(1, 6))


@inlined
def added(value, other, key, size):
    """One round: value + f(other) modulo size, where f is a product's halves folded and scaled to size."""
    product = MULTIPLIER_0 * ((other ^ key) & LOW)
    folded = ((product >> HALF) ^ product) & LOW
    total = value + ((folded * (size & LOW)) >> HALF)
    return total - size if total >= size else total


@inlined
def four_rounds(left, right, a, b, k0, k1, k2, k3):
    """A round under each word of the key."""
    x = added(left, right, k0, a)
    y = added(right, x, k1, b)
    z = added(x, y, k2, a)
    return z, added(y, z, k3, b)


@inlined
def taken(value, other, key, size):
    """The inverse of `added`: value - f(other) modulo size."""
    product = MULTIPLIER_0 * ((other ^ key) & LOW)
    folded = ((product >> HALF) ^ product) & LOW
    step = (folded * (size & LOW)) >> HALF
    return value - step if value >= step else value + size - step


@inlined
def four_rounds_back(left, right, a, b, k0, k1, k2, k3):
    """The inverse of four_rounds."""
    y = taken(right, left, k3, b)
    x = taken(left, y, k2, a)
    z = taken(y, x, k1, b)
    return taken(x, z, k0, a), z


@inlined
def permute_back_once(left, right, a, b, k0, k1, k2, k3):
    """The inverse of permute_once."""
    w1, w2, w3, w4, w5 = WEYLS
    l5, r5 = four_rounds_back(left, right, a, b, k0 + w5, k1 + w5, k2 + w5, k3 + w5)
    l4, r4 = four_rounds_back(l5, r5, a, b, k0 + w4, k1 + w4, k2 + w4, k3 + w4)
    l3, r3 = four_rounds_back(l4, r4, a, b, k0 + w3, k1 + w3, k2 + w3, k3 + w3)
    l2, r2 = four_rounds_back(l3, r3, a, b, k0 + w2, k1 + w2, k2 + w2, k3 + w2)
    l1, r1 = four_rounds_back(l2, r2, a, b, k0 + w1, k1 + w1, k2 + w1, k3 + w1)
    return four_rounds_back(l1, r1, a, b, k0, k1, k2, k3)


@inlined
def permute_once(left, right, a, b, k0, k1, k2, k3):
    """24 rounds on the halves of a place, under the four words of a key and then their Weyl steps; all are uint64.

    Written out, as LLVM does not unroll a loop of this size, and vectorizes only around straight code.
    """
    w1, w2, w3, w4, w5 = WEYLS
    l0, r0 = four_rounds(left, right, a, b, k0, k1, k2, k3)
    l1, r1 = four_rounds(l0, r0, a, b, k0 + w1, k1 + w1, k2 + w1, k3 + w1)
    l2, r2 = four_rounds(l1, r1, a, b, k0 + w2, k1 + w2, k2 + w2, k3 + w2)
    l3, r3 = four_rounds(l2, r2, a, b, k0 + w3, k1 + w3, k2 + w3, k3 + w3)
    l4, r4 = four_rounds(l3, r3, a, b, k0 + w4, k1 + w4, k2 + w4, k3 + w4)
    return four_rounds(l4, r4, a, b, k0 + w5, k1 + w5, k2 + w5, k3 + w5)
