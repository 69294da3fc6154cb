"""Inner chunks of a shard that are made together: as one region, whose values are then put in the chunks' order.

A call for each chunk costs 0.1 ms, in which a core makes half a megabyte of values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import google_crc32c
import numpy as np

from bigin.core.regions import Grid, Region, Shape, block_of_rows, runs
from bigin.targets.target import Array

GROUP = 256 << 10  # bytes of chunks that are made together: with their reordered copy they stay in the cache
SMALL = 64 << 10  # bytes: larger chunks are made alone
EMPTY = np.uint64(2**64 - 1)  # offset and size of an inner chunk that a shard does not hold


def shard_index(counts: Shape, covered: Grid, chunk_bytes: int) -> bytes:
    """A shard's index: (offset, size) of every inner chunk, in C order, and a CRC-32C.

    The chunks of `covered` lie one after the other; of the others, beyond the array's edge, there is none.
    """
    index = np.full((*counts, 2), EMPTY, "<u8")
    held = index[tuple(slice(0, count) for count in covered.counts)]
    held[..., 0] = np.arange(len(covered), dtype="<u8").reshape(covered.counts) * np.uint64(chunk_bytes)
    held[..., 1] = chunk_bytes
    data = index.tobytes()
    return data + int(google_crc32c.value(data)).to_bytes(4, "little")


def index_bytes(counts: Shape) -> int:
    """How many bytes the index of so many inner chunks along each axis takes."""
    return 16 * math.prod(counts) + 4


def groups(covered: Grid, chunk_bytes: int) -> Iterator[tuple[int, Shape, Region]]:
    """The inner chunks in C order, some at a time: the first one's number, how many along each axis, their region."""
    counts, inner, shape = covered.counts, covered.block, covered.shape
    for group in Grid(counts, block_of_rows(counts, GROUP // max(1, chunk_bytes))):
        region = tuple(
            (start * block, min(stop * block, size))
            for (start, stop), block, size in zip(group, inner, shape, strict=True)
        )
        yield runs(counts, group)[0], tuple(stop - start for start, stop in group), region


def group_bytes(shard: Shape, inner: Shape, chunk_bytes: int) -> int:
    """The bytes of the largest group of a shard."""
    counts = tuple(-(-size // block) for size, block in zip(shard, inner, strict=True))
    return math.prod(block_of_rows(counts, GROUP // max(1, chunk_bytes))) * chunk_bytes


def split(values: Array, inner: Shape, chunks: Array, fill_value: Any) -> None:
    """Puts the values of a region into chunks (counts, then the chunk's axes); what lies beyond is the fill value."""
    counts = chunks.shape[: len(inner)]
    if values.size == chunks.size:
        chunks[...] = values.reshape(_interleaved(counts, inner)).transpose(_order(len(inner)))
        return
    chunks[...] = fill_value
    for part, at, within in _edges(values.shape, inner):
        chunks[at][within] = values[part]


def join(chunks: Array, inner: Shape, values: Array) -> None:
    """The reverse: the values of a region from its chunks."""
    counts = chunks.shape[: len(inner)]
    if values.size == chunks.size:
        values.reshape(_interleaved(counts, inner))[...] = chunks.transpose(_back(len(inner)))
        return
    for part, at, within in _edges(values.shape, inner):
        values[part] = chunks[at][within]


def _edges(shape: Shape, inner: Shape) -> Iterator[tuple[Any, Any, Any]]:
    """Where each chunk of a region that some reach beyond lies in it, its index, and what of it is in the region."""
    for chunk in Grid(shape, inner):
        at = tuple(start // block for (start, _), block in zip(chunk, inner, strict=True))
        yield (
            tuple(slice(start, stop) for start, stop in chunk),
            at,
            tuple(slice(0, stop - start) for start, stop in chunk),
        )


def _interleaved(counts: Sequence[int], inner: Shape) -> Shape:
    return tuple(chain.from_iterable(zip(counts, inner, strict=True)))


def _order(ndim: int) -> Shape:
    """From (count, inner, count, inner, ...) to the counts and then the inner axes."""
    return (*range(0, 2 * ndim, 2), *range(1, 2 * ndim, 2))


def _back(ndim: int) -> Shape:
    return tuple(chain.from_iterable((axis, ndim + axis) for axis in range(ndim)))
