"""JSON documents that lie beside weights: configurations and indexes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from bigin.core.errors import InputError

T = TypeVar("T")


def read_document(path: Path, what: str, largest: int, parse: Callable[[bytes, str], T]) -> T:
    """What a file of at most so many bytes says, by the function that parses its text; raises InputError."""
    try:
        size = path.stat().st_size
        if size > largest:
            raise InputError(f"{path}: expected {what} of at most {largest} bytes, got one of {size}")
        return parse(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: expected {what} that can be read: {error.strerror}") from None


def parse_document(text: bytes, what: str, label: str) -> dict[str, Any]:
    """The JSON object in a text; raises InputError where there is none."""
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        raise InputError(f"{label}: expected {what} in JSON, got something else") from None
    if not isinstance(said, dict):
        raise InputError(f"{label}: expected {what}, a JSON object, got {type(said).__name__}")
    return said
