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


def keep_journal(place: StorePath, folder: Path | None, progress: Progress) -> None:
    """Replaces the progress, whole or not at all."""
    if folder is not None:
        write_journal(folder / JOURNAL, progress)
    else:
        wait(set_bytes(place.store, _key(place), pack_progress(progress)))


def kept_journal(place: StorePath, folder: Path | None) -> Progress | None:
    """The progress; None where there is none, or a damaged one."""
    if folder is not None:
        return read_journal(folder / JOURNAL)
    data = wait(get_bytes(place.store, _key(place)))
    return None if data is None else unpack_progress(data)


def forget_journal(place: StorePath, folder: Path | None) -> None:
    """Removes the progress."""
    if folder is not None:
        remove_journal(folder / JOURNAL)
    elif place.store.supports_deletes:
        wait(place.store.delete(_key(place)))


def _key(place: StorePath) -> str:
    return f"{place.path}/{JOURNAL}" if place.path else JOURNAL
