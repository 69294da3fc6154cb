"""A tensor that lies in several files, in pieces."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from bigin.core.regions import Grid, Region, Shape, extent
from bigin.targets.files import FileTarget
from bigin.targets.target import Array, Parts, Scratch, Target


@dataclass(frozen=True)
class PiecesGrid(Grid):
    """The regions of the pieces in turn. starts: where in the tensor each piece begins."""

    grids: tuple[Grid, ...] = ()
    starts: tuple[Shape, ...] = ()
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
    """Pieces that make up a tensor: consecutive rows, or regions that begin at the given starts."""

    def __init__(
        self, name: str, pieces: Sequence[FileTarget], starts: Sequence[Shape] = (), shape: Shape | None = None
    ) -> None:
        self.pieces = list(pieces)
        first = self.pieces[0]
        self.label = f"{first.path.parent}#{name}"
        self.name, self.name_from = name, "hierarchy"
        ends = list(accumulate(piece.shape[0] for piece in self.pieces))
        rows = [(start, *[0] * (len(first.shape) - 1)) for start in [0, *ends[:-1]]]
        self.starts: list[Shape] = list(starts) or rows
        self.shape = shape or (ends[-1], *first.shape[1:])
        self.dtype = first.dtype
        self._low = np.array(self.starts, np.int64)
        self._high = self._low + np.array([piece.shape for piece in self.pieces], np.int64)

    def grid(self, size: int = 0) -> Grid:
        grids = tuple(piece.grid(size) for piece in self.pieces)
        ends = tuple(accumulate(map(len, grids)))
        return PiecesGrid(self.shape, grids[0].block, grids, tuple(self.starts), ends)

    def block_memory(self, size: int = 0) -> int:
        return max(piece.block_memory(size) for piece in self.pieces)

    def _piece(self, region: Region) -> tuple[FileTarget, Region]:
        """The piece that a region of the grid lies in, and where it lies there."""
        first = np.array([start for start, _ in region])
        (held,) = np.nonzero(((self._low <= first) & (first < self._high)).all(axis=1))
        number = int(held[0]) if len(held) else 0
        return self.pieces[number], shifted(region, self.starts[number], -1)

    def block(self, region: Region, scratch: Scratch) -> Parts:
        piece, inside = self._piece(region)
        for _, out in piece.block(inside, scratch):
            yield region, out

    def stored(self, region: Region, scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        piece, inside = self._piece(region)
        for _, values in piece.stored(inside, scratch):
            yield region, values

    def read(self, region: Region) -> Array:
        """What each piece has of the region."""
        low, high = np.array(region, np.int64).T
        common_low, common_high = np.maximum(low, self._low), np.minimum(high, self._high)
        out = np.empty(extent(region), self.dtype)
        for number in np.flatnonzero((common_low < common_high).all(axis=1)):
            common = tuple(zip(common_low[number].tolist(), common_high[number].tolist(), strict=True))
            there = self.pieces[number].read(shifted(common, self.starts[number], -1))
            out[tuple(slice(*bounds) for bounds in shifted(common, tuple(low.tolist()), -1))] = there
        return out

    def is_even(self) -> bool:
        """False: it cannot be written together with its neighbours."""
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
        piece, inside = self._piece(region)
        return piece.intact(inside)

    def layout(self) -> dict[str, Any]:
        return self.pieces[0].layout() | {"pieces": len(self.pieces)}


def shifted(region: Region, start: Shape, sign: int = 1) -> Region:
    """The region counted from a start, or with a sign of -1 towards it."""
    return tuple((first + sign * by, last + sign * by) for (first, last), by in zip(region, start, strict=True))


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
