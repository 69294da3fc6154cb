"""The arrays of a zarr group as one target, filled in place."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, MemoryStore

from bigin.core.errors import FillError, InputError, TargetError
from bigin.core.regions import Shape
from bigin.targets.disk import remove_partials, require_space, sync_file_system
from bigin.targets.ledger import KEY, Progress, Record
from bigin.targets.lock import Lock
from bigin.targets.model import ModelTarget, model_record
from bigin.targets.zarr.array import ZarrTarget
from bigin.targets.zarr.chunks import LocalWriter, stores_plain_bytes
from bigin.targets.zarr.hierarchy import hierarchy_name, local_root, new_array
from bigin.targets.zarr.journal import forget_journal, keep_journal, kept_journal


class GroupTarget(ModelTarget):
    """Arrays of a group. Each keeps its own record; while they are filled, the group keeps that of all.

    A group that is missing is stood for by one in memory, which `begin` copies to the store `make`.
    """

    def __init__(
        self, group: zarr.Group, label: str, arrays: Mapping[str, zarr.Array[Any]], make: Store | None = None
    ) -> None:
        self.group = group
        self.make = make
        store = make or group.store_path.store
        root = store.root if isinstance(store, LocalStore) else None
        self.folder = root / group.store_path.path if root is not None else None
        self.arrays: dict[str, ZarrTarget] = {}
        for name, array in arrays.items():
            inside = root / array.store_path.path if root is not None else None
            self.arrays[name] = ZarrTarget(array, f"{label}/{name}", name, inside)
        super().__init__(label, self.arrays)
        self.remote = not isinstance(store, LocalStore | MemoryStore)
        self._lock: Lock | None = None
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

    def lock(self) -> None:
        """Of a local store's folder. It keeps other fills of the group away, not those of one array in it."""
        if self.make is None and self.group.store_path.store.read_only:
            raise TargetError(f"{self.label}: expected a store that can be written, got a read-only one")
        if self.make is None and self.folder is not None and not os.access(self.folder, os.W_OK):
            raise TargetError(f"{self.label}: expected a group that can be written, got a read-only folder")
        if self.make is None and self.folder is not None and self._lock is None:
            self._lock = Lock(self.folder, self.label)

    def begin(self, record: Record) -> None:
        """Keeps the incomplete record; arrays that were filled before are complete no more."""
        plain = all(stores_plain_bytes(target.array) for target in self.arrays.values())
        if self.folder is not None and plain and not self.holds_data():
            require_space(self.folder, self.nbytes)
        if self.make is not None:
            self._make(record)
            return
        self._remove_partials()
        self.forget_progress()
        self.group.attrs[KEY] = record
        told = record["tensors"]
        self._keep({n: told[n] | {"complete": False} for n, t in self.arrays.items() if t.record() is not None})

    def _make(self, record: Record) -> None:
        """Copies the metadata of the group in memory, its own last: until then it is no group."""
        assert self.make is not None
        store, self.make = self.make, None
        self.group.attrs[KEY] = record
        held = self.group.store_path.store

        async def copy_key(key: str) -> None:
            value = await held.get(key, default_buffer_prototype())
            assert value is not None
            await store.set(key, value)

        async def copy() -> None:
            keys = [key async for key in held.list() if key != "zarr.json"]
            await asyncio.gather(*map(copy_key, keys))
            await copy_key("zarr.json")

        if self.folder is not None:
            self.folder.mkdir(exist_ok=True)
            self.lock()
            self._remove_partials()
        sync(copy())
        self.group = zarr.open_group(store, mode="r+", use_consolidated=False)
        for target in self.arrays.values():
            target.move(store)

    def _keep(self, records: Mapping[str, Record]) -> None:
        """Each array's record; all at once, as each takes a turn of zarr's event loop."""

        async def write() -> None:
            updates = [
                self.arrays[name].array._async_array.update_attributes({KEY: record})
                for name, record in records.items()
            ]
            await asyncio.gather(*updates)

        sync(write())

    def resume(self) -> None:
        self._remove_partials()

    def clean(self) -> None:
        self._remove_partials()
        self.forget_progress()

    def _remove_partials(self) -> None:
        """Removes temporary files of a process that died."""
        if self.folder is not None:
            remove_partials(self.folder)

    def checkpoint(self, progress: Progress) -> None:
        """Brings a local store's chunks to the disk, and only then keeps the journal."""
        self._bring_to_disk()
        keep_journal(self.group.store_path, self.folder, progress)

    def progress(self) -> Progress | None:
        return kept_journal(self.group.store_path, self.folder)

    def forget_progress(self) -> None:
        forget_journal(self.group.store_path, self.folder)
        if self.folder is not None:  # what fills of single arrays have left
            for target in self.arrays.values():
                forget_journal(target.array.store_path, target.folder)

    def _bring_to_disk(self) -> None:
        if self._sync and self.folder is not None:
            sync_file_system(self.folder)

    def finish(self, record: Record) -> None:
        """Brings the chunks to the disk, then keeps every array's record, then forgets the group's."""
        self._bring_to_disk()
        for name, target in self.arrays.items():
            if isinstance(target.writer, LocalWriter) and not all(map(target.intact, target.grid())):
                raise FillError(
                    f"{self.label}: chunks of {name} were removed or cut off while others were filled; the same fill "
                    "again makes them again"
                )
        common = {key: record[key] for key in ("stream", "bigin")}
        self._keep(
            {
                name: {**record["tensors"][name], **common, "name_from": "hierarchy", "complete": True}
                for name in self.arrays
            }
        )
        self._bring_to_disk()
        if KEY in self.group.attrs:
            del self.group.attrs[KEY]
        self.forget_progress()

    def record(self) -> Record | None:
        """That of an incomplete fill, else what the arrays say."""
        begun = self.group.attrs.asdict().get(KEY)
        if isinstance(begun, dict):
            return begun
        records = {name: record for name, target in self.arrays.items() if (record := target.record()) is not None}
        complete = len(records) == len(self.arrays) and all(r.get("complete") is True for r in records.values())
        return model_record(records, complete)

    def close(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def open_group(place: Any, label: str, mode: str = "r+") -> zarr.Group | None:
    """The group at a path, a URL or the root of a store; None where there is something else, or nothing."""
    if isinstance(place, Path) and not place.exists():
        return None
    try:
        return zarr.open_group(place, mode=mode, use_consolidated=False)  # type: ignore[arg-type]
    except PermissionError as error:
        raise TargetError(f"{label}: expected a store that can be read and written: {error.strerror}") from None
    except (ImportError, ValueError, TypeError, KeyError, OSError, NotImplementedError):
        return None


def group_arrays(group: zarr.Group) -> dict[str, zarr.Array[Any]]:
    """The arrays in a group, at any depth, by their names: their paths below the outermost group around them."""
    above = group_prefix(group)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr's, on the journal of a fill that was interrupted
        members = group.members(max_depth=None, use_consolidated_for_children=False)
    return {above + path: member for path, member in members if isinstance(member, zarr.Array)}


def group_prefix(group: zarr.Group) -> str:
    """What the names of a group's arrays begin with, if it lies in another group; with a slash at the end."""
    path = f"{group.store_path.path}/" if group.store_path.path else ""
    return hierarchy_name(group.store_path.store, f"{path}x").removesuffix("x")


def group_target(
    group: zarr.Group, label: str, arrays: Mapping[str, zarr.Array[Any]], names: Iterable[str] | None = None
) -> GroupTarget:
    """The target of a group's arrays, or of those that are named."""
    missing = [name for name in names or () if name not in arrays]
    if missing:
        raise InputError(f"{label}: expected nothing, or a group with the array {missing[0]}, got one without")
    return GroupTarget(group, label, arrays if names is None else {name: arrays[name] for name in names})


def missing_group(place: Any, label: str, tensors: Mapping[str, tuple[Any, Shape]]) -> GroupTarget:
    """The target of a group that is still to be made, with arrays of good chunks and without compression."""
    if isinstance(place, Path):
        if place.exists() and (not place.is_dir() or (place / "zarr.json").exists()):
            raise InputError(f"{label}: expected nothing there, or a zarr group, found something else")
        if not place.absolute().parent.is_dir():
            raise InputError(f"{label}: expected an existing folder {place.parent}; make it first")
        if local_root(place)[1]:
            raise InputError(f"{label}: expected a place outside of other groups, whose names its arrays would have")
        store: Store = LocalStore(place)
    else:
        store = FsspecStore.from_url(place) if isinstance(place, str) else place
    for name in tensors:
        if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
            raise InputError(f"{label}: expected names that are paths in a group, got {name!r}")
    group = zarr.create_group(MemoryStore())
    arrays = {name: new_array(group.store, name, shape, dtype) for name, (dtype, shape) in tensors.items()}
    return GroupTarget(group, label, arrays, store)
