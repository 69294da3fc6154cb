"""bigin.check: which tensors of a model do not look as a recipe says."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from bigin.api.matching import Matched, Wanted, Wanting, by_recipe, by_record, matched
from bigin.core.errors import RecordError
from bigin.core.limits import Limits
from bigin.core.paths import expand
from bigin.inspect.examining import Examined, How, Item, examine
from bigin.inspect.model_check import ModelCheck, absent
from bigin.jobs.compare import Sample
from bigin.jobs.job import check_progress
from bigin.targets.distcp import is_distcp
from bigin.targets.objects.open import find_checkpoint
from bigin.targets.orbax import written_by_orbax
from bigin.targets.paths import is_url, local_path
from bigin.targets.safetensors.folder import is_checkpoint


def check(
    model: Any,
    recipe: str | os.PathLike[str] | None = None,
    *,
    like: Any = None,
    variables: Mapping[str, Any] | None = None,
    dtype: Any = None,
    sample: float = 1.0,
    sample_seed: int = 0,
    threads: int | None = None,
    max_memory: int | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ModelCheck:
    """Find the tensors of a model that do not look like a recipe, whatever code and seed initialized them.

    The check finds values that were never written (zeros, NaN, leftover memory), wrong standard deviations,
    distributions and fans, rows, shards and tensors that are equal although they are random, and tensors that are
    missing or have no rule. One correct model in a million fails. The tests are statistical: they do not detect another
    seed or a few changed values. Use `verify` to compare bits.

    Args:
        model: a safetensors file, the folder or the index of a checkpoint, a zarr group, or one array; local or
            in a store.
        recipe: the path of a recipe, or the name of a recipe that ships with bigin. By default the model's record is
            used.
        like, variables, dtype: as in `verify`.
        sample: the fraction of each tensor that is read, above 0 and up to 1, in one or more stretches.
        sample_seed: seed that selects the stretches.
        threads, max_memory, progress: as in `fill`. Each thread reads one tensor at a time.

    Returns:
        Every tensor with its findings. The attribute `right` is True if there are none.

    Raises:
        InputError: there is no such model or recipe, or an argument is invalid.
        FillError: the model could not be read.

    Example:
        >>> group = zarr.open_group("model.zarr", mode="w")
        >>> for name in ("fc1.weight", "fc2.weight"):
        ...     array = group.create_array(name, shape=(120, 400), dtype="float32")
        >>> with open("recipe.toml", "w") as file:
        ...     n = file.write('[[rule]]\\nmatch = "*.weight"\\nmethod = "kaiming_normal"\\n')
        >>> report = bigin.initialize("recipe.toml", "model.zarr")
        >>> bigin.check("model.zarr", "recipe.toml").right
        True
        >>> group["fc2.weight"][...] = group["fc1.weight"][...]
        >>> [(each.tensor, each.findings[0].text) for each in bigin.check("model.zarr", "recipe.toml").wrong]
        [('fc2.weight', 'identical to fc1.weight')]
    """
    limits, chosen = Limits.parse(threads, max_memory), Sample(sample, sample_seed)
    check_progress(progress)
    if recipe is None and like is None and variables is None:
        return check_model(model, None, How(limits, chosen), progress)
    return check_model(model, by_recipe(recipe, like, 0, variables, dtype, seeded=False), How(limits, chosen), progress)


def show_model(
    model: Any,
    *,
    sample: float = 1.0,
    sample_seed: int = 0,
    threads: int | None = None,
    max_memory: int | str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ModelCheck:
    """Describe every tensor of a model, and compare its values with the record, if there is one.

    Args:
        model: a safetensors file, the folder or the index of a checkpoint, a zarr group, or one array; local or
            in a store.
        sample, sample_seed, threads, max_memory, progress: as in `check`.

    Returns:
        Every tensor with the mean and the standard deviation of its values, and its findings.

    Raises:
        InputError: there is no such model, or an argument is invalid.
        FillError: the model could not be read.

    Example:
        >>> group = zarr.open_group("model.zarr", mode="w")
        >>> group.create_array("scale", data=np.array([1.0, 2.0], np.float32))[...]
        array([1., 2.], dtype=float32)
        >>> [(each.tensor, each.mean, each.std) for each in bigin.show_model("model.zarr").tensors]
        [('scale', 1.5, 0.5)]
    """
    how = How(Limits.parse(threads, max_memory), Sample(sample, sample_seed), repeats=False)
    check_progress(progress)
    with matched(model, unknown) as found:
        try:
            wanted = by_record(found.target, found.retries)
        except RecordError:
            wanted = found.wanted
        known = replace(found, wanted=wanted)
        rows = examine([item_of(known, name) for name in known.target.members], how, progress)
        rows.sort(key=lambda row: row.tensor)
        return ModelCheck(found.target.label, wanted.by, rows, sample, how.alarms)


def unknown(model: Any) -> Wanted:
    """A model of which nothing is known."""
    return Wanted("", {})


def is_model(target: Any) -> bool:
    """Whether a path or a URL is that of a whole checkpoint or zarr group."""
    path = local_path(expand(target))
    if is_url(target):
        url = os.fsdecode(target)
        if "#" in url or url.endswith(".npy"):
            return False
        if find_checkpoint(url) is not None:
            return True
        from bigin.targets.zarr.groups import open_group

        return open_group(url, url, "r") is not None
    if path is None or not path.exists():
        return False
    if is_checkpoint(path) or is_distcp(path) or written_by_orbax(path):
        return True
    if not any((path / key).exists() for key in ("zarr.json", ".zgroup")):
        return False
    from bigin.targets.zarr.groups import open_group

    return open_group(path, str(path), "r") is not None


def check_model(
    model: Any, wanting: Wanting | None, how: How, progress: Callable[[int, int], None] | None
) -> ModelCheck:
    """Looks at a model that is there beside what it should hold; None stands for what its record says."""
    with matched(model, wanting) as found:
        specs = found.specs
        items = [item_of(found, name) for name in sorted(specs)]
        rows = examine(items, how, progress)
        rows = [without_ties(row, found) for row in rows]
        kinds = {"missing": found.missing, "extra": found.extra}
        said = {"missing": "expected it, got no tensor of that name", "extra": f"{found.wanted.by} says nothing of it"}
        rows += [absent(name, kind, said[kind]) for kind, names in kinds.items() for name in names]
        for line in found.unlike:
            name, _, text = line.partition(": ")
            rows.append(absent(name, "unlike", text))
        rows.sort(key=lambda row: row.tensor)
        return ModelCheck(found.target.label, found.wanted.by, rows, how.sample.fraction, how.alarms)


def item_of(found: Matched, name: str) -> Item:
    """A tensor to look at."""
    member = found.target.members[name]
    return Item(name, lambda: member, found.specs.get(name), member.shape, member.dtype.name, None, found.retries)


def without_ties(row: Examined, found: Matched) -> Examined:
    """A tensor that is tied may be identical to the one that it is tied to."""
    of = found.wanted.aliases.get(row.tensor)
    tied = {row.tensor: of, **{name: other for other, name in found.wanted.aliases.items()}}.get(row.tensor)
    names = {f"identical to {name}" for name in (of, tied) if name is not None}
    return replace(row, findings=[finding for finding in row.findings if finding.text not in names])
