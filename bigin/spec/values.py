"""Values that are given one by one, such as a buffer that a model's own code has computed."""

from __future__ import annotations

import base64
import math
import zlib
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
from bigin.fillers.values import ValuesFiller
from bigin.spec.spec import common

LARGEST = 8 << 20  # bytes of a tensor's record; a file's header holds 100 MB for all of them


@dataclass(frozen=True, eq=False)
class ValuesSpec:
    """Given values, in a dtype. name and seed affect none of them, and are only kept in the record."""

    values: np.ndarray[Any, Any]
    name: str = ""
    seed: int = 0

    @property
    def shape(self) -> Shape:
        """The shape of the values."""
        return tuple(self.values.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values."""
        own: np.dtype[Any] = self.values.dtype
        return own

    def plan(self) -> Callable[[], Filler]:
        """What makes the filler."""
        return lambda: ValuesFiller(self.values)

    def record(self) -> Record:
        """The provenance record, with the values: of an axis along which all are equal, the first alone."""
        values, once = np.ascontiguousarray(self.values), []
        for axis, size in enumerate(self.shape):
            first = values[(slice(None),) * axis + (slice(0, 1),)]
            if size > 1 and (bits(values) == bits(first)).all():
                values = np.ascontiguousarray(first)
                once.append(axis)
        packed = zlib.compress(np.ascontiguousarray(values).tobytes(), 9)
        if len(packed) > LARGEST:
            raise InputError(
                f"{self.name}: expected values that are drawn or computed by a method, or few, got {self.values.size} "
                "given ones, more than a record holds; give a rule for it"
            )
        return {
            "method": "values",
            "values": {"zlib": base64.b64encode(packed).decode(), "equal_along": once},
            **common(self.seed, self.name, self.shape, self.dtype),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ValuesSpec:
        """What a record says; raises InputError where it says nothing that could be filled."""
        held, told = record.get("values"), record.get("shape")
        shape, dtype = parse_shape(told if isinstance(told, list) else None), dtypes.parse_dtype(record.get("dtype"))
        try:
            once = set(held["equal_along"])  # type: ignore[index]
            stored = tuple(1 if axis in once else size for axis, size in enumerate(shape))
            data = zlib.decompress(base64.b64decode(held["zlib"]))  # type: ignore[index]
            values = np.frombuffer(data, dtype, math.prod(stored)).reshape(stored)
            made = np.broadcast_to(values, shape)
        except (KeyError, TypeError, ValueError, zlib.error):
            raise InputError(f"expected a record of given values of shape {shape}, got {held!r:.100}") from None
        return cls(made, str(record.get("name", "")), int(record.get("seed", 0)))

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape)) or "scalar"
        return f"values as computed, {shape} {self.dtype.name}"


def bits(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The bits of values, to compare them: NaN is equal to itself, and 0 is not to -0."""
    return (
        values.view(f"V{values.dtype.itemsize}")
        if values.dtype.itemsize > 8
        else values.view(dtypes.unsigned(values.dtype))
    )
