"""A model that is written: what its tensors hold, in which form, and where it goes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from bigin.api.sources import grown_companions, grown_model, refuse_itself, with_sources
from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.limits import Limits
from bigin.core.paths import is_path
from bigin.core.record import Record
from bigin.core.text import parse_optional_size
from bigin.jobs.job import FillOptions, Job
from bigin.jobs.report import Report
from bigin.recipes.dummy import dummy_specs
from bigin.recipes.recipe import Tensor
from bigin.recipes.specs import Chosen, check_recipe, resolve
from bigin.spec.model import ModelSpec, TensorValues
from bigin.targets import orbax
from bigin.targets.model import ModelTarget
from bigin.targets.models import Model, plan_checkpoint, planned_files, read_model
from bigin.targets.objects.companions import check_companions, companions_at, write_companions
from bigin.targets.objects.open import checkpoint_place, find_checkpoint, made_checkpoint, names_objects
from bigin.targets.objects.urls import is_cloud
from bigin.targets.paths import check_path, is_url, local_path
from bigin.targets.safetensors.checkpoint import new_checkpoint
from bigin.targets.safetensors.companions import (
    CONFIG,
    Companions,
    companions_of,
    config_in_dtype,
    config_text,
    parse_config,
    read_config,
)
from bigin.targets.safetensors.folder import SUFFIX, is_index

if TYPE_CHECKING:
    from bigin.targets.zarr.group import GroupTarget


@dataclass(frozen=True)
class Form:
    """The form in which a model is written.

    format: "orbax", or None if the path says it. shard: the largest number of bytes in a file of a checkpoint. dtype:
    of all float tensors. weights_only: whether the other files of the folder are left out.
    """

    format: str | None = None
    shard: int | None = None
    dtype: Any = None
    weights_only: bool = False

    @classmethod
    def parse(cls, format: str | None, max_shard_size: Any, dtype: Any = None, *, weights_only: bool = False) -> Form:
        """The form as a caller gives it; raises InputError."""
        if format not in (None, orbax.FORMAT):
            raise InputError(
                f"expected the format {orbax.FORMAT!r} or None, which the ending of out says, got {format!r}"
            )
        return cls(format, parse_optional_size(max_shard_size), dtype, weights_only)


Written = tuple[Mapping[str, TensorValues], "Out"]  # what the tensors of a model hold, and where it goes


def model_by_recipe(chosen: Chosen, source: Any, out: Any, like: Any, form: Form) -> Written:
    """The model that a recipe makes; nothing is changed. source: the checkpoint to copy from, if not the recipe's."""
    check_recipe(chosen.recipe)
    chosen, place = with_sources(chosen, source)
    if place is not None:
        refuse_itself(place, out)
        like = place if like is None else like
    if like is None and form.format is not None:
        raise InputError(f"expected --like (like=) with the format {form.format}, as no model is filled in place")
    if like is None and form.dtype is not None:
        raise InputError(
            "expected no dtype for a group that is filled in place, which has its own; give --like (like=)"
        )
    model = read_model(out, in_place=True) if like is None else read_model(like).in_dtype(form.dtype)
    _, specs = resolve(chosen, model.label, model.tensors)
    model = grown_model(model, specs)
    if form.format is not None:
        return as_orbax(out, model, specs)
    beside = Companions() if form.weights_only else grown_companions(companions_like(like, form.dtype), specs)
    return specs, Out(out, model, form.shard, in_place=like is None, beside=beside)


def dummy_model(seed: int, out: Any, like: Any, form: Form) -> Written:
    """A model like another one, with values for measuring its speed; nothing is changed."""
    model, specs = dummy_of(like, seed)
    beside = Companions() if form.weights_only else companions_like(like, None)
    return specs, Out(out, model, form.shard, beside=beside)


def dummy_of(like: Any, seed: int) -> tuple[Model, dict[str, TensorValues]]:
    """A model, and values for its tensors with which its speed can be measured."""
    model = read_model(like)
    return model, dummy_specs([Tensor(name, shape, dtype) for name, (dtype, shape) in model.tensors.items()], seed)


def as_orbax(out: Any, model: Model, specs: Mapping[str, TensorValues]) -> Written:
    """The tensors under the names of an Orbax checkpoint, and the group that it is."""
    orbax.check_place(out)
    tree = orbax.as_tree(specs)
    return tree, Out(out, model, None, beside=orbax.tree_files(tree), group=True)


