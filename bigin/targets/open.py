"""From what a user names to a target."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bigin.core.errors import InputError, NotFoundError
from bigin.core.paths import is_path
from bigin.core.regions import Shape
from bigin.targets.device import device_target
from bigin.targets.file_ledger import raw_target
from bigin.targets.memmap import memmap_target
from bigin.targets.memory import memory_target, refuse_cut
from bigin.targets.model import ModelTarget
from bigin.targets.npy import npy_target
from bigin.targets.objects.urls import is_cloud
from bigin.targets.paths import check_path, is_url, local_file, local_path, split_names
from bigin.targets.records import read_sidecar
from bigin.targets.safetensors.folder import SUFFIX, is_checkpoint, is_index, tensor_files
from bigin.targets.safetensors.tensor import tensor_target
from bigin.targets.saved import ENDINGS
from bigin.targets.target import Target

if TYPE_CHECKING:
    from bigin.targets.models import Model

Blocks = tuple[Shape | None, Shape | None]  # chunks, shards
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
    blocks: Blocks | None = None,
) -> Target:
    """The target that a path, a URL, an array in memory or on a CUDA device, a zarr array or a zarr store names.

    A path that ends in .npy or holds a .npy file is one; CHECKPOINT#NAME is a tensor of a safetensors file, an index or
    a folder of some; with `raw` it is a file of values from `offset` bytes on; everything else is zarr. With `models`,
    a whole checkpoint or group is one target, too. What is missing is made by its ledger's `begin` if a shape is given,
    in the dtype and its byte order (float32 by default), and in these `blocks`. A file that ends too early is refused
    unless `damaged`.

    Raises InputError where the target contradicts shape or dtype, or is none.
    """
    if offset and not raw:
        raise InputError("expected an offset only for a raw file; add --raw (raw=True)")
    if is_path(target):
        check_path(target)
        if raw:
            opened = _raw(target, shape, dtype, offset)
        elif (named := _named(target, shape, dtype, damaged=damaged, models=models)) is not None:
            opened = named
        else:
            opened = _zarr(target, shape, dtype, blocks)
    else:
        refuse_cut(target)
        lent = memmap_target(target) if isinstance(target, np.memmap) else None
        opened = lent or device_target(target) or memory_target(target) or _zarr(target, shape, dtype, blocks)
    _check(opened, shape, dtype)
    if blocks is not None:
        _check_blocks(opened, blocks)
    return opened


def _check_blocks(target: Target, blocks: Blocks) -> None:
    """Raises InputError where a target has other chunks or shards than were asked for, or has none."""
    held = target.blocks
    if held is None:
        raise InputError(f"{target.label}: expected no chunks or shards, as it is one piece; leave them out")
    for what, wanted, has in zip(("chunks", "shards"), blocks, held, strict=True):
        if wanted is not None and wanted != has:
            raise InputError(f"{target.label}: expected {what} of {wanted}, got an existing array with {has or 'none'}")


def _raw(target: Any, shape: Shape | None, dtype: np.dtype[Any] | None, offset: int) -> Target:
    """A file of values without a header."""
    if shape is None or dtype is None:
        raise InputError("expected a shape and a dtype for a raw file, which names neither; give both")
    if offset < 0:
        raise InputError(f"expected an offset that is not negative, got {offset}")
    if is_cloud(target):
        from bigin.targets.objects.open import open_raw

        return open_raw(os.fsdecode(target), shape, dtype, offset)
    return raw_target(local_file(target), shape, dtype, offset)


def _named(
    target: Any, shape: Shape | None, dtype: np.dtype[Any] | None, *, damaged: bool, models: bool
) -> Target | None:
    """What a path or a URL names; None for a zarr array."""
    if models:
        from bigin.targets.models import open_model

        if (model := open_model(target)) is not None:
            return model
    if is_url(target):
        from bigin.targets.objects.open import names_objects, open_array

        if names_objects(os.fsdecode(target)):
            return open_array(os.fsdecode(target), shape, dtype, damaged=damaged)
    if (member := distcp_tensor(target)) is not None:
        return member
    if (tensor := tensor_path(target)) is not None:
        return tensor_target(*tensor)
    if not is_npy(target):
        return None
    path = local_file(target)
    if path.exists():
        return npy_target(path, shape, dtype, damaged=damaged)
    if shape is None:
        raise NotFoundError(f"{path}: expected a .npy file, got nothing; give --shape (shape=) to make one")
    return npy_target(path, shape, dtype or np.dtype(np.float32))


def _zarr(target: Any, shape: Shape | None, dtype: np.dtype[Any] | None, blocks: Blocks | None) -> Target:
    """A zarr array."""
    store = local_or_url(target)
    from bigin.targets.zarr.make import zarr_target  # zarr takes a third of a second to import

    return zarr_target(store, shape, dtype or np.dtype(np.float32), blocks)


def _check(target: Target, shape: Shape | None, dtype: np.dtype[Any] | None) -> None:
    """Raises InputError where a target is not what was asked for."""
    if shape is not None and shape != target.shape:
        raise InputError(f"{target.label}: expected shape {shape}, got an existing target of shape {target.shape}")
    has = target.dtype if target.byte_order == "=" or dtype is None or dtype.isnative else swapped(target.dtype)
    if dtype is not None and dtype != has:
        raise InputError(f"{target.label}: expected dtype {dtype}, got an existing target of dtype {has}")
    if math.prod(size or 1 for size in target.shape) >= 1 << 63:
        raise InputError(f"{target.label}: expected fewer than 2^63 elements, got shape {target.shape}")


def swapped(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in the other byte order."""
    return dtype.newbyteorder("S")


