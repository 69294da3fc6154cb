"""Arrays of zarr as what others are copied from."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from bigin.core import storage
from bigin.core.errors import FillError, InputError, SourceError
from bigin.core.handlers import let_through
from bigin.core.names import dotted
from bigin.core.regions import Region, Shape, flat_slice
from bigin.core.source import ARRAYS, HEADER, WHOLE, Array, Reader, Source, digested, gone
from bigin.targets.target import Target
from bigin.targets.zarr.groups import group_arrays, group_target, open_group
from bigin.targets.zarr.open import existing, open_node

PAGES, PAGE = 64, 64 << 10  # stretches of a large array that its digest is of, and the bytes of each
KEPT = 64 << 20  # bytes of whole chunks that are read at once, at most
NUMBER = 4  # such blocks that are kept for the regions beside them
KNOWN = 10.0  # seconds for which the list of a group's arrays holds
METADATA = ("zarr.json", ".zgroup", ".zarray")

_kept: OrderedDict[Any, tuple[Reader, Array]] = OrderedDict()  # of all readers: a model has many


class ArrayReader(Reader):
    """An array. Chunks are decoded once: those that a region needs are kept for the regions beside it."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._lock = threading.Lock()
        self._target: Target | None = None
        blocks = self.target.blocks
        block = blocks[0] if blocks is not None else source.shape
        self.block: Shape = tuple(max(1, min(pair)) for pair in zip(block, source.shape, strict=True))
        row = self.block[:1] + tuple(
            -(-size // one) * one for size, one in zip(source.shape[1:], self.block[1:], strict=True)
        )
        band = math.prod(row) * source.dtype.itemsize
        self.region_bytes = band if band <= KEPT else 0
        self.worker_memory = 2 * min(band, KEPT)

    @property
    def target(self) -> Target:
        """The array, opened."""
        if self._target is None:
            self._target = _opened(self.source.file, self.source.tensor)
        return self._target

    def read(self, region: Region, out: Array) -> None:
        if not region:
            out[...] = self._read(region)
            return
        sizes, (top, bottom), step = self.source.shape, region[0], self.block[0]
        rest = [
            (start // one * one, min(-(-stop // one) * one, size))
            for (start, stop), one, size in zip(region[1:], self.block[1:], sizes[1:], strict=True)
        ]
        width = math.prod(stop - start for start, stop in rest) * self.source.dtype.itemsize
        if width * step > KEPT:
            out[...] = self._read(region)
            return
        inside = tuple(slice(a - low, b - low) for (a, b), (low, _) in zip(region[1:], rest, strict=True))
        for first in range(top // step * step, bottom, step):
            last = min(first + step, sizes[0])
            start, stop = max(first, top), min(last, bottom)
            with self._lock:
                held = self._block(((first, last), *rest))
            out[start - top : stop - top] = held[(slice(start - first, stop - first), *inside)]

    def _block(self, hull: Region) -> Array:
        """Whole chunks, or those that are kept of the last ones."""
        key = id(self), hull
        found = _kept.get(key)
        if found is not None and found[0] is self:
            return found[1]
        values = self._read(hull)
        _kept[key] = self, values
        while len(_kept) > NUMBER:
            with suppress(KeyError):
                _kept.popitem(last=False)
        return values

    def _read(self, region: Region) -> Array:
        try:
            return self.target.read(region)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            let_through(error)
            raise FillError(
                f"{self.source.file}: expected the values of {self.source.tensor}, got {' '.join(str(error).split())}"
            ) from None

    def digest(self) -> str:
        """Of dtype and shape, and of all values in C order, or of their start and 64 pages of them."""
        source, target = self.source, self.target
        if (target.shape, target.dtype) != (source.shape, source.dtype):
            raise SourceError(
                f"{source.file}: expected the array {source.tensor} of shape {source.shape} and {source.dtype}, got "
                f"{target.shape} and {target.dtype}; give the group of the old one: --from (source=)"
            )
        count, size = math.prod(source.shape), source.dtype.itemsize
        page = max(1, PAGE // size)
        if count * size <= WHOLE:
            step = max(1, HEADER // size)
            starts = [(start, min(start + step, count)) for start in range(0, count, step)]
        else:
            starts = [
                ((count - page) * i // (PAGES - 1), (count - page) * i // (PAGES - 1) + page) for i in range(PAGES)
            ]
        told = f"{source.dtype.name}\0{source.shape}\0".encode()
        return digested(count * size, [told, *(self._flat(*ends) for ends in starts)])

    def _flat(self, start: int, stop: int) -> bytes:
        """The bytes of some values, by their flat indices: of whole rows, where chunks of them are kept."""
        parts, shape = [], self.source.shape
        if shape and self.region_bytes and stop > start:
            row = math.prod(shape[1:])
            top, bottom = start // row, -(-stop // row)
            part = np.empty((bottom - top, *shape[1:]), self.source.dtype)
            self.read(((top, bottom), *((0, size) for size in shape[1:])), part)
            return part.reshape(-1)[start - top * row : stop - top * row].tobytes()
        for region in flat_slice(shape, start, stop):
            part = np.empty(tuple(b - a for a, b in region), self.source.dtype)
            self.read(region, part)
            parts.append(part.tobytes())
        return b"".join(parts)


def _opened(place: str, name: str) -> Target:
    """An array at a path or URL, or in a group there; raises SourceError where there is none."""
    try:
        return _members(place, *sorted(storage.given().items()))[name]
    except KeyError:
        raise gone(place, f"no array {name}") from None


def _members(place: str, *options: tuple[str, str]) -> dict[str, Target]:
    stamps = [int(time.monotonic() / KNOWN)]
    if os.path.isabs(place):
        for name in ("", *METADATA):
            with suppress(FileNotFoundError, NotADirectoryError):
                stamps.append(os.stat(os.path.join(place, name)).st_mtime_ns)
        if len(stamps) == 1:
            raise gone(place, "No such file or directory")
    return _members_at(place, tuple(stamps), *options)


@lru_cache(maxsize=64)
def _members_at(place: str, stamps: tuple[int, ...], *options: tuple[str, str]) -> dict[str, Target]:
    found = members_of(place)
    if not found:
        raise gone(place, "no zarr array")
    return found


def members_of(place: str) -> dict[str, Target]:
    """The arrays at a path or URL by their names: those of a group, or the one that is there; none for else."""
    root: Any = Path(place) if os.path.isabs(place) else place
    group = open_group(root, place, "r")
    if group is not None:
        return dict(group_target(group, place, group_arrays(group)).members)
    try:
        array = open_node(root, place)
    except InputError:
        return {}
    if array is None:
        return {}
    target = existing(array, place)
    return {target.name: target}


def array_sources(place: str) -> dict[str, Source]:
    """The arrays at a path or URL by the names of the law; empty where there are none."""
    return {
        dotted(name): Source(place, name, 0, target.shape, target.dtype, form=ARRAYS)
        for name, target in members_of(place).items()
    }