def companions_like(like: Any, dtype: Any) -> Companions:
    """What lies beside the weights of a checkpoint's folder or index, with the dtype that the new weights have."""
    path = None if like is None else local_path(like)
    if is_url(like):
        folder = find_checkpoint(os.fsdecode(like))
        beside = Companions() if folder is None or not (folder.whole or folder.index) else companions_at(folder)
    elif path is None or path.suffix == ".zarr" or not (path.is_dir() or is_index(path)):
        return Companions()
    else:
        beside = companions_of(path if path.is_dir() else path.parent)
    held = beside.files.get(CONFIG)
    if dtype is None or held is None:
        return beside
    config = read_config(held) if isinstance(held, Path) else parse_config(held, f"{like}/{CONFIG}")
    return beside.with_config(config_text(config_in_dtype(config, dtypes.parse_dtype(dtype).name)))


@dataclass(frozen=True)
class Out:
    """Where a model goes: a path or a store, the model that it is like, the bytes of a file, or in place of itself.

    beside: the files that go into a checkpoint's folder with the weights. group: whether it is a zarr group, whatever
    its path ends in.
    """

    path: Any
    model: Model
    shard: int | None
    in_place: bool = False
    beside: Companions = field(default_factory=Companions)
    group: bool = False

    @property
    def folder(self) -> Path | None:
        """The folder of a checkpoint; None for a single file or a group."""
        path = local_path(self.path)
        return None if self.in_place or path is None or path.suffix in (".zarr", SUFFIX) else path

    @property
    def url(self) -> str | None:
        """The URL of a checkpoint's folder in a store; None for anything else."""
        if self.in_place or not is_cloud(self.path) or not self.beside.files:
            return None
        url = os.fsdecode(self.path)
        return None if PurePosixPath(url.rstrip("/")).suffix in (".zarr", SUFFIX) else url

    def check_beside(self, *, overwrite: bool) -> None:
        """Raises InputError where other files of the same names are there."""
        if self.folder is not None:
            self.beside.check(self.folder, overwrite=overwrite)
        elif self.url is not None and not overwrite:
            check_companions(self.url, self.beside)

    def write_beside(self) -> None:
        """Writes the files that go beside the weights; those of a group are written by its ledger, last of all."""
        if self.group:
            return
        if self.folder is not None:
            self.beside.write(self.folder)
        elif self.url is not None:
            write_companions(self.url, self.beside)


def fill_model(specs: Mapping[str, TensorValues], out: Out, limits: Limits, options: FillOptions) -> Report:
    """Writes the tensors of a model, each by its specification."""
    spec = ModelSpec(dict(sorted(specs.items())))
    with opened_model(out, spec.records) as target:
        out.check_beside(overwrite=options.overwrite)
        report = Job(spec, target, limits).fill(options)
        out.write_beside()
    return report


@contextmanager
def opened_model(out: Out, records: Mapping[str, Record]) -> Iterator[ModelTarget]:
    """The target of a new checkpoint or group, or of an existing group, for as long as it is needed."""
    if is_path(out.path):
        check_path(out.path)
    path = local_path(out.path)
    label = str(out.path)
    target: ModelTarget
    if out.in_place:
        target = _filled_group(label, out.model, records)
    elif (
        is_url(out.path)
        and PurePosixPath(label.rstrip("/")).suffix != ".zarr"
        and (is_cloud(out.path) or names_objects(label))
    ):
        place = checkpoint_place(label)
        files, index = planned_files(out.model, records, out.shard)
        if place.file is not None:
            files, index = {place.file: {name: out.model.tensors[name] for name in sorted(records)}}, None
        target = made_checkpoint(label, place, files, index, records)
    elif path is None or path.suffix == ".zarr" or out.group:
        made = _made_group(path or out.path, label, records)
        made.beside = out.beside if out.group else made.beside
        target = made
    else:
        target = new_checkpoint(label, plan_checkpoint(out.model, records, path, out.shard), records)
    try:
        yield target
    finally:
        target.close()


def _filled_group(label: str, model: Model, records: Mapping[str, Record]) -> ModelTarget:
    from bigin.targets.zarr.groups import group_target

    if model.group is None:
        raise InputError(
            f"{label}: expected a zarr group; a checkpoint is always written new, in the form that --like (like=) has"
        )
    return group_target(model.group, label, model.arrays, records)


def _made_group(place: Any, label: str, records: Mapping[str, Record]) -> GroupTarget:
    """A group that is still to be made, or that an earlier fill has begun."""
    from bigin.targets.zarr.groups import group_arrays, group_target, missing_group, open_group

    group = open_group(place, label)
    if group is None:
        tensors = {name: (dtypes.parse_dtype(told["dtype"]), tuple(told["shape"])) for name, told in records.items()}
        return missing_group(place, label, tensors)
    target = group_target(group, label, group_arrays(group), records)
    if not target.matches(target.shape, {"tensors": records}):
        raise InputError(f"{label}: expected nothing, or a group of the same arrays, got another group")
    return target
