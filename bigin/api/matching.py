"""An existing model, and what it should hold according to a recipe, a configuration or its record."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from bigin.api.opening import record_of
from bigin.api.sources import with_sources
from bigin.core.errors import InputError, NotFoundError, RecordError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.names import dotted
from bigin.core.paths import expand
from bigin.core.threads import after_stragglers
from bigin.jobs.compare import Sample, Verification
from bigin.jobs.job import Job
from bigin.jobs.retries import Retries
from bigin.jobs.where import Where, as_fill_error
from bigin.recipes.presets import find_recipe
from bigin.recipes.read import read_recipe
from bigin.recipes.specs import Chosen, check_recipe, cover, resolve
from bigin.spec.model import ModelSpec, TensorValues
from bigin.spec.record import spec_of
from bigin.targets.model import ModelTarget
from bigin.targets.models import Model, read_model
from bigin.targets.open import open_compared

MENTIONED = 10  # tensors that an error about many names


@dataclass(frozen=True)
class Wanted:
    """What a model should hold.

    by: what says so, in words. unmatched: tensors that are there and of which nothing is said. skipped: those that the
    recipe leaves as they are. aliases: other names of tensors that are tied, and which of `specs` they are.
    """

    by: str
    specs: Mapping[str, TensorValues]
    skipped: list[str] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    aliases: Mapping[str, str] = field(default_factory=dict)


Wanting = Callable[[Model], Wanted]  # what a model that is there should hold


@dataclass(frozen=True)
class Matched:
    """A model that is there, and the specifications of those of its tensors that can be compared with them."""

    model: Model
    target: ModelTarget
    wanted: Wanted
    retries: Retries

    @property
    def specs(self) -> dict[str, TensorValues]:
        """By name, of the tensors that are there with the shape and the dtype that they should have."""
        return {name: spec for name, spec in self._named.items() if self.reason(name) is None}

    @cached_property
    def _named(self) -> dict[str, TensorValues]:
        """The specifications by the names of the tensors that are there; a tied tensor has several."""
        held = {dotted(name): name for name in self.target.members}
        specs = {dotted(name): spec for name, spec in self.wanted.specs.items()}
        tied = {dotted(alias): dotted(of) for alias, of in self.wanted.aliases.items()}
        return {name: specs[tied.get(key, key)] for key, name in held.items() if tied.get(key, key) in specs}

    def reason(self, name: str) -> str | None:
        """Why a tensor cannot be compared: it has another shape or dtype."""
        spec, member = self._named[name], self.target.members[name]
        if spec.shape == member.shape and spec.dtype == member.dtype:
            return None
        expected, got = (f"{'x'.join(map(str, each.shape)) or 'scalar'} {each.dtype.name}" for each in (spec, member))
        hint = f"; give --dtype {member.dtype.name} (dtype=)" if spec.shape == member.shape else ""
        return f"{name}: expected {expected}, got {got}{hint}"

    @property
    def missing(self) -> list[str]:
        """The tensors that should be there. Of a tied tensor one name is enough."""
        held = set(map(dotted, self.target.members))
        tied = {of for alias, of in self.wanted.aliases.items() if dotted(alias) in held}
        return sorted(name for name in self.wanted.specs if dotted(name) not in held and name not in tied)

    @property
    def extra(self) -> list[str]:
        """The tensors of which nothing is said."""
        skipped = set(map(dotted, self.wanted.skipped))
        return sorted(name for name in self.target.members if name not in self._named and dotted(name) not in skipped)

    @property
    def unlike(self) -> list[str]:
        """A line for every tensor of another shape or dtype."""
        return [reason for name in sorted(self._named) if (reason := self.reason(name)) is not None]


def by_recipe(
    recipe: Any,
    like: Any,
    seed: Any,
    variables: Mapping[str, Any] | None,
    dtype: Any = None,
    *,
    seeded: bool = True,
    source: Any = None,
) -> Wanting:
    """What a recipe says of a model that is there, or of one that it should be like; raises InputError.

    seeded: whether the seed matters, and is told. source: the checkpoint that is copied from, if not the recipe's.
    """
    if recipe is None:
        raise InputError("expected a recipe for like and variables, got none; give --recipe (recipe=)")
    if like is None and dtype is not None:
        raise InputError("expected no dtype for a checkpoint that is there, which has its own; give --like (like=)")
    check_recipe(recipe)
    chosen = with_sources(Chosen(recipe, seed, variables or {}), source)[0]

    def wanted(model: Model) -> Wanted:
        number = read_recipe(find_recipe(chosen.recipe), chosen.variables).seed if seed is None else seed
        by = f"{os.fspath(recipe)}, seed {number}" if seeded else os.fspath(recipe)
        if like is not None:
            other = read_model(expand(like)).in_dtype(dtype)
            specs = resolve(chosen, other.label, other.tensors)[1]
            return Wanted(by, specs, skipped=sorted(set(other.tensors) - set(specs)))
        covered = cover(chosen, model.label, model.tensors)
        return Wanted(by, covered.specs, covered.skipped, covered.unmatched)

    return wanted


def check_alone(what: Any, *, raw: bool, repair: bool) -> None:
    """Refuses what is not for a recipe."""
    given = {
        "a method": what.method,
        "a name": what.name,
        "a shape": what.shape,
        "a region": what.region,
        "a raw file": raw or None,
    }
    for said, value in given.items():
        if value is not None:
            raise InputError(f"expected either a recipe, for a whole model, or {said}, got both")
    if repair:
        raise InputError("expected no repair by a recipe; `bigin init` writes the model again")


@contextmanager
def matched(target: Any, wanting: Wanting | None) -> Iterator[Matched]:
    """A model that is there with what it should hold, for as long as it is needed; raises InputError.

    None stands for what its record says.
    """
    where = Where(target)
    if where.missing:
        raise NotFoundError(f"{target}: expected a checkpoint, a zarr group or an array, got nothing")
    retries = Retries(remote=where.remote)
    with default_modes(), as_fill_error(target):
        model, opened = retries.attempt(lambda: open_compared(expand(target)))
        try:
            retries.remote = opened.remote
            wanted = by_record(opened, retries) if wanting is None else wanting(model)
            yield Matched(model, opened, wanted, retries)
        finally:
            after_stragglers(opened.close)


def verify_model(
    target: Any, wanting: Wanting, limits: Limits, sample: Sample, progress: Callable[[int, int], None] | None
) -> Verification:
    """Compares a model that is there, bit for bit, with what it should hold."""
    with matched(target, wanting) as found:
        specs = dict(sorted(found.specs.items()))
        said = {
            "by": found.wanted.by,
            "missing": found.missing,
            "extra": found.extra,
            "unlike": found.unlike,
            "skipped": found.wanted.skipped,
        }
        spec = ModelSpec(specs)
        record = spec.record() | {"complete": True}
        if not specs:
            return Verification(found.target.label, record, 0, 0, 0, 0.0, **said)  # type: ignore[arg-type]
        job = Job(spec, found.target.only(specs), limits, found.retries)
        return replace(job.compare(sample, record, progress=progress), **said)  # type: ignore[arg-type]


def by_record(target: ModelTarget, retries: Retries) -> Wanted:
    """What a model's record says; raises RecordError where there is none."""
    record = record_of(target, retries)
    if record is None:
        raise RecordError(f"{target.label}: expected a record of a fill, got none; give a recipe (recipe=) or --config")
    try:
        said = spec_of(record)
    except InputError as error:
        raise RecordError(
            f"{target.label}: its record cannot be used: {error}; give a recipe (recipe=) or --config"
        ) from None
    if isinstance(said, ModelSpec):
        return Wanted("its record", dict(said.tensors))
    if isinstance(said, TensorValues):  # of one array
        return Wanted("its record", {next(iter(target.members)): said})
    raise RecordError(f"{target.label}: expected a record of a whole tensor, got one of a part of it; give a recipe")
