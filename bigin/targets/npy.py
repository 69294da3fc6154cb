"""The header of a .npy file, which says where in it the array lies."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import ExistsError, InputError
from bigin.core.handlers import let_through
from bigin.core.regions import Shape
from bigin.targets.file_ledger import FileLedger
from bigin.targets.files import FileTarget
from bigin.targets.records import read_sidecar


def npy_target(path: Path, shape: Shape | None, dtype: np.dtype[Any] | None, *, damaged: bool = False) -> FileTarget:
    """The array of a .npy file, or one that is still to be made with this shape and dtype (both given).

    A file that ends too early is taken if the record of a fill says so, or if a `damaged` one is of use.
    """
    if not path.exists():
        assert shape is not None
        assert dtype is not None
        header = npy_header(shape, dtype)
        return with_ledger(FileTarget(path, shape, dtype, len(header), header=header))
    with path.open("rb") as file:
        try:
            major = np.lib.format.read_magic(file)[0]
            read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
            shape_there, fortran, stored = read(file)
        except Exception as error:  # whatever numpy's parser makes of it
            let_through(error)
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{path}: expected a .npy file, got one whose header cannot be read: {reason}") from None
        offset = file.tell()
    if any(size < 0 for size in shape_there):
        raise InputError(f"{path}: expected a .npy file, got one whose header says shape {shape_there}")
    stored = _opaque(path, stored, dtype)
    target = FileTarget(path, shape_there, stored, offset, fortran=fortran)
    size, complete = path.stat().st_size, (read_sidecar(path) or {}).get("complete")
    if size < offset + target.nbytes and not damaged and complete is not False:
        remedy = "; `bigin verify --repair` repairs it" if complete is True else ""
        raise InputError(
            f"{path}: expected {offset + target.nbytes} bytes for shape {shape_there} and {stored.name}, got {size}; "
            f"the file is truncated{remedy}"
        )
    return with_ledger(target)


def with_ledger(target: FileTarget) -> FileTarget:
    """A file's target, with what is remembered of it."""
    target.ledger = FileLedger(target)
    return target


def create_npy(path: Path, shape: Shape, dtype: np.dtype[Any]) -> np.memmap[Any, Any]:
    """Makes a new .npy file, and maps it into memory to be written."""
    if path.exists():
        raise ExistsError(f"{path}: expected nothing there, got a file; choose another path or remove it")
    target = npy_target(path, shape, dtype)
    target.make().release()
    target.close()
    return np.memmap(path, dtype, "r+", target.offset, shape)


def _opaque(path: Path, stored: np.dtype[Any], dtype: np.dtype[Any] | None) -> np.dtype[Any]:
    """The dtype of a file whose header can only say how wide it is: .npy has no names for ml_dtypes' types."""
    if stored.kind != "V" or stored.names or stored.subdtype:
        return stored
    if dtype is None:
        record = read_sidecar(path) or {}
        if record.get("dtype") not in dtypes.ML_DTYPES:
            raise InputError(f"{path}: expected a dtype, as .npy has no name for {stored}; give --dtype (dtype=)")
        dtype = dtypes.parse_dtype(record["dtype"])
    return dtype if dtype.itemsize == stored.itemsize else stored


def npy_header(shape: Shape, dtype: np.dtype[Any]) -> bytes:
    """The header that numpy.save writes, which numpy reads; ml_dtypes' types become opaque there (|V2, |V1)."""
    descr = f"|V{dtype.itemsize}" if dtype.name in dtypes.ML_DTYPES else np.lib.format.dtype_to_descr(dtype)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    return header.getvalue()
