"""Small files that a call writes besides its target, such as plans and manifests. They are checked before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bigin.core.errors import ExistsError, InputError, TargetError
from bigin.core.paths import parse_path

LARGEST = 256 << 20  # bytes of a document that is read to see what it is


def check_output(path: Any, what: str) -> Path:
    """The path of a file that can be written; raises InputError if it cannot, or if it is a folder or a device."""
    file = parse_path(path, f"a file for the {what}")
    folder = file.absolute().parent
    if not folder.is_dir():
        raise InputError(f"{file}: expected an existing folder {folder} for the {what}; create it first")
    if file.exists() and not file.is_file():
        raise InputError(f"{file}: expected the path of a file for the {what}, got a folder or a device")
    return file


def check_document(path: Any, what: str) -> Path:
    """The same for a document; raises ExistsError for a file that is not an earlier one, such as the target itself."""
    file = check_output(path, what)
    if file.is_file() and not is_document(file):
        raise ExistsError(f"{file}: expected a new file or an earlier {what}, got another file; name a new one")
    return file


def is_document(file: Path) -> bool:
    """Whether a file is a plan or a manifest of any version, or empty."""
    try:
        if file.stat().st_size > LARGEST:
            return False
        data = file.read_bytes()
    except OSError as error:
        raise TargetError(f"{file}: expected a file that can be read, got {error.strerror}") from None
    if not data:
        return True
    if not data.lstrip().startswith(b"{"):
        return False
    try:
        held = json.loads(data)
    except (ValueError, RecursionError):
        return False
    return isinstance(held, dict) and {"format", "stream"} <= held.keys()