def tensor_path(target: Any) -> tuple[Path, str] | None:
    """The checkpoint and the name of CHECKPOINT#NAME; None for anything else.

    Raises InputError for a checkpoint without a name, NotFoundError for one that is missing.
    """
    if local_path(target) is None:
        return None
    splits = list(split_names(target))
    held = [(path, name) for path, name in splits if path.exists() and is_checkpoint(path)]
    if not held:
        missing = [path for path, _ in splits if path.name.endswith(SUFFIX) or is_index(path)]
        if not missing or (splits[0][1] is None and splits[0][0].exists()):
            return None
        raise NotFoundError(f"{missing[0]}: expected a safetensors checkpoint, got nothing; `bigin init` makes one")
    path, name = next((pair for pair in held if pair[1] is not None and pair[1] in tensor_files(pair[0])), held[0])
    if name is None:
        names = tensor_files(path)
        inside = f", such as {path}#{next(iter(names))}" if names else ""
        raise InputError(f"{path}: expected one tensor, got a checkpoint; name a tensor in it{inside}")
    return path, name


def open_compared(target: Any) -> tuple[Model, ModelTarget]:
    """A checkpoint, a group or one array that is there, with all of its tensors; raises NotFoundError for else."""
    from bigin.targets import models

    try:
        return models.open_whole(target)
    except NotFoundError as error:
        if not is_path(target):
            raise
        try:
            array = open_target(target, damaged=True)
        except InputError as other:
            if os.fsdecode(target).endswith(".npy") and not isinstance(other, NotFoundError):
                raise
            if Path(os.fsdecode(target)).suffix.lower() in ENDINGS:
                raise InputError(
                    f"{target}: expected a file of torch.save, got one in an old or another form; load it with torch "
                    "and save its state_dict() again"
                ) from error
            raise NotFoundError(
                f"{target}: expected a checkpoint of safetensors, a zarr group or array, or a .npy file, got none"
            ) from error
    if not array.exists():
        raise NotFoundError(f"{target}: expected a checkpoint, a zarr group or an array, got nothing")
    name = array.name or "values"
    whole = ModelTarget(array.label, {name: array})
    whole.remote, whole.ledger = array.remote, array.ledger
    return models.Model(array.label, {"": {name: (array.dtype.name, array.shape)}}), whole


def distcp_tensor(target: Any) -> Target | None:
    """The tensor FOLDER#NAME of a checkpoint of torch.distributed; None for anything else.

    Raises InputError where no tensor in it is named.
    """
    if local_path(target) is None:
        return None
    from bigin.targets.distcp import existing_distcp, is_distcp

    for path, name in split_names(target):
        if is_distcp(path):
            members = existing_distcp(path).members
            if name in members:
                return members[name]
            got = "a checkpoint" if name is None else repr(name)
            raise InputError(f"{path}: expected one tensor, got {got}; name one, such as {path}#{next(iter(members))}")
    return None


def is_npy(target: Any) -> bool:
    """Whether a path is that of a .npy file."""
    path = local_path(target)
    if path is None:
        return False
    if path.is_file():
        with path.open("rb") as file:
            return path.suffix == ".npy" or file.read(len(MAGIC)) == MAGIC
    return path.suffix == ".npy" and not path.is_dir()


def is_recorded_raw(target: Any) -> bool:
    """Whether a path is that of a file without a header that a fill has left a record of."""
    if is_cloud(target):
        from bigin.targets.objects.open import raw_record

        held = raw_record(os.fsdecode(target))
        return held is not None and "shape" in held
    path = local_path(target)
    if path is None or not path.is_file() or path.suffix in (".npy", ".zip") or is_checkpoint(path):
        return False
    record = read_sidecar(path)
    return record is not None and "shape" in record and not is_npy(target)


def local_or_url(target: Any) -> Any:
    """What zarr opens: a Path for what is local; a URL, a store or an array as it is."""
    path = local_path(target)
    if path is not None:
        if path.is_file() and path.suffix != ".zip":
            raise InputError(
                f"{path}: expected a .npy file or a zarr array, got another file; for values without a header give "
                "--raw (raw=True) with --shape (shape=) and --dtype (dtype=)"
            )
        return path
    if is_path(target):
        return os.fsdecode(target)
    from bigin.targets.zarr.open import is_array_or_store

    if not is_array_or_store(target):
        raise InputError(
            "expected a path, a URL, an array or tensor in memory, a zarr array or a zarr store, got "
            f"{type(target).__name__}"
        )
    return target
