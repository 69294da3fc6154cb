"""A zarr store whose chunks are computed when they are read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest

from bigin.targets.zarr.computed import Computed

REFUSAL = "expected no write to a virtual store, whose values are computed and stored nowhere; copy it to another store"


class VirtualStore(Store):
    """A read-only zarr store whose chunks are computed when they are read; `bigin.virtual_store` makes one.

    It may be used by many threads at once, and be pickled.

    Example:
        >>> store = bigin.virtual_store({"w": bigin.virtual((1000, 8), "normal", name="w")})
        >>> zarr.open_group(store, mode="r")["w"].shape
        (1000, 8)
    """

    def __init__(self, computed: Computed) -> None:
        super().__init__(read_only=True)
        self.computed = computed

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VirtualStore) and self.computed.fingerprint == other.computed.fingerprint

    def __hash__(self) -> int:
        return hash(self.computed.fingerprint)

    def __reduce__(self) -> Any:
        return VirtualStore, (self.computed,)

    def __str__(self) -> str:
        return f"virtual://{self.computed.fingerprint}"

    def __repr__(self) -> str:
        return f"VirtualStore({str(self)!r})"

    def _repr_html_(self) -> str:
        return self.computed.as_html(f"zarr store that is computed, {self}")

    def __dask_tokenize__(self) -> Any:
        return ("bigin.virtual_store", self.computed.fingerprint)

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same store; raises ValueError where one is asked for that can be written.

        Args:
            read_only: must be True.

        Returns:
            The store.
        """
        if not read_only:
            raise ValueError(REFUSAL)
        return type(self)(self.computed)

    @property
    def supports_writes(self) -> bool:
        """False."""
        return False

    @property
    def supports_deletes(self) -> bool:
        """False."""
        return False

    @property
    def supports_listing(self) -> bool:
        """True."""
        return True

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """The bytes under a key, or a range of them, as a buffer.

        Args:
            key: of the metadata or of a chunk.
            prototype: zarr's, of the buffer.
            byte_range: one of zarr's byte requests, or None for all bytes.

        Returns:
            The buffer, or None where there is no such key.
        """
        size = self.computed.size(key)
        if size is None:
            return None
        start, stop = byte_bounds(byte_range, size)
        document = self.computed.document(key)
        if document is not None:
            return prototype.buffer.from_bytes(document[start:stop])
        data = await asyncio.to_thread(self.computed.read, key, start, stop)
        return prototype.buffer.from_array_like(data)

    async def get_partial_values(self, prototype: Any, key_ranges: Iterable[tuple[str, Any]]) -> list[Any]:
        """The bytes of several keys or ranges of them.

        Args:
            prototype: zarr's, of the buffers.
            key_ranges: pairs of a key and a byte request, or None for all bytes.

        Returns:
            A buffer for each, or None where there is no such key.
        """
        return list(await asyncio.gather(*(self.get(key, prototype, wanted) for key, wanted in key_ranges)))

    async def exists(self, key: str) -> bool:
        """Whether there is a key.

        Args:
            key: of the metadata or of a chunk.

        Returns:
            True where `get` returns bytes.
        """
        return self.computed.size(key) is not None

    async def getsize(self, key: str) -> int:
        """How many bytes a key holds, without making them.

        Args:
            key: of the metadata or of a chunk.

        Returns:
            The number of bytes; FileNotFoundError is raised where there is no such key.
        """
        size = self.computed.size(key)
        if size is None:
            raise FileNotFoundError(key)
        return size

    async def set(self, key: str, value: Any) -> None:
        """Raises ValueError, as nothing can be written.

        Args:
            key, value: of no meaning.
        """
        raise ValueError(REFUSAL)

    async def delete(self, key: str) -> None:
        """Raises ValueError, as nothing can be written.

        Args:
            key: of no meaning.
        """
        raise ValueError(REFUSAL)

    async def list(self) -> AsyncIterator[str]:
        """All keys: of the metadata, and of every chunk or shard.

        Returns:
            An iterator over them.
        """
        for key in self.computed.every():
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """All keys that begin with a prefix.

        Args:
            prefix: their first characters.

        Returns:
            An iterator over them.
        """
        for key in self.computed.every(prefix):
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """The names right below a prefix.

        Args:
            prefix: the path of a group or an array.

        Returns:
            An iterator over them.
        """
        for name in self.computed.children(prefix):
            yield name


def byte_bounds(wanted: Any, size: int) -> tuple[int, int]:
    """Where the bytes that one of zarr's byte requests asks for begin and end, of so many."""
    match wanted:
        case None:
            return 0, size
        case RangeByteRequest(start=start, end=end):
            return min(start, size), max(min(start, size), min(end, size))
        case OffsetByteRequest(offset=offset):
            return min(offset, size), size
        case SuffixByteRequest(suffix=suffix):
            return max(0, size - suffix), size
    raise TypeError(f"expected one of zarr's byte requests or None, got {wanted!r}")
