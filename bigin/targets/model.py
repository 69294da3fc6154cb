"""The tensors of a model as one target, so that one fill, one journal and one verification are of all of them.

A region of it names its tensor first: ((i, i + 1), ...) is a region of the i-th tensor, in the order of the names.
"""

from __future__ import annotations

import json
import math
import zlib
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate, groupby

import numpy as np

from bigin.core import dtypes
from bigin.core.collector import paused
from bigin.core.regions import Grid, Region, Shape
from bigin.targets.records import Record
from bigin.targets.target import Array, Parts, Scratch, Target


@dataclass(frozen=True)
class ModelGrid(Grid):
    """The regions of all tensors, one tensor after the other.

    shape and block stand for all grids: the number of tensors and a checksum; the block of the largest one.
    """

    grids: tuple[Grid, ...] = ()
    ends: tuple[int, ...] = ()

    @classmethod
    def of(cls, grids: Sequence[Grid]) -> ModelGrid:
        """The grid of the tensors' grids."""
        texts: dict[int, str] = {}  # of grids, which tensors of a shape share
        for grid in grids:
            if id(grid) not in texts:
                texts[id(grid)] = json.dumps([grid.shape, grid.block])
        checksum = zlib.crc32(f"[{', '.join([texts[id(grid)] for grid in grids])}]".encode())
        block = max((grid.block for grid in grids), key=math.prod, default=(1,))
        return cls((len(grids), checksum), block, tuple(grids), tuple(accumulate(map(len, grids))))

    def __post_init__(self) -> None:
        assert len(self.grids) == len(self.ends)

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __getitem__(self, index: int) -> Region:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self.ends, index)
        inside = self.grids[number][index - (self.ends[number - 1] if number else 0)]
        return ((number, number + 1), *inside)


class ModelTarget(Target):
    """Targets by the names of their tensors, which share one ledger."""

    def __init__(self, label: str, members: Mapping[str, Target]) -> None:
        self.label = label
        self.members = dict(sorted(members.items()))
        self._members = list(self.members.values())
        self.shape = (len(members),)
        self.dtype = np.dtype(np.uint8)  # of no meaning: every tensor has its own
        self.region_bytes: Sequence[int] = ()  # how large a region of each tensor should be

    def only(self, names: Collection[str]) -> ModelTarget:
        """The tensors of these names, to be read: this target where that is all of them."""
        if set(names) == set(self.members):
            return self
        chosen = ModelTarget(self.label, {name: self.members[name] for name in names})
        chosen.remote = self.remote
        return chosen

    @property
    def nbytes(self) -> int:
        return sum(member.nbytes for member in self._members)

    def bytes_of(self, region: Region) -> int:
        return self._members[region[0][0]].bytes_of(region[1:])

    def _sizes(self, size: int) -> Sequence[int]:
        return self.region_bytes or [size] * len(self._members)

    @paused()
    def grid(self, size: int = 0) -> Grid:
        """All tensors' grids."""
        return ModelGrid.of([member.grid(size) for member, size in zip(self._members, self._sizes(size), strict=True)])

    def block_memory(self, size: int = 0) -> int:
        """The memory for the tensor that needs most."""
        pairs = zip(self._members, self._sizes(size), strict=True)
        return max((member.block_memory(size) for member, size in pairs), default=0)

    def block(self, region: Region, scratch: Scratch) -> Parts:
        """The tensor's parts."""
        self._size(region, scratch)
        with closing(self._members[region[0][0]].block(region[1:], scratch)) as parts:
            for part, out in parts:
                yield (region[0], *part), out[None]

    def stored(self, region: Region, scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        """The tensor's parts."""
        self._size(region, scratch)
        for part, values in self._members[region[0][0]].stored(region[1:], scratch):
            yield (region[0], *part), values[None]

    def _size(self, region: Region, scratch: Scratch) -> None:
        """Divides the buffer as it suits this tensor, not the one that needs most."""
        if self.region_bytes:
            scratch.part = self.region_bytes[region[0][0]]

    def read(self, region: Region) -> Array:
        """The values of a region of one tensor."""
        return self._members[region[0][0]].read(region[1:])[None]

    def unstored(self, grid: Grid) -> Sequence[int]:
        assert isinstance(grid, ModelGrid)
        starts = (0, *grid.ends)
        return [
            start + number
            for start, part, member in zip(starts, grid.grids, self._members, strict=False)
            for number in member.unstored(part)
        ]

    def lost(self, regions: Sequence[Region]) -> Sequence[int]:
        lost: list[int] = []
        for number, group in groupby(enumerate(regions), key=lambda each: each[1][0][0]):
            numbers, inside = zip(*((at, region[1:]) for at, region in group), strict=True)
            lost += [numbers[at] for at in self._members[number].lost(inside)]
        return lost

    def member(self, region: Region) -> Target:
        """The target of the tensor that a region is of."""
        return self._members[region[0][0]]

    def intact(self, region: Region) -> bool | None:
        return self._members[region[0][0]].intact(region[1:])

    def settle(self, regions: Sequence[Region]) -> None:
        for number, group in groupby(regions, key=lambda region: region[0][0]):
            self._members[number].settle([region[1:] for region in group])

    def where(self, region: Region) -> str:
        """The tensor, and where in it."""
        number = region[0][0]
        return f"{list(self.members)[number]}, {self._members[number].where(region[1:])}"

    def index_of(self, index: Shape) -> Shape:
        return index[1:]

    def stored_bytes(self) -> int:
        return sum(member.stored_bytes() for member in self._members)

    def whole(self) -> bool:
        return all(member.whole() for member in self._members)

    def holds_data(self) -> bool:
        """Whether any tensor holds data."""
        return any(member.holds_data() for member in self._members)

    def outline(self) -> dict[str, object]:
        """What another process needs beside the path to open what is being written, for JSON."""
        return {"kind": "group"}

    def tensors(self) -> dict[str, tuple[list[int], str]]:
        """Shape and dtype of every tensor, as a record keeps them."""
        return {name: (list(member.shape), dtypes.name_of(member.dtype)) for name, member in self.members.items()}

    @paused()
    def matches(self, shape: Shape, record: Record) -> bool:
        held = record.get("tensors")
        if not isinstance(held, dict) or not all(isinstance(inner, dict) for inner in held.values()):
            return False
        return {name: (inner.get("shape"), inner.get("dtype")) for name, inner in held.items()} == self.tensors()
