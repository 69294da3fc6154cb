"""The tensors of a checkpoint or a group, without reading any of them, and the files that new ones go to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bigin.core import dtypes
from bigin.core.errors import InputError, NotFoundError
from bigin.core.regions import Shape
from bigin.core.text import counted
from bigin.targets.model import ModelTarget
from bigin.targets.records import KEY
from bigin.targets.safetensors.checkpoint import Plan, existing_checkpoint
from bigin.targets.safetensors.folder import SINGLE, SUFFIX, checkpoint_files, is_checkpoint, tensor_files
from bigin.targets.safetensors.header import read_header

SHARD = 5 << 30  # bytes in a file of a new checkpoint that is not made like another one

Tensors = Mapping[str, tuple[str, Shape]]  # name -> dtype, shape


@dataclass(frozen=True)
class Model:
    """The tensors of a model, by the files in which they lie; a zarr group has none, and all lie under ""."""

    label: str
    files: Mapping[str, Tensors]
    group: Any = None  # the zarr.Group
    arrays: Mapping[str, Any] = field(default_factory=dict)  # its zarr arrays

    @property
    def tensors(self) -> dict[str, tuple[str, Shape]]:
        """All of them."""
        return {name: tensor for tensors in self.files.values() for name, tensor in tensors.items()}


def read_model(model: Any, *, in_place: bool = False) -> Model:
    """Names, shapes and dtypes of a safetensors file, a checkpoint's folder or index, or a zarr group."""
    path = Path(model) if isinstance(model, str | os.PathLike) and "://" not in str(model) else None
    if path is not None and is_checkpoint(path):
        tensor_files(path)  # an index and its files must agree
        files = {}
        for file in checkpoint_files(path):
            entries = read_header(file).entries
            files[file.name] = {name: (entry.dtype or entry.code, entry.shape) for name, entry in entries.items()}
        return Model(str(path), files)
    from bigin.targets.zarr.groups import group_arrays, open_group

    group = open_group(path or model, str(model), "r+" if in_place else "r")
    if group is None:
        raise NotFoundError(f"{model}: expected a safetensors checkpoint or a zarr group, got neither")
    arrays = group_arrays(group)
    tensors = {name: (_name_of(array.dtype), array.shape) for name, array in arrays.items()}
    return Model(str(model), {"": tensors}, group, arrays)


def _name_of(dtype: Any) -> str:
    try:
        return dtypes.parse_dtype(dtype).name
    except InputError:
        return str(dtype)  # for a recipe to skip


def open_model(model: Any) -> ModelTarget | None:
    """The target of a checkpoint or a group that is there; None for anything else.

    Of a group, arrays that no fill has left a record in are left out, as those are that a recipe skips; the label says
    so. Where none has one, all are taken.
    """
    path = Path(model) if isinstance(model, str | os.PathLike) and "://" not in str(model) else None
    if path is not None and is_checkpoint(path):
        return existing_checkpoint(path)
    if path is not None and not path.is_dir():
        return None
    if path is None and not isinstance(model, str):
        return None
    from bigin.targets.zarr.groups import group_arrays, group_target, open_group

    group = open_group(path or model, str(model))
    if group is None:
        return None
    arrays = group_arrays(group)
    recorded = {name: array for name, array in arrays.items() if KEY in array.attrs} or arrays
    left_out = len(arrays) - len(recorded)
    label = f"{model} ({counted(left_out, 'array')} without a record left out)" if left_out else str(model)
    return group_target(group, label, recorded)


def plan_checkpoint(model: Model, names: Mapping[str, Any], out: Path, shard: int | None) -> Plan:
    """Into which files the named tensors of a model go: those that they lie in, or files of so many bytes."""
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out}: expected an existing folder {out.parent}; make it first")
    if out.suffix == SUFFIX:
        if out.is_dir():
            raise InputError(f"{out}: expected a file, got a folder")
        kept = {name: tensor for name, tensor in sorted(model.tensors.items()) if name in names}
        return Plan(out.parent, {out.name: kept})
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder, a {SUFFIX} file or a .zarr group, got another file")
    if shard is None and "" not in model.files:
        files = {
            file: {name: tensor for name, tensor in tensors.items() if name in names}
            for file, tensors in model.files.items()
        }
        return Plan(out, {file: tensors for file, tensors in files.items() if tensors})
    return Plan(out, _shards({n: t for n, t in sorted(model.tensors.items()) if n in names}, shard or SHARD))


def _shards(tensors: Tensors, size: int) -> dict[str, Tensors]:
    """Files of at most so many bytes, or of one tensor that has more; named as Hugging Face names them."""
    shards: list[dict[str, tuple[str, Shape]]] = [{}]
    taken = 0
    for name, (dtype, shape) in tensors.items():
        nbytes = nbytes_of(dtype, shape)
        if shards[-1] and taken + nbytes > size:
            shards.append({})
            taken = 0
        shards[-1][name] = (dtype, shape)
        taken += nbytes
    if len(shards) == 1:
        return {SINGLE: shards[0]}
    return {f"model-{i:05d}-of-{len(shards):05d}{SUFFIX}": shard for i, shard in enumerate(shards, 1)}


def nbytes_of(dtype: str, shape: Shape) -> int:
    """How many bytes a tensor's values take."""
    import math

    return math.prod(shape) * dtypes.DTYPES[dtype].itemsize
