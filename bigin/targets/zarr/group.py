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
from zarr.storage import FsspecStore, LocalStore, MemoryStore

from bigin.core.errors import FillError, InputError, TargetError
from bigin.core.regions import Shape
from bigin.targets.disk import remove_partials, require_space, sync_file_system
from bigin.targets.ledger import Ledger
from bigin.targets.model import ModelTarget, model_record
from bigin.targets.records import KEY, Progress, Record
from bigin.targets.zarr.array import ZarrTarget
from bigin.targets.zarr.chunks import LocalWriter, stores_plain_bytes
from bigin.targets.zarr.hierarchy import hierarchy_name, local_root, new_array
from bigin.targets.zarr.journal import forget_journal, keep_journal, kept_journal
from bigin.targets.zarr.ledger import record_of_array
from bigin.targets.zarr.private import get_bytes, set_bytes, update_attributes, wait


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
        self.folder = root / group.store_path.path if root is not None else None
        self.arrays: dict[str, ZarrTarget] = {}
        for name, array in arrays.items():
            inside = root / array.store_path.path if root is not None else None
            self.arrays[name] = ZarrTarget(array, f"{label}/{name}", name, inside)
        super().__init__(label, self.arrays)
        self.remote = not isinstance(store, LocalStore | MemoryStore)
        self.ledger = GroupLedger(self)
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
        if self._sync and self.folder is not None:
            sync_file_system(self.folder)

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


class GroupLedger(Ledger):
    """The ledger of a group. While it is filled, the group keeps the record of all arrays; then each keeps its own."""

    def __init__(self, target: GroupTarget) -> None:
        super().__init__(target.label)
        self.target = target

    def lock(self) -> None:
        """Of a local store's folder. It keeps other fills of the group away, not those of one array in it."""
        target = self.target
        if target.make is not None:
            return
        if target.group.store_path.store.read_only:
            raise TargetError(f"{self.label}: expected a store that can be written, got a read-only one")
        if target.folder is None:
            return
        if not os.access(target.folder, os.W_OK):
            raise TargetError(f"{self.label}: expected a group that can be written, got a read-only folder")
        self._hold(target.folder)

    def record(self) -> Record | None:
        """That of an incomplete fill, else what the arrays say."""
        begun = self.target.group.attrs.asdict().get(KEY)
        if isinstance(begun, dict):
            return begun
        records = {
            name: record
            for name, target in self.target.arrays.items()
            if (record := record_of_array(target.array)) is not None
        }
        complete = len(records) == len(self.target.arrays) and all(r.get("complete") is True for r in records.values())
        return model_record(records, complete)

    def begin(self, record: Record) -> None:
        """Keeps the incomplete record; arrays that were filled before are complete no more."""
        target = self.target
        plain = all(stores_plain_bytes(member.array) for member in target.arrays.values())
        if target.folder is not None and plain and not target.holds_data():
            require_space(target.folder, target.nbytes)
        if target.make is not None:
            if target.folder is not None:
                target.folder.mkdir(exist_ok=True)
                self._hold(target.folder)
                self._remove_partials()
            target.make_in_store(record)
            return
        self._remove_partials()
        self.forget()
        target.group.attrs[KEY] = record
        filled = [name for name, member in target.arrays.items() if record_of_array(member.array) is not None]
        self._keep({name: record["tensors"][name] | {"complete": False} for name in filled})

    def _keep(self, records: Mapping[str, Record]) -> None:
        """Keeps each array's record."""
        arrays = {name: self.target.arrays[name].array for name in records}
        update_attributes({name: {KEY: record} for name, record in records.items()}, arrays)

    def resume(self) -> None:
        self._remove_partials()

    def clean(self) -> None:
        self._remove_partials()
        self.forget()

    def _remove_partials(self) -> None:
        """Removes temporary files of a process that died."""
        if self.target.folder is not None:
            remove_partials(self.target.folder)

    def checkpoint(self, progress: Progress) -> None:
        """Brings a local store's chunks to the disk, and only then keeps the journal."""
        self.target.bring_to_disk()
        keep_journal(self.target.group.store_path, self.target.folder, progress)

    def progress(self) -> Progress | None:
        return kept_journal(self.target.group.store_path, self.target.folder)

    def forget(self) -> None:
        forget_journal(self.target.group.store_path, self.target.folder)
        if self.target.folder is not None:  # what fills of single arrays have left
            for target in self.target.arrays.values():
                forget_journal(target.array.store_path, target.folder)

    def finish(self, record: Record) -> None:
        """Brings the chunks to the disk, then keeps every array's record, then forgets the group's."""
        target = self.target
        target.bring_to_disk()
        for name, member in target.arrays.items():
            if isinstance(member.writer, LocalWriter) and not all(map(member.intact, member.grid())):
                raise FillError(
                    f"{self.label}: chunks of {name} were removed or cut off while others were filled; the same fill "
                    "again makes them again"
                )
        common = {key: record[key] for key in ("stream", "bigin")} | {"name_from": "hierarchy", "complete": True}
        self._keep({name: record["tensors"][name] | common for name in target.arrays})
        target.bring_to_disk()
        if KEY in target.group.attrs:
            del target.group.attrs[KEY]
        self.forget()


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
