"""What is kept beside the data: the provenance record of a target, and the progress of an incomplete fill.

The record is one JSON object, in a file beside a file (its sidecar) or in a zarr array's attribute "bigin". The
progress (the journal) is one too, in a file or under a key of its own, as it changes every second: with a checksum,
so that a damaged one is no progress.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

from bigin.core.disk import partial, read_small, replace_file, sync_folder
from bigin.core.record import Record as Record
from bigin.core.record import text_of

JournalEntry = dict[str, Any]
KEY = "bigin"  # the attribute of a zarr array that holds its record
READABLE = 1000  # tensors up to which a record is indented
JOURNAL = ".bigin.journal"  # the key beside a zarr array's metadata that holds its progress


def sidecar(path: Path) -> Path:
    """The file that holds the record of a file; beside the file itself, where the path is a link to it."""
    return _beside(path, ".bigin.json")


def journal(path: Path) -> Path:
    """The file that holds the progress of a file."""
    return _beside(path, ".bigin.journal")


def _beside(path: Path, ending: str) -> Path:
    path = path.resolve() if path.is_symlink() else path
    return path.with_name(path.name + ending)


def read_sidecar(path: Path) -> Record | None:
    """The record of a file; None where there is none or it cannot be read as one."""
    try:
        return parse_record(read_small(sidecar(path)))
    except OSError:
        return None


def parse_record(data: bytes) -> Record | None:
    """A record from its text; None where it is none."""
    try:
        record = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def write_sidecar(path: Path, record: Record) -> None:
    """Replaces the record of a file, whole or not at all."""
    readable = len(record.get("tensors", ())) <= READABLE  # Python's encoder is slow where it indents
    text = json.dumps(record, indent=2) if readable else text_of(record)
    replace_file(sidecar(path), text.encode() + b"\n")


def pack_progress(progress: JournalEntry) -> bytes:
    """The journal's text: a line of JSON, and its CRC-32."""
    line = json.dumps(progress, sort_keys=True)
    return f"{line}\n{zlib.crc32(line.encode()):08x}\n".encode()


def unpack_progress(data: bytes) -> JournalEntry | None:
    """The progress in a journal's text; None where it is damaged."""
    line, _, check = data.partition(b"\n")
    if check.strip() != f"{zlib.crc32(line):08x}".encode():
        return None
    return parse_record(line)


def read_journal(path: Path) -> JournalEntry | None:
    """The progress that is kept in a file."""
    try:
        return unpack_progress(read_small(path))
    except OSError:
        return None


def write_journal(path: Path, progress: JournalEntry) -> None:
    """Replaces the progress in a file, whole or not at all."""
    replace_file(path, pack_progress(progress))


def remove_journal(path: Path) -> None:
    """Removes the progress in a file, also from the disk."""
    partial(path).unlink(missing_ok=True)
    if path.exists():
        path.unlink()
        sync_folder(path.parent)
