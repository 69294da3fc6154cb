"""A tensor whose rows lie in several files, one piece after the other."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from bigin.core.regions import Grid, Region, extent
from bigin.targets.files import FileTarget
from bigin.targets.target import Array, Parts, Scratch, Target


@dataclass(frozen=True)
class PiecesGrid(Grid):
    """The regions of the pieces in turn. starts: the first row of each piece."""

    grids: tuple[Grid, ...] = ()
    starts: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> Region:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self.ends, index)
        inside = self.grids[number][index - (self.ends[number - 1] if number else 0)]
        return shifted(inside, self.starts[number])


class PiecedTensor(Target):
    """Pieces of whole rows, in the order of the rows."""

    def __init__(self, name: str, pieces: Sequence[FileTarget]) -> None:
        self.pieces = list(pieces)
        first = self.pieces[0]
        self.label = f"{first.path.parent}#{name}"
        self.name, self.name_from = name, "hierarchy"
        self.ends = list(accumulate(piece.shape[0] for piece in self.pieces))
        self.starts = [0, *self.ends[:-1]]
        self.shape = (self.ends[-1], *first.shape[1:])
        self.dtype = first.dtype

    def grid(self, size: int = 0) -> Grid:
        grids = tuple(piece.grid(size) for piece in self.pieces)
        ends = tuple(accumulate(map(len, grids)))
        return PiecesGrid(self.shape, grids[0].block, grids, tuple(self.starts), ends)

    def block_memory(self, size: int = 0) -> int:
        return max(piece.block_memory(size) for piece in self.pieces)

    def _piece(self, region: Region) -> tuple[FileTarget, int]:
        number = bisect_right(self.ends, region[0][0])
        return self.pieces[number], self.starts[number]

    def block(self, region: Region, scratch: Scratch) -> Parts:
        piece, start = self._piece(region)
        for part, out in piece.block(shifted(region, -start), scratch):
            yield shifted(part, start), out

    def stored(self, region: Region, scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        piece, start = self._piece(region)
        for part, values in piece.stored(shifted(region, -start), scratch):
            yield shifted(part, start), values

    def read(self, region: Region) -> Array:
        """The rows of each piece that the region has."""
        (first, last), rest = region[0], region[1:]
        parts = [
            piece.read(((max(first, start) - start, min(last, end) - start), *rest))
            for piece, start, end in zip(self.pieces, self.starts, self.ends, strict=True)
            if first < end and start < last
        ]
        return np.concatenate(parts) if parts else np.empty(extent(region), self.dtype)

    def is_even(self) -> bool:
        """Whether it may be written with its neighbours: no."""
        return False

    def exists(self) -> bool:
        return all(piece.exists() for piece in self.pieces)

    def holds_data(self) -> bool:
        return any(piece.holds_data() for piece in self.pieces)

    def stored_bytes(self) -> int:
        return sum(piece.stored_bytes() for piece in self.pieces)

    def whole(self) -> bool:
        return all(piece.whole() for piece in self.pieces)

    def intact(self, region: Region) -> bool | None:
        return self._piece(region)[0].intact(region)

    def layout(self) -> dict[str, Any]:
        return self.pieces[0].layout() | {"pieces": len(self.pieces)}


def shifted(region: Region, rows: int) -> Region:
    """The region that lies so many rows further."""
    return ((region[0][0] + rows, region[0][1] + rows), *region[1:])


def rows_within(shape: tuple[int, ...], itemsize: int, size: int) -> list[int]:
    """How many rows each piece of at most `size` bytes has, or of one row that has more; a single 0 for no shape."""
    if not shape or not shape[0]:
        return [0]
    row = itemsize
    for length in shape[1:]:
        row *= length
    most = max(1, size // row) if row else shape[0]
    pieces = -(-shape[0] // most)
    return [min(most, shape[0] - number * most) for number in range(pieces)]
