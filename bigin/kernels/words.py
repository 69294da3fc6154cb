"""The words of many blocks: Philox in vectors of 64-bit lanes, as LLVM IR.

The loop vectorizer makes four blocks at a time on AVX2, whose chain of ten products, shifts and xors (5 cycles each)
the CPU cannot fill. Two groups of four blocks side by side fill it, and their state just fits in 16 registers: 5.7 GB/s
on a core of Zen 3 against 4.5, and 4.1 for C with AVX2 intrinsics, of two groups or of four; three and four spill.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from bigin.kernels.compile import inner
from bigin.rng.instructions import instruction_set
from bigin.rng.philox import HALF, LOW, MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1, philox
from bigin.rng.portable import u64

GROUPS = 2  # vectors side by side
LANES = {"avx512": 8, "avx2": 4, "neon": 2}  # 64-bit lanes in a vector


def word_maker(listed: bool, instructions: str | None = None, keyed: bool = False) -> Any:
    """The intrinsic make(words, blocks, stream, key) -> how many blocks were made, as many as whole steps hold.

    words: uint32 array, four to a block. blocks: a uint64 array of block indices if `listed`, else the first index.
    stream: a uint64 array of each block's stream if `keyed`, else the stream of all. instructions: a key of LANES; the
    CPU's own by default.
    """

    @intrinsic
    def make_words(typingctx: Any, words: Any, blocks: Any, stream: Any, key: Any) -> Any:
        kinds = {blocks.dtype if listed else blocks, stream.dtype if keyed else stream, key}
        if words.dtype != types.uint32 or kinds != {types.uint64}:
            return None

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            array = context.make_array(words)(context, builder, args[0])
            source = context.make_array(blocks)(context, builder, args[1]).data if listed else args[1]
            streams = context.make_array(stream)(context, builder, args[2]).data if keyed else args[2]
            lanes = LANES[instructions or instruction_set()]
            count = builder.and_(builder.udiv(array.nitems, ir.IntType(64)(4)), ir.IntType(64)(-GROUPS * lanes))
            emit(builder, array.data, (source, listed), (streams, keyed), count, args[3], lanes)
            return count

        return types.intp(words, blocks, stream, key), generate

    return make_words


def emit(builder: Any, out: Any, blocks: Any, streams: Any, count: Any, key: Any, lanes: int) -> None:
    """The loop over `count` blocks, a multiple of a step. Blocks and streams say whether they are listed."""
    (source, listed), (stream, keyed) = blocks, streams
    word, half = ir.IntType(64), ir.IntType(32)
    vector, pair = ir.VectorType(word, lanes), ir.VectorType(word, 2 * lanes)
    nothing, first_lane = ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(half, lanes), [0] * lanes)

    def spread(value: Any) -> Any:
        return builder.shuffle_vector(builder.insert_element(nothing, value, half(0)), nothing, first_lane)

    def constant(value: int) -> Any:
        return ir.Constant(vector, [int(value)] * lanes)

    low, bits = constant(LOW), constant(HALF)

    def low_of(value: Any) -> Any:
        return builder.and_(value, low)

    def keys(start: Any, weyl: Any) -> list[Any]:
        steps = (builder.add(start, word(i * int(weyl))) for i in range(ROUNDS))
        return [spread(builder.and_(step, word(int(LOW)))) for step in steps]

    round_keys = list(zip(keys(key, WEYL_0), keys(builder.lshr(key, word(32)), WEYL_1), strict=True))
    same = None if keyed else (spread(builder.and_(stream, word(int(LOW)))), spread(builder.lshr(stream, word(32))))
    before, body, after = builder.block, builder.append_basic_block("words"), builder.append_basic_block("made")
    builder.cbranch(builder.icmp_signed(">", count, word(0)), body, after)
    builder.position_at_end(body)
    i = builder.phi(word)
    i.add_incoming(word(0), before)

    def load(array: Any, at: Any) -> Any:
        return builder.load(builder.bitcast(builder.gep(array, [at]), vector.as_pointer()), align=8)

    states = []
    for group in range(GROUPS):
        at = builder.add(i, word(group * lanes))
        if listed:
            block = load(source, at)
        else:
            block = builder.add(spread(builder.add(source, at)), ir.Constant(vector, list(range(lanes))))
        tail = same
        if tail is None:
            own = load(stream, at)
            tail = (low_of(own), builder.lshr(own, bits))
        states.append((low_of(block), builder.lshr(block, bits), *tail))
    for key_0, key_1 in round_keys:  # as rng.philox.philox
        for group, (c0, c1, c2, c3) in enumerate(states):
            product_0 = builder.mul(low_of(c0), constant(MULTIPLIER_0))
            product_1 = builder.mul(low_of(c2), constant(MULTIPLIER_1))
            first = builder.xor(builder.lshr(product_1, bits), builder.xor(low_of(c1), key_0))
            third = builder.xor(builder.lshr(product_0, bits), builder.xor(low_of(c3), key_1))
            states[group] = (first, product_1, third, product_0)
    places = [lane + side for lane in range(lanes) for side in (0, lanes)]
    order = ir.Constant(ir.VectorType(half, 2 * lanes), places)
    for group, (c0, c1, c2, c3) in enumerate(states):
        left, right = (builder.or_(low_of(a), builder.shl(b, bits)) for a, b in ((c0, c1), (c2, c3)))
        at = builder.mul(builder.add(i, word(group * lanes)), word(4))
        place = builder.bitcast(builder.gep(out, [at]), pair.as_pointer())
        builder.store(builder.shuffle_vector(left, right, order), place, align=4)
    following = builder.add(i, word(GROUPS * lanes))
    i.add_incoming(following, body)
    builder.cbranch(builder.icmp_signed("<", following, count), body, after)
    builder.position_at_end(after)


make_words_from, make_words_at = word_maker(listed=False), word_maker(listed=True)
make_words_keyed = word_maker(listed=True, keyed=True)


@inner
def words_from(words, first_block, stream, key):
    """The words of consecutive blocks."""
    made = make_words_from(words, first_block, stream, key)
    for i in range(u64(made), u64(words.shape[0]) >> u64(2)):
        a, b, c, d = philox(u64(first_block + u64(i)), stream, key)
        j = u64(u64(i) << u64(2))
        words[j] = a
        words[j + u64(1)] = b
        words[j + u64(2)] = c
        words[j + u64(3)] = d


@inner
def words_at(words, blocks, stream, key):
    """The words of any blocks; `words` may be longer."""
    made = make_words_at(words[: blocks.shape[0] << 2], blocks, stream, key)
    for i in range(u64(made), u64(blocks.shape[0])):
        a, b, c, d = philox(blocks[u64(i)], stream, key)
        j = u64(u64(i) << u64(2))
        words[j] = a
        words[j + u64(1)] = b
        words[j + u64(2)] = c
        words[j + u64(3)] = d


@inner
def words_keyed(words, blocks, streams, key):
    """The words of any blocks, each of a stream of its own; `words` may be longer."""
    made = make_words_keyed(words[: blocks.shape[0] << 2], blocks, streams, key)
    for i in range(u64(made), u64(blocks.shape[0])):
        a, b, c, d = philox(blocks[u64(i)], streams[u64(i)], key)
        j = u64(u64(i) << u64(2))
        words[j] = a
        words[j + u64(1)] = b
        words[j + u64(2)] = c
        words[j + u64(3)] = d
