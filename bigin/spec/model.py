"""What decides the values of a whole model: a specification for every tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from bigin.core.collector import paused
from bigin.core.errors import InputError, SourceError
from bigin.core.record import Record, model_record
from bigin.core.regions import Shape
from bigin.core.text import counted
from bigin.fillers.filler import Filler
from bigin.fillers.model import ModelFiller, Setups, late
from bigin.spec.arranged import ArrangedSpec
from bigin.spec.coded import CodedSpec
from bigin.spec.copied import CopySpec, GrownSpec
from bigin.spec.fused import FusedSpec
from bigin.spec.layered import LayeredSpec
from bigin.spec.spec import STREAM
from bigin.spec.tensor import TensorSpec
from bigin.spec.values import ValuesSpec

Composed = FusedSpec | LayeredSpec
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
        """Of no meaning: every tensor has its own."""
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
            return ModelFiller(fillers, setups)

        return make

    @cached_property
    @paused()
    def _makes(self) -> list[list[Callable[[], Filler]]]:
        return [_plans(spec) for spec in self.tensors.values()]

    @paused()
    def record(self) -> Record:
        """The provenance record of all tensors."""
        return model_record({name: spec.record() for name, spec in self.tensors.items()})

    @classmethod
    @paused()
    def from_record(cls, record: Mapping[str, Any]) -> ModelSpec:
        """What a record says; raises InputError where it says nothing that could be filled."""
        tensors = record.get("tensors")
        if not isinstance(tensors, dict) or not all(isinstance(inner, dict) for inner in tensors.values()):
            raise InputError(f"expected a record of a model with its tensors, got {type(tensors).__name__}")
        common = {"stream": record.get("stream")}
        return cls({name: values_of({**common, **inner}) for name, inner in sorted(tensors.items())})

    def __str__(self) -> str:
        return f"the methods of {counted(len(self.tensors), 'tensor')}"


def _plans(spec: TensorValues) -> list[Callable[[], Filler]]:
    """The plan of a tensor, or of each part of a composed one."""
    plans = []
    for part in spec.parts if isinstance(spec, Composed) else (spec,):
        try:
            plans.append(part.plan())
        except SourceError:  # of a file, which it names
            raise
        except InputError as error:
            raise InputError(f"{part.name}: {error}") from None
    return plans


def values_of(record: Mapping[str, Any]) -> TensorValues:
    """The specification that a tensor's record tells: of one method, given, copied, grown, fused or in layers."""
    if "split" in record and record.get("stream") == STREAM:
        return FusedSpec.from_record(record)
    if "layers" in record and record.get("stream") == STREAM:
        return LayeredSpec.from_record(record)
    if "values" in record and record.get("stream") == STREAM:
        return ValuesSpec.from_record(record)
    if "code" in record and record.get("stream") == STREAM:
        return CodedSpec.from_record(record)
    if "copy" in record and record.get("stream") == STREAM:
        return CopySpec.from_record(record)
    if "arranged" in record and record.get("stream") == STREAM:
        return ArrangedSpec.from_record(record)
    if "grown" in record and record.get("stream") == STREAM:
        return GrownSpec.from_record(record)
    return TensorSpec.from_record(record)
