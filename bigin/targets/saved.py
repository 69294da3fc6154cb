"""Files of torch.save: a state dict, or dictionaries of tensors, read without torch. Nothing that they name is run."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.regions import Shape, dense
from bigin.targets.boxes import REBUILT, Box, Boxed, Named, Reading, Stored, rebuilt, values_begin

ENDINGS = (".pt", ".pth", ".bin", ".ckpt")
ZIP = b"PK\x03\x04"  # what a file of torch.save begins with, since torch 1.6
STORAGES = {
    "Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64",
    "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool", "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
}  # fmt: skip


def is_saved(path: Path) -> bool:
    """Whether a path is that of a file of torch.save."""
    if path.suffix.lower() not in ENDINGS or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(ZIP)) == ZIP


def read_saved(path: Path) -> Stored:
    """Where the values of each tensor lie; raises InputError where that cannot be said."""
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            (root,) = {entry.partition("/")[0] for entry in names}
            held = Reading(io.BytesIO(archive.read(f"{root}/data.pkl"))).load()
            if f"{root}/byteorder" in names and archive.read(f"{root}/byteorder") != b"little":
                raise InputError(f"{path}: expected little-endian values, got big-endian ones")
            begins = {
                entry.filename.rpartition("/")[2]: values_begin(file, 0, entry)
                for entry in archive.infolist()
                if entry.filename.startswith(f"{root}/data/") and not entry.compress_type
            }
    except (zipfile.BadZipFile, pickle.UnpicklingError, EOFError, AttributeError, KeyError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: expected a file of torch.save with tensors, got another one: {said}") from None
    tensors, others = {}, []
    for name, told in leaves(held, ""):
        found = located(path, told, begins)
        if found is None:
            others.append(name)
        else:
            tensors[name] = found
    return Stored(tensors, tuple(others))


def leaves(held: Any, above: str) -> Iterator[tuple[str, Any]]:
    """What dictionaries hold, by names with dots between the parts."""
    if not isinstance(held, Mapping):
        yield above, held
        return
    for key, inner in held.items():
        yield from leaves(inner, f"{above}.{key}" if above else str(key))


def located(path: Path, told: Any, begins: Mapping[str, int]) -> Boxed | None:
    """A tensor, and where its values lie; None for what is none, or has a dtype that bigin has not."""
    if not isinstance(told, Named) or not any(part.name in REBUILT for part in chain_of(told)):
        return None
    storage, first, shape, strides, more = rebuilt(told)
    dtype = dtype_of(storage[1].name, more)
    if dtype is None or storage[2] not in begins:
        return None
    fortran = strides != dense(shape) and strides[::-1] == dense(shape[::-1])
    if not fortran and not contiguous(shape, strides):
        raise InputError(
            f"{path}: expected values one behind the other, got strides {strides} of shape {shape}; load it with torch "
            "and save it again, with contiguous tensors"
        )
    offset = begins[storage[2]] + first * dtype.itemsize
    boxes = (Box(path, (0,) * len(shape), shape, offset, fortran),) if math.prod(shape) else ()
    return Boxed(dtype, shape, boxes)


def chain_of(told: Any) -> Iterator[Named]:
    """A tensor, and what it wraps."""
    while isinstance(told, Named):
        yield told
        told = told.arguments[0] if told.arguments else None


def dtype_of(storage: str, more: tuple[Any, ...]) -> np.dtype[Any] | None:
    """The dtype of a tensor, from its kind of storage or, of newer dtypes, from what is told last."""
    told = [part.name for part in more if isinstance(part, type) and issubclass(part, Named)]
    try:
        return dtypes.parse_stored(told[-1] if told else STORAGES.get(storage.removesuffix("Storage"), storage))
    except InputError:
        return None


def contiguous(shape: Shape, strides: Shape) -> bool:
    """Whether values lie one behind the other; an axis of length 1 may have any stride."""
    wanted = dense(shape)
    return 0 in shape or all(size == 1 or a == b for size, a, b in zip(shape, strides, wanted, strict=True))
