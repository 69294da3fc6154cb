"""How the arrays of a computed hierarchy are cut, where they lie in it, and the documents that say so."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from zarr.storage import MemoryStore

from bigin.core.dtypes import DTYPES, name_of
from bigin.core.errors import InputError
from bigin.core.names import dotted
from bigin.core.regions import Grid, Shape, block_of_rows
from bigin.core.text import parse_shape, parse_size
from bigin.targets.zarr.dtypes import register_dtypes
from bigin.targets.zarr.make import ZarrLayout, good_chunks, new_array
from bigin.targets.zarr.private import get_bytes, wait

DOCUMENT = "zarr.json"
Document = dict[str, Any]


@dataclass(frozen=True)
class ComputedLayout:
    """How an array whose chunks are computed is cut. `shard` is None where there are none."""

    shape: Shape
    dtype: np.dtype[Any]
    chunk: Shape
    shard: Shape | None

    @property
    def outer(self) -> Shape:
        """The shape of what a key of the store holds."""
        return self.shard or self.chunk

    @property
    def nbytes(self) -> int:
        """How many bytes the values take."""
        return math.prod(self.shape) * self.dtype.itemsize


def parse_layout(
    name: str, shape: Shape, dtype: np.dtype[Any], chunks: Any = None, shards: Any = None
) -> ComputedLayout:
    """How an array is cut; raises InputError.

    Args:
        name: of the array, for messages.
        shape, dtype: of the array.
        chunks: the bytes of a chunk of whole rows, a number or a text; or its shape. None for those of a new array.
        shards: the same of a shard, which is rounded to whole chunks. None for no shards.
    """
    chunk = good_chunks(shape, dtype)
    if isinstance(chunks, tuple | list):
        chunk = _block(name, shape, chunks, "chunk")
    elif chunks is not None:
        chunk = block_of_rows(shape, parse_size(chunks) // dtype.itemsize)
    if shards is None or not shape:
        return ComputedLayout(shape, dtype, chunk, None)
    if isinstance(shards, tuple | list):
        shard = _block(name, shape, shards, "shard")
        if any(outer % inner for outer, inner in zip(shard, chunk, strict=True)):
            raise InputError(f"{name}: expected a shard of whole chunks of {chunk}, got {shard}")
    else:
        many = parse_size(shards) // (math.prod(chunk) * dtype.itemsize)
        counts = block_of_rows(Grid(shape, chunk).counts, many)
        shard = tuple(max(1, count) * size for count, size in zip(counts, chunk, strict=True))
    return ComputedLayout(shape, dtype, chunk, shard)


def _block(name: str, shape: Shape, given: Any, what: str) -> Shape:
    block = parse_shape(given)
    if len(block) != len(shape) or 0 in block:
        raise InputError(f"{name}: expected a {what} with a size above 0 for each axis of {shape}, got {block}")
    return block


def paths(names: Iterable[str]) -> dict[str, str]:
    """Where each tensor lies in a hierarchy: `layers.0.weight` at layers/0/weight; raises InputError.

    An array holds no other one. Where a tensor's name begins with another's, as `weight.absmax` does, it keeps the dot
    there.
    """
    found: dict[str, str] = {}
    taken: dict[str, str] = {}  # names by paths
    parts_of = {name: dotted(name).split(".") for name in names}
    tensors = {".".join(parts) for parts in parts_of.values()}
    for name, parts in parts_of.items():
        if any(not part or "\0" in part for part in parts) or parts == [DOCUMENT]:
            raise InputError(f"expected names of which every part between dots is a path in a group, got {name!r}")
        path = parts[0]
        for depth, part in enumerate(parts[1:], 1):
            path += ("." if ".".join(parts[:depth]) in tensors else "/") + part
        if path in taken:
            raise InputError(f"expected tensors with different paths, got {taken[path]!r} and {name!r} for {path}")
        found[name], taken[path] = path, name
    return found


def stand_in(layout: ComputedLayout) -> str:
    """The document of a small array of a layout's kind, which may first have to be made: not in zarr's event loop."""
    return _stand_in(name_of(layout.dtype), sharded=layout.shard is not None)


@cache
def _stand_in(dtype: str, *, sharded: bool) -> str:
    """The document of a small array of a dtype, as zarr writes it."""
    register_dtypes()
    store = MemoryStore()
    new_array(store, "", ZarrLayout((1,), DTYPES[dtype], (1,), (1,) if sharded else None))
    data = wait(get_bytes(store, DOCUMENT))
    assert data is not None
    return data.decode()


def array_document(layout: ComputedLayout, attributes: Mapping[str, Any], dimension_names: Iterable[str]) -> Document:
    """The metadata of an array: zarr's own for the dtype, with the shapes of this one."""
    document: Document = json.loads(stand_in(layout))
    document["shape"] = list(layout.shape)
    document["chunk_grid"]["configuration"]["chunk_shape"] = list(layout.outer)
    if layout.shard is not None:
        document["codecs"][0]["configuration"]["chunk_shape"] = list(layout.chunk)
    document["attributes"] = dict(attributes)
    document["dimension_names"] = list(dimension_names)
    return document


def group_document(below: Mapping[str, Document]) -> Document:
    """The metadata of a group, with those of all that lies in it, at any depth, by the paths there."""
    consolidated = {"kind": "inline", "must_understand": False, "metadata": dict(below)}
    return {"zarr_format": 3, "node_type": "group", "attributes": {}, "consolidated_metadata": consolidated}
