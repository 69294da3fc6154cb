"""bigin.initialize and bigin.outline: every tensor of a model by the rule of a recipe that matches it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from bigin.api.sources import grown_companions, grown_model, refuse_itself, with_sources
from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.paths import expand
from bigin.core.record import Record
from bigin.core.text import parse_optional_size
from bigin.fillers.families import family
from bigin.jobs.job import FillOptions, Job
from bigin.jobs.report import Report
from bigin.recipes.assign import Assignment, Part
from bigin.recipes.dummy import dummy_specs
from bigin.recipes.recipe import Tensor
from bigin.recipes.specs import Chosen, check_recipe, resolve
from bigin.spec.coded import CodedSpec
from bigin.spec.copied import GrownSpec
from bigin.spec.model import ModelSpec, TensorValues
from bigin.spec.tensor import TensorSpec
from bigin.targets import orbax
from bigin.targets.model import ModelTarget
from bigin.targets.models import Model, nbytes_of, plan_checkpoint, planned_files, read_model
from bigin.targets.objects.companions import check_companions, companions_at, write_companions
from bigin.targets.objects.open import checkpoint_place, find_checkpoint, made_checkpoint, names_objects
from bigin.targets.objects.urls import is_cloud
from bigin.targets.paths import is_url, local_path
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
class Row:
    """A tensor in an outline: the rule that matches it, the values that it gets, and its size in bytes."""

    tensor: str
    shape: tuple[int, ...]
    dtype: str
    rule: str
    values: str
    nbytes: int


def outline(
    recipe: str | os.PathLike[str],
    like: Any = None,
    *,
    seed: int | None = None,
    variables: Mapping[str, Any] | None = None,
    strict: bool = False,
    dtype: Any = None,
    source: str | os.PathLike[str] | None = None,
) -> list[Row]:
    """Describe what `initialize` would write, without writing it.

    Args:
        recipe, like, seed, variables, strict, dtype, source: as in `initialize`.

    Returns:
        A row for every tensor, in the order of the names.

    Raises:
        InputError: the recipe or the model is invalid.

    Example:
        >>> group = zarr.open_group("model.zarr", mode="w")
        >>> array = group.create_array("fc1.weight", shape=(120, 400), dtype="float32")
        >>> with open("recipe.toml", "w") as file:
        ...     n = file.write('[[rule]]\\nmatch = "*.weight"\\nmethod = "normal"\\nstd = 0.02\\n')
        >>> [(row.tensor, row.values) for row in bigin.outline("recipe.toml", "model.zarr")]
        [('fc1.weight', 'normal: N(0, 0.02^2)')]
    """
    with default_modes():
        check_recipe(recipe)
        chosen, place = with_sources(Chosen(recipe, seed, variables or {}, strict), source)
        if like is None and place is None:
            raise InputError("expected a model that gives names, shapes and dtypes, got none; give --like (like=)")
        model = read_model(place if like is None else expand(like)).in_dtype(dtype)
        assignments, specs = resolve(chosen, model.label, model.tensors)
    return [_row(assignment, specs[assignment.tensor.name]) for assignment in assignments]


def initialize(
    recipe: str | os.PathLike[str],
    out: Any,
    *,
    like: Any = None,
    seed: int | None = None,
    variables: Mapping[str, Any] | None = None,
    strict: bool = False,
    dtype: Any = None,
    format: str | None = None,
    source: str | os.PathLike[str] | None = None,
    max_shard_size: int | str | None = None,
    weights_only: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    max_memory: int | str | None = None,
    requests: int | None = None,
    sync: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Fill every tensor of a model, each by the first rule of a recipe that matches its name.

    Args:
        recipe: the path of a TOML file, or the name of a recipe that ships with bigin, such as "gpt2"; see
            docs/recipes.md.
        out: with `like`, the new model: a folder for a safetensors checkpoint, a path that ends in .safetensors for one
            file, or in .zarr for a group. Without `like`, an existing zarr group, which is filled in place.
        like: a model whose names, shapes and dtypes the new one has: a safetensors file, the folder or the index of a
            checkpoint, or a zarr group. Its values are not read.
        seed: the seed, instead of the recipe's.
        variables: numbers or expressions that override those under the recipe's [vars].
        strict: whether to raise InputError, instead of warning, if a rule matches no tensor or a variable contradicts
            the model.
        dtype: the dtype of all float tensors, instead of those of `like`.
        format: "orbax" for an Orbax checkpoint in the folder `out`. It restores as a tree of dictionaries, in which the
            tensor `a.b` is `tree["a"]["b"]`. By default the ending of `out` selects the format.
        source: the checkpoint that rules copy from, instead of the recipe's `from`. Without `like`, the new model has
            its names, shapes and dtypes.
        max_shard_size: the largest number of bytes in a file of a checkpoint, or a string such as "5GB". By default the
            files are those of `like`, or have up to 5 GiB.
        weights_only: whether to leave out the other files in the checkpoint folder `like`: config.json,
            generation_config.json, and the files of tokenizers and processors.
        overwrite, threads, max_memory, requests, sync, progress: as in `fill`.

    Returns:
        A report: bytes, seconds and the record of all tensors.

    Raises:
        InputError: the recipe, the model or an argument is invalid; nothing was changed.
        FillError: the fill could not be finished; the same call continues where it stopped.

    Example:
        >>> group = zarr.open_group("model.zarr", mode="w")
        >>> array = group.create_array("fc1.weight", shape=(120, 400), dtype="float32")
        >>> with open("recipe.toml", "w") as file:
        ...     n = file.write('[[rule]]\\nmatch = "*.weight"\\nmethod = "kaiming_normal"\\n')
        >>> bigin.initialize("recipe.toml", "model.zarr").nbytes
        192000
    """
    limits, options = Limits.parse(threads, max_memory, requests=requests), FillOptions(overwrite, sync, progress)
    shard = parse_optional_size(max_shard_size)
    with default_modes():
        check_recipe(recipe)
        out, like = expand(out), expand(like)
        chosen, place = with_sources(Chosen(recipe, seed, variables or {}, strict), source)
        if place is not None:
            refuse_itself(place, out)
            like = place if like is None else like
        check_in_place(format, like)
        model, specs = model_of(out, like, chosen, dtype)
        if format is not None:
            return fill_model(*in_form(format, out, model, specs), limits, options)
        beside = Companions() if weights_only else grown_companions(companions_like(like, dtype), specs)
        return fill_model(specs, Out(out, model, shard, in_place=like is None, beside=beside), limits, options)


