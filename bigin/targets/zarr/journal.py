"""The journal of a zarr array or group: a file in its folder, or a key in a store that has no folders."""

from __future__ import annotations

from pathlib import Path

from zarr.storage import StorePath

from bigin.targets.records import (
    JOURNAL,
    Progress,
    pack_progress,
    read_journal,
    remove_journal,
    unpack_progress,
    write_journal,
)
from bigin.targets.zarr.private import get_bytes, set_bytes, wait


def keep_journal(path: StorePath, folder: Path | None, progress: Progress) -> None:
    """Replaces the progress, whole or not at all."""
    if folder is not None:
        write_journal(folder / JOURNAL, progress)
    else:
        wait(set_bytes(path.store, _key(path), pack_progress(progress)))


def kept_journal(path: StorePath, folder: Path | None) -> Progress | None:
    """The progress; None where there is none, or a damaged one."""
    if folder is not None:
        return read_journal(folder / JOURNAL)
    data = wait(get_bytes(path.store, _key(path)))
    return None if data is None else unpack_progress(data)


def forget_journal(path: StorePath, folder: Path | None) -> None:
    """Removes the progress."""
    if folder is not None:
        remove_journal(folder / JOURNAL)
    elif path.store.supports_deletes:
        wait(path.store.delete(_key(path)))


def _key(path: StorePath) -> str:
    return f"{path.path}/{JOURNAL}" if path.path else JOURNAL
