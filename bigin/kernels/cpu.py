"""The CPU shell around rng/: fills the elements of a region, as vector loops that LLVM makes from plain ones.

A kernel works in tiles that stay in the L1 cache: it makes the words of a tile, then turns them into values. Two
loops of one kind of operation each vectorize better than one loop of both (normals 8.6 GB/s against 8.3, words
alone 16), compile in a third of the time, and any offset into a block is then a matter of where the copy starts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit

from bigin.kernels.cache import cached
from bigin.kernels.words import words_at, words_from, words_keyed
from bigin.rng.draws import DRAWS
from bigin.rng.portable import bits_bfloat16, bits_float8_e4m3fn, bits_float8_e5m2, bits_float16, inlined, u64

if sys.byteorder != "little":
    raise ImportError("bigin's CPU kernels join words as little-endian memory does; this machine is big-endian")

BLOCKS = 1024  # blocks of four words in a tile: 16 KiB of words
LISTED = 2048  # runs whose starts are listed at once
STEP = 512  # elements that a draw in two steps makes at once
SHORT = 512  # runs shorter than this many elements share a tile; 512 elements never need more than BLOCKS blocks

loop = njit(nogil=True, error_model="numpy")


def labelled(label: str) -> Callable[[Any], Any]:
    """`loop` for a function that exists once per kernel.

    A symbol is made of the function's name, its argument types and a counter that starts again in every process. The
    types of a float16 and a bfloat16 kernel are the same; without the label, code that was compiled in two processes
    and is loaded from the cache into a third could take one for the other.
    """

    def decorate(function: Any) -> Any:
        function.__qualname__ = f"{function.__name__}[{label}]"
        return loop(function)

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
        for i in range(u64(out.shape[0]) >> u64(1)):
            j = u64(u64(i) << u64(1))
            even, odd = draw(drawn[j], drawn[j + u64(1)], numbers)
            out[j] = store(even)
            out[j + u64(1)] = store(odd)

    return values


def in_steps(draw: Any, store: Any, kind: type, label: str) -> Any:
    """Two loops over a part that stays in the L1 cache, for a draw whose chain of operations is long.

    The CPU holds about one turn of the whole chain at a time and waits for its latency; of each half it holds several.
    Truncated normals of float32: 2.9 ns against 3.8 (Zen 3). Normals became no faster.
    """
    tail, value = draw

    @labelled(label)
    def tails(drawn, part, numbers):
        for i in range(u64(part.shape[0])):
            part[u64(i)] = tail(drawn[u64(i)], numbers)

    @labelled(label)
    def rest(drawn, part, out, numbers, anchor):
        for i in range(u64(out.shape[0])):
            out[u64(i)] = store(value(drawn[u64(i)], part[u64(i)], numbers, anchor))

    @labelled(label)
    def values(drawn, out, numbers, anchor):
        kept = np.empty(STEP, kind)
        for start in range(0, out.shape[0], STEP):
            stop = min(start + STEP, out.shape[0])
            part = kept[: stop - start]
            tails(drawn[start:stop], part, numbers)
            rest(drawn[start:stop], part, out[start:stop], numbers, anchor)

    return values


LOOPS = {"each": each, "pairs": pairs}  # by rng.draws.Draw.loop


@loop
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


def long_runs(values: Any, drawn_type: type, shift: Any, label: str) -> Any:
    """A kernel for runs that are worth tiles of their own; see fill_kernel for its arguments."""

    @labelled(label)
    def fill(out, start, counts, strides, run, stream, key, numbers, anchor):
        per_tile = u64(BLOCKS) << shift
        mask = (u64(1) << shift) - u64(1)
        words = np.empty(4 * BLOCKS, np.uint32)
        drawn = words.view(drawn_type)
        edge = np.empty(BLOCKS << shift, out.dtype)
        index = np.zeros(counts.shape[0], np.uint64)
        position = u64(0)
        more = True
        while more:
            tile = start & ~mask
            stop = start + run
            while tile < stop:
                count = min(per_tile, (stop - tile + mask) & ~mask)
                words_from(words[: (count >> shift) << u64(2)], tile >> shift, stream, key)
                if tile >= start and tile + count <= stop:
                    values(drawn[:count], out[position : position + count], numbers, anchor)
                    position += count
                else:
                    low = start - tile if tile < start else u64(0)
                    high = min(count, stop - tile)
                    values(drawn[:count], edge[:count], numbers, anchor)
                    for i in range(high - low):  # a slice would compile for four seconds more: it checks its shape
                        out[position + u64(i)] = edge[low + u64(i)]
                    position += high - low
                tile += count
            start, more = next_run(start, index, counts, strides)

    return fill


def gathered_runs(values: Any, drawn_type: type, shift: Any, label: str) -> Any:
    """A kernel for short runs that start anywhere: the blocks of many fill a tile together, so the loops stay long."""

    @labelled(label)
    def fill(out, starts, run, stream, key, numbers, anchor, words, tile, blocks, offsets):
        mask = (u64(1) << shift) - u64(1)
        drawn = words.view(drawn_type)
        position = u64(0)
        next_start = u64(0)
        while next_start < u64(starts.shape[0]):
            filled = u64(0)
            runs = u64(0)
            while next_start < u64(starts.shape[0]):
                start = starts[next_start]
                first = start >> shift
                count = ((start + run - u64(1)) >> shift) - first + u64(1)
                if filled + count > u64(BLOCKS):
                    break
                for i in range(count):
                    blocks[filled + u64(i)] = first + u64(i)
                offsets[runs] = (filled << shift) + (start & mask)
                filled += count
                runs += u64(1)
                next_start += u64(1)
            words_at(words, blocks[:filled], stream, key)
            values(drawn[: filled << shift], tile[: filled << shift], numbers, anchor)
            for r in range(runs):
                offset = offsets[u64(r)]
                for i in range(run):
                    out[position + u64(i)] = tile[offset + u64(i)]
                position += run

    return fill


def keyed_rows(values: Any, drawn_type: type, shift: Any, label: str) -> Any:
    """A kernel for rows of up to BLOCKS blocks that each have a stream of their own: many rows fill a tile together."""

    @labelled(label)
    def fill(out, streams, run, key, numbers, anchor):
        mask = (u64(1) << shift) - u64(1)
        blocks_in_row = (run + mask) >> shift
        together = u64(BLOCKS) // blocks_in_row
        words = np.empty(4 * BLOCKS, np.uint32)
        drawn = words.view(drawn_type)
        tile = np.empty(BLOCKS << shift, out.dtype)
        blocks = np.empty(BLOCKS, np.uint64)  # the same for every tile, as it holds whole rows
        own = np.empty(BLOCKS, np.uint64)
        for r in range(together):
            for i in range(blocks_in_row):
                blocks[u64(r) * blocks_in_row + u64(i)] = u64(i)
        row = u64(0)
        while row < u64(streams.shape[0]):
            rows = min(together, u64(streams.shape[0]) - row)
            for r in range(rows):
                stream = streams[row + u64(r)]
                for i in range(blocks_in_row):
                    own[u64(r) * blocks_in_row + u64(i)] = stream
            count = rows * blocks_in_row
            words_keyed(words, blocks[:count], own[:count], key)
            made = drawn[: count << shift]
            if run & mask == u64(0):
                values(made, out[row * run : (row + rows) * run], numbers, anchor)
            else:
                values(made, tile[: count << shift], numbers, anchor)
                for r in range(rows):
                    for i in range(run):
                        out[(row + u64(r)) * run + u64(i)] = tile[((u64(r) * blocks_in_row) << shift) + u64(i)]
            row += rows

    return fill


@loop
def list_starts(starts, start, stride):
    """Writes start, start + stride, start + 2 stride, ..."""
    for i in range(u64(starts.shape[0])):
        starts[u64(i)] = start + u64(i) * stride


def short_runs(gathered: Any, shift: Any, label: str) -> Any:
    """A kernel for regions of short runs, whose starts are listed some at a time."""

    @labelled(label)
    def fill(out, start, counts, strides, run, stream, key, numbers, anchor):
        words = np.empty(4 * BLOCKS, np.uint32)
        tile = np.empty(BLOCKS << shift, out.dtype)
        blocks = np.empty(BLOCKS, np.uint64)
        offsets = np.empty(BLOCKS, np.uint64)
        starts = np.empty(LISTED, np.uint64)
        outer = max(counts.shape[0] - 1, 0)
        inner_count = counts[outer] if counts.shape[0] else u64(1)
        inner_stride = strides[outer] if counts.shape[0] else u64(0)
        index = np.zeros(outer, np.uint64)
        position = u64(0)
        done = u64(0)  # of the runs along the innermost axis
        more = True
        while more:
            listed = u64(0)
            while more and listed < u64(LISTED):
                count = min(u64(LISTED) - listed, inner_count - done)
                list_starts(starts[listed : listed + count], start + done * inner_stride, inner_stride)
                listed += count
                done += count
                if done == inner_count:
                    done = u64(0)
                    start, more = next_run(start, index, counts[:outer], strides[:outer])
            part = out[position : position + listed * run]
            gathered(part, starts[:listed], run, stream, key, numbers, anchor, words, tile, blocks, offsets)
            position += listed * run

    return fill


@cache
def fill_kernel(distribution: str, dtype: str) -> Callable[..., None]:
    """The kernel that fills a region of one run, or of runs of at least SHORT elements.

    Arguments of the kernel: out (1-d, contiguous, of the storage type: the region's elements in C order), start
    (the flat index of the region's first element), counts and strides (uint64 arrays: how many steps along each
    outer axis, and how many elements a step is), run (the length of a run), stream, key, numbers (a tuple of the
    float type that is drawn), anchor (for trunc_normal). All integers are uint64.

    Each kind of region has a kernel of its own, so that a call compiles only what it needs.
    """
    label = f"{distribution}-{dtype}"
    return cached(long_runs(*parts(distribution, dtype, label), label), label)


@cache
def short_kernel(distribution: str, dtype: str) -> Callable[..., None]:
    """The kernel that fills a region of shorter runs; it takes the arguments of fill_kernel."""
    label = f"short-{distribution}-{dtype}"
    values, drawn_type, shift = parts(distribution, dtype, label)
    return cached(short_runs(gathered_runs(values, drawn_type, shift, label), shift, label), label)


@cache
def gather_kernel(distribution: str, dtype: str) -> Callable[..., None]:
    """The kernel that fills runs of one length, of at least SHORT elements, that start anywhere.

    Arguments of the kernel: out (1-d, contiguous: the runs one after the other), starts (uint64 array: the flat index
    of each run's first element), run (their length), and then those of fill_kernel.
    """
    label = f"gather-{distribution}-{dtype}"
    fill_long = long_runs(*parts(distribution, dtype, label), label)

    @labelled(label)
    def kernel(out, starts, run, stream, key, numbers, anchor):
        none = np.empty(0, np.uint64)
        for i in range(u64(starts.shape[0])):
            place = u64(i) * run
            fill_long(out[place : place + run], starts[u64(i)], none, none, run, stream, key, numbers, anchor)

    return cached(kernel, label)


@cache
def gather_short_kernel(distribution: str, dtype: str) -> Callable[..., None]:
    """The kernel that fills shorter runs of one length; it takes the arguments of gather_kernel."""
    label = f"gather-short-{distribution}-{dtype}"
    values, drawn_type, shift = parts(distribution, dtype, label)
    gathered = gathered_runs(values, drawn_type, shift, label)

    @labelled(label)
    def kernel(out, starts, run, stream, key, numbers, anchor):
        words = np.empty(4 * BLOCKS, np.uint32)
        tile = np.empty(BLOCKS << shift, out.dtype)
        blocks = np.empty(BLOCKS, np.uint64)
        offsets = np.empty(BLOCKS, np.uint64)
        gathered(out, starts, run, stream, key, numbers, anchor, words, tile, blocks, offsets)

    return cached(kernel, label)


@cache
def keyed_kernel(distribution: str, dtype: str) -> Callable[..., None]:
    """The kernel that fills rows of up to BLOCKS blocks, each the start of a stream of its own.

    Arguments of the kernel: out (1-d, contiguous: the rows one after the other), streams (uint64 array: each row's),
    run (the elements of a row), and then key, numbers and anchor as fill_kernel takes them.
    """
    label = f"keyed-{distribution}-{dtype}"
    return cached(keyed_rows(*parts(distribution, dtype, label), label), label)


@cache
def keyed_long_kernel(distribution: str, dtype: str) -> Callable[..., None]:
    """The kernel that fills longer rows; it takes the arguments of keyed_kernel."""
    label = f"keyed-long-{distribution}-{dtype}"
    fill_long = long_runs(*parts(distribution, dtype, label), label)

    @labelled(label)
    def kernel(out, streams, run, key, numbers, anchor):
        none = np.empty(0, np.uint64)
        for i in range(u64(streams.shape[0])):
            place = u64(i) * run
            fill_long(out[place : place + run], u64(0), none, none, run, streams[u64(i)], key, numbers, anchor)

    return cached(kernel, label)


def parts(distribution: str, dtype: str, label: str) -> tuple[Any, Any, Any]:
    """What every kernel is made of: words to values, the type of the words, and log2 of the elements in a block."""
    draw = DRAWS[distribution]
    double = dtype == "float64"
    kind = np.float64 if double else np.float32
    if draw.steps is None:
        values = LOOPS[draw.loop](draw.double if double else draw.single, STORES[dtype], label)
    else:
        values = in_steps(draw.steps[double], STORES[dtype], kind, label)
    return values, np.uint64 if double else np.uint32, u64(1 if double else 2)
