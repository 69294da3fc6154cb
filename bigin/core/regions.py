"""Regions of a tensor, in integers: the grid that cuts a shape into them, and the runs that they are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from bigin.core.errors import InputError
from bigin.core.text import counted

Shape = tuple[int, ...]
Region = tuple[tuple[int, int], ...]  # (start, stop) along each axis


@dataclass(frozen=True)
class Grid(Sequence[Region]):
    """The regions of a tensor under a grid of equal blocks, clipped at the upper edges, in C order.

    A sequence that is computed, not stored: a terabyte in chunks of a megabyte costs nothing to plan.
    """

    shape: Shape
    block: Shape

    counts: Shape = field(init=False, compare=False, repr=False)  # how many blocks there are along each axis

    def __post_init__(self) -> None:
        assert len(self.shape) == len(self.block)
        assert min(self.block, default=1) > 0
        # Here and not when they are asked for: a cached_property's lock takes longer than the division.
        counts = tuple([-(-size // block) for size, block in zip(self.shape, self.block, strict=True)])
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "_len", math.prod(counts))

    def __len__(self) -> int:
        return self._len  # type: ignore[attr-defined, no-any-return]

    def __iter__(self) -> Iterator[Region]:
        return map(self.__getitem__, range(len(self)))

    def coordinates(self, index: int) -> Shape:
        """The place of a region in the grid."""
        places = []
        for count in reversed(self.counts):
            index, place = divmod(index, count)
            places.append(place)
        return tuple(reversed(places))

    def __getitem__(self, index: int) -> Region:  # type: ignore[override]
        if not 0 <= index < self._len:  # type: ignore[attr-defined]
            raise IndexError(index)
        if self._len == 1:  # type: ignore[attr-defined]
            return tuple([(0, size) for size in self.shape])
        region = []
        for count, block, size in zip(self.counts[::-1], self.block[::-1], self.shape[::-1], strict=True):
            index, place = divmod(index, count)
            start = place * block
            region.append((start, start + block if start + block < size else size))
        return tuple(region[::-1])


class Picked(Sequence[Region]):
    """Some of a sequence of regions, each of which is computed when it is asked for."""

    def __init__(self, regions: Sequence[Region], positions: Sequence[int]) -> None:
        self._regions = regions
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, index: int) -> Region:  # type: ignore[override]
        return self._regions[self._positions[index]]


@dataclass(frozen=True)
class Stretches(Sequence[range]):
    """The regions of a grid in stretches of at most so many that follow each other and together are a region, too."""

    grid: Grid
    most: int

    @cached_property
    def _groups(self) -> Grid:
        counts = self.grid.counts
        return Grid(counts, block_of_rows(counts, self.most))

    def __len__(self) -> int:
        return len(self._groups)

    def __getitem__(self, index: int) -> range:  # type: ignore[override]
        group = self._groups[index]
        first = runs(self.grid.counts, group)[0]
        return range(first, first + math.prod(extent(group)))


@dataclass(frozen=True)
class Tail(Sequence[Region]):
    """The regions of a tensor from a row on, under a grid of equal blocks that begins at that row."""

    grid: Grid  # of the rows that are left
    first: int

    @classmethod
    def of(cls, grid: Grid, first: int) -> Tail:
        """What is left of a grid's tensor from a row on, cut into the same blocks."""
        return cls(Grid((grid.shape[0] - first, *grid.shape[1:]), grid.block), first)

    def __len__(self) -> int:
        return len(self.grid)

    def __getitem__(self, index: int) -> Region:  # type: ignore[override]
        (start, stop), *rest = self.grid[index]
        return ((self.first + start, self.first + stop), *rest)


def indices(spans: Sequence[range]) -> Iterator[tuple[int, ...]]:
    """All tuples of one integer of each range, in C order. itertools.product keeps every integer in memory."""
    if not spans:
        yield ()
        return
    *outer, inner = spans
    for head in indices(outer):
        for index in inner:
            yield (*head, index)


def extent(region: Region) -> Shape:
    """The shape of a region."""
    return tuple(stop - start for start, stop in region)


def within(outer: Region, inner: Region) -> Region:
    """A region that is given from the first element of another, as a region of the tensor."""
    return tuple((first + start, first + stop) for (first, _), (start, stop) in zip(outer, inner, strict=True))


def ranges_within(outer: Sequence[range], inner: Region) -> tuple[range, ...]:
    """A region of the tensor that ranges cut out, as ranges of the tensor that they cut."""
    return tuple(r[start:stop] for r, (start, stop) in zip(outer, inner, strict=True))


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


def dense(shape: Sequence[int]) -> Shape:
    """The strides of a contiguous tensor: how far apart neighbours along each axis are, in elements."""
    return tuple(math.prod(max(size, 1) for size in shape[axis + 1 :]) for axis in range(len(shape)))


def runs(shape: Shape, region: Region) -> tuple[int, list[int], list[int], int]:
    """A region as runs of the flat tensor: (start, counts, strides, run).

    start is the flat index of the first element, run the length of a run, and the runs start at every
    start + sum(i_k strides[k]) with 0 <= i_k < counts[k], in C order.
    """
    steps = dense(shape)
    start = sum(first * step for (first, _), step in zip(region, steps, strict=True))
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
    return start, [sizes[k] for k in outer], [steps[k] for k in outer], run


