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

from bigin.rng.instructions import instruction_set
from bigin.rng.philox import HALF, LOW, MULTIPLIER_0, MULTIPLIER_1, ROUNDS, WEYL_0, WEYL_1

GROUPS = 2  # vectors side by side
LANES = {"avx512": 8, "avx2": 4, "neon": 2}  # 64-bit lanes in a vector


def word_maker(listed: bool, instructions: str | None = None, keyed: bool = False) -> Any:
    """The intrinsic make(words, blocks, stream, key), which writes the words of blocks, four for each.

    words: uint32 array, which may be longer where blocks are listed. blocks: a uint64 array of block indices if
    `listed`, else the first of consecutive ones. stream: a uint64 array of each block's stream if `keyed`, else the
    stream of all. instructions: a key of LANES; the CPU's own by default.
    """

    @intrinsic
    def make_words(typingctx: Any, words: Any, blocks: Any, stream: Any, key: Any) -> Any:
        kinds = {blocks.dtype if listed else blocks, stream.dtype if keyed else stream, key}
        if words.dtype != types.uint32 or kinds != {types.uint64}:
            return None

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            array, word = context.make_array(words)(context, builder, args[0]), ir.IntType(64)
            source, count = args[1], builder.lshr(array.nitems, word(2))
            if listed:
                indices = context.make_array(blocks)(context, builder, args[1])
                source, count = indices.data, indices.nitems
            streams = context.make_array(stream)(context, builder, args[2]).data if keyed else args[2]
            lanes = LANES[instructions or instruction_set()]
            whole = builder.and_(count, word(-GROUPS * lanes))
            inputs = (source, listed), (streams, keyed)
            emit(builder, array.data, inputs, (word(0), whole), args[3], (GROUPS, lanes))
            emit(builder, array.data, inputs, (whole, count), args[3], (1, 1))  # what fills no step, one by one
            return context.get_dummy_value()

        return types.void(words, blocks, stream, key), generate

    return make_words


def emit(builder: Any, out: Any, inputs: Any, span: Any, key: Any, step: tuple[int, int]) -> None:
    """The loop over a span of blocks that is whole steps, of so many vectors of so many lanes.

    inputs: the blocks, and the streams, each with whether they are listed.
    """
    ((source, listed), (stream, keyed)), (start, stop), (groups, lanes) = inputs, span, step
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
    builder.cbranch(builder.icmp_unsigned("<", start, stop), body, after)
    builder.position_at_end(body)
    i = builder.phi(word)
    i.add_incoming(start, before)

    def load(array: Any, at: Any) -> Any:
        return builder.load(builder.bitcast(builder.gep(array, [at]), vector.as_pointer()), align=8)

    states = []
    for group in range(groups):
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
    following = builder.add(i, word(groups * lanes))
    i.add_incoming(following, body)
    builder.cbranch(builder.icmp_unsigned("<", following, stop), body, after)
    builder.position_at_end(after)


words_from, words_at, words_keyed = word_maker(False), word_maker(True), word_maker(True, keyed=True)
