"""The ledger of a plan's parts in a store that is not a folder of this machine."""

from __future__ import annotations

from collections.abc import Iterator

from zarr.abc.store import Store
from zarr.storage import FsspecStore

from bigin.targets.part_ledger import PartLedger
from bigin.targets.zarr.cloud import resolved
from bigin.targets.zarr.private import get_bytes, set_bytes, wait


class StoreLedger(PartLedger):
    """Under keys of a store."""

    def __init__(self, store: Store, label: str) -> None:
        super().__init__(label)
        self.store = store

    def get(self, key: str) -> bytes | None:
        return wait(get_bytes(self.store, key))

    def put(self, key: str, data: bytes) -> None:
        wait(set_bytes(self.store, key, data))

    def begin(self) -> None:
        """A store has no folders."""

    def keys(self, prefix: str) -> Iterator[str]:
        async def listed() -> list[str]:
            return [key async for key in self.store.list_prefix(prefix)]

        yield from wait(listed())

    def clear(self) -> None:
        wait(self.store.delete_dir(""))


def store_ledger(url: str) -> StoreLedger:
    """The ledger under a URL."""
    store = resolved(url)
    return StoreLedger(FsspecStore.from_url(url) if store is url else store, url)
