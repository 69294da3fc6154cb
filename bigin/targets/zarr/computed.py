"""A zarr hierarchy whose chunks are computed when they are read: from a key and a range of bytes to the bytes.

Nothing here knows zarr's stores or HTTP. A range of a chunk or of a shard is made alone, so that the memory of a
request is that of the bytes that it asks for.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.html import card, listing
from bigin.core.limits import Limits
from bigin.core.names import dotted
from bigin.core.regions import Grid, Region, Shape, block_of_rows, extent, flat_slice, within
from bigin.core.text import size_text
from bigin.fillers.filler import Array, Filler
from bigin.fillers.model import LateFiller, ModelFiller
from bigin.spec.model import ModelSpec, TensorValues
from bigin.targets.records import KEY
from bigin.targets.zarr.layouts import (
    DOCUMENT,
    ComputedLayout,
    Document,
    array_document,
    group_document,
    paths,
    stand_in,
)
from bigin.targets.zarr.shards import GROUP, index_bytes, shard_index, split

Fill = Callable[[Region, Array], None]
STEP = 4 << 20  # bytes that are made at once where a request may be answered in pieces


class Computed:
    """The keys of a hierarchy and what each holds; safe for threads, and rebuilt where it is unpickled or forked.

    spec: every tensor's values. layouts: how each is cut, by its name. root: whether there is one tensor, whose array
    is the root of the hierarchy.
    """

    def __init__(
        self, spec: ModelSpec, layouts: Mapping[str, ComputedLayout], limits: Limits, *, root: bool = False
    ) -> None:
        self.spec, self.layouts, self.limits, self.root = spec, dict(layouts), limits, root
        self._make = spec.plan()  # all checks
        where = dict.fromkeys(layouts, "") if root else paths(layouts)
        numbers = {name: number for number, name in enumerate(spec.tensors)}
        self.arrays = {where[name]: _Place(name, numbers[name], layout) for name, layout in layouts.items()}
        self.groups = _groups(self.arrays)
        for layout in layouts.values():
            stand_in(layout)
        self._state: _State | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:
        limits = Limits(self.limits.max_threads, self.limits.max_memory)  # without what this machine said
        return partial(_rebuild, root=self.root), (dict(self.spec.tensors), self.layouts, limits)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that decides the bytes under the keys."""
        cut = {name: [layout.chunk, layout.shard] for name, layout in self.layouts.items()}
        text = json.dumps([self.spec.record(), cut, self.root], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def as_html(self, title: str) -> str:
        """Return the arrays as a notebook shows them, under a title."""
        specs = [self.spec.tensors[place.name] for place in self.arrays.values()]
        rows = [
            [path or "the root", f"{'x'.join(map(str, spec.shape)) or 'scalar'} {spec.dtype.name}"]
            for path, spec in zip(self.arrays, specs, strict=True)
        ]
        size = sum(math.prod(spec.shape) * spec.dtype.itemsize for spec in specs)
        facts = {
            "arrays": f"{len(rows):,}, computed where they are read and stored nowhere",
            "size": size_text(size),
        }
        return card(title, facts, listing(["array", "shape"], rows))

    # Keys

    def size(self, key: str) -> int | None:
        """How many bytes a key holds; None where there is no such key."""
        document = self.document(key)
        if document is not None:
            return len(document)
        found = self._find(key)
        return None if found is None else found[0].size(found[1])

    def read(self, key: str, start: int, stop: int) -> Array | bytes:
        """The bytes of a key from `start` to `stop`, which lie within its size."""
        document = self.document(key)
        if document is not None:
            return document[start:stop]
        found = self._find(key)
        assert found is not None
        place, index = found
        state = self._ready()
        extra = 0 if place.whole else min(stop - start, place.chunk_bytes)  # what reaches beyond the edge is copied
        with state.gate.entered(stop - start + extra + state.filler.worker_memory), default_modes():
            return place.read(index, start, stop, state.fill_of(place.number))

    def step(self, key: str) -> int:
        """How many bytes of a key are worth making at once."""
        found = self._find(key)
        return STEP if found is None else max(STEP, self._ready().filler.sizes[found[0].number])

    def largest_step(self) -> int:
        """The largest of `step`. What makes values is made and compiled for it, if it was not."""
        return max([STEP, *self._ready().filler.sizes])

    def every(self, prefix: str = "") -> Iterator[str]:
        """All keys that begin with a prefix."""
        for path in self.groups:
            yield from _matching(_joined(path, DOCUMENT), prefix)
        for path, place in self.arrays.items():
            yield from _matching(_joined(path, DOCUMENT), prefix)
            start = _joined(path, "c")
            if start.startswith(prefix) or prefix.startswith(start):
                for index in place.indices():
                    yield from _matching("/".join([start, *map(str, index)]), prefix)

    def children(self, prefix: str) -> Iterator[str]:
        """The names right below a prefix, of keys and of what holds keys."""
        path = prefix.strip("/")
        if path in self.groups:
            yield DOCUMENT
            yield from self.groups[path]
            return
        if path in self.arrays:
            yield DOCUMENT
            if len(self.arrays[path].grid):
                yield "c"
            return
        start = f"{path}/"
        seen = (key[len(start) :].partition("/")[0] for key in self.every(start))
        yield from dict.fromkeys(seen)

    def document(self, key: str) -> bytes | None:
        """The metadata under a key; None for any other key."""
        path, _, last = key.rpartition("/")
        if last != DOCUMENT or key.startswith("/"):
            return None
        if path == "" and not self.root:
            return self._root_document
        if path in self.arrays:
            return _encoded(self._array_document(path))
        return _encoded(group_document(self._below(path))) if path in self.groups else None

    @cached_property
    def _root_document(self) -> bytes:
        return _encoded(group_document(self._below("")))

    def _below(self, path: str) -> dict[str, Document]:
        """The documents of all that lies below a group, by their paths from there."""
        start = f"{path}/" if path else ""
        found: dict[str, Document] = {
            group[len(start) :]: group_document({}) for group in self.groups if group and group.startswith(start)
        }
        for each in self.arrays:
            if each.startswith(start):
                found[each[len(start) :]] = self._array_document(each)
        return found

    def _array_document(self, path: str) -> Document:
        place = self.arrays[path]
        name = dotted(place.name) or "dim"
        record = self.spec.tensors[place.name].record() | {"complete": True}
        names = [f"{name}_{axis}" for axis in range(len(place.layout.shape))]  # xarray needs some, none of two sizes
        return array_document(place.layout, {KEY: record}, names)

    def _find(self, key: str) -> tuple[_Place, Shape] | None:
        """The array that a chunk's key is of, and the chunk's index."""
        parts = key.split("/")
        path = ""
        for depth in range(len(parts)):
            place = self.arrays.get(path)
            if place is not None:
                index = place.index_of(parts[depth:])
                return None if index is None else (place, index)
            path = _joined(path, parts[depth])
        return None

    # Making

    def _ready(self) -> _State:
        """The filler and what bounds its use: made when first needed, and anew in a process that was forked."""
        state = self._state
        if state is None or state.process != os.getpid():
            with self._lock if state is None else threading.Lock():  # one that a fork has copied may be held for ever
                if self._state is None or self._state.process != os.getpid():
                    with default_modes():
                        self._state = _State(self._make(), self.limits)
                state = self._state
        return state


def _rebuild(
    tensors: Mapping[str, TensorValues], layouts: Mapping[str, ComputedLayout], limits: Limits, *, root: bool
) -> Computed:
    return Computed(ModelSpec(tensors), layouts, limits, root=root)


class _State:
    """What is made once in a process."""

    def __init__(self, filler: Filler, limits: Limits) -> None:
        assert isinstance(filler, ModelFiller)
        self.process = os.getpid()
        self.filler = filler
        prepared = limits.memory // 2 if any(isinstance(each, LateFiller) for each in filler.setups.fillers) else 0
        filler.setup(limits.threads, prepared, lambda part: None)
        memory = limits.memory - prepared
        if memory < filler.worker_memory:
            raise InputError(
                f"expected at least {size_text(2 * filler.worker_memory)} of memory to make chunks in, got "
                f"{size_text(limits.memory)}; give a larger max_memory"
            )
        self.gate = Gate(limits.threads, memory)

    def fill_of(self, number: int) -> Fill:
        """What fills regions of one tensor."""
        return lambda region, out: self.filler(((number, number + 1), *region), out[None])


class Gate:
    """Lets so many threads at once make values, and no more bytes of them than fit; what is larger goes alone."""

    def __init__(self, threads: int, memory: int) -> None:
        self.threads, self.memory = threads, memory
        self._inside, self._taken = 0, 0
        self._changed = threading.Condition()

    @contextmanager
    def entered(self, size: int) -> Iterator[None]:
        """While a thread makes so many bytes."""
        with self._changed:
            self._changed.wait_for(
                lambda: not self._inside or (self._inside < self.threads and self._taken + size <= self.memory)
            )
            self._inside += 1
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._taken -= size
                self._changed.notify_all()


@dataclass(frozen=True)
class _Place:
    """An array of the hierarchy: which tensor it is of, and the bytes of its chunks or shards."""

    name: str
    number: int
    layout: ComputedLayout

    @cached_property
    def grid(self) -> Grid:
        return Grid(self.layout.shape, self.layout.outer)

    @cached_property
    def chunk_bytes(self) -> int:
        return math.prod(self.layout.chunk) * self.layout.dtype.itemsize

    @cached_property
    def whole(self) -> bool:
        """Whether no chunk reaches beyond the array's edge."""
        return all(size % chunk == 0 for size, chunk in zip(self.layout.shape, self.layout.chunk, strict=True))

    @cached_property
    def counts(self) -> Shape:
        """The inner chunks of a shard along each axis."""
        return tuple(outer // chunk for outer, chunk in zip(self.layout.outer, self.layout.chunk, strict=True))

    def indices(self) -> Iterator[Shape]:
        """The places of all chunks or shards in their grid."""
        return map(self.grid.coordinates, range(len(self.grid)))

    def index_of(self, parts: list[str]) -> Shape | None:
        """The index in a key that is split at slashes, below the array's path; None where there is no such chunk."""
        if parts[0] != "c" or len(parts) - 1 != len(self.layout.shape):
            return None
        index = tuple(int(part) if part.isascii() and part.isdigit() else -1 for part in parts[1:])
        within = all(0 <= at < count for at, count in zip(index, self.grid.counts, strict=True))
        return index if within and parts[1:] == list(map(str, index)) else None

    def region(self, index: Shape) -> Region:
        """The region of a chunk or shard."""
        return tuple(
            (at * block, min(at * block + block, size))
            for at, block, size in zip(index, self.layout.outer, self.layout.shape, strict=True)
        )

    def size(self, index: Shape) -> int:
        """How many bytes a chunk or shard takes."""
        values = len(Grid(extent(self.region(index)), self.layout.chunk)) * self.chunk_bytes
        return values if self.layout.shard is None else values + index_bytes(self.counts)

    def read(self, index: Shape, start: int, stop: int, fill: Fill) -> Array:
        """The bytes of a chunk or shard from `start` to `stop`."""
        region = self.region(index)
        covered = Grid(extent(region), self.layout.chunk)
        values = len(covered) * self.chunk_bytes
        size = self.layout.dtype.itemsize
        first, last = min(start, values) // size * size, -(-min(stop, values) // size) * size  # of whole elements
        out = np.empty(last - first + max(0, stop - max(values, start)), np.uint8)
        if first < last:
            self._make(region, covered, first, out[: last - first], fill)
        if stop > values:
            held = np.frombuffer(shard_index(self.counts, covered, self.chunk_bytes), np.uint8)
            out[last - first :] = held[max(0, start - values) : stop - values]
        return out[start - first :][: stop - start] if start < values else out

    def _make(self, region: Region, covered: Grid, start: int, out: Array, fill: Fill) -> None:
        """Fills bytes with whole elements of the chunks, from the byte `start` on: whole chunks, parts of others."""
        position = 0
        while position < out.size:
            number, inside = divmod(start + position, self.chunk_bytes)
            count = (out.size - position) // self.chunk_bytes if inside == 0 else 0
            step = count * self.chunk_bytes if count else min(self.chunk_bytes - inside, out.size - position)
            piece = out[position : position + step].view(self.layout.dtype)
            if count:
                self._chunks(region, covered, range(number, number + count), piece, fill)
            else:
                self._part(within(region, covered[number]), inside // self.layout.dtype.itemsize, piece, fill)
            position += step

    def _chunks(self, region: Region, covered: Grid, numbers: range, out: Array, fill: Fill) -> None:
        """Whole chunks, small ones in groups."""
        chunk = self.layout.chunk
        elements, position = math.prod(chunk), 0
        for box in flat_slice(covered.counts, numbers.start, numbers.stop):
            sizes = extent(box)
            for inner in Grid(sizes, block_of_rows(sizes, GROUP // self.chunk_bytes)):
                group = within(box, inner)
                part = tuple(
                    (first * block, min(last * block, size))
                    for (first, last), block, size in zip(group, chunk, covered.shape, strict=True)
                )
                counts = extent(group)
                data = out[position : position + math.prod(counts) * elements]
                position += data.size
                if extent(part) == chunk:
                    fill(within(region, part), data.reshape(chunk))
                    continue
                made = np.empty(extent(part), self.layout.dtype)
                fill(within(region, part), made)
                split(made, chunk, data.reshape(*counts, *chunk), 0)

    def _part(self, chunk: Region, start: int, out: Array, fill: Fill) -> None:
        """Some elements of a chunk, in C order; those beyond the array's edge are the fill value."""
        held, position = extent(chunk), 0
        for part in flat_slice(self.layout.chunk, start, start + out.size):
            sizes = extent(part)
            data = out[position : position + math.prod(sizes)].reshape(sizes)
            position += data.size
            inside = tuple((min(first, size), min(last, size)) for (first, last), size in zip(part, held, strict=True))
            from_chunk = tuple((at + first, at + last) for (at, _), (first, last) in zip(chunk, inside, strict=True))
            if inside == part:
                fill(from_chunk, data)
                continue
            data[...] = 0
            made = np.empty(extent(inside), self.layout.dtype)
            if made.size:
                fill(from_chunk, made)
                data[tuple(slice(0, size) for size in made.shape)] = made


def _groups(arrays: Mapping[str, Any]) -> dict[str, dict[str, None]]:
    """The groups that arrays lie in, with the names right below each; none for an array at the root."""
    groups: dict[str, dict[str, None]] = {} if "" in arrays else {"": {}}
    for path in arrays:
        above = ""
        for part in path.split("/") if path else ():
            groups.setdefault(above, {})[part] = None
            above = _joined(above, part)
    return groups


def _joined(path: str, part: str) -> str:
    return f"{path}/{part}" if path else part


def _matching(key: str, prefix: str) -> Iterator[str]:
    if key.startswith(prefix):
        yield key


def _encoded(document: Document) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
