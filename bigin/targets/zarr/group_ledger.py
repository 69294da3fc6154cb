"""What is remembered of a zarr group while its arrays are filled, and of each array then."""

from __future__ import annotations

import os
from collections.abc import Mapping

from zarr.storage import StorePath

from bigin.core.disk import require_space
from bigin.core.errors import DamagedError, TargetError
from bigin.core.record import model_record
from bigin.targets.records import KEY, Record
from bigin.targets.zarr.array import codecs
from bigin.targets.zarr.chunks import stores_plain_bytes
from bigin.targets.zarr.cloud import CloudZarr
from bigin.targets.zarr.group import GroupTarget
from bigin.targets.zarr.journal import forget_journal
from bigin.targets.zarr.ledger import record_of_array
from bigin.targets.zarr.lossless import check_lossless
from bigin.targets.zarr.node_ledger import NodeLedger
from bigin.targets.zarr.private import update_attributes


class GroupLedger(NodeLedger):
    """The ledger of a group. While it is filled, the group keeps the record of all arrays; then each keeps its own."""

    def __init__(self, target: GroupTarget) -> None:
        super().__init__(target)
        self.target = target

    @property
    def _path(self) -> StorePath:
        return self.target.group.store_path

    def lock(self) -> None:
        """Of a local store's folder. It keeps other fills of the group away, not those of one array in it."""
        target = self.target
        store = target.make or target.group.store_path.store
        if isinstance(store, CloudZarr):
            self._hold_object(store, target.group.store_path.path)
        if target.make is not None:
            return
        if target.group.store_path.store.read_only:
            raise TargetError(f"{self.label}: expected a store that can be written, got a read-only one")
        kinds = {
            (member.dtype, member.array.chunks, *codecs(member.array.metadata)): (name, member.array)
            for name, member in target.arrays.items()
        }
        for name, array in kinds.values():  # most arrays of a model are of one kind, and to try one takes 5 ms
            check_lossless(array, f"{self.label}/{name}")
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
        return model_record(records) | {"complete": complete} if records else None

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
        if target.folder is not None:
            target.beside.remove(target.folder)
        target.group.attrs[KEY] = record
        filled = [name for name, member in target.arrays.items() if record_of_array(member.array) is not None]
        self._keep({name: record["tensors"][name] | {"complete": False} for name in filled})

    def _keep(self, records: Mapping[str, Record]) -> None:
        """Keeps each array's record."""
        arrays = {name: self.target.arrays[name].array for name in records}
        update_attributes({name: {KEY: record} for name, record in records.items()}, arrays)

    def forget(self) -> None:
        super().forget()
        if self.target.folder is not None:  # what fills of single arrays have left
            for target in self.target.arrays.values():
                forget_journal(target.array.store_path, target.folder)

    def finish(self, record: Record) -> None:
        """Brings the chunks to the disk, keeps every array's record and what goes beside, then forgets the group's."""
        target = self.target
        self._check_lock()
        target.bring_to_disk()
        for name, member in target.arrays.items():
            if not member.whole():
                raise DamagedError(
                    f"{self.label}: chunks of {name} were removed or truncated while others were filled; rerun the "
                    "fill, which repairs them"
                )
        common = {key: record[key] for key in ("stream", "bigin")} | {"name_from": "hierarchy", "complete": True}
        self._keep({name: record["tensors"][name] | common for name in target.arrays})
        target.bring_to_disk()
        if target.folder is not None:
            target.beside.write(target.folder)
        if KEY in target.group.attrs:
            del target.group.attrs[KEY]
        self.forget()
