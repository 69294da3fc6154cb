"""zarr arrays in zip files, which are read in place and rewritten as a whole.

Nothing in a zip file can be removed or replaced, and its directory lies behind its data: whoever adds to one and is
killed leaves none. So a fill writes a new file under a temporary name, the metadata last, and gives it the name when it
is complete. It keeps no progress: an interrupted fill starts over.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import zarr
from zarr.storage import MemoryStore, ZipStore

from bigin.core.disk import partial, require_space, sync_folder
from bigin.core.errors import TargetError
from bigin.targets.ledger import Ledger
from bigin.targets.records import KEY, JournalEntry, Record
from bigin.targets.zarr.array import ZarrTarget
from bigin.targets.zarr.ledger import record_of_array
from bigin.targets.zarr.lossless import check_lossless
from bigin.targets.zarr.names import TensorPath, root_of
from bigin.targets.zarr.private import get_bytes, moved, set_bytes, wait

ZIP = ".zip"
DOCUMENTS = ("zarr.json", ".zarray", ".zattrs")


def as_store(target: Any) -> Any:
    """The store in a zip file; anything else as it is."""
    if isinstance(target, Path) and target.suffix == ZIP and target.is_file():
        return ZipStore(target, mode="r")
    return target


def zip_target(target: ZarrTarget, path: Path) -> ZarrTarget:
    """The target of an array in a zip file that exists: it is rewritten."""
    target.ledger = ZipLedger(target, path)
    return target


def missing_zip(path: Path, label: str, stand_in: zarr.Array[Any]) -> ZarrTarget:
    """The target of a zip file that is still to be made, of one array."""
    target = ZarrTarget(stand_in, label, TensorPath("", root_of(path)), None, make=lambda record: stand_in)
    target.ledger = ZipLedger(target, path)
    return target


class ZipLedger(Ledger):
    """The ledger of an array in a zip file."""

    def __init__(self, target: ZarrTarget, path: Path) -> None:
        super().__init__(target.label)
        self.target = target
        self.path = path
        self._partial = partial(path)
        self._store: ZipStore | None = None  # the new file, while it is written
        self._metadata: zarr.Array[Any] | None = None  # what its metadata will be, in memory

    def lock(self) -> None:
        """Of the file that is there; of the new one, when it is made."""
        if not os.access(self.path.parent, os.W_OK):
            raise TargetError(f"{self.label}: expected a folder that can be written, got a read-only one")
        if self.target.exists():
            check_lossless(self.target.array, self.label)
            self._hold(self.path)

    def record(self) -> Record | None:
        return record_of_array(self.target.array) if self.target.exists() else None

    def begin(self, record: Record) -> None:
        """Makes the new file under its temporary name."""
        target = self.target
        require_space(self.path.parent, target.nbytes)
        os.close(os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666))
        self._hold(self._partial)
        self._metadata = zarr.open_array(self._copied(), path=target.array.store_path.path, mode="r+")
        self._store = ZipStore(self._partial, mode="w")
        target.replace(moved(self._metadata, self._store))

    def _copied(self) -> MemoryStore:
        """The array's metadata, in memory."""
        store, memory = self.target.array.store_path.store, MemoryStore()
        for key in self._documents():
            data = wait(get_bytes(store, key))
            if data is not None:
                wait(set_bytes(memory, key, data))
        return memory

    def _documents(self) -> list[str]:
        prefix = self.target.array.store_path.path
        return [f"{prefix}/{name}".lstrip("/") for name in DOCUMENTS]

    def resume(self) -> None:
        raise TargetError(
            f"{self.label}: expected a store whose chunks can be replaced, got a zip file; fill it with --overwrite "
            "(overwrite=True), which rewrites it"
        )

    def clean(self) -> None:
        """A temporary file that a killed process has left is written over by the next fill."""

    def checkpoint(self, progress: JournalEntry) -> None:
        """Keeps nothing."""

    def progress(self) -> JournalEntry | None:
        return None

    def forget(self) -> None:
        """There is nothing to forget."""

    def finish(self, record: Record) -> None:
        """Writes the metadata with the complete record, brings the file to the disk, and gives it its name."""
        assert self._metadata is not None
        if self._store is not None:
            self._metadata.attrs[KEY] = record
            memory = self._metadata.store_path.store
            for key in self._documents():
                data = wait(get_bytes(memory, key))
                if data is not None:
                    wait(set_bytes(self._store, key, data))
            self._store.close()
            self._store = None
        if self.target.sync:
            with self._partial.open("rb") as file:
                os.fsync(file.fileno())
        self._partial.replace(self.path)
        sync_folder(self.path.parent)
        path = self.target.array.store_path.path
        self.target.replace(zarr.open_array(ZipStore(self.path, mode="r"), path=path, mode="r"))

    def close(self) -> None:
        """Removes a new file that is not complete."""
        if self._store is not None:
            self._store.close()
            self._store = None
            self._partial.unlink(missing_ok=True)
        super().close()
