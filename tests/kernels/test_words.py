"""Words of many blocks against the reference, in the form of every instruction set."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import reference
from numba import njit

from bigin.kernels import words as kernels
from bigin.rng import portable

SEED, STREAM = 0x0123456789ABCDEF, 0xFEDCBA9876543210
FIRST = [0, 2**32 - 5, 2**62 + 3, 2**64 - 7]  # across 2^32, and across the end of the counter


@cache
def maker(listed: bool, instructions: str, keyed: bool = False):
    make = kernels.word_maker(listed, instructions, keyed)
    return njit(lambda words, blocks, stream, key: make(words, blocks, stream, key))


words_from = njit(lambda words, first, stream, key: kernels.words_from(words, first, stream, key))
words_at = njit(lambda words, blocks, stream, key: kernels.words_at(words, blocks, stream, key))
words_keyed = njit(lambda words, blocks, streams, key: kernels.words_keyed(words, blocks, streams, key))


def expected(blocks) -> list[int]:
    return [word for block in blocks for word in reference.block_words(block % 2**64, STREAM, SEED)]


@pytest.mark.parametrize("instructions", kernels.LANES)
@pytest.mark.parametrize("listed", [False, True])
def test_every_form_makes_the_reference_words_and_no_others(listed, instructions):
    step = kernels.GROUPS * kernels.LANES[instructions]
    for first in FIRST:
        for count in (0, step - 1, step, 2 * step + 1):
            blocks = [(first + i * (3 if listed else 1)) % 2**64 for i in range(count)]
            words = np.full(4 * count + 8, 7, np.uint32)
            source = np.array(blocks, np.uint64) if listed else np.uint64(first)
            maker(listed, instructions)(words[: 4 * count], source, np.uint64(STREAM), np.uint64(SEED))
            assert words[: 4 * count].tolist() == expected(blocks)
            assert (words[4 * count :] == 7).all()


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 31, 33])
def test_blocks_that_fill_no_step_are_made_one_by_one(count):
    for first in FIRST:
        words = np.full(4 * count + 4, 7, np.uint32)
        words_from(words[: 4 * count], np.uint64(first), np.uint64(STREAM), np.uint64(SEED))
        assert words.tolist() == [*expected(range(first, first + count)), 7, 7, 7, 7]
        listed = np.full_like(words, 7)
        blocks = (np.arange(count, dtype=np.uint64) * np.uint64(5)) ^ np.uint64(first)
        words_at(listed, blocks, np.uint64(STREAM), np.uint64(SEED))
        assert listed.tolist() == [*expected(blocks.tolist()), 7, 7, 7, 7]


@pytest.mark.parametrize("instructions", kernels.LANES)
def test_every_form_takes_a_stream_for_each_block(instructions):
    step = kernels.GROUPS * kernels.LANES[instructions]
    for count in (0, step - 1, step, 2 * step + 1):
        blocks = np.arange(count, dtype=np.uint64) % np.uint64(3) + np.uint64(2**32 - 1)
        streams = np.array([-(1 + i * (2**61 + 2**31 + 1)) % 2**64 for i in range(count)], np.uint64)
        words = np.full(4 * count + 8, 7, np.uint32)
        maker(True, instructions, True)(words[: 4 * count], blocks, streams, np.uint64(SEED))
        pairs = [*zip(blocks.tolist(), streams.tolist(), strict=True)]
        every = [word for block, stream in pairs for word in reference.block_words(block, stream, SEED)]
        assert words.tolist() == [*every, *[7] * 8]
        words_keyed(words, blocks, streams, np.uint64(SEED))
        assert words.tolist() == [*every, *[7] * 8]


@pytest.mark.parametrize("instructions", kernels.LANES)
@pytest.mark.parametrize("dtype", [np.uint64, np.int64])
def test_every_form_rounds_a_64_bit_integer_to_the_nearest_float(monkeypatch, dtype, instructions):
    """Ties and their neighbors at every power of two; Python's float() rounds to nearest even."""
    monkeypatch.setattr(portable, "instruction_set", lambda: instructions)

    @njit
    def floats(values, out):
        for i in range(len(values)):
            out[i] = portable.float_64(values[i])

    powers = [1 << k for k in range(64)]
    near = [0, *(p + d for p in powers for d in (-1, 0, 1, p >> 53, p >> 54, (p >> 53) + (p >> 54)))]
    near += [n * (2**54 + 2**32) // 3 + n for n in range(1, 200)]
    bounds = np.iinfo(dtype)
    values = sorted({v for n in near for v in (n, -n, bounds.max - n) if bounds.min <= v <= bounds.max})
    out = np.empty(len(values))
    floats(np.array(values, dtype), out)
    assert out.view(np.uint64).tolist() == np.array([float(v) for v in values]).view(np.uint64).tolist()
