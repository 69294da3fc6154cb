"""What is kept of the parts of a plan while processes on many machines do them: beside the target, one key each.

A part that is done has a marker of a few hundred bytes. What is prepared in parts (the triangle of orthogonal) lies
there too. All of it goes when the plan is finished.
"""

from __future__ import annotations

import os
import shutil
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from bigin.core.disk import read_small, sync_folder
from bigin.core.errors import NotFoundError

ENDING = ".bigin.parts"  # of the folder or the prefix, behind the target's own name


class PartLedger(ABC):
    """Small values by their keys, for many processes at once. A value appears whole or not at all."""

    def __init__(self, label: str) -> None:
        self.label = label

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """The value of a key; None where there is none."""

    @abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Sets a key's value; raises NotFoundError where the plan is no longer there."""

    @abstractmethod
    def begin(self) -> None:
        """Makes the folder, where the ledger is one."""

    @abstractmethod
    def keys(self, prefix: str) -> Iterator[str]:
        """The keys that begin with a prefix, which ends in a slash."""

    @abstractmethod
    def clear(self) -> None:
        """Removes everything."""


class FolderLedger(PartLedger):
    """In a folder. A key's folder is made with its first value, and the ledger's own never again once it is cleared."""

    def __init__(self, folder: Path) -> None:
        super().__init__(str(folder))
        self.folder = folder

    def get(self, key: str) -> bytes | None:
        try:
            return read_small(self.folder / key)
        except FileNotFoundError:
            return None

    def put(self, key: str, data: bytes) -> None:
        path = self.folder / key
        temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")  # of this attempt alone
        try:
            self._make_folders(path.parent)
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except FileNotFoundError:
            raise NotFoundError(f"{self.folder}: expected the folder of a plan, got nothing") from None
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)

    def _make_folders(self, folder: Path) -> None:
        missing = []
        while folder != self.folder and not folder.exists():
            missing.append(folder)
            folder = folder.parent
        for each in reversed(missing):
            each.mkdir(exist_ok=True)

    def begin(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        sync_folder(self.folder.parent)

    def keys(self, prefix: str) -> Iterator[str]:
        for folder, _, names in os.walk(self.folder / prefix):
            inside = Path(folder).relative_to(self.folder).as_posix()
            yield from (f"{inside}/{name}" for name in names if not name.endswith(".partial"))

    def clear(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # other plans are there
            self.folder.parent.rmdir()


def ledger_place(target: str, root: Path | None, fingerprint: str) -> str:
    """Where the ledger of a plan lies: beside the target's outermost file or folder, or under its URL."""
    if root is not None:
        return str(root.with_name(root.name + ENDING) / fingerprint)
    url = target.rstrip("/")
    inside = url.count("/") == 2  # a whole bucket: what lies beside it is another one
    return f"{url}/{ENDING}/{fingerprint}" if inside else f"{url}{ENDING}/{fingerprint}"
