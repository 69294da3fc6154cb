"""The sources of copies: tensors of a checkpoint, a zarr group or array, or .npy files, local or in a store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bigin.core.errors import InputError, NotFoundError
from bigin.core.names import dotted, file_name
from bigin.core.source import Source
from bigin.targets.npy import npy_target
from bigin.targets.objects.open import NPY, find_checkpoint, open_array
from bigin.targets.objects.sources import sources_at
from bigin.targets.paths import is_url, local_path
from bigin.targets.safetensors.folder import is_checkpoint
from bigin.targets.safetensors.sources import sources_of

EXPECTED = "expected a checkpoint of safetensors, a zarr group or array, or .npy files to copy from"


def sources_in(checkpoint: Any) -> tuple[str, dict[str, Source]]:
    """Where the tensors lie that are copied from, as an absolute path or a URL, and the tensors by their names.

    Raises InputError where there are none.
    """
    path = local_path(checkpoint)
    if path is None and not is_url(checkpoint):
        raise InputError(f"{checkpoint}: {EXPECTED}, got something else")
    place = os.fsdecode(checkpoint).rstrip("/") if path is None else str(path.absolute())
    if path is not None and not path.exists():
        raise NotFoundError(f"{path}: {EXPECTED}, got nothing")
    found = _at_url(place) if path is None else _at_path(path.absolute())
    if not found:
        raise NotFoundError(f"{checkpoint}: {EXPECTED}, got none")
    return place, found


def _at_path(path: Path) -> dict[str, Source]:
    if is_checkpoint(path):
        return sources_of(path)
    if path.is_file() and path.suffix == NPY:
        return _npy(path)
    files = sorted(path.glob(f"*{NPY}")) if path.is_dir() else []
    if files:
        return {name: source for file in files for name, source in _npy(file).items()}
    from bigin.targets.zarr.sources import array_sources  # zarr takes a third of a second to import

    return array_sources(str(path)) if path.is_dir() or path.suffix == ".zip" else {}


def _at_url(url: str) -> dict[str, Source]:
    if (folder := find_checkpoint(url)) is not None:
        return sources_at(folder)
    if url.endswith(NPY):
        target = open_array(url, None, None)
        if target is None:
            return {}
        tensor = target.tensor
        return _of_file(url, tensor.begin, target.shape, target.dtype, native=tensor.dtype.isnative)
    from bigin.targets.zarr.sources import array_sources

    return array_sources(url)


def _npy(path: Path) -> dict[str, Source]:
    target = npy_target(path, None, None)
    if target.fortran:
        raise InputError(f"{path}: expected a .npy file in C order to copy from, got one in Fortran order")
    return _of_file(str(path), target.offset, target.shape, target.dtype, native=target.byte_order == "=")


def _of_file(file: str, offset: int, shape: Any, dtype: Any, *, native: bool) -> dict[str, Source]:
    if not native:
        raise InputError(f"{file}: expected little-endian values to copy from, got big-endian ones")
    name = dotted(file_name(file))
    return {name: Source(file, name, offset, shape, dtype)}
