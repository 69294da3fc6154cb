"""What a target remembers between processes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from bigin.targets.lock import Lock
from bigin.targets.records import JournalEntry, Record


class Ledger(ABC):
    """The lock, the provenance record and the progress of a target.

    A fill goes: lock, record (may the target be filled, or is it half filled?), begin or resume, checkpoint now and
    then, finish. `Target.close` closes the ledger, too. `label` is what messages call the target.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self._lock: Lock | None = None

    @abstractmethod
    def lock(self) -> None:
        """Keeps other writers away until `close`.

        Raises LockedError where another writer is at work, TargetError where the target is read-only.
        """

    @abstractmethod
    def record(self) -> Record | None:
        """The record of the fill that the target holds; None where there is none."""

    @abstractmethod
    def begin(self, record: Record) -> None:
        """Makes what is missing, reserves the space and keeps an incomplete record, once all input is checked.

        Forgets the progress of an earlier fill.
        """

    @abstractmethod
    def resume(self) -> None:
        """Opens what an earlier fill has begun, and removes its temporary files."""

    @abstractmethod
    def clean(self) -> None:
        """Removes what a process left behind that was killed after its fill was complete."""

    @abstractmethod
    def checkpoint(self, progress: JournalEntry) -> None:
        """Brings the data to the disk, and only then keeps the progress."""

    @abstractmethod
    def progress(self) -> JournalEntry | None:
        """The progress of an incomplete fill; None where it is not known."""

    @abstractmethod
    def finish(self, record: Record) -> None:
        """Brings the data to the disk, then keeps the complete record, then forgets the progress."""

    @abstractmethod
    def forget(self) -> None:
        """Forgets the progress: the fill starts over."""

    def abandon(self) -> None:  # noqa: B027 (most targets keep what was made)
        """Gives up a fill that cannot be finished: removes what it has stored of it where nobody else would see it."""

    def close(self) -> None:
        """Releases the lock."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _hold(self, path: Path) -> None:
        """Locks a path instead of the one that was locked before."""
        self.close()
        self._lock = Lock(path, self.label)
