"""The values of a whole model: a specification for every tensor."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bigin.core.collector import paused
from bigin.core.errors import InputError, SourceError
from bigin.core.record import Record, kind_of, model_record, without
from bigin.core.regions import Shape
from bigin.core.text import counted
from bigin.fillers.filler import Filler, Stream
from bigin.fillers.model import ModelFiller, Setups, late
from bigin.spec.arranged import ArrangedSpec
from bigin.spec.coded import CodedSpec
from bigin.spec.copied import CopySpec, GrownSpec
from bigin.spec.fused import FusedSpec
from bigin.spec.layered import LayeredSpec
from bigin.spec.spec import STREAM
from bigin.spec.tensor import TensorSpec, parse_name
from bigin.spec.values import ValuesSpec

Composed = FusedSpec | LayeredSpec
# The kinds of specifications other than TensorSpec, by the key that only their records have.
KINDS: dict[str, type[FusedSpec | LayeredSpec | ValuesSpec | CodedSpec | CopySpec | ArrangedSpec | GrownSpec]] = {
    "split": FusedSpec,
    "layers": LayeredSpec,
    "values": ValuesSpec,
    "code": CodedSpec,
    "copy": CopySpec,
    "arranged": ArrangedSpec,
    "grown": GrownSpec,
}
TensorValues = TensorSpec | ValuesSpec | CodedSpec | CopySpec | GrownSpec | ArrangedSpec | Composed


@dataclass(frozen=True)
class ModelSpec:
    """The values of a model: a specification for every tensor, by name, in the order of the names."""

    tensors: Mapping[str, TensorValues]

    @property
    def shape(self) -> Shape:
        """The number of tensors."""
        return (len(self.tensors),)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Without meaning, as every tensor has its own."""
        return np.dtype(np.uint8)

    def plan(self) -> Callable[[], Filler]:
        """What makes the filler of all tensors; InputError names the tensor whose dtype cannot hold its values."""
        makes = self._makes

        @paused()
        def make() -> Filler:
            setups = Setups()
            fillers = []
            for spec, parts in zip(self.tensors.values(), makes, strict=True):
                made = [late(part, setups) for part in parts]
                fillers.append(spec.filler(made) if isinstance(spec, Composed) else made[0])
            return ModelFiller(fillers, setups, [spec.dtype for spec in self.tensors.values()])

        return make

    @cached_property
    @paused()
    def _makes(self) -> list[list[Callable[[], Filler]]]:
        shared: Shared = {}
        return [_plans(spec, shared) for spec in self.tensors.values()]

    @cached_property
    @paused()
    def records(self) -> dict[str, Record]:
        """The record of each tensor, which is not to be changed."""
        return {name: spec.record() for name, spec in self.tensors.items()}

    @paused()
    def record(self) -> Record:
        """The provenance record of all tensors."""
        return model_record(self.records)

    @classmethod
    @paused()
    def from_record(cls, record: Mapping[str, Any]) -> ModelSpec:
        """What a record says; raises InputError where it says nothing that could be filled."""
        tensors = record.get("tensors")
        if not isinstance(tensors, dict) or not all(isinstance(inner, dict) for inner in tensors.values()):
            raise InputError(f"expected a record of a model with its tensors, got {type(tensors).__name__}")
        common = {"stream": record.get("stream")}
        known: dict[Hashable, TensorSpec] = {}
        return cls({name: _spec_of(common, inner, known) for name, inner in sorted(tensors.items())})

    def __str__(self) -> str:
        return f"the methods of {counted(len(self.tensors), 'tensor')}"


# Plans of tensors that differ in their streams alone, by what they share. The parameters are told apart by which dict
# they are: tensors of one rule, or of one record, have one.
Shared = dict[tuple[str, int, Shape, np.dtype[Any]], Callable[[Stream], Callable[[], Filler]]]


def _plans(spec: TensorValues, shared: Shared) -> list[Callable[[], Filler]]:
    """The plan of a tensor, or of each part of a composed one."""
    if isinstance(spec, TensorSpec) and spec.padding_idx is None:
        key = (spec.method, id(spec.parameters), spec.shape, spec.dtype)
        if key not in shared:
            try:
                shared[key] = spec.shared_plan()
            except InputError as error:
                raise InputError(f"{spec.name}: {error}") from None
        return [shared[key](Stream(spec.seed, spec.name, spec.purpose))]
    plans = []
    for part in spec.parts if isinstance(spec, Composed) else (spec,):
        try:
            plans.append(part.plan())
        except SourceError:  # of a file, which it names
            raise
        except InputError as error:
            raise InputError(f"{part.name}: {error}") from None
    return plans


def _spec_of(common: Record, record: Record, known: dict[Hashable, TensorSpec]) -> TensorValues:
    """`values_of` a record, and at once where another one that differs in its name alone is known.

    Records that a store has told one by one share no objects, and are told apart by their text.
    """
    kind = kind_of(record)
    if (spec := known.get(kind) or known.get(text := repr(without(record, ("name",))))) is not None:
        return spec.named(parse_name(record.get("name", "")))
    values = values_of({**common, **record})
    if isinstance(values, TensorSpec):
        known[kind] = known[text] = values
    return values


def values_of(record: Mapping[str, Any]) -> TensorValues:
    """The specification that a tensor's record tells: of one method, given, copied, grown, fused or in layers."""
    if record.get("stream") == STREAM:
        for key, kind in KINDS.items():
            if key in record:
                return kind.from_record(record)
    return TensorSpec.from_record(record)
