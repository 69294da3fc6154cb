"""What a target is."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import numpy as np

from bigin.core.regions import Grid, Region, Shape, extent
from bigin.targets.ledger import Ledger
from bigin.targets.records import Record

Array = np.ndarray[Any, np.dtype[Any]]


MANY = 64  # regions: fewer cost nothing
BATCH = 256 << 10  # bytes of values that small regions are made together of: with a copy they stay in the L2 cache


def new_bytes(size: int) -> Array:
    """So many bytes of memory."""
    return np.empty(size, np.uint8)


NOTHING = new_bytes(0)


class Scratch:
    """A worker's buffer, made once and used for every region; `allocate` makes so many bytes.

    `part` is how many bytes are worth making at once, where a target may divide a region as it likes.
    """

    def __init__(self, allocate: Callable[[int], Array] | None = None, part: int = 0) -> None:
        self.part = part
        self._allocate = allocate or new_bytes
        self._bytes = NOTHING

    def array(self, shape: Shape, dtype: np.dtype[Any], offset: int = 0) -> Array:
        """A contiguous array in the buffer, `offset` bytes from its start; what it held before is gone."""
        size = math.prod(shape) * dtype.itemsize
        return self.bytes(offset + size)[offset:].view(dtype).reshape(shape)

    def bytes(self, size: int) -> Array:
        """The first bytes of the buffer."""
        if self._bytes.size < size:
            self._bytes = self._allocate(size)
        return self._bytes[:size]


# A region that is being made: contiguous arrays to fill, one after the other, each with its own part of the region.
# Asking for the next one means that the last one is filled; when there is no next one, the region is stored.
Parts = Generator[tuple[Region, Array], None, None]


class Target(ABC):
    """An array somewhere, which is filled region by region, from several threads, each region once.

    shape and dtype (in native byte order) are what the filler sees; `label` is what messages call the target; `name`
    is the tensor's: its path in a hierarchy with dots between the parts, or its file name without the ending, or empty.

    A target that outlives the process has a ledger, which begins and finishes a fill. One without is filled between
    `start` and `flush`.
    """

    label: str
    shape: Shape
    dtype: np.dtype[Any]
    name: str = ""
    name_from: str = "unnamed"  # where the name comes from: "hierarchy", "file" or "unnamed"
    ledger: Ledger | None = None
    sync: bool = True  # whether data must have reached the disk before the record says complete
    remote: bool = False  # whether any error may be a passing one, as on a network

    @property
    def nbytes(self) -> int:
        """How many bytes the values take, without any compression."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def byte_order(self) -> str:
        """The byte order of the stored values, as numpy writes it: = for the machine's own."""
        return "="

    @property
    def blocks(self) -> tuple[Shape, Shape | None] | None:
        """The shapes of its chunks and shards, where it has any."""
        return None

    def bytes_of(self, region: Region) -> int:
        """How many bytes the values of a region take."""
        return math.prod(extent(region)) * self.dtype.itemsize

    def matches(self, shape: Shape, record: Record) -> bool:
        """Whether it is of the shape and dtype that its record tells."""
        return shape == self.shape and record["dtype"] == self.dtype.name

    @abstractmethod
    def grid(self, size: int = 0) -> Grid:
        """The regions to write: whole chunks or shards; if the target may choose, of at least `size` bytes."""

    @abstractmethod
    def block_memory(self, size: int = 0) -> int:
        """How many bytes a worker needs to make and write the largest of grid(size)."""

    @abstractmethod
    def block(self, region: Region, scratch: Scratch) -> Parts:
        """Arrays to fill for a region of the grid, which is stored as they are filled."""

    def batches(self, grid: Grid) -> Sequence[range]:
        """Stretches of the regions, all of them in order, that are better made together; none where they are few.

        The values of one take at most BATCH bytes, and memory for four times as many, beside that of block_memory.
        """
        return ()

    def batch(self, regions: Sequence[Region], scratch: Scratch) -> Parts:
        """Arrays to fill for a stretch of `batches` of two or more regions, which is stored as they are filled."""
        for region in regions:
            yield from self.block(region, scratch)

    def stored_batch(self, regions: Sequence[Region], scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        """What a stretch of `batches` of two or more regions holds, as `stored` has it, in any parts."""
        for region in regions:
            yield from self.stored(region, scratch)

    @abstractmethod
    def read(self, region: Region) -> Array:
        """The values of any region."""

    def stored(self, region: Region, scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        """What a region of the grid holds, in parts of which one at a time is valid, in the memory that block takes.

        Raises ValueError or OSError where it cannot be read or decoded.
        """
        yield region, self.read(region)

    def where(self, region: Region) -> str:
        """Text for messages that says where a region of the grid lies."""
        return "rows " + "-".join(map(str, region[0])) if region else "the value"

    def index_of(self, index: Shape) -> Shape:
        """The index of an element in its own tensor, for messages, from its index in the grid's regions."""
        return index

    def exists(self) -> bool:
        """Whether it is there, or still to be made."""
        return True

    def holds_data(self) -> bool:
        """Whether a fill would overwrite something."""
        return False

    def stored_bytes(self) -> int:
        """How many bytes it takes where it lies."""
        return self.nbytes

    def whole(self) -> bool:
        """Whether what a complete fill has stored is there, so far as the sizes of files tell."""
        return True

    def layout(self) -> dict[str, Any]:
        """How the values lie there: its `format`, and what else there is to say of that, for JSON."""
        return {"format": "memory"}

    def unstored(self, grid: Grid) -> Sequence[int]:
        """The regions of the grid of which a store on a network lists nothing, though it has answered every write."""
        return ()

    def lost(self, regions: Sequence[Region]) -> Sequence[int]:
        """Which of some regions that were stored are missing or short, so far as sizes tell."""
        return [number for number, region in enumerate(regions) if self.intact(region) is False]

    def left(self, grid: Grid) -> Sequence[int] | None:
        """The regions that a fill which was begun has still to store, where the store itself lists what it has.

        None where only the journal tells.
        """
        return None

    def intact(self, region: Region) -> bool | None:
        """Whether a region that was stored is still there whole, so far as its size tells; None where it does not."""
        return None

    def start(self) -> None:  # noqa: B027 (an array in memory has nothing to open)
        """Called before the first region, where there is no ledger: opens what is written."""

    def flush(self) -> None:  # noqa: B027
        """Called after the last region, where there is no ledger: brings the data to the disk if `sync` is set."""

    def settle(self, regions: Sequence[Region]) -> None:
        """Brings some regions, which were stored, to the disk: what a process does that fills a part of a target."""
        self.flush()

    def advance(self) -> None:  # noqa: B027
        """Called now and then while the regions are filled: the time to start bringing data to the disk."""

    def close(self) -> None:
        """Closes what the target holds open, and its ledger."""
        if self.ledger is not None:
            self.ledger.close()


def record_of(target: Target) -> Record | None:
    """The record of what a target was filled with, where it has one."""
    return None if target.ledger is None else target.ledger.record()
