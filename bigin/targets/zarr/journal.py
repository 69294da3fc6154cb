"""The journal of a zarr array or group: a file in its folder, or a key in a store that has no folders.

zarr's own stores take any key. Others may take none but those of zarr's format, as icechunk does; a journal that they
refuse is not kept, and an interrupted fill starts over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, MemoryStore, ObjectStore, StorePath, WrapperStore

from bigin.core.handlers import let_through
from bigin.targets.records import (
    JOURNAL,
    JournalEntry,
    pack_progress,
    read_journal,
    remove_journal,
    unpack_progress,
    write_journal,
)
from bigin.targets.zarr.private import get_bytes, set_bytes, wait

TAKES_ANY_KEY = (LocalStore, MemoryStore, FsspecStore, ObjectStore, WrapperStore)


def keep_journal(path: StorePath, folder: Path | None, progress: JournalEntry) -> None:
    """Replaces the progress, whole or not at all."""
    if folder is not None:
        write_journal(folder / JOURNAL, progress)
        return
    with _refusal(path.store):
        wait(set_bytes(path.store, _key(path), pack_progress(progress)))


def kept_journal(path: StorePath, folder: Path | None) -> JournalEntry | None:
    """The progress; None where there is none, or a damaged one."""
    if folder is not None:
        return read_journal(folder / JOURNAL)
    with _refusal(path.store):
        data = wait(get_bytes(path.store, _key(path)))
        return None if data is None else unpack_progress(data)
    return None


def forget_journal(path: StorePath, folder: Path | None) -> None:
    """Removes the progress."""
    if folder is not None:
        remove_journal(folder / JOURNAL)
    elif path.store.supports_deletes:
        with _refusal(path.store):
            wait(path.store.delete(_key(path)))


@contextmanager
def _refusal(store: Store) -> Iterator[None]:
    """Ignores the errors of stores other than zarr's own, which may not accept the journal's key."""
    try:
        yield
    except Exception as error:
        let_through(error)
        if isinstance(store, TAKES_ANY_KEY):
            raise


def _key(path: StorePath) -> str:
    return f"{path.path}/{JOURNAL}" if path.path else JOURNAL
