"""The lock of an array or a group in a store by obstore."""

from __future__ import annotations

from bigin.targets.ledger import Ledger
from bigin.targets.objects.lock import StoreLock
from bigin.targets.zarr.cloud import LOCK, CloudZarr


class CloudLocked(Ledger):
    """A ledger whose lock may be an object that only one writer can make."""

    _turn: StoreLock | None = None

    def _hold_object(self, store: CloudZarr, path: str) -> None:
        """Keeps other writers away from what lies at a path of a store, until `close`."""
        if self._turn is None:
            self._turn = StoreLock(store.objects, store.key(f"{path}/{LOCK}" if path else LOCK), self.label)

    def _check_lock(self) -> None:
        """Raises FillError where another writer has taken over."""
        if self._turn is not None:
            self._turn.check()

    def close(self) -> None:
        """Releases the lock."""
        if self._turn is not None:
            self._turn.release()
            self._turn = None
        super().close()
