"""Arrays on disk that are mapped into memory as they are: opened at once, read when used, whatever their size."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError, NotFoundError
from bigin.core.regions import Shape
from bigin.targets.mapping import MODES, MappedLayout, mapped
from bigin.targets.paths import local_path
from bigin.targets.records import read_sidecar
from bigin.targets.target import Array


def map_array(
    array: Any,
    mode: str = "r",
    *,
    raw: bool = False,
    shape: Shape | None = None,
    dtype: np.dtype[Any] | None = None,
    offset: int = 0,
) -> Array:
    """The array of a .npy file, a raw file or a zarr array of whole rows, mapped into memory.

    With mode "r" the files never change: what is written into the array stays in this process. With "r+" it goes to
    the files. Raises InputError where the files do not hold the values as they are.
    """
    path = path_of(array)
    if mode not in MODES:
        raise InputError(f"expected mode r or r+, got {mode!r}")
    if not path.exists():
        raise NotFoundError(f"{path}: expected a file, got nothing")
    if raw:
        if shape is None or dtype is None:
            raise InputError("expected a shape and a dtype for a raw file, which names neither; give both")
        if offset < 0:
            raise InputError(f"expected an offset that is not negative, got {offset}")
        layout = MappedLayout([path], offset, shape, shape, dtype)
    elif offset:
        raise InputError("expected an offset only for a raw file; add raw=True")
    else:
        layout = folder_layout(path) if path.is_dir() else npy_layout(path, dtype)
    for what, given, has in (("shape", shape, layout.shape), ("dtype", dtype, layout.stored)):
        if given is not None and given != has:
            raise InputError(f"{path}: expected {what} {given}, got {has}")
    return mapped(layout, mode)


def path_of(array: Any) -> Path:
    """The path of a file or of a zarr array."""
    path = local_path(array)
    if path is not None:
        return path
    zarr = sys.modules.get("zarr")  # whoever has an array has imported it
    if zarr is not None and isinstance(array, zarr.Array) and isinstance(array.store, zarr.storage.LocalStore):
        return Path(array.store.root, array.path)
    what = array if isinstance(array, str) else type(array).__name__
    raise InputError(f"expected the path of a file or of a zarr array on this machine, got {what}")


def folder_layout(path: Path) -> MappedLayout:
    """What the metadata of a zarr array says."""
    from bigin.targets.zarr.mapped import zarr_layout  # zarr takes a third of a second to import

    return zarr_layout(path)


def npy_layout(path: Path, dtype: np.dtype[Any] | None) -> MappedLayout:
    """What a .npy file's header says; a dtype for which .npy has no name is the one given or the record's."""
    try:
        header = np.load(path, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise InputError(
            f"{path}: expected a .npy file or a zarr array, got one that cannot be read: {error}"
        ) from None
    if not isinstance(header, np.memmap):
        raise InputError(f"{path}: expected a .npy file, got an archive of several; name a file of one array")
    stored = header.dtype
    if stored.kind == "V":
        name = dtype.name if dtype is not None else (read_sidecar(path) or {}).get("dtype")
        if name not in dtypes.ML_DTYPES or dtypes.DTYPES[name].itemsize != stored.itemsize:
            raise InputError(f"{path}: expected a dtype, as a .npy header has no name for {stored}; give dtype=")
        stored = dtypes.DTYPES[name]
    fortran = header.flags.f_contiguous and not header.flags.c_contiguous
    return MappedLayout([path], header.offset, header.shape, header.shape, stored, fortran=fortran)
