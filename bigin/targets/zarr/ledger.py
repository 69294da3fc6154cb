"""What is remembered of a zarr array: its record in an attribute, its progress under a key beside its metadata."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import zarr
from zarr.errors import ContainsArrayError, ContainsGroupError
from zarr.storage import StorePath

from bigin.core.disk import remove_stale, require_space
from bigin.core.errors import DamagedError, ExistsError, InputError, TargetError
from bigin.core.text import agree
from bigin.targets.lock import Lock
from bigin.targets.records import KEY, Record
from bigin.targets.zarr.array import ZarrTarget
from bigin.targets.zarr.chunks import stores_plain_bytes
from bigin.targets.zarr.lossless import check_lossless
from bigin.targets.zarr.node_ledger import NodeLedger
from bigin.targets.zarr.private import replace_attributes


class ZarrLedger(NodeLedger):
    """The ledger of a zarr array."""

    def __init__(self, target: ZarrTarget) -> None:
        super().__init__(target)
        self.target = target

    @property
    def _path(self) -> StorePath:
        return self.target.array.store_path

    def lock(self) -> None:
        """Of a local store's folder, so that nothing is left behind. Other stores have no locks."""
        target = self.target
        if target.cloud is not None:
            self._hold_object(target.cloud, target.path if target.make is None else "")
        if target.make is not None:
            return
        if target.array.store_path.store.read_only:
            raise TargetError(f"{target.label}: expected a store that can be written, got a read-only one")
        check_lossless(target.array, target.label)
        if target.folder is None:
            return
        if not os.access(target.folder, os.W_OK):
            raise TargetError(f"{target.label}: expected an array that can be written, got a read-only folder")
        self._hold(target.folder)
        self._read_again()

    def _read_again(self) -> None:
        """What the metadata said before the lock may be old by now."""
        array = self.target.array
        now = zarr.open_array(array.store_path.store, path=array.store_path.path, mode="r+")
        if now.shape != array.shape or now.chunks != array.chunks or now.dtype != array.dtype:
            raise InputError(
                f"{self.target.label}: shape {array.shape} was just changed by another process; rerun the command"
            )
        replace_attributes(array, now)

    def record(self) -> Record | None:
        return record_of_array(self.target.array)

    def begin(self, record: Record) -> None:
        """Makes the array where it is missing, its record with it."""
        target = self.target
        if target.folder is not None and stores_plain_bytes(target.array) and not target.holds_data():
            require_space(target.folder, target.nbytes)
        if target.make is not None:
            self._make(record)
        else:
            self._remove_partials()
            self.forget()
            target.array.attrs[KEY] = record

    def _make(self, record: Record) -> None:
        target = self.target
        assert target.make is not None
        if target.above is not None:
            target.above.mkdir(parents=True, exist_ok=True)
        turn = Lock(target.above, target.label, wait=True) if target.above is not None else contextlib.nullcontext()
        with turn:
            try:
                target.replace(target.make(record))
            except (ContainsArrayError, ContainsGroupError):
                raise ExistsError(
                    f"{target.label}: expected nothing there, got what another process has just made; rerun the command"
                ) from None
            self.lock()
        self._remove_partials()

    def _remove_partials(self) -> None:
        """Removes the temporary files of a process that died, also those of the metadata of the groups above."""
        super()._remove_partials()
        if self.target.folder is not None:
            for group in self.target.folder.parents[: len(Path(self.target.path).parts)]:
                remove_stale(group)

    def finish(self, record: Record) -> None:
        target = self.target
        self._check_lock()
        target.bring_to_disk()
        if target.writer.local is not None:
            target.writer.check_there()
            gone = target.writer.gone(target.grid())
            if gone:
                raise DamagedError(
                    f"{target.label}: {gone} of the chunks or shards {agree(gone, 'was', 'were')} removed or truncated "
                    f"while the others were filled; rerun the fill, which repairs {agree(gone, 'it', 'them')}"
                )
        target.array.attrs[KEY] = record
        target.bring_to_disk()
        self.forget()


def record_of_array(array: zarr.Array[Any]) -> Record | None:
    """The record in an array's attribute; None where there is none."""
    record = array.attrs.asdict().get(KEY)
    return record if isinstance(record, dict) else None
