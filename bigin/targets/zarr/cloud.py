"""zarr's store over obstore, with the errors and the requests of our own."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

from zarr.storage import ObjectStore

from bigin.core.handlers import let_through
from bigin.targets.objects.errors import translated
from bigin.targets.objects.open import store_at
from bigin.targets.objects.store import CloudStore
from bigin.targets.objects.urls import is_cloud

LOCK = ".bigin.lock"


class CloudZarr(ObjectStore[Any]):
    """What lies below a key of a bucket."""

    def __init__(self, objects: CloudStore, path: str, *, read_only: bool = False) -> None:
        super().__init__(objects.below(path), read_only=read_only)
        self.objects = objects
        self.path = path

    def with_read_only(self, read_only: bool = False) -> Self:
        return type(self)(self.objects, self.path, read_only=read_only)

    def __str__(self) -> str:
        return self.objects.label(self.path).rstrip("/")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CloudZarr) and (str(self), self.read_only) == (str(other), other.read_only)

    def __hash__(self) -> int:
        return hash(str(self))

    def __getstate__(self) -> dict[Any, Any]:
        return {"url": str(self), "read_only": self.read_only}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        objects, path = store_at(state["url"])
        assert isinstance(objects, CloudStore)
        self.__init__(objects, path, read_only=state["read_only"])  # type: ignore[misc]

    def above(self, path: str) -> CloudZarr:
        """The store of another path in the bucket, to be read."""
        return CloudZarr(self.objects, path, read_only=True)

    def key(self, key: str) -> str:
        """A key in the bucket."""
        return f"{self.path}/{key}" if self.path else key

    def put(self, key: str, data: Any) -> None:
        """Sets a key in one request, without zarr's event loop."""
        self.objects.put(self.key(key), data)

    def read(self, key: str, size: int) -> Any:
        """The value of a key that has so many bytes; None where there is none. Raises ValueError for another size."""
        stat_size, data = self.objects.get_sized(self.key(key), size)
        if data is None and stat_size is None:
            return None
        if data is None or len(data) != size:
            raise ValueError(f"it has {stat_size} bytes where {size} were expected")
        return data

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """The keys below a prefix, with the bytes that they have."""
        start = len(self.path) + 1 if self.path else 0
        for stat in self.objects.list(self.key(prefix).rstrip("/") + "/" if self.key(prefix) else ""):
            yield stat.key[start:], stat.size

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        try:
            return await super().get(key, prototype, byte_range)
        except Exception as error:
            raise _told(error) from None

    async def exists(self, key: str) -> bool:
        try:
            return await super().exists(key)
        except Exception as error:
            raise _told(error) from None

    async def set(self, key: str, value: Any) -> None:
        import obstore

        self._check_writable()
        try:
            await obstore.put_async(self.store, key, value.as_buffer_like(), use_multipart=False)
        except Exception as error:
            raise _told(error) from None

    async def delete(self, key: str) -> None:
        try:
            await super().delete(key)
        except Exception as error:
            raise _told(error) from None

    async def getsize(self, key: str) -> int:
        try:
            return await super().getsize(key)
        except Exception as error:
            raise _told(error) from None

    async def _list(self, prefix: str | None = None) -> Any:
        try:
            async for item in super()._list(prefix):
                yield item
        except Exception as error:
            raise _told(error) from None

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:  # type: ignore[override]
        try:
            async for item in super().list_dir(prefix):
                yield item
        except Exception as error:
            raise _told(error) from None


def _told(error: Exception) -> Exception:
    let_through(error)
    return translated(error)


def resolved(target: Any) -> Any:
    """The store of a URL that obstore knows; anything else as it is."""
    if not isinstance(target, str | os.PathLike) or not is_cloud(target):
        return target
    objects, path = store_at(os.fsdecode(target))
    assert isinstance(objects, CloudStore)
    return CloudZarr(objects, path)
