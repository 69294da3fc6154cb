"""What lies where in objects: a header and tensors, cut into parts."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np

from bigin.core.regions import Grid, Region, Shape, flat_slice

PART = 16 << 20  # bytes of a part of a new object
UNIT = 64 << 10  # bytes: larger parts are whole multiples of it


@dataclass(frozen=True)
class ObjectTensor:
    """A tensor in an object: its number in the target, its name, and the byte of the object where it begins."""

    number: int
    name: str
    dtype: np.dtype[np.generic]  # as it is stored
    shape: Shape
    begin: int

    @property
    def end(self) -> int:
        """The byte behind its last."""
        return self.begin + int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize


@dataclass(frozen=True)
class ObjectLayout:
    """An object: its key, its first bytes, and its tensors in the order of their bytes."""

    key: str
    header: bytes
    tensors: Sequence[ObjectTensor]
    size: int
    part: int = PART
    begins: Sequence[int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "begins", [tensor.begin for tensor in self.tensors])

    @property
    def count(self) -> int:
        """How many parts it has."""
        return max(1, -(-self.size // self.part))

    def span(self, number: int) -> tuple[int, int]:
        """The bytes of a part, which is numbered from 1 on."""
        start = (number - 1) * self.part
        return start, min(start + self.part, self.size)

    def held(self, start: int, stop: int) -> Iterator[tuple[ObjectTensor, Region, int]]:
        """What some bytes hold: regions of tensors that follow each other, and the byte where each begins."""
        for tensor in self.tensors[max(0, bisect_right(self.begins, start) - 1) :]:
            if tensor.begin >= stop:
                return
            size = tensor.dtype.itemsize
            first, last = max(start, tensor.begin), min(stop, tensor.end)
            at = first
            for region in flat_slice(tensor.shape, (first - tensor.begin) // size, (last - tensor.begin) // size):
                yield tensor, region, at
                at += int(np.prod([stop - start for start, stop in region], dtype=object)) * size


def part_for(size: int, most: int, least: int, wanted: int | None = None) -> int:
    """The bytes of a part of an object, of which a store takes at most so many, of at least so many bytes each."""
    part = max(least, wanted or PART)
    part = max(part, -(-size // most))
    return -(-part // UNIT) * UNIT


@dataclass(frozen=True)
class PartGrid(Grid):
    """The parts of all objects of a target, one object after the other, as regions ((i, i + 1),).

    shape and block stand for them: the sizes of the objects, and the bytes of their parts.
    """

    ends: tuple[int, ...] = ()

    @classmethod
    def of(cls, layouts: Sequence[ObjectLayout]) -> PartGrid:
        """The parts of objects."""
        sizes = tuple(layout.size for layout in layouts)
        return cls(sizes, tuple(layout.part for layout in layouts), tuple(accumulate(one.count for one in layouts)))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> Region:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return ((index, index + 1),)

    def place(self, region: Region) -> tuple[int, int]:
        """The number of the object of a part, and the part's number in it, from 1 on."""
        index = region[0][0]
        number = bisect_right(self.ends, index)
        return number, 1 + index - (self.ends[number - 1] if number else 0)
