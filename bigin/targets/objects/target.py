"""Tensors in objects of a store: read by ranges, and written in parts, of which each is a region of the grid."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.regions import Grid, Region, extent, segments
from bigin.targets.objects.layout import ObjectLayout, ObjectTensor, PartGrid
from bigin.targets.objects.store import Store
from bigin.targets.target import Array, Parts, Scratch, Target

COPIES = 2  # of a part: what a client keeps of it while it sends it; tests/targets/test_object_memory.py measures


class Written(Protocol):
    """What knows of objects that are being written."""

    def load(self) -> None:
        """What another call or process has begun."""

    def left(self) -> list[int]:
        """The regions of the grid whose parts the store does not have."""


class ObjectTarget(Target):
    """The values of objects, and where their parts go while they are written."""

    remote = True
    written: Written | None = None

    def __init__(self, store: Store, label: str, layouts: Sequence[ObjectLayout]) -> None:
        self.store = store
        self.label = label
        self.layouts = list(layouts)
        self.uploading: dict[str, str] = {}  # the name of the upload of each object that is written

    @property
    def nbytes(self) -> int:
        return sum(tensor.end - tensor.begin for layout in self.layouts for tensor in layout.tensors)

    @property
    def parts(self) -> PartGrid:
        """The parts of all objects."""
        return PartGrid.of(self.layouts)

    def grid(self, size: int = 0) -> PartGrid:
        """The parts, whatever the size."""
        return self.parts

    def block_memory(self, size: int = 0) -> int:
        """A part, and what the store's client keeps of it."""
        return (1 + COPIES) * max(min(layout.part, layout.size) for layout in self.layouts)

    def _place(self, region: Region) -> tuple[ObjectLayout, int]:
        number, part = self.parts.place(region)
        return self.layouts[number], part

    def bytes_of(self, region: Region) -> int:
        layout, part = self._place(region)
        return sum(
            math.prod(extent(held)) * tensor.dtype.itemsize for tensor, held, _ in layout.held(*layout.span(part))
        )

    def _of(self, tensor: ObjectTensor, region: Region) -> Region:
        """A region of a tensor as the filler names it."""
        return region

    def _shaped(self, values: Array) -> Array:
        return values

    def block(self, region: Region, scratch: Scratch) -> Parts:
        """The regions that a part holds, in a buffer that is sent when all of them are made."""
        layout, number = self._place(region)
        start, stop = layout.span(number)
        buffer = scratch.bytes(stop - start)
        head = layout.header[start:stop]
        buffer[: len(head)] = np.frombuffer(head, np.uint8)
        for tensor, held, at in layout.held(start, stop):
            size = math.prod(extent(held)) * tensor.dtype.itemsize
            native = tensor.dtype.newbyteorder("=")
            made = buffer[at - start : at - start + size].view(native).reshape(extent(held))
            yield self._of(tensor, held), self._shaped(made)
            if not tensor.dtype.isnative:
                made.byteswap(inplace=True)
        uploads = self.store.uploads
        if uploads is None or layout.key not in self.uploading:
            raise InputError(f"{self.label}: expected an object that is being written, got one that is only read")
        uploads.part(layout.key, self.uploading[layout.key], number, buffer.data)

    def stored(self, region: Region, scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        """What a part holds, by one request."""
        layout, number = self._place(region)
        start, stop = layout.span(number)
        held = list(layout.held(start, stop))
        if not held:
            return
        first = held[0][2]
        data = np.frombuffer(self.store.get_range(layout.key, first, stop - first), np.uint8)
        for tensor, part, at in held:
            size = math.prod(extent(part)) * tensor.dtype.itemsize
            values = _aligned(data[at - first : at - first + size], tensor.dtype).reshape(extent(part))
            yield self._of(tensor, part), self._shaped(values.astype(tensor.dtype.newbyteorder("="), copy=False))

    def read_tensor(self, layout: ObjectLayout, tensor: ObjectTensor, region: Region) -> Array:
        """The values of any region of a tensor."""
        size = tensor.dtype.itemsize
        data = b"".join(
            bytes(self.store.get_range(layout.key, tensor.begin + first * size, count * size))
            for first, count in segments(tensor.shape, region)
            if count
        )
        return np.frombuffer(data, tensor.dtype).astype(tensor.dtype.newbyteorder("=")).reshape(extent(region))

    def where(self, region: Region) -> str:
        """The bytes of the object."""
        layout, number = self._place(region)
        start, stop = layout.span(number)
        name = "" if len(self.layouts) == 1 else f"{layout.key.rpartition('/')[2]}, "
        return f"{name}bytes {start}-{stop}"

    def exists(self) -> bool:
        """Whether the objects are there, or begun."""
        return all(self.store.head(layout.key) is not None for layout in self.layouts) or bool(self._begun())

    def _begun(self) -> bool:
        return self.ledger is not None and self.ledger.record() is not None

    def holds_data(self) -> bool:
        """Whether there is an object already, or a part of one."""
        return any(self.store.head(layout.key) is not None for layout in self.layouts) or self._begun()

    def whole(self) -> bool:
        """Whether every object has its size."""
        found = (self.store.head(layout.key) for layout in self.layouts)
        return all(stat is not None and stat.size == at.size for stat, at in zip(found, self.layouts, strict=True))

    def stored_bytes(self) -> int:
        """What the objects take."""
        found = [self.store.head(layout.key) for layout in self.layouts]
        return sum(stat.size for stat in found if stat is not None)

    def intact(self, region: Region) -> bool | None:
        """An object is there as a whole."""
        return True

    def start(self) -> None:
        """Knows the uploads that another process has begun."""
        if self.written is not None:
            self.written.load()

    def left(self, grid: Grid) -> Sequence[int] | None:
        """Those whose parts the store does not list; all others are there, whichever process has sent them."""
        return None if self.written is None else self.written.left()

    def unstored(self, grid: Grid) -> Sequence[int]:
        """None: an object is made of all its parts, or not at all."""
        return ()

    def lost(self, regions: Sequence[Region]) -> Sequence[int]:
        """The parts that the store does not list."""
        gone = set(() if self.written is None else self.written.left())
        return [number for number, region in enumerate(regions) if region[0][0] in gone]

    def settle(self, regions: Sequence[Region]) -> None:
        """The store has kept what it answered for."""


class ArrayTarget(ObjectTarget):
    """One tensor: a .npy file, a file of raw values, or a tensor of a checkpoint."""

    def __init__(self, store: Store, label: str, layout: ObjectLayout, kind: str) -> None:
        super().__init__(store, label, [layout])
        (self.tensor,) = layout.tensors
        self.kind = kind
        self.shape = self.tensor.shape
        self.dtype = dtypes.stored_dtype(self.tensor.dtype, label)

    @property
    def byte_order(self) -> str:
        return "=" if self.tensor.dtype.isnative else self.tensor.dtype.byteorder

    def read(self, region: Region) -> Array:
        return self.read_tensor(self.layouts[0], self.tensor, region)

    def layout(self) -> dict[str, Any]:
        """The format, the order of bytes, and the parts that are read at once."""
        layout = self.layouts[0]
        return {
            "format": self.kind,
            "byte_order": "big" if self.tensor.dtype.byteorder == ">" else "little",
            "offset": self.tensor.begin,
            "parts": layout.count,
        }


def _aligned(data: Array, dtype: np.dtype[Any]) -> Array:
    """Bytes as values; copied where they do not lie at an address that suits them."""
    if data.ctypes.data % dtype.alignment:
        data = data.copy()
    return data.view(dtype)
