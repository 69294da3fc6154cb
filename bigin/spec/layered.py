"""Tensors that are written in layers: whole, then some of their rows, columns or other views again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.record import Record
from bigin.core.regions import Shape, dense
from bigin.core.text import parse_shape
from bigin.core.views import Positions, View, along_axes
from bigin.fillers.filler import Filler
from bigin.fillers.layered import LayeredFiller
from bigin.fillers.parts import LatticeFiller
from bigin.spec.tensor import TensorSpec
from bigin.spec.values import ValuesSpec

Single = TensorSpec | ValuesSpec
LAYER_KEYS = ("method", "parameters", "name", "purpose", "shape", "padding_idx", "values", "dtype")


@dataclass(frozen=True)
class Layer:
    """What is written (`spec`), where in the tensor (`where`), and which of its elements (`source`: all, in order)."""

    spec: Single
    where: View
    source: View

    def axes(self, shape: Shape) -> list[tuple[Positions, Positions]]:
        """The indices along each axis of the tensor, and the flat index in `spec` that each adds."""
        return along_axes(shape, self.where, self.source)

    def record(self) -> Record:
        """Its part of the tensor's record."""
        record = self.spec.record()
        told: Record = {key: record[key] for key in LAYER_KEYS if key in record}
        for key, view in (("where", self.where), ("source", self.source)):
            told[key] = [view.offset, list(view.sizes), list(view.strides)]
        return told


@dataclass(frozen=True)
class LayeredSpec:
    """The values of a tensor in layers, the lowest first."""

    layers: tuple[Layer, ...]
    shape: Shape
    dtype: np.dtype[Any]

    @property
    def parts(self) -> tuple[Single, ...]:
        """What is written, layer by layer."""
        return tuple(layer.spec for layer in self.layers)

    def plan(self) -> Callable[[], Filler]:
        """What makes the filler; raises InputError where the dtype cannot hold the values."""
        makes = [part.plan() for part in self.parts]
        return lambda: self.filler([make() for make in makes])

    def filler(self, parts: list[Filler]) -> Filler:
        """The filler of the whole from those of the layers."""
        layers = []
        for layer, part in zip(self.layers, parts, strict=True):
            axes = layer.axes(self.shape)
            sizes = tuple(len(positions) for positions, _ in axes)
            direct = sizes == part.shape and all(
                isinstance(numbers, range) and (size == 1 or numbers == range(0, size * stride, stride))
                for (_, numbers), size, stride in zip(axes, sizes, dense(sizes), strict=True)
            )
            whole = direct and layer.source.offset == 0
            filler = part if whole else LatticeFiller(part, 0, [numbers for _, numbers in axes])
            layers.append(([positions for positions, _ in axes], filler))
        return LayeredFiller(self.shape, self.dtype, layers)

    def record(self) -> Record:
        """The provenance record."""
        first = self.parts[0].record()
        return {
            "method": "layers",
            "layers": [layer.record() for layer in self.layers],
            **{key: first[key] for key in ("seed", "stream", "bigin")},
            "shape": list(self.shape),
            "dtype": dtypes.name_of(self.dtype),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> LayeredSpec:
        """What a record says; raises InputError where it says nothing that could be filled."""
        told, shape = record.get("layers"), record.get("shape")
        whole, dtype = parse_shape(shape if isinstance(shape, list) else None), dtypes.parse_dtype(record.get("dtype"))
        common = {key: record.get(key) for key in ("seed", "stream", "dtype") if key in record}
        if not isinstance(told, list) or not told:
            raise InputError(f"expected a record of a tensor in layers, got {told!r:.100}")
        try:
            layers = tuple(
                Layer(single_of({**common, **each}), view_of(each["where"]), view_of(each["source"])) for each in told
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"expected a record of a tensor in layers, got {error!r:.100}") from None
        made = cls(layers, whole, dtype)
        for layer in layers:
            layer.axes(whole)
        return made

    def __str__(self) -> str:
        return f"{len(self.layers)} layers: {'; '.join(map(str, self.parts[:2]))}" + (
            "; ..." if len(self.layers) > 2 else ""
        )


def single_of(record: Mapping[str, Any]) -> Single:
    """What a layer's record says."""
    return ValuesSpec.from_record(record) if "values" in record else TensorSpec.from_record(record)


def view_of(told: Any) -> View:
    """A view from a record."""
    offset, sizes, strides = told
    return View(int(offset), tuple(map(int, sizes)), tuple(map(int, strides)))
