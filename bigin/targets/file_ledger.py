"""What is remembered of a file: its record and its progress, in files beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bigin.core.disk import partial
from bigin.core.errors import FillError, TargetError
from bigin.core.regions import Shape
from bigin.targets.files import FileTarget
from bigin.targets.ledger import Ledger
from bigin.targets.records import (
    JournalEntry,
    Record,
    journal,
    read_journal,
    read_sidecar,
    remove_journal,
    sidecar,
    write_journal,
    write_sidecar,
)

BLOBS = "blobs"  # the folder of such a cache that holds the files


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
            check_cache(path)
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
        """Opens the file. One that was cut off is filled from the start, and its journal goes first."""
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

    def checkpoint(self, progress: JournalEntry) -> None:
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

    def progress(self) -> JournalEntry | None:
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


LAYOUT = {"offset": 0, "byte_order": "="}  # of a raw file, where its record says nothing of it


class RawLedger(FileLedger):
    """The ledger of a file of values alone, whose record also holds their offset and byte order: nothing else does."""

    def _keep(self, record: Record) -> None:
        super()._keep(record | {key: value for key, value in self._layout().items() if value != LAYOUT[key]})

    def _layout(self) -> dict[str, Any]:
        return {"offset": self.target.offset, "byte_order": self.target.byte_order}

    def record(self) -> Record | None:
        """The sidecar's. A record of values that lie otherwise keeps how, and so differs from every other."""
        record = super().record()
        if record is None:
            return None
        layout = self._layout()
        differs = {key: record.get(key, LAYOUT[key]) for key in layout if record.get(key, LAYOUT[key]) != layout[key]}
        return {key: value for key, value in record.items() if key not in layout} | differs


def check_cache(path: Path) -> None:
    """Raises TargetError for a link into a cache whose files are named by their contents, as Hugging Face's are."""
    if path.is_symlink() and (file := path.resolve()).parent.name == BLOBS:
        raise TargetError(
            f"{path}: expected a file that may be changed, got a link to {file}, which a cache shares by its contents; "
            "copy the file, or name the cache's file itself"
        )


def raw_target(path: Any, shape: Shape, dtype: Any, offset: int) -> FileTarget:
    """The values of a file without a header, from an offset in bytes on."""
    target = FileTarget(path, shape, dtype, offset)
    target.ledger = RawLedger(target)
    return target
