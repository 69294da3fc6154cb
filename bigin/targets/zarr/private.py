"""All uses of names of zarr that its documentation does not promise, so that a new zarr changes one file here.

zarr has no public way to call a store's coroutines from synchronous code, to change several arrays' attributes at
once, or to make an array object from metadata that has been changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.dtype.common import HasEndianness, HasItemSize
from zarr.core.group import GroupMetadata
from zarr.core.sync import sync
from zarr.storage import StorePath

from bigin.core.regions import Shape

__all__ = ["HasEndianness", "HasItemSize"]  # what a data type of our own is to derive from

Result = TypeVar("Result")


def wait(coroutine: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine, which runs in zarr's event loop."""
    return sync(coroutine)


async def get_bytes(store: Store, key: str) -> bytes | None:
    """The value of a key; None where the store does not hold it."""
    value = await store.get(key, default_buffer_prototype())
    return None if value is None else value.to_bytes()


async def set_bytes(store: Store, key: str, data: bytes) -> None:
    """Sets the value of a key."""
    await store.set(key, default_buffer_prototype().buffer.from_bytes(data))


async def set_array(store: Store, key: str, data: Any) -> None:
    """Sets the value of a key to the bytes of an array of uint8. A store in memory keeps that very array."""
    await store.set(key, default_buffer_prototype().buffer.from_array_like(data))


def encode_chunk_key(array: zarr.Array[Any], index: Shape) -> str:
    """The store's key of a chunk or shard from its index in their grid."""
    return f"{array.store_path.path}/{array.metadata.encode_chunk_key(index)}".lstrip("/")


def chunk_keys(array: zarr.Array[Any]) -> Callable[[Shape], str]:
    """encode_chunk_key of one array, for many chunks."""
    path, encode = array.store_path.path, array.metadata.encode_chunk_key
    return (lambda index: f"{path}/{encode(index)}") if path else encode


def moved(array: zarr.Array[Any], store: Store) -> zarr.Array[Any]:
    """The same array in another store, which holds the same metadata under the same path."""
    old = array._async_array
    return zarr.Array(zarr.AsyncArray(old.metadata, StorePath(store, old.store_path.path), old.config))


def group_around(store: Store, zarr_format: Any) -> zarr.Group:
    """The arrays of a format at the root of a store as a group, where the store has no metadata of one."""
    return zarr.Group(zarr.AsyncGroup(GroupMetadata(zarr_format=zarr_format), StorePath(store)))


def reshaped(array: zarr.Array[Any], shape: Shape) -> zarr.Array[Any]:
    """The same array with another shape; its metadata in the store stays as it is."""
    metadata = array.metadata.update_shape(shape)
    return zarr.Array(zarr.AsyncArray(metadata=metadata, store_path=array.store_path))


def replace_attributes(array: zarr.Array[Any], other: zarr.Array[Any]) -> None:
    """Gives an array object the attributes of another, without writing them."""
    attributes = array.metadata.attributes
    attributes.clear()
    attributes.update(other.metadata.attributes)


def update_attributes(updates: Mapping[str, dict[str, Any]], arrays: Mapping[str, zarr.Array[Any]]) -> None:
    """Writes attributes of arrays, by the arrays' names: all at once, as each takes a turn of zarr's event loop."""

    async def write() -> None:
        await asyncio.gather(*(arrays[name]._async_array.update_attributes(new) for name, new in updates.items()))

    sync(write())


def stored_bytes(array: zarr.Array[Any]) -> int:
    """How many bytes the store's keys of an array take."""
    return array.nbytes_stored()
