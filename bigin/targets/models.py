"""The tensors of a checkpoint or a group, without reading any of them, and the files that new ones go to."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bigin.core import dtypes
from bigin.core.collector import paused
from bigin.core.errors import ExistsError, InputError, NotFoundError
from bigin.core.packed import PACKED
from bigin.core.regions import Shape
from bigin.core.text import counted
from bigin.targets.distcp import existing_distcp, is_distcp
from bigin.targets.model import ModelTarget
from bigin.targets.objects.folder import Folder, read_headers
from bigin.targets.objects.open import find_checkpoint, open_checkpoint
from bigin.targets.paths import OTHER_FORMATS, OUR_FILES, is_url, local_path
from bigin.targets.records import KEY
from bigin.targets.safetensors.checkpoint import CheckpointFiles, existing_checkpoint
from bigin.targets.safetensors.folder import (
    STEM,
    SUFFIX,
    Naming,
    checked_headers,
    index_of,
    is_checkpoint,
)

SHARD = 5 << 30  # bytes in a file of a new checkpoint that is not made like another one

Tensors = Mapping[str, tuple[str, Shape]]  # name -> dtype, shape


@dataclass(frozen=True)
class Model:
    """The tensors of a model, by the files that hold them; a zarr group has none, and all are under "".

    `naming` is how the files of a checkpoint are named, `index` the name of its index.
    """

    label: str
    files: Mapping[str, Tensors]
    naming: Naming = field(default_factory=Naming)
    index: str | None = None
    group: Any = None  # the zarr.Group
    arrays: Mapping[str, Any] = field(default_factory=dict)  # its zarr arrays

    @property
    def tensors(self) -> dict[str, tuple[str, Shape]]:
        """All of them."""
        return {name: tensor for tensors in self.files.values() for name, tensor in tensors.items()}

    def in_dtype(self, dtype: Any) -> Model:
        """The same with all floats in another dtype; the files of a checkpoint keep their tensors."""
        if dtype is None:
            return self
        wanted = dtypes.parse_dtype(dtype).name
        files = {
            file: {name: (wanted if held in dtypes.FLOATS else held, shape) for name, (held, shape) in tensors.items()}
            for file, tensors in self.files.items()
        }
        return replace(self, files=files)

    @paused()
    def reshaped(self, shapes: Mapping[str, Shape]) -> Model:
        """The same with other shapes of some tensors."""
        if not shapes:
            return self
        files = {
            file: {name: (dtype, shapes.get(name, shape)) for name, (dtype, shape) in tensors.items()}
            for file, tensors in self.files.items()
        }
        return replace(self, files=files)


@paused()
def read_model(model: Any, *, in_place: bool = False) -> Model:
    """Names, shapes and dtypes of a checkpoint (a file, a folder, an index) or of a zarr group."""
    path = local_path(model)
    if is_url(model) and (folder := find_checkpoint(os.fsdecode(model))) is not None:
        return _model_of(folder)
    if path is not None and is_distcp(path):
        members = existing_distcp(path).members
        return Model(str(path), {"": {name: (_name_of(each.dtype), each.shape) for name, each in members.items()}})
    if path is not None and is_checkpoint(path):
        files = {
            file.name: {name: (entry.dtype or entry.code, entry.shape) for name, entry in header.entries.items()}
            for file, header in checked_headers(path).items()
        }
        index = index_of(path)
        return Model(str(path), files, _naming(path, index, files), None if index is None else index.name)
    from bigin.targets.zarr.groups import group_arrays, open_group

    group = open_group(path or model, str(model), "r+" if in_place else "r")
    if group is None:
        raise NotFoundError(f"{model}: expected a safetensors checkpoint or a zarr group, got neither")
    if in_place and group.store_path.store.read_only:
        raise InputError(
            f"{model}: expected a model that can be filled in place, got one that is only read; write another: bigin "
            f"init RECIPE --like {model} OUT"
        )
    arrays = group_arrays(group)
    tensors = {name: (_name_of(array.dtype), array.shape) for name, array in arrays.items()}
    return Model(str(model), {"": tensors}, group=group, arrays=arrays)


def _model_of(folder: Folder) -> Model:
    """The tensors of a checkpoint in a store, from the headers of its files."""
    files = {
        file: {name: (entry.dtype or entry.code, entry.shape) for name, entry in header.entries.items()}
        for file, header in read_headers(folder).items()
    }
    first = Path(next(iter(files)))
    naming = Naming.of(Path(folder.index) if folder.index else first)
    kept = naming if folder.whole or folder.index or naming.stem.endswith(STEM) else Naming()
    return Model(folder.label, files, kept, folder.index)


def _naming(path: Path, index: Path | None, files: Mapping[str, Tensors]) -> Naming:
    """How the files of a checkpoint are named. A file that was named alone may have any name, as no model's has."""
    naming = Naming.of(index or path / next(iter(files)))
    return naming if path.is_dir() or index is not None or naming.stem.endswith(STEM) else Naming()


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
    path = local_path(model)
    if is_url(model) and (opened := open_checkpoint(os.fsdecode(model))) is not None:
        return opened
    if path is not None and is_distcp(path):
        return existing_distcp(path)
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


