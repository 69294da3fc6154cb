"""Short stretches of arrays, written as whole vectors, as LLVM IR.

A plain loop over a few elements takes longer to begin than it runs. A vector may reach up to LANES - 1 elements past
the stretch: there must be memory, and what belongs there is written later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LANES = 8  # elements in a vector
WORD = ir.IntType(64)


def _write(
    context: Any, builder: Any, kind: Any, array: Any, at: Any, count: Any, vector: Callable[[Any], Any]
) -> None:
    """Writes vector(i), of LANES elements, at i = 0, LANES, ... of a stretch of at least one element."""
    out = builder.gep(context.make_array(kind)(context, builder, array).data, [at])
    before, body, after = builder.block, builder.append_basic_block("stretch"), builder.append_basic_block("written")
    builder.branch(body)
    builder.position_at_end(body)
    i = builder.phi(WORD)
    i.add_incoming(WORD(0), before)
    value = vector(i)
    place = builder.bitcast(builder.gep(out, [i]), value.type.as_pointer())
    builder.store(value, place, align=kind.dtype.bitwidth // 8)
    following = builder.add(i, WORD(LANES))
    i.add_incoming(following, body)
    builder.cbranch(builder.icmp_unsigned("<", following, count), body, after)
    builder.position_at_end(after)


@intrinsic
def copied(typingctx: Any, out: Any, at: Any, count: Any, source: Any, first: Any) -> Any:
    """out[at : at + count] = source[first : first + count]"""
    if not (at == count == first == types.uint64 and out.dtype == source.dtype):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = builder.gep(context.make_array(source)(context, builder, args[3]).data, [args[4]])
        vector = ir.VectorType(context.get_data_type(source.dtype), LANES)

        def load(i: Any) -> Any:
            place = builder.bitcast(builder.gep(data, [i]), vector.as_pointer())
            return builder.load(place, align=source.dtype.bitwidth // 8)

        _write(context, builder, out, args[0], args[1], args[2], load)
        return context.get_dummy_value()

    return types.void(out, at, count, source, first), generate


@intrinsic
def counted(typingctx: Any, out: Any, at: Any, count: Any, first: Any, step: Any) -> Any:
    """out[at : at + count] = first, first + step, first + 2 step, ... of a uint64 array"""
    if not (at == count == first == step == out.dtype == types.uint64):
        return None

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = ir.VectorType(WORD, LANES)
        nothing, lane = (
            ir.Constant(vector, ir.Undefined),
            ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES),
        )

        def spread(value: Any) -> Any:
            return builder.shuffle_vector(builder.insert_element(nothing, value, ir.IntType(32)(0)), nothing, lane)

        lanes = builder.mul(spread(args[4]), ir.Constant(vector, list(range(LANES))))

        def values(i: Any) -> Any:
            return builder.add(spread(builder.add(args[3], builder.mul(i, args[4]))), lanes)

        _write(context, builder, out, args[0], args[1], args[2], values)
        return context.get_dummy_value()

    return types.void(out, at, count, first, step), generate
