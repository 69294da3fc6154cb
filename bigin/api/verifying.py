"""bigin.verify: a target's values made again and compared with what it holds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from bigin.api.matching import by_recipe, check_alone, verify_model
from bigin.api.opening import existing, record_of
from bigin.core.errors import InputError, NotFoundError, RecordError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.paths import expand
from bigin.core.record import Record
from bigin.core.source import moved
from bigin.jobs.compare import Sample, Verification
from bigin.jobs.dumps import compare_dump
from bigin.jobs.job import Job, check_progress
from bigin.jobs.resume import describe, values
from bigin.jobs.retries import Retries
from bigin.jobs.what import What, check_matches, usable_spec
from bigin.spec.spec import Spec
from bigin.targets.dumps import dump_at
from bigin.targets.model import ModelTarget
from bigin.targets.objects.open import NPY
from bigin.targets.paths import is_url
from bigin.targets.safetensors.folder import SUFFIX
from bigin.targets.target import Target


def verify(
    target: Any,
    method: str | None = None,
    *,
    recipe: str | os.PathLike[str] | None = None,
    like: Any = None,
    variables: Mapping[str, Any] | None = None,
    seed: int | None = None,
    name: str | None = None,
    shape: Any = None,
    dtype: Any = None,
    raw: bool = False,
    offset: int = 0,
    region: Any = None,
    padding_idx: int | None = None,
    sample: float = 1.0,
    sample_seed: int = 0,
    source: str | os.PathLike[str] | None = None,
    repair: bool = False,
    threads: int | None = None,
    max_memory: int | str | None = None,
    requests: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    **parameters: Any,
) -> Verification:
    """Compute a target's values again and compare them with the stored ones, bit for bit.

    Args:
        target: a target as in `fill`, a whole checkpoint or zarr group, or the folder of a dump (`KeyedTable.dump`).
        method, name, shape, region, padding_idx, **parameters: the expected values, as in `fill`. Without a method and
            a recipe they are those of the record.
        recipe: the expected values of a whole checkpoint or zarr group, with or without a record: the path of a recipe,
            or the name of a recipe that ships with bigin.
        like: with a recipe, a model that gives names, shapes and dtypes, as in `initialize`. By default they are those
            of the target; then no tensor can be found to be missing.
        variables: variables of the recipe, as in `initialize`.
        seed: as in `fill`. By default 0, or the seed of the recipe.
        dtype: as in `fill`; with `like`, the dtype of all float tensors.
        raw, offset, threads, max_memory, requests, progress: as in `fill`.
        sample: the fraction of the chunks that is compared, above 0 and up to 1.
        sample_seed: seed that selects the chunks.
        source: the folder of the checkpoint that tensors were copied from, if it has been moved.
        repair: whether to fill chunks that differ again.

    Returns:
        A verification with the regions that differ; `equal` is True if there are none. With a recipe, it also lists
        tensors that are missing, have no rule, or have another shape or dtype.

    Raises:
        InputError: there is no record, method or recipe to compare with, or an argument is invalid.
        FillError: the target could not be read or repaired.

    Example:
        >>> w = np.empty((64, 32), np.float32)
        >>> report = bigin.fill(w, "normal", std=0.02, seed=7)
        >>> bigin.verify(w, "normal", std=0.02, seed=7).equal
        True
        >>> w[3, 5] = 1
        >>> print(bigin.verify(w, "normal", std=0.02, seed=7).differences[0])
        rows 0-64: 1 element differs, the first at [3, 5]

        Without a record, by a recipe and a seed:

        >>> group = zarr.open_group("model.zarr", mode="w")
        >>> array = group.create_array("fc1.weight", shape=(120, 400), dtype="float32")
        >>> with open("recipe.toml", "w") as file:
        ...     n = file.write('[[rule]]\\nmatch = "*.weight"\\nmethod = "kaiming_normal"\\n')
        >>> report = bigin.initialize("recipe.toml", "model.zarr", seed=42)
        >>> bigin.verify("model.zarr", recipe="recipe.toml", seed=42).equal
        True
    """
    limits, chosen = Limits.parse(threads, max_memory, requests=requests), Sample(sample, sample_seed)
    check_progress(progress)
    what = What.parse(method, parameters, 0 if seed is None else seed, name, shape, region, padding_idx)
    if recipe is not None or like is not None or variables is not None:
        check_alone(what, raw=raw, repair=repair)
        wanting = by_recipe(recipe, like, seed, variables, dtype, source=source)
        return verify_model(target, wanting, limits, chosen, progress)
    if method is None and (dump := dump_at(expand(target))) is not None:
        if repair:
            raise InputError(f"{dump[0].folder}: expected no repair of a dump; write the dump again")
        with default_modes():
            return compare_dump(*dump, limits, chosen, progress)
    where = what.where(target, dtype, raw=raw, offset=offset, damaged=True, models=method is None)
    with existing(where, "verify") as (opened, retries):
        spec, record = wanted(what, opened, retries, source)
        if method is not None and repair:
            check_record(opened, record)
        return Job(spec, opened, limits, retries).compare(chosen, record, repair=repair, progress=progress)


def wanted(
    what: What, target: Target, retries: Retries, source: str | os.PathLike[str] | None = None
) -> tuple[Spec, Record]:
    """What the target should hold, and the record of that; raises RecordError where nothing says so.

    source: the folder of the checkpoint that tensors were copied from, instead of the record's.
    """
    if what.method is not None:
        spec: Spec = what.spec(target)
        return spec, spec.record() | {"complete": True}
    record = record_of(target, retries)
    if record is None:
        whole = isinstance(target, ModelTarget)
        give = "--recipe (recipe=) or --config" if whole else "--method (method=) and its parameters"
        raise RecordError(f"{target.label}: expected a record of a fill, got none; give {give}")
    try:
        spec = usable_spec(record if source is None else moved(record, folder_at(source)))
        if record.get("complete") is True:
            check_matches(target, spec, record)
            return spec, record
    except RecordError as error:
        raise RecordError(
            f"{target.label}: expected a record of what it holds ({target.shape} {target.dtype.name}): {error}; give "
            "--method (method=) and its parameters"
        ) from None
    raise RecordError(f"{target.label}: {incomplete(target, record)}")


def folder_at(source: str | os.PathLike[str]) -> str:
    """The folder of a checkpoint, or a zarr group, as an absolute path or a URL."""
    if is_url(source):
        url = os.fsdecode(source).rstrip("/")
        return os.path.dirname(url) if url.endswith((SUFFIX, NPY, ".json")) else url
    path = os.path.abspath(str(expand(source)))
    if not os.path.exists(path):
        raise NotFoundError(f"{source}: expected the folder of the checkpoint that was copied, got nothing")
    return path if os.path.isdir(path) else os.path.dirname(path)


def check_record(target: Target, record: Record) -> None:
    """Refuses to repair what the record says is something else: that would be another fill."""
    held = None if target.ledger is None else target.ledger.record()
    if held is not None and (held.get("complete") is not True or values(held) != values(record)):
        raise RecordError(
            f"{target.label}: expected to repair what its record says, but it {describe(held, record)}; leave the "
            "method out, or fill with --overwrite (overwrite=True)"
        )


def incomplete(target: Target, record: Record) -> str:
    """Why a record does not say what all of a target should hold, and what to do."""
    held = record.get("tensors")
    if isinstance(target, ModelTarget) and isinstance(held, dict):
        without = [name for name in target.members if name not in held]
        if without:  # skipped by the recipe, or a checkpoint of which only some tensors were filled
            more = f" and {len(without) - 1} more" if len(without) > 1 else ""
            return (
                f"expected a record of every tensor, got none for {without[0]}{more}; verify the others one by one, "
                "or if a fill was interrupted, rerun its command"
            )
    return "expected a complete fill, got one that was interrupted; rerun its command, which continues where it stopped"