def open_whole(model: Any) -> tuple[Model, ModelTarget]:
    """A checkpoint or a group that is there, with all of its tensors, whether there is a record of them or not.

    Raises NotFoundError where there is neither.
    """
    read = read_model(model)
    if read.group is not None:
        from bigin.targets.zarr.groups import group_target

        return read, group_target(read.group, read.label, read.arrays)
    target = open_model(model)
    if target is None:
        raise NotFoundError(f"{model}: expected a safetensors checkpoint or a zarr group, got neither")
    return read, target


@paused()
def plan_checkpoint(model: Model, names: Mapping[str, Any], out: Path, shard: int | None) -> CheckpointFiles:
    """The files of a new checkpoint with the named tensors of a model.

    They are those of the model, or files of at most `shard` bytes. A folder has an index where the model has one, and
    where there are several files.
    """
    if not out.absolute().parent.is_dir():
        raise InputError(f"{out}: expected an existing folder {out.parent}; create it first")
    if out.suffix == SUFFIX:
        if out.is_dir():
            raise InputError(f"{out}: expected a file, got a folder")
        kept = {name: tensor for name, tensor in sorted(model.tensors.items()) if name in names}
        return CheckpointFiles(out.parent, {out.name: kept})
    if (out.exists() and not out.is_dir()) or out.suffix.lower() in (*OTHER_FORMATS, *OUR_FILES, ".zip"):
        raise InputError(f"{out}: expected a folder, a {SUFFIX} file or a .zarr group, got another file")
    files, index = planned_files(model, names, shard)
    plan = CheckpointFiles(out, files, index)
    check_alone(plan)
    return plan


def planned_files(model: Model, names: Mapping[str, Any], shard: int | None) -> tuple[dict[str, Tensors], str | None]:
    """The files of a new checkpoint with the named tensors of a model, and the name of its index, if it has one."""
    files: dict[str, Tensors]
    if shard is None and "" not in model.files:
        kept_in = {
            file: {name: tensor for name, tensor in tensors.items() if name in names}
            for file, tensors in model.files.items()
        }
        files = {file: tensors for file, tensors in kept_in.items() if tensors}
    else:
        chosen = {name: tensor for name, tensor in sorted(model.tensors.items()) if name in names}
        files = _shards(chosen, shard or SHARD, model.naming)
    alone = len(files) == 1 and (model.index is None or model.naming.single in files)
    return files, None if alone else model.index or model.naming.index


def check_alone(plan: CheckpointFiles) -> None:
    """Refuses a folder with a checkpoint of other names: its index would stay, and readers take the one for the other.

    Variants, such as fp16, lie beside each other, and what has the same names is replaced.
    """
    ours = {*plan.files, plan.index}
    kinds = {Naming.of(Path(file)) for file in plan.files}
    held = [*sorted(plan.folder.glob(f"*{SUFFIX}")), *sorted(plan.folder.glob(f"*{SUFFIX}.index*.json"))]
    for path in held:
        other = Naming.of(path)
        if path.name not in ours and other not in kinds and other.variant in {kind.variant for kind in kinds}:
            raise ExistsError(
                f"{plan.folder}: expected a folder without another checkpoint, got {path.name} where "
                f"{next(iter(plan.files))} is to go; choose another folder or remove that checkpoint"
            )


def _shards(tensors: Tensors, size: int, naming: Naming) -> dict[str, Tensors]:
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
        return {naming.single: shards[0]}
    return {naming.shard(i, len(shards)): shard for i, shard in enumerate(shards, 1)}


def nbytes_of(dtype: str, shape: Shape) -> int:
    """How many bytes a tensor's values take."""
    row = PACKED.get(dtype)
    return math.prod(shape) * dtypes.DTYPES[dtype].itemsize if row is None else math.prod(row.stored(shape))
