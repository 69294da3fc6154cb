"""Sines and cosines of angles that are counted in 2^-64 turns."""

from __future__ import annotations

from bigin.rng.portable import sincos_word_64, u64


def sines_and_cosines(angles, sines, cosines):
    """Writes both of every angle (uint64) into arrays of float64."""
    for i in range(u64(angles.shape[0])):
        sine, cosine = sincos_word_64(angles[u64(i)])
        sines[u64(i)] = sine
        cosines[u64(i)] = cosine
