"""What the tensors of a state dict are, by name: of a recording, a recipe, a configuration or a model with rules."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from bigin.api.sources import with_sources
from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.paths import expand
from bigin.core.regions import Shape
from bigin.recipes.specs import Chosen, check_recipe, resolve
from bigin.spec.model import TensorValues
from bigin.targets.models import read_model
from bigin.torch.checkpoint import checkpoint_values
from bigin.torch.configuration import Configuration
from bigin.torch.deferring import deferred
from bigin.torch.filling import Asked, in_dtype, saved
from bigin.torch.modules import Value


@dataclass(frozen=True)
class Arguments:
    """What a caller gives besides a source: the arguments of bigin.torch.reader and bigin.torch.save."""

    rules: Any = None
    like: Any = None
    seed: int | None = None
    default: Value | None = None
    variables: Mapping[str, Any] | None = None
    dtype: Any = None
    strict: bool = False
    source: Any = None

    def refuse(self, of: str, *names: str) -> None:
        """Raises InputError where an argument is given that a kind of source does not take."""
        for name in names:
            if getattr(self, name) is not None:
                raise InputError(f"expected no {name} beside {of}, got one")


@dataclass(frozen=True)
class StateTensors:
    """Tensors by the names of a state dict: their shapes and dtypes.

    `make` says what the values of one are in a dtype: a recording is lowered when a tensor is asked for, as what it
    computes takes memory. `objects` are the entries of a state dict that are no tensors, `aliases` further names of
    tied tensors, each with the first one, `unsaved` those that no state dict has.
    """

    label: str
    tensors: Mapping[str, tuple[Shape, str]]
    make: Callable[[str, str], TensorValues]
    objects: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    unsaved: frozenset[str] = frozenset()

    def spec(self, name: str, dtype: str | None = None) -> TensorValues:
        """What the values of a tensor are, in its own dtype or in another one, as init_ makes them."""
        own = self.tensors[name][1]
        wanted = own if dtype is None else dtype
        if wanted != own and not (is_floating(wanted) and is_floating(own)):
            raise InputError(f"{name}: expected a tensor of {own}, as {self.label} has it, got one of {wanted}")
        return self.make(name, wanted)

    def under(self, prefix: str) -> StateTensors:
        """The same with names that begin with a prefix."""
        if not prefix:
            return self
        return replace(
            self,
            tensors={prefix + name: tensor for name, tensor in self.tensors.items()},
            make=lambda name, dtype: self.make(name.removeprefix(prefix), dtype),
            objects={prefix + name: held for name, held in self.objects.items()},
            aliases={prefix + name: prefix + first for name, first in self.aliases.items()},
            unsaved=frozenset(prefix + name for name in self.unsaved),
        )


def is_floating(dtype: str) -> bool:
    """Whether a dtype is one of floats."""
    return dtypes.row(dtypes.parse_dtype(dtype)).floating


def source_of(source: Any, wanted: Arguments) -> StateTensors:
    """The tensors that a source has; raises InputError where it is none, or where what it needs is missing."""
    if isinstance(source, nn.Module):
        return of_module(source, wanted)
    if isinstance(source, Configuration):
        wanted.refuse(
            "a Configuration, which has its own", "rules", "like", "seed", "default", "variables", "dtype", "source"
        )
        return with_state_dict(of_specs(str(source.path), source.specs), source.module)
    if isinstance(source, deferred):
        wanted.refuse("a recording, which has its own", "rules", "like", "seed", "default", "variables", "source")
        return of_recording(source, wanted.dtype)
    if isinstance(source, Mapping):
        wanted.refuse("specifications", "rules", "like", "seed", "default", "variables", "source")
        specs = {name: in_floats(spec, wanted.dtype) for name, spec in source.items()}
        return of_specs("the mapping", specs)
    if not isinstance(source, str | os.PathLike):
        raise InputError(
            "expected a recipe with like=, a torch.nn.Module with rules, a Configuration, or what bigin.torch.deferred "
            f"has recorded, got {type(source).__name__}"
        )
    wanted.refuse("a recipe, which has its own", "rules", "default")
    if isinstance(wanted.like, nn.Module):
        return of_module(wanted.like, replace(wanted, rules=source, like=None))
    check_recipe(source)
    chosen = Chosen(source, wanted.seed, wanted.variables or {}, strict=wanted.strict)
    chosen, place = with_sources(chosen, wanted.source)
    like = place if wanted.like is None else expand(wanted.like)
    if like is None:
        raise InputError(f"{source}: expected like= beside a recipe: a checkpoint, or a torch.nn.Module")
    model = read_model(like).in_dtype(wanted.dtype)
    return of_specs(model.label, resolve(chosen, model.label, model.tensors)[1])


def in_floats(spec: TensorValues, dtype: Any) -> TensorValues:
    """The same values in another dtype, if they are floats and one is given."""
    if dtype is None or not dtypes.row(spec.dtype).floating:
        return spec
    return in_dtype(spec, dtypes.parse_dtype(dtype).name)


def of_specs(label: str, specs: Mapping[str, TensorValues]) -> StateTensors:
    """Specifications that are known."""
    tensors = {name: (spec.shape, dtypes.name_of(spec.dtype)) for name, spec in specs.items()}
    return StateTensors(label, tensors, lambda name, dtype: in_dtype(specs[name], dtype))


def of_recording(recording: deferred, dtype: Any) -> StateTensors:
    """All that was recorded, under every name that a tensor has in its model."""
    tensors = {}
    for name, tensor in recording.tensors().items():
        own = str(tensor.dtype).removeprefix("torch.")
        kind = dtypes.parse_dtype(dtype).name if dtype is not None and tensor.dtype.is_floating_point else own
        tensors[name] = (tuple(tensor.shape), kind)
    return StateTensors(
        "the recording", tensors, recording.spec, aliases=recording.aliases(), unsaved=frozenset(recording.unsaved())
    )


def of_module(module: nn.Module, wanted: Arguments) -> StateTensors:
    """What a checkpoint of a module holds by its rules, under every name that its state dict has for it."""
    wanted.refuse("a module", "like")
    if wanted.rules is None:
        raise InputError(
            f"expected rules beside a {type(module).__name__}: a mapping, a recipe, or what bigin.torch.deferred has "
            "recorded"
        )
    members = saved(module)
    asked = Asked(wanted.rules, wanted.seed, wanted.default, wanted.variables)
    specs = checkpoint_values(module, asked, members, wanted.dtype)
    return with_state_dict(of_specs(type(module).__name__, specs), module)


def with_state_dict(source: StateTensors, module: nn.Module) -> StateTensors:
    """The same under every name that a module's state dict has for a tensor, with what is no tensor in it."""
    names = {id(member.tensor): member.name for member in saved(module)}
    aliases: dict[str, str] = {}
    objects = {}
    for key, held in module.state_dict(keep_vars=True).items():
        first = names.get(id(held))
        if first is not None and first in source.tensors and key not in source.tensors:
            aliases[key] = first
        elif not isinstance(held, torch.Tensor):
            objects[key] = held
    return replace(
        source,
        tensors={**source.tensors, **{key: source.tensors[first] for key, first in aliases.items()}},
        make=lambda name, dtype: source.make(aliases.get(name, name), dtype),
        objects=objects,
        aliases=aliases,
    )
