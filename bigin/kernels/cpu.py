"""The CPU shell around rng/: fills the elements of a region, as vector loops that LLVM makes from plain ones.

A kernel works in tiles that stay in the L1 cache: it makes the words of a tile, then turns them into values. Two
loops of one kind of operation each vectorize better than one loop of both (normals 8.6 GB/s against 8.3, words
alone 16), compile in a third of the time, and any offset into a block is then a matter of where the copy starts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.np.numpy_support import from_dtype

from bigin.core import dtypes
from bigin.kernels import sizes
from bigin.kernels.compile import array_at, buffer, inner, interleaved, machine_code, on_stack, part_of, tail_at
from bigin.kernels.files import Code
from bigin.kernels.sizes import AXES, BLOCKS, LISTED, STARTS, STEP, STREAMS
from bigin.kernels.stretches import LANES, copied, counted
from bigin.kernels.words import words_at, words_from, words_keyed
from bigin.rng.draws import DRAWS
from bigin.rng.portable import (
    NEAR,
    bits_bfloat16,
    bits_float8_e4m3fn,
    bits_float8_e5m2,
    bits_float16,
    inlined,
    u32,
    u64,
)

if sys.byteorder != "little":
    raise ImportError("bigin's CPU kernels join words as little-endian memory does; this machine is big-endian")


def labelled(label: str) -> Callable[[Any], Any]:
    """`inner` for a function that exists once per kernel.

    A symbol is made of the function's name, its argument types and a counter. The types of a float16 and a bfloat16
    kernel are the same.
    """

    def decorate(function: Any) -> Any:
        function.__qualname__ = f"{function.__name__}[{label}]"
        return inner(function)

    return decorate


@inlined
def unchanged(x):
    """The store of the types that are drawn."""
    return x


# How a drawn value is stored, by the dtype's name; dtypes.storage is the array's type.
STORES: dict[str, Any] = {
    "float64": unchanged,
    "float32": unchanged,
    "float16": bits_float16,
    "bfloat16": bits_bfloat16,
    "float8_e4m3fn": bits_float8_e4m3fn,
    "float8_e5m2": bits_float8_e5m2,
}


def each(draw: Any, store: Any, label: str) -> Any:
    """A loop in which every element draws alone."""

    @labelled(label)
    def values(drawn, out, numbers, anchor):
        for i in range(u64(out.shape[0])):
            out[u64(i)] = store(draw(drawn[u64(i)], numbers, anchor))

    return values


def pairs(draw: Any, store: Any, label: str) -> Any:
    """A loop in which an even element and the odd one behind it draw together."""

    @labelled(label)
    def values(drawn, out, numbers, anchor):
        interleaved()
        for i in range(u64(out.shape[0]) >> u64(1)):
            j = u64(u64(i) << u64(1))
            even, odd = draw(drawn[j], drawn[j + u64(1)], numbers)
            out[j] = store(even)
            out[j + u64(1)] = store(odd)

    return values


def in_steps(draw: Any, store: Any, kind: type, label: str) -> Any:
    """Two loops over a part that stays in the L1 cache, for a draw whose chain of operations is long.

    The CPU holds about one turn of the whole chain at a time and waits for its latency; of each half it holds several.
    Truncated normals of float32: 2.9 ns against 3.8 (Zen 3). Normals became no faster. Where no y of a part reaches
    NEAR, the shorter second step serves: 3.2 ns against 4.3 on [-2 std, 2 std], where other programs ran.
    """
    tail, value, near_value = draw
    near, flag = kind(NEAR), u64 if kind is np.float64 else u32

    @labelled(label)
    def tails(drawn, part, numbers):
        far = flag(0)
        for i in range(u64(part.shape[0])):
            w = tail(drawn[u64(i)], numbers)
            part[u64(i)] = w
            far = flag(far | (flag(0) if w < near else flag(1)))
        return far

    @labelled(label)
    def rest(drawn, part, out, numbers, anchor):
        for i in range(u64(out.shape[0])):
            out[u64(i)] = store(value(drawn[u64(i)], part[u64(i)], numbers, anchor))

    @labelled(label)
    def near_rest(drawn, part, out, numbers, anchor):
        for i in range(u64(out.shape[0])):
            out[u64(i)] = store(near_value(drawn[u64(i)], part[u64(i)], numbers, anchor))

    keep = on_stack(kind, STEP)

    @labelled(label)
    def values(drawn, out, numbers, anchor):
        kept = keep()
        size = u64(out.shape[0])
        start = u64(0)
        while start < size:
            count = u64(STEP) if u64(STEP) < size - start else size - start
            part = part_of(kept, u64(0), count)
            source = part_of(drawn, start, count)
            if tails(source, part, numbers):
                rest(source, part, part_of(out, start, count), numbers, anchor)
            else:
                near_rest(source, part, part_of(out, start, count), numbers, anchor)
            start += count

    return values


LOOPS = {"each": each, "pairs": pairs}  # by rng.draws.Draw.loop


@inner
def next_run(start, index, counts, strides):
    """Where the next run starts, and whether there is one: an odometer over the outer axes."""
    axis = counts.shape[0]
    while axis > 0:
        axis -= 1
        index[axis] += u64(1)
        start += strides[axis]
        if index[axis] < counts[axis]:
            return start, True
        start -= strides[axis] * counts[axis]
        index[axis] = u64(0)
    return start, False


class Parts:
    """What every kernel of a distribution and a dtype is made of.

    values: words to values. together: how many elements draw together. shift: log2 of the elements in a block. words,
    drawn: of a tile, the same memory. packed: what is drawn of it, without what lies between runs.
    """

    def __init__(self, distribution: str, dtype: str, label: str, count: int) -> None:
        draw = DRAWS[distribution]
        double = dtype == "float64"
        kind = np.float64 if double else np.float32
        if draw.steps is None:
            self.values = LOOPS[draw.loop](draw.double if double else draw.single, STORES[dtype], label)
        else:
            self.values = in_steps(draw.steps[double], STORES[dtype], kind, label)
        self.together = u64(2 if draw.loop == "pairs" else 1)
        self.shift = u64(1 if double else 2)
        self.out = np.dtype(dtypes.storage(dtypes.DTYPES[dtype]))
        self.words = buffer(np.dtype(np.uint32), sizes.WORDS, 4 * BLOCKS)
        word = np.dtype(np.uint64 if double else np.uint32)
        self.drawn = buffer(word, sizes.WORDS, BLOCKS << int(self.shift))
        self.packed = buffer(word, sizes.PACKED, BLOCKS << int(self.shift))
        self.tile = buffer(self.out, sizes.TILE, BLOCKS << int(self.shift))
        self.tail = tail_at(np.dtype(kind), count)
        self.label = label


blocks_of = buffer(np.dtype(np.uint64), sizes.LIST_A, BLOCKS)
offsets_of = buffer(np.dtype(np.uint64), sizes.LIST_B, BLOCKS)
starts_of = buffer(np.dtype(np.uint64), sizes.STARTING, LISTED)
index_of = buffer(np.dtype(np.uint64), sizes.INDEX, AXES)


def packed_runs(parts: Parts) -> Any:
    """Values of short runs whose words lie here and there in a tile, one run behind the other.

    The words are brought together, so that no value is made that is not asked for. Where runs begin or end within a
    pair, all values of the tile are made, and brought together.
    """
    values, drawn_of, packed_of, tile_of = parts.values, parts.drawn, parts.packed, parts.tile
    last = u64(parts.together - u64(1))

    @labelled(parts.label)
    def pack(out, offsets, run, made, numbers, anchor, scratch):
        drawn = drawn_of(scratch)
        runs = u64(offsets.shape[0])
        within = run
        for r in range(runs):
            within |= offsets[u64(r)]
        if within & last == u64(0):
            packed = packed_of(scratch)
            for r in range(runs):
                copied(packed, u64(r) * run, run, drawn, offsets[u64(r)])
            values(part_of(packed, u64(0), runs * run), part_of(out, u64(0), runs * run), numbers, anchor)
        else:
            tile = tile_of(scratch)
            values(part_of(drawn, u64(0), made), part_of(tile, u64(0), made), numbers, anchor)
            for r in range(runs):
                at = u64(r) * run
                if at + run + u64(LANES - 1) <= u64(out.shape[0]):
                    copied(out, at, run, tile, offsets[u64(r)])
                else:
                    for i in range(run):
                        out[at + u64(i)] = tile[offsets[u64(r)] + u64(i)]

    return pack


def gathered_runs(parts: Parts) -> Any:
    """A loop over short runs that start anywhere: the blocks of many fill a tile together, so the loops stay long."""
    pack, words_of, shift = packed_runs(parts), parts.words, parts.shift

    @inlined
    def fill(out, starts, run, stream, key, numbers, anchor, scratch):
        mask = (u64(1) << shift) - u64(1)
        words = words_of(scratch)
        blocks = blocks_of(scratch)
        offsets = offsets_of(scratch)
        total = u64(starts.shape[0])
        together = rows_together((run + mask + mask) >> shift)
        done = u64(0)
        while done < total:
            runs = together if together < total - done else total - done
            filled = u64(0)
            for r in range(runs):
                start = starts[done + u64(r)]
                first = start >> shift
                count = ((start + run - u64(1)) >> shift) - first + u64(1)
                counted(blocks, filled, count, first, u64(1))
                offsets[u64(r)] = (filled << shift) + (start & mask)
                filled += count
            words_at(words, part_of(blocks, u64(0), filled), stream, key)
            rest = part_of(out, done * run, u64(out.shape[0]) - done * run)
            pack(rest, part_of(offsets, u64(0), runs), run, filled << shift, numbers, anchor, scratch)
            done += runs

    return fill


@inner
def rows_together(blocks):
    """How many runs of at most so many blocks fill a tile; whole vectors of them where they are many."""
    together = u64(BLOCKS) // blocks
    return together & ~u64(15) if together > u64(15) else together


@inner
def list_starts(starts, start, stride):
    """Writes start, start + stride, start + 2 stride, ..."""
    for i in range(u64(starts.shape[0])):
        starts[u64(i)] = start + u64(i) * stride


# Every kernel takes (out, size, start, listed, count, run, mode, tail, scratch): where values go, one after another,
# and how many; four numbers and a list of uint64, see each; stream, key, anchor and the numbers of a native.Tail;
# memory of sizes.SCRATCH bytes. Short runs have kernels of their own, so that a call compiles only what it needs.


def long_kernel(parts: Parts) -> Any:
    """The kernel that fills runs that are worth tiles of their own: of at least SHORT elements, or a single one.

    run: the length of a run. In the mode REGION they are those of a region: start is the flat index of its first
    element; listed how many steps along each of `count` outer axes, and then how many elements a step is along each. In
    the mode STARTS they start where `listed` says; in the mode STREAMS each is the start of the stream that it says.
    """
    values, words_of, drawn_of, tile_of, shift = parts.values, parts.words, parts.drawn, parts.tile, parts.shift
    opened = parts.tail

    def kernel(out, size, start, listed, count, run, mode, tail, scratch):
        stream, key, anchor, numbers = opened(tail)
        made = array_at(out, size)
        lists = array_at(listed, count << u64(1))
        per_tile = u64(BLOCKS) << shift
        mask = (u64(1) << shift) - u64(1)
        words = words_of(scratch)
        drawn = drawn_of(scratch)
        edge = tile_of(scratch)
        position = u64(0)
        number = u64(0)
        while position < size:
            first = start
            if mode == u64(STARTS):
                first = lists[number]
            elif mode == u64(STREAMS):
                stream = lists[number]
            else:
                rest = number
                for i in range(count):
                    axis = count - u64(i) - u64(1)
                    above = rest // lists[axis]
                    first += (rest - above * lists[axis]) * lists[count + axis]
                    rest = above
            number += u64(1)
            tile = first & ~mask
            stop = first + run
            while tile < stop:
                together = (stop - tile + mask) & ~mask
                together = per_tile if per_tile < together else together
                words_from(part_of(words, u64(0), (together >> shift) << u64(2)), tile >> shift, stream, key)
                low = first - tile if tile < first else u64(0)
                high = together if together < stop - tile else stop - tile
                size_here = high - low
                whole = size_here == together
                into = part_of(made, position, together) if whole else part_of(edge, u64(0), together)
                values(part_of(drawn, u64(0), together), into, numbers, anchor)
                if not whole:
                    for i in range(size_here):
                        made[position + u64(i)] = edge[low + u64(i)]
                position += size_here
                tile += together

    return kernel


def short_kernel(parts: Parts) -> Any:
    """The kernel that fills a region of shorter runs, whose starts are listed some at a time; see long_kernel."""
    gathered, opened = gathered_runs(parts), parts.tail

    def kernel(out, size, start, listed, count, run, mode, tail, scratch):
        stream, key, anchor, numbers = opened(tail)
        outer = count - u64(1) if count else u64(0)
        lists = array_at(listed, count << u64(1))
        counts = part_of(lists, u64(0), outer)
        strides = part_of(lists, count, outer)
        inner_count = lists[outer] if count else u64(1)
        inner_stride = lists[count + outer] if count else u64(0)
        starts = starts_of(scratch)
        index = part_of(index_of(scratch), u64(0), outer)
        for i in range(outer):
            index[u64(i)] = u64(0)
        made = array_at(out, size)
        position = u64(0)
        done = u64(0)  # of the runs along the innermost axis
        more = True
        while more:
            found = u64(0)
            while more and found < u64(LISTED):
                some = inner_count - done
                some = u64(LISTED) - found if u64(LISTED) - found < some else some
                list_starts(part_of(starts, found, some), start + done * inner_stride, inner_stride)
                found += some
                done += some
                if done == inner_count:
                    done = u64(0)
                    start, more = next_run(start, index, counts, strides)
            part = part_of(made, position, found * run)
            gathered(part, part_of(starts, u64(0), found), run, stream, key, numbers, anchor, scratch)
            position += found * run

    return kernel


def gather_kernel(parts: Parts) -> Any:
    """The kernel that fills shorter runs of one length, which start where `listed` says."""
    gathered, opened = gathered_runs(parts), parts.tail

    def kernel(out, size, start, listed, count, run, mode, tail, scratch):
        stream, key, anchor, numbers = opened(tail)
        gathered(array_at(out, size), array_at(listed, count), run, stream, key, numbers, anchor, scratch)

    return kernel


def keyed_kernel(parts: Parts) -> Any:
    """The kernel that fills `count` rows of up to BLOCKS blocks, each of the stream that `listed` says.

    run: the elements of a row. Many rows fill a tile together. The stream in the tail is not read.
    """
    values, pack, words_of, drawn_of, shift = parts.values, packed_runs(parts), parts.words, parts.drawn, parts.shift
    opened = parts.tail

    def kernel(out, size, start, listed, count, run, mode, tail, scratch):
        _, key, anchor, numbers = opened(tail)
        streams = array_at(listed, count)
        made = array_at(out, size)
        mask = (u64(1) << shift) - u64(1)
        blocks_in_row = (run + mask) >> shift
        together = rows_together(blocks_in_row)
        words = words_of(scratch)
        drawn = drawn_of(scratch)
        blocks = blocks_of(scratch)  # these and the offsets are the same for every tile, as it holds whole rows
        own = offsets_of(scratch)
        offsets = starts_of(scratch)
        for r in range(together):
            offsets[u64(r)] = (u64(r) * blocks_in_row) << shift
            counted(blocks, u64(r) * blocks_in_row, blocks_in_row, u64(0), u64(1))
        row = u64(0)
        while row < count:
            rows = together if together < count - row else count - row
            for r in range(rows):
                counted(own, u64(r) * blocks_in_row, blocks_in_row, streams[row + u64(r)], u64(0))
            filled = rows * blocks_in_row
            words_keyed(words, part_of(blocks, u64(0), filled), part_of(own, u64(0), filled), key)
            if run & mask == u64(0):
                values(part_of(drawn, u64(0), filled << shift), part_of(made, row * run, rows * run), numbers, anchor)
            else:
                rest = part_of(made, row * run, size - row * run)
                pack(rest, part_of(offsets, u64(0), rows), run, filled << shift, numbers, anchor, scratch)
            row += rows

    return kernel


KINDS = {
    "long": long_kernel,
    "short": short_kernel,
    "gather": gather_kernel,
    "keyed": keyed_kernel,
}


def compiled(kind: str, distribution: str, dtype: str, count: int) -> Code:
    """The machine code of a kernel, of a distribution that has so many numbers."""
    label = f"{kind}-{distribution}-{dtype}"
    parts = Parts(distribution, dtype, label, count)
    kernel = KINDS[kind](parts)
    kernel.__qualname__ = f"kernel[{label}]"
    word, pointer = types.uint64, types.CPointer
    lists, bytes_ = pointer(word), pointer(types.uint8)
    arguments = (pointer(from_dtype(parts.out)), word, word, lists, word, word, word, lists, bytes_)
    return machine_code(kernel, arguments)
