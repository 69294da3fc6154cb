"""Files of torch.save that hold a state dict, or dictionaries of tensors, read without torch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.targets.boxes import Box, Boxed, Stored
from bigin.targets.pickled import ERRORS, Archive, Named, PickledTensor

ENDINGS = (".pt", ".pth", ".bin", ".ckpt")
ZIP = b"PK\x03\x04"  # the first bytes of a file of torch.save since torch 1.6
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
    """Where the values of each tensor lie; raises InputError for a file that does not say it."""
    tensors, others = {}, []
    try:
        with path.open("rb") as file:
            archive = Archive(file)
            if not archive.is_little_endian:
                raise InputError(f"{path}: expected little-endian values, got big-endian ones")
            for name, held in leaves(archive.read(), ""):
                tensor = PickledTensor.of(held)
                boxed = None if tensor is None else located(path, tensor, archive)
                if boxed is None:
                    others.append(name)
                else:
                    tensors[name] = boxed
    except InputError:
        raise
    except ERRORS as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: expected a file of torch.save with tensors, got another one: {said}") from None
    return Stored(tensors, tuple(others))


def leaves(held: Any, above: str) -> Iterator[tuple[str, Any]]:
    """The values in dictionaries at any depth, by their keys with dots between them."""
    if not isinstance(held, Mapping):
        yield above, held
        return
    for key, inner in held.items():
        yield from leaves(inner, f"{above}.{key}" if above else str(key))


def located(path: Path, tensor: PickledTensor, archive: Archive) -> Boxed | None:
    """Where the values of a tensor lie; None if bigin does not have its dtype, or its storage is not in the file."""
    dtype, begin = dtype_of(tensor), archive.offset_of(tensor.storage)
    if dtype is None or begin is None:
        return None
    if not tensor.is_contiguous:
        raise InputError(
            f"{path}: expected values one behind the other, got strides {tensor.strides} of shape {tensor.shape}; "
            "load it with torch and save it again, with contiguous tensors"
        )
    box = Box(
        path, (0,) * len(tensor.shape), tensor.shape, begin + tensor.first * dtype.itemsize, fortran=tensor.is_fortran
    )
    return Boxed(dtype, tensor.shape, (box,) if math.prod(tensor.shape) else ())


def dtype_of(tensor: PickledTensor) -> np.dtype[Any] | None:
    """The dtype: that of the kind of storage, or for newer dtypes the one that is told last."""
    told = [part.name for part in tensor.told if isinstance(part, type) and issubclass(part, Named)]
    try:
        kind = tensor.kind.removesuffix("Storage")
        return dtypes.parse_stored(told[-1] if told else STORAGES.get(kind, tensor.kind))
    except InputError:
        return None
