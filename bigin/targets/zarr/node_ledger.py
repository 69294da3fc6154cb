"""What the ledgers of an array and of a group share: the journal, temporary files, and a lock in a store by obstore."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Protocol

from zarr.storage import StorePath

from bigin.core.disk import remove_partials
from bigin.targets.ledger import Ledger
from bigin.targets.objects.lock import StoreLock
from bigin.targets.records import JournalEntry
from bigin.targets.zarr.cloud import LOCK, CloudZarr
from bigin.targets.zarr.journal import forget_journal, keep_journal, kept_journal


class Node(Protocol):
    """The target of an array or a group. `folder` is where it is in a local store; None in other stores."""

    label: str
    folder: Path | None

    def bring_to_disk(self) -> None:
        """Bring a local store's chunks to the disk."""


class NodeLedger(Ledger):
    """The ledger of an array or a group. In a store by obstore the lock is an object that only one writer can make."""

    _turn: StoreLock | None = None

    def __init__(self, node: Node) -> None:
        super().__init__(node.label)
        self._node = node

    @property
    @abstractmethod
    def _path(self) -> StorePath:
        """Where the node is in its store."""

    def _hold_object(self, store: CloudZarr, path: str) -> None:
        """Keeps other writers away from what lies at a path of a store, until `close`."""
        if self._turn is None:
            self._turn = StoreLock(store.objects, store.key(f"{path}/{LOCK}" if path else LOCK), self.label)

    def _check_lock(self) -> None:
        """Raises FillError if another writer has taken over."""
        if self._turn is not None:
            self._turn.check()

    def resume(self) -> None:
        """Nothing is open between the chunks; only temporary files may be left."""
        self._remove_partials()

    def clean(self) -> None:
        self._remove_partials()
        self.forget()

    def _remove_partials(self) -> None:
        """Removes the temporary files of a process that died."""
        if self._node.folder is not None:
            remove_partials(self._node.folder)

    def checkpoint(self, progress: JournalEntry) -> None:
        """Brings a local store's chunks to the disk, and only then keeps the journal."""
        self._check_lock()
        self._node.bring_to_disk()
        keep_journal(self._path, self._node.folder, progress)

    def progress(self) -> JournalEntry | None:
        return kept_journal(self._path, self._node.folder)

    def forget(self) -> None:
        forget_journal(self._path, self._node.folder)

    def close(self) -> None:
        """Releases the lock."""
        if self._turn is not None:
            self._turn.release()
            self._turn = None
        super().close()
