"""The record: what a target was filled with, kept beside the data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Record = dict[str, Any]
KEY = "bigin"  # the attribute of a zarr array that holds its record


def sidecar(path: Path) -> Path:
    """The file that holds the record of a file."""
    return path.with_name(path.name + ".bigin.json")


def read_sidecar(path: Path) -> Record | None:
    """The record of a file; None where there is none or it cannot be read as one."""
    try:
        record = json.loads(sidecar(path).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def write_sidecar(path: Path, record: Record) -> None:
    """Replaces the record of a file, whole or not at all."""
    final = sidecar(path)
    temporary = final.with_name(final.name + ".partial")
    with temporary.open("w") as file:
        json.dump(record, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(final)
