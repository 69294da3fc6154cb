"""Fused tensors: several tensors that follow each other along an axis of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.record import Record
from bigin.core.regions import Shape
from bigin.core.text import parse_shape
from bigin.fillers.filler import Filler
from bigin.fillers.fused import FusedFiller
from bigin.spec.tensor import TensorSpec

PART_KEYS = ("method", "parameters", "name", "shape", "padding_idx")  # of a part's record; the rest is the tensor's


@dataclass(frozen=True)
class FusedSpec:
    """The values of a fused tensor: its parts, each with its own name and shape, along an axis.

    With `stack` each part is one index of the axis, and lacks it.
    """

    axis: int
    stack: bool
    parts: tuple[TensorSpec, ...]
    shape: Shape
    dtype: np.dtype[Any]

    def plan(self) -> Callable[[], Filler]:
        """What makes the filler; raises InputError where the dtype cannot hold the values."""
        makes = [part.plan() for part in self.parts]
        return lambda: self.filler([make() for make in makes])

    def filler(self, parts: list[Filler]) -> Filler:
        """The filler of the whole from those of the parts."""
        return FusedFiller(self.shape, self.dtype, self.axis, self.sizes(), parts, stack=self.stack)

    def sizes(self) -> list[int]:
        """How long each part is along the axis."""
        return [1 if self.stack else part.shape[self.axis] for part in self.parts]

    def record(self) -> Record:
        """The provenance record. JSON's key for a fused tensor is "split"."""
        parts = []
        for part in self.parts:
            record = part.record()
            parts.append({key: record[key] for key in PART_KEYS if key in record})
        first = self.parts[0].record()
        return {
            "method": "split",
            "split": {"axis": self.axis, "stack": self.stack, "parts": parts},
            **{key: first[key] for key in ("seed", "stream", "bigin")},
            "shape": list(self.shape),
            "dtype": self.dtype.name,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> FusedSpec:
        """What a record says; raises InputError where it says nothing that could be filled."""
        split, shape, dtype = record.get("split"), record.get("shape"), record.get("dtype")
        if not isinstance(split, dict) or not isinstance(split.get("parts"), list) or not split["parts"]:
            raise InputError(f"expected a record of a fused tensor with its parts, got {split!r}")
        whole = parse_shape(shape if isinstance(shape, list) else None)
        common = {key: record.get(key) for key in ("seed", "stream", "dtype") if key in record}
        parts = tuple(
            TensorSpec.from_record({**part, **common})
            for part in split["parts"]
            if isinstance(part, dict) and "split" not in part
        )
        made = cls(split.get("axis", -1), bool(split.get("stack")), parts, whole, dtypes.parse_dtype(dtype))
        made.check(len(split["parts"]))
        return made

    def check(self, count: int) -> None:
        """Refuses parts that do not make up the tensor."""
        axis = self.axis
        fits = type(axis) is int and 0 <= axis < len(self.shape) and len(self.parts) == count
        if fits:
            rest = (*self.shape[:axis], *self.shape[axis + 1 :])
            others = [
                part.shape if self.stack else (*part.shape[:axis], *part.shape[axis + 1 :]) for part in self.parts
            ]
            fits = all(other == rest for other in others) and sum(self.sizes()) == self.shape[axis]
        if not fits:
            raise InputError(f"expected parts that make up shape {self.shape} along an axis, got others")

    def __str__(self) -> str:
        return f"{len(self.parts)} parts along axis {self.axis}: {self.parts[0]}, ..."