def strided_runs(
    shape: Shape, ranges: Sequence[range], steps: Sequence[int]
) -> tuple[int, list[int], list[int], list[int], int, int]:
    """What ranges cut out of a tensor, as runs that also lie evenly in memory, where axis k goes in steps of steps[k].

    (start, counts, strides, steps, run, step): as `runs`, and how far memory's runs and a run's elements are apart.
    """
    inner = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    start = sum(r.start * stride for r, stride in zip(ranges, inner, strict=True))
    strides = [r.step * stride for r, stride in zip(ranges, inner, strict=True)]
    sizes = tuple(map(len, ranges))
    if 0 in sizes:
        return start, [], [], [], 0, 1
    axes: list[tuple[int, int, int]] = []  # size, stride, step; from the innermost
    for size, stride, step in zip(reversed(sizes), reversed(strides), reversed(steps), strict=True):
        if size == 1:
            continue
        if axes and (stride, step) == (axes[-1][0] * axes[-1][1], axes[-1][0] * axes[-1][2]):
            axes[-1] = (axes[-1][0] * size, *axes[-1][1:])
        else:
            axes.append((size, stride, step))
    run, step = 1, 1
    if axes and axes[0][1] == 1:
        run, _, step = axes.pop(0)
    axes.reverse()
    return start, [a[0] for a in axes], [a[1] for a in axes], [a[2] for a in axes], run, step


def segments(shape: Shape, region: Region) -> Iterator[tuple[int, int]]:
    """The runs of a region, each as (flat index of the first element, length)."""
    start, counts, strides, run = runs(shape, region)
    for i in range(math.prod(counts)):
        first = start
        for count, stride in zip(reversed(counts), reversed(strides), strict=True):
            i, place = divmod(i, count)
            first += place * stride
        yield first, run


def flat_slice(shape: Shape, start: int, stop: int) -> Iterator[Region]:
    """A flat slice of a tensor as regions that follow each other, at most two for each axis."""
    if start >= stop:
        return
    if not shape:
        yield ()
        return
    inner = math.prod(shape[1:])
    first, head = divmod(start, inner)
    last, tail = divmod(stop, inner)
    if first == last:
        yield from (((first, first + 1), *rest) for rest in flat_slice(shape[1:], head, tail))
        return
    if head:
        yield from (((first, first + 1), *rest) for rest in flat_slice(shape[1:], head, inner))
        first += 1
    if first < last:
        yield ((first, last), *((0, size) for size in shape[1:]))
    yield from (((last, last + 1), *rest) for rest in flat_slice(shape[1:], 0, tail))


def stretches(ids: Any) -> Iterator[tuple[int, int]]:
    """Sorted distinct integers (an array) as stretches of consecutive ones: (first, last + 1)."""
    cuts = (ids[1:] != ids[:-1] + 1).nonzero()[0] + 1
    starts, stops = [0, *cuts.tolist()], [*cuts.tolist(), len(ids)]
    for start, stop in zip(starts, stops, strict=True):
        if start < stop:
            yield int(ids[start]), int(ids[stop - 1]) + 1


def parse_region(region: Any, shape: Shape | None) -> tuple[range, ...]:
    """A region as a user gives it: slices or pairs of (start, stop), for each axis, or a single one for the first.

    Axes that are left out are whole, and negative bounds count from the end. Unlike numpy, a bound beyond the shape is
    an error.
    """
    if shape is None:
        raise InputError("expected the global shape of the tensor that the region is of; give shape=")
    given = list(region) if isinstance(region, tuple | list) and not _is_pair(region, shape) else [region]
    if any(item is ... for item in given):
        place = next(i for i, item in enumerate(given) if item is ...)
        given[place : place + 1] = [slice(None)] * (len(shape) - len(given) + 1)
    if len(given) > len(shape):
        raise InputError(f"expected a region of shape {shape}, got {counted(len(given), 'axis', 'axes')}: {region!r}")
    given += [slice(None)] * (len(shape) - len(given))
    return tuple(_axis_range(item, size, region, shape) for item, size in zip(given, shape, strict=True))


def _is_pair(region: Any, shape: Shape) -> bool:
    return len(shape) == 1 and len(region) == 2 and all(hasattr(bound, "__index__") for bound in region)


def _axis_range(item: Any, size: int, region: Any, shape: Shape) -> range:
    wrong = f"expected slices (or pairs of start and stop) within shape {shape}, got {' '.join(repr(region).split())}"
    if isinstance(item, tuple | list) and len(item) == 2:
        item = slice(*item)
    if not isinstance(item, slice):
        raise InputError(wrong)
    try:
        start, stop, step = (
            default if bound is None else bound.__index__()
            for bound, default in ((item.start, 0), (item.stop, size), (item.step, 1))
        )
    except AttributeError:
        raise InputError(wrong) from None
    start, stop = (bound + size if bound < 0 else bound for bound in (start, stop))
    if not (0 <= start <= size and 0 <= stop <= size and step > 0):
        raise InputError(wrong)
    return range(start, max(start, stop), step)
