"""What is remembered of a file: its record and its progress, in files beside it."""

from __future__ import annotations

import os
from typing import Any

from bigin.core.disk import partial
from bigin.core.errors import FillError, TargetError
from bigin.core.regions import Shape
from bigin.targets.files import FileTarget
from bigin.targets.ledger import Ledger
from bigin.targets.records import (
    Progress,
    Record,
    journal,
    read_journal,
    read_sidecar,
    remove_journal,
    sidecar,
    write_journal,
    write_sidecar,
)


class FileLedger(Ledger):
    """The ledger of an array in a file."""

    def __init__(self, target: FileTarget) -> None:
        super().__init__(target.label)
        self.target = target
        self._existed = target.path.exists()

    def lock(self) -> None:
        """Of the file itself, so that nothing is left behind; of one that is missing, when it is made."""
        path = self.target.path
        if self._existed:
            if not os.access(path, os.W_OK):
                raise TargetError(f"{path}: expected a file that can be written, got a read-only one")
            self._hold(path)
        else:
            self.target.check_missing()

    def record(self) -> Record | None:
        """The sidecar's."""
        return read_sidecar(self.target.path) if self.target.path.exists() else None

    def begin(self, record: Record) -> None:
        if self._existed:
            self.target.start()
        else:
            self._lock = self.target.make()
            self._existed = True
        self._remove_partials()
        self.forget()
        self._keep(record)

    def resume(self) -> None:
        """Opens the file. One that was cut off is filled anew: its journal goes before the file gets its size again."""
        self._remove_partials()
        if not self.target.whole():
            self.forget()
        self.target.open(self.target.path, os.O_RDWR)
        self.target.reserve(FillError)

    def clean(self) -> None:
        self._remove_partials()
        self.forget()

    def _remove_partials(self) -> None:
        for path in (self.target.path, sidecar(self.target.path)):
            partial(path).unlink(missing_ok=True)

    def checkpoint(self, progress: Progress) -> None:
        """fdatasync, and only then the journal."""
        file = self.target.file
        assert file is not None
        if self.target.sync:
            getattr(os, "fdatasync", os.fsync)(file.fileno())
        self.target.check_there()
        write_journal(journal(self.target.path), progress | self._identity())

    def _identity(self) -> dict[str, int]:
        """What tells that a journal speaks of this stretch of this file."""
        return {"inode": self.target.path.stat().st_ino, "offset": self.target.offset}

    def progress(self) -> Progress | None:
        """The journal's; None where another file has replaced the one that it speaks of."""
        kept = read_journal(journal(self.target.path))
        if kept is None or not self.target.path.exists():
            return None
        identity = self._identity()
        return kept if {key: kept.pop(key, None) for key in identity} == identity else None

    def forget(self) -> None:
        remove_journal(journal(self.target.path))

    def finish(self, record: Record) -> None:
        """fsync, and only then the complete record."""
        self.target.flush()
        self.target.check_there()
        self._keep(record)
        self.forget()

    def _keep(self, record: Record) -> None:
        write_sidecar(self.target.path, record)


class RawLedger(FileLedger):
    """The ledger of a file of values alone. Its record is all that tells where they lie, so it holds the offset."""

    def _keep(self, record: Record) -> None:
        super()._keep(record | ({"offset": self.target.offset} if self.target.offset else {}))

    def record(self) -> Record | None:
        """The sidecar's. A record of values at another offset keeps the offset, and so differs from every other."""
        record = super().record()
        if record is not None and record.setdefault("offset", 0) == self.target.offset:
            del record["offset"]
        return record


def raw_target(path: Any, shape: Shape, dtype: Any, offset: int) -> FileTarget:
    """The values of a file without a header, from an offset in bytes on."""
    target = FileTarget(path, shape, dtype, offset)
    target.ledger = RawLedger(target)
    return target