def check_in_place(format: str | None, like: Any) -> None:
    """Raises InputError where a model that is filled in place is to have another form."""
    if format is not None and like is None:
        raise InputError(f"expected --like (like=) with the format {format}, as no model is filled in place")


def in_form(
    format: str, out: Any, model: Model, specs: Mapping[str, TensorValues]
) -> tuple[Mapping[str, TensorValues], Out]:
    """The tensors of a checkpoint in a form that `out` does not tell, and where it goes."""
    if format != orbax.FORMAT:
        raise InputError(f"expected the format {orbax.FORMAT!r} or None, which the ending of out says, got {format!r}")
    orbax.check_place(out)
    tree = orbax.as_tree(specs)
    return tree, Out(out, model, None, beside=orbax.tree_files(tree), group=True)


def initialize_dummy(
    out: Any,
    like: Any,
    *,
    seed: int = 0,
    max_shard_size: int | str | None = None,
    weights_only: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    max_memory: int | str | None = None,
    requests: int | None = None,
    sync: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Write a checkpoint like another one, quantized or not, with weights that make finite activations.

    Use it to measure the speed of servers. Scales and norms are 1, biases are 0, and float matrices are N(0, 0.02^2).
    Integers and 4-bit floats that hold quantized weights are drawn. Most are 0, and a few are the smallest number of
    either sign.

    Args:
        out, like, max_shard_size, weights_only: as in `initialize`.
        seed: an integer from 0 to 2^64 - 1.
        overwrite, threads, max_memory, requests, sync, progress: as in `fill`.

    Returns:
        A report: bytes, seconds and the record of all tensors.

    Raises:
        InputError: an argument is invalid; nothing was changed.
        FillError: the fill could not be finished; the same call continues where it stopped.

    Example:
        >>> group = zarr.open_group("like.zarr", mode="w")
        >>> for name, shape in (("fc1.weight", (120, 400)), ("fc1.weight_scale", (120,))):
        ...     array = group.create_array(name, shape=shape, dtype="float16")
        >>> bigin.initialize_dummy("out.safetensors", "like.zarr").nbytes
        96240
    """
    limits, options = Limits.parse(threads, max_memory, requests=requests), FillOptions(overwrite, sync, progress)
    shard = parse_optional_size(max_shard_size)
    with default_modes():
        out, like = expand(out), expand(like)
        model, specs = dummy_of(like, seed)
        beside = Companions() if weights_only else companions_like(like, None)
        return fill_model(specs, Out(out, model, shard, beside=beside), limits, options)


def outline_dummy(like: Any, *, seed: int = 0) -> list[Row]:
    """Describe what `initialize_dummy` would write, without writing it.

    Args:
        like, seed: as in `initialize_dummy`.

    Returns:
        A row for every tensor, in the order of the names. Its `rule` is empty.

    Raises:
        InputError: there is no such model.

    Example:
        >>> group = zarr.open_group("like.zarr", mode="w")
        >>> array = group.create_array("fc1.weight_packed", shape=(120, 50), dtype="int32")
        >>> [(row.tensor, row.values) for row in bigin.outline_dummy("like.zarr")]
        [('fc1.weight_packed', 'uint4: 0, and 3 in 1000 bytes 1 or -1')]
    """
    with default_modes():
        model, specs = dummy_of(expand(like), seed)
    rows = []
    for name, (dtype, shape) in sorted(model.tensors.items()):
        spec = specs[name]
        values = spec.formula if isinstance(spec, CodedSpec) else str(spec)
        if isinstance(spec, TensorSpec):
            values = f"{spec.method}: {family(spec.distribution).formula(spec.distribution)}"
        rows.append(Row(name, shape, dtype, "", values, nbytes_of(dtype, shape)))
    return rows


def dummy_of(like: Any, seed: int) -> tuple[Model, dict[str, TensorValues]]:
    """A model, and what its tensors hold where only the speed matters."""
    model = read_model(like)
    return model, dummy_specs([Tensor(name, shape, dtype) for name, (dtype, shape) in model.tensors.items()], seed)


def model_of(out: Any, like: Any, chosen: Chosen, dtype: Any = None) -> tuple[Model, Mapping[str, TensorValues]]:
    """The model that is filled in place, or that the new one is like, and what its tensors are to hold."""
    if like is None and dtype is not None:
        raise InputError(
            "expected no dtype for a group that is filled in place, which has its own; give --like (like=)"
        )
    model = read_model(out, in_place=True) if like is None else read_model(like).in_dtype(dtype)
    _, specs = resolve(chosen, model.label, model.tensors)
    return grown_model(model, specs), specs


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


def _row(assignment: Assignment, values: TensorValues) -> Row:
    tensor = assignment.tensor
    shape = values.shape if isinstance(values, GrownSpec) else tensor.shape
    return Row(
        tensor.name,
        shape,
        tensor.dtype,
        assignment.rule.label,
        _in_words(assignment.parts) if assignment.parts else str(values),
        nbytes_of(tensor.dtype, shape),
    )


def _in_words(parts: tuple[Part, ...]) -> str:
    """What the parts are filled with, in a few words."""
    formulas = [f"{part.method}: {family(part.distribution).formula(part.distribution)}" for part in parts]
    if len(parts) == 1:
        return formulas[0]
    same = len(set(formulas)) == 1
    text = formulas[0] if same else "; ".join(f"{p.name} {f}" for p, f in zip(parts[:4], formulas[:4], strict=True))
    more = "; ..." if not same and len(parts) > 4 else ""
    return f"{len(parts)} parts ({parts[0].name}, ...): {text}{more}" if same else f"{len(parts)} parts: {text}{more}"
