"""The arrays of a zarr group as one target, filled in place."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.storage import LocalStore, MemoryStore

from bigin.targets.model import ModelTarget
from bigin.targets.records import KEY, Record
from bigin.targets.safetensors.companions import Companions
from bigin.targets.zarr.array import ZarrTarget
from bigin.targets.zarr.names import TensorPath
from bigin.targets.zarr.private import get_bytes, set_bytes, wait
from bigin.targets.zarr.to_disk import sync_regions


class GroupTarget(ModelTarget):
    """Arrays of a group.

    A group that is missing is stood for by one in memory, which `begin` copies to the store `make`.
    """

    def __init__(
        self, group: zarr.Group, label: str, arrays: Mapping[str, zarr.Array[Any]], make: Store | None = None
    ) -> None:
        self.group = group
        self.make = make
        store = make or group.store_path.store
        root = store.root if isinstance(store, LocalStore) else None
        self.root = root
        self.folder = root / group.store_path.path if root is not None else None
        self.arrays: dict[str, ZarrTarget] = {}
        for name, array in arrays.items():
            inside = root / array.store_path.path if root is not None else None
            self.arrays[name] = ZarrTarget(array, f"{label}/{name}", TensorPath(name), inside)
        super().__init__(label, self.arrays)
        self.remote = not isinstance(store, LocalStore | MemoryStore)
        self.beside = Companions()  # files of a local group that its ledger writes last
        self._held: bool | None = None  # looked up once: it takes a call of the store for every array

    @property
    def sync(self) -> bool:  # type: ignore[override]
        """Each array's, too: a local store's chunks start their way to the disk early."""
        return self._sync

    @sync.setter
    def sync(self, value: bool) -> None:
        self._sync = value
        for target in self.arrays.values():
            target.sync = value

    _sync = True

    def exists(self) -> bool:
        return self.make is None

    def holds_data(self) -> bool:
        """Whether any array holds data."""
        if self._held is None:
            self._held = self.make is None and super().holds_data()
        return self._held

    def bring_to_disk(self) -> None:
        """Brings a local store's chunks to the disk; other stores have kept theirs."""
        if self._sync and self.root is not None:
            arrays = [(target.writer, target.grid()) for target in self.arrays.values()]
            sync_regions(self.root, arrays)

    def make_in_store(self, record: Record) -> None:
        """Copies the metadata of the group in memory, its own last: until then it is no group."""
        assert self.make is not None
        store, held = self.make, self.group.store_path.store
        self.group.attrs[KEY] = record

        async def copy_key(key: str) -> None:
            value = await get_bytes(held, key)
            assert value is not None
            await set_bytes(store, key, value)

        async def copy() -> None:
            keys = [key async for key in held.list() if key != "zarr.json"]
            await asyncio.gather(*map(copy_key, keys))
            await copy_key("zarr.json")

        wait(copy())
        self.group = zarr.open_group(store, mode="r+", use_consolidated=False)
        for target in self.arrays.values():
            target.move(store)
        self.make = None  # only now: an attempt that failed is made again
