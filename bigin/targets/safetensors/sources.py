"""The tensors of a checkpoint as what others are copied from."""

from __future__ import annotations

from pathlib import Path

from bigin.core.errors import InputError
from bigin.core.source import Source
from bigin.targets.safetensors.folder import checked_headers
from bigin.targets.safetensors.tensor import stored_dtype


def sources_of(path: Path) -> dict[str, Source]:
    """Every tensor of a checkpoint by its name: where its bytes lie.

    Raises InputError where it is no checkpoint, or a tensor has a dtype that numpy has not.
    """
    sources = {}
    for file, header in checked_headers(path.absolute()).items():
        for name, entry in header.entries.items():
            place = header.start + entry.begin
            dtype = stored_dtype(file, name, entry)
            sources[name] = Source(str(file), name, place, entry.stored[1], dtype)
    if not sources:
        raise InputError(f"{path}: expected a checkpoint with tensors, got none")
    return sources
