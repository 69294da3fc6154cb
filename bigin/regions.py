"""Regions of a tensor, in integers: the grid that cuts a shape into them, and the runs that they are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Shape = tuple[int, ...]
Region = tuple[tuple[int, int], ...]  # (start, stop) along each axis


@dataclass(frozen=True)
class Grid(Sequence[Region]):
    """The regions of a tensor under a grid of equal blocks, clipped at the upper edges, in C order.

    A sequence that is computed, not stored: a terabyte in chunks of a megabyte costs nothing to plan.
    """

    shape: Shape
    block: Shape

    def __post_init__(self) -> None:
        assert len(self.shape) == len(self.block)
        assert all(b > 0 for b in self.block)

    @property
    def counts(self) -> Shape:
        """How many blocks there are along each axis."""
        return tuple(-(-size // block) for size, block in zip(self.shape, self.block, strict=True))

    def __len__(self) -> int:
        return math.prod(self.counts)

    def coordinates(self, index: int) -> Shape:
        """The place of a region in the grid."""
        places = []
        for count in reversed(self.counts):
            index, place = divmod(index, count)
            places.append(place)
        return tuple(reversed(places))

    def __getitem__(self, index: int) -> Region:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return tuple(
            (place * block, min(place * block + block, size))
            for place, block, size in zip(self.coordinates(index), self.block, self.shape, strict=True)
        )


def extent(region: Region) -> Shape:
    """The shape of a region."""
    return tuple(stop - start for start, stop in region)


def within(outer: Region, inner: Region) -> Region:
    """A region that is given from the first element of another, as a region of the tensor."""
    return tuple((first + start, first + stop) for (first, _), (start, stop) in zip(outer, inner, strict=True))


def place_in(region: Region, place: Shape) -> Any:
    """Where an element of the tensor lies in a region, as numpy indexes with it; None where it lies outside."""
    if not all(start <= at < stop for at, (start, stop) in zip(place, region, strict=True)):
        return None
    return tuple(at - start for at, (start, _) in zip(place, region, strict=True))


def slices(region: Region) -> tuple[Any, ...]:
    """A region as numpy and zarr index with it; the dots keep what is left of a 0-d array an array."""
    return (..., *(slice(start, stop) for start, stop in region))


def block_of_rows(shape: Shape, elements: int) -> Shape:
    """The block of at most so many elements whose regions are contiguous in C order, cut along one axis."""
    block = [1] * len(shape)
    left = max(1, elements)
    for axis in reversed(range(len(shape))):
        block[axis] = max(1, min(shape[axis], left))
        left //= block[axis]
        if block[axis] < shape[axis]:
            break
    return tuple(block)


def runs(shape: Shape, region: Region) -> tuple[int, list[int], list[int], int]:
    """A region as runs of the flat tensor: (start, counts, strides, run).

    start is the flat index of the first element, run the length of a run, and the runs start at every
    start + sum(i_k strides[k]) with 0 <= i_k < counts[k], in C order.
    """
    strides = [1] * len(shape)
    for axis in reversed(range(len(shape) - 1)):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    start = sum(first * stride for (first, _), stride in zip(region, strides, strict=True))
    sizes = extent(region)
    if 0 in sizes:
        return start, [], [], 0
    axis, run = len(shape), 1
    while axis > 0:
        axis -= 1
        run *= sizes[axis]
        if sizes[axis] < shape[axis]:
            break
    outer = [k for k in range(axis) if sizes[k] > 1]
    return start, [sizes[k] for k in outer], [strides[k] for k in outer], run


def segments(shape: Shape, region: Region) -> Iterator[tuple[int, int]]:
    """The runs of a region, each as (flat index of the first element, length)."""
    start, counts, strides, run = runs(shape, region)
    for i in range(math.prod(counts)):
        first = start
        for count, stride in zip(reversed(counts), reversed(strides), strict=True):
            i, place = divmod(i, count)
            first += place * stride
        yield first, run
