"""What a target is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from functools import partial
from typing import Any

import numpy as np

from bigin.core.regions import Grid, Region, Shape, extent
from bigin.targets.ledger import Progress, Record

Array = np.ndarray[Any, np.dtype[Any]]


class Scratch:
    """A worker's buffer, made once and used for every region; `allocate` makes so many bytes."""

    def __init__(self, allocate: Callable[[int], Array] | None = None) -> None:
        self._allocate: Callable[[int], Array] = allocate or partial(np.empty, dtype=np.uint8)
        self._bytes: Array = np.empty(0, np.uint8)

    def array(self, shape: Shape, dtype: np.dtype[Any], offset: int = 0) -> Array:
        """A contiguous array in the buffer, `offset` bytes from its start; what it held before is gone."""
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
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

    shape and dtype (native byte order, as bigin names it) are what the filler sees; `label` is what messages call
    the target; `name` is its path in a hierarchy, or empty.

    A fill goes: lock, record (may it be filled, or is it half filled?), begin, block for every region and checkpoint
    now and then, finish, close.
    """

    label: str
    shape: Shape
    dtype: np.dtype[Any]
    name: str = ""
    sync: bool = True  # whether data must have reached the disk before the record says complete
    keeps_progress: bool = False  # whether it outlives the process, so that a fill can go on in another one
    remote: bool = False  # whether any error may be a passing one, as on a network

    @property
    def nbytes(self) -> int:
        """How many bytes the values take, without any compression."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    def bytes_of(self, region: Region) -> int:
        """How many bytes the values of a region take."""
        return int(np.prod(extent(region), dtype=object)) * self.dtype.itemsize

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

    @abstractmethod
    def read(self, region: Region) -> Array:
        """The values of any region."""

    def stored(self, region: Region, scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        """What a region of the grid holds, in parts of which one at a time is valid, in the memory that block takes.

        Raises ValueError or OSError where it cannot be read or decoded.
        """
        yield region, self.read(region)

    def place(self, region: Region) -> str:
        """Where a region of the grid lies, for messages."""
        return "rows " + "-".join(map(str, region[0])) if region else "the value"

    def index_of(self, place: Shape) -> Shape:
        """An element's index in its own tensor, for messages, from that in regions of the grid."""
        return place

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

    def lock(self) -> None:  # noqa: B027 (whoever shares an array in memory must know)
        """Keeps other writers away until `close`; raises InputError where one is at work, or nothing can be written."""

    def begin(self, record: Record) -> None:  # noqa: B027 (arrays in memory have nothing to begin)
        """Makes what is missing, reserves the space and keeps an incomplete record, once all input is checked.

        Forgets the progress of an earlier fill.
        """

    def resume(self) -> None:  # noqa: B027
        """Opens what an earlier fill has begun, and removes what it left half-written."""

    def clean(self) -> None:  # noqa: B027
        """Removes what a process has left that died when its fill was complete."""

    def intact(self, region: Region) -> bool | None:
        """Whether a region that was stored is still there whole, so far as its size tells; None where it does not."""
        return None

    def checkpoint(self, progress: Progress) -> None:  # noqa: B027
        """Brings the data to the disk, and only then keeps the progress."""

    def progress(self) -> Progress | None:
        """How far an incomplete fill has come; None where that is not known."""
        return None

    def forget_progress(self) -> None:  # noqa: B027
        """The fill begins anew."""

    def finish(self, record: Record) -> None:  # noqa: B027
        """Brings the data to the disk, then keeps the complete record, then forgets the progress."""

    def advance(self) -> None:  # noqa: B027
        """Called now and then while the regions are filled: the time to start bringing data to the disk."""

    def record(self) -> Record | None:
        """What the target was filled with, where that is known."""
        return None

    def close(self) -> None:  # noqa: B027
        """Gives back what the target holds open, its lock too."""
