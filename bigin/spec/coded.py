"""Quantized weights to measure with, drawn as the bytes that hold them."""

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
from bigin.fillers.coded import CODES, CodedFiller
from bigin.fillers.filler import Filler
from bigin.spec.copied import of_common
from bigin.spec.spec import common
from bigin.spec.tensor import TensorSpec

DRAWN = "float8_e4m3fn"


@dataclass(frozen=True)
class CodedSpec:
    """Integers or bytes that hold weights of a code: 0, and rarely the smallest ones of both signs."""

    code: str
    shape: Shape
    dtype: np.dtype[Any]
    name: str = ""
    seed: int = 0

    def plan(self) -> Callable[[], Filler]:
        """What makes the filler: a draw for each byte."""
        drawn = dtypes.parse_dtype(DRAWN)
        shape = (*self.shape, self.dtype.itemsize)
        make = TensorSpec.parse("uniform", {"a": -1.0, "b": 1.0}, self.seed, self.name, shape, drawn).plan()
        return lambda: CodedFiller(self.shape, make(), CODES[self.code], self.dtype.itemsize, drawn)

    def record(self) -> Record:
        """The provenance record."""
        return {"method": "code", "code": self.code, **common(self.seed, self.name, self.shape, self.dtype)}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> CodedSpec:
        """What a record says; raises InputError where it says nothing that could be filled."""
        code, shape = record.get("code"), record.get("shape")
        if code not in CODES:
            raise InputError(f"expected a code among {', '.join(CODES)}, got {code!r:.100}")
        name, seed = of_common(record)
        whole = parse_shape(shape if isinstance(shape, list) else None)
        return cls(str(code), whole, dtypes.parse_dtype(record.get("dtype")), name, seed)

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape)) or "scalar"
        return f"{self.code}, seed {self.seed}, name {self.name}, {shape} {self.dtype.name}"

    @property
    def formula(self) -> str:
        """The numbers that the bytes hold."""
        return f"{self.code}: {CODES[self.code].holds}"
