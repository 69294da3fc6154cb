"""From what a user names to a target."""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np

from bigin.core.errors import InputError
from bigin.core.regions import Shape
from bigin.targets.device import device_target
from bigin.targets.file_ledger import raw_target
from bigin.targets.memmap import memmap_target
from bigin.targets.memory import memory_target
from bigin.targets.models import open_model
from bigin.targets.npy import npy_target
from bigin.targets.safetensors.folder import SUFFIX, is_checkpoint, tensor_files
from bigin.targets.safetensors.tensor import tensor_target
from bigin.targets.target import Target

MAGIC = b"\x93NUMPY"


def open_target(
    target: Any,
    *,
    shape: Shape | None = None,
    dtype: np.dtype[Any] | None = None,
    raw: bool = False,
    offset: int = 0,
    damaged: bool = False,
    models: bool = False,
) -> Target:
    """The target that a path, a URL, an array in memory or on a CUDA device, a zarr array or a zarr store names.

    A file that ends too early is refused unless `damaged` is set.

    A path that ends in .npy or holds a .npy file is one; CHECKPOINT#NAME is a tensor of a safetensors file, an index or
    a folder of some; with `raw` it is a file of values from `offset` bytes on; everything else is zarr. With `models`,
    a whole checkpoint or group is one target, too. What is missing is made by its ledger's begin if it is given a shape
    (float32 unless a dtype is given, too). Raises InputError where the target contradicts shape or dtype, or is none.
    """
    if offset and not raw:
        raise InputError("expected an offset only for a raw file; add --raw (raw=True)")
    if isinstance(target, str | os.PathLike):
        check_path(target)
    made = dtype or np.dtype(np.float32)
    lent: Target | None = memmap_target(target) if isinstance(target, np.memmap) else None
    if lent is None and not isinstance(target, str | os.PathLike):
        lent = device_target(target) or memory_target(target)
    if lent is not None:
        found = lent
    elif raw:
        if shape is None or dtype is None:
            raise InputError("expected a shape and a dtype for a raw file, which names neither; give both")
        if offset < 0:
            raise InputError(f"expected an offset that is not negative, got {offset}")
        found = raw_target(local_file(target), shape, dtype, offset)
    elif models and (model := open_model(target)) is not None:
        found = model
    elif (place := tensor_place(target)) is not None:
        found = tensor_target(*place)
    elif is_npy(target):
        path = local_file(target)
        if shape is None and not path.exists():
            raise InputError(f"{path}: expected a .npy file, found nothing; give --shape (shape=) to make one")
        found = npy_target(path, shape, dtype if path.exists() else made, damaged=damaged)
    else:
        from bigin.targets.zarr.make import zarr_target  # zarr takes a third of a second to import

        found = zarr_target(local_or_url(target), shape, made)
    for what, given, has in (("shape", shape, found.shape), ("dtype", dtype, found.dtype)):
        if given is not None and given != has:
            raise InputError(f"{found.label}: expected {what} {given}, got an existing target of {what} {has}")
    if math.prod(size or 1 for size in found.shape) >= 1 << 63:
        raise InputError(f"{found.label}: expected fewer than 2^63 elements, got shape {found.shape}")
    return found


def check_path(target: str | os.PathLike[str]) -> None:
    """Refuses what names nothing."""
    text = os.fspath(target)
    if not text or "\0" in text:
        raise InputError(f"expected the path or the URL of a target, got {text!r}")
    path = Path(text)
    if "://" in text:
        return
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if path.is_symlink():
            raise InputError(
                f"{path}: expected a target, got a link to nothing; remove it or make what it names"
            ) from None
        return
    except OSError as error:
        raise InputError(f"{text[:200]}: expected a path, got one that leads nowhere: {error.strerror}") from None
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a pipe, which a reader waits for, or a device
        raise InputError(f"{path}: expected a file or a folder, got a pipe, a socket or a device")


def tensor_place(target: Any) -> tuple[Path, str] | None:
    """The checkpoint and the name of CHECKPOINT#NAME; InputError for a checkpoint without a name, else None."""
    if not isinstance(target, str | os.PathLike) or "://" in str(target):
        return None
    text, sign, name = str(target).partition("#")
    path = Path(text)
    if not path.name.endswith((SUFFIX, f"{SUFFIX}.index.json")) and not (path.is_dir() and is_checkpoint(path)):
        return None
    if not path.exists():
        raise InputError(f"{path}: expected a safetensors checkpoint, found nothing; bigin init makes one")
    if not sign:
        names = tensor_files(path)
        inside = f", such as {path}#{next(iter(names))}" if names else ""
        raise InputError(f"{path}: expected one tensor, got a checkpoint; name a tensor in it{inside}")
    return path, name


def is_npy(target: Any) -> bool:
    """Whether a path is that of a .npy file."""
    if not isinstance(target, str | os.PathLike) or "://" in str(target):
        return False
    path = Path(target)
    if path.is_file():
        with path.open("rb") as file:
            return path.suffix == ".npy" or file.read(len(MAGIC)) == MAGIC
    return path.suffix == ".npy" and not path.is_dir()


def local_file(target: Any) -> Path:
    """The path of a file, whose folder exists."""
    if not isinstance(target, str | os.PathLike):
        raise InputError(f"expected the path of a file, got {type(target).__name__}")
    path = Path(target)
    if path.is_dir():
        raise InputError(f"{path}: expected a file, got a folder")
    if not path.parent.is_dir():
        raise InputError(f"{path}: expected an existing folder {path.parent}; make it first")
    return path


def local_or_url(target: Any) -> Any:
    """What zarr opens: a Path for what is local; a URL, a store or an array as it is."""
    text = str(target)
    if isinstance(target, str | os.PathLike):
        if text.startswith("file://"):
            return Path(text.removeprefix("file://"))
        if "://" in text:
            return text
        path = Path(target)
        if path.is_file() and path.suffix != ".zip":
            raise InputError(
                f"{path}: expected a .npy file or a zarr array, got another file; for values without a header give "
                "--raw with --shape and --dtype"
            )
        return text if path.suffix == ".zip" else path
    from bigin.targets.zarr.open import is_array_or_store

    if not is_array_or_store(target):
        raise InputError(
            "expected a path, a URL, an array or tensor in memory, a zarr array or a zarr store, got "
            f"{type(target).__name__}"
        )
    return target
