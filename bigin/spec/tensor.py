"""All that determines the values of a tensor, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.generator import parse_seed
from bigin.core.record import Record
from bigin.core.regions import Shape
from bigin.core.text import parse_shape
from bigin.fillers.families import plan, shared_plan
from bigin.fillers.filler import Filler, Stream
from bigin.fillers.parts import PaddedFiller
from bigin.methods import table
from bigin.methods.distributions import Distribution
from bigin.spec.spec import STREAM, common


@dataclass(frozen=True)
class TensorSpec:
    """The values of a tensor: method with all its parameters, seed, name, global shape, dtype.

    padding_idx is the row that is zeros, as in torch.nn.Embedding, or None. purpose is that of the stream, of a second
    draw into a tensor of which the first has the stream of its name alone. name_from says where the name came from,
    which decides no value: "caller", "hierarchy", "file" or "unnamed".
    """

    method: str
    parameters: Mapping[str, Any]
    seed: int
    name: str
    shape: Shape
    dtype: np.dtype[Any]
    padding_idx: int | None = None
    name_from: str | None = field(default=None, compare=False)
    purpose: str = ""

    @classmethod
    def parse(
        cls,
        method: str,
        parameters: Mapping[str, Any],
        seed: Any,
        name: Any,
        shape: Shape,
        dtype: np.dtype[Any],
        padding_idx: Any = None,
        name_from: str | None = None,
    ) -> TensorSpec:
        """What a user asks for, checked; raises InputError."""
        row = table.find(method)
        values = row.parse(parameters)
        padding = None if padding_idx is None else parse_padding(padding_idx, shape)
        return cls(row.name, values, parse_seed(seed), parse_name(name), shape, dtype, padding, name_from)

    @property
    def distribution(self) -> Distribution:
        """What the method resolves to at the global shape; raises InputError where they do not go together."""
        return table.resolve(table.find(self.method), self.shape, self.parameters)

    def plan(self) -> Callable[[], Filler]:
        """What makes the filler; raises InputError where the dtype cannot hold the values."""
        make = plan(self.distribution, self.shape, self.dtype, self.seed, self.name, self.purpose)
        row = self.padding_idx
        return make if row is None else lambda: PaddedFiller(make(), row)

    def shared_plan(self) -> Callable[[Stream], Callable[[], Filler]]:
        """What makes the fillers of tensors that differ in their streams alone; raises InputError as `plan` does."""
        return shared_plan(self.distribution, self.shape, self.dtype)

    def named(self, name: str) -> TensorSpec:
        """The same of another name, which has been checked. dataclasses.replace takes ten times as long."""
        held = self.__dict__
        if "_told" not in held:
            held["_told"] = self.record()
        other = object.__new__(TensorSpec)
        other.__dict__.update(held, name=name)
        return other

    def record(self) -> Record:
        """The provenance record. Those of specifications that differ in their names alone share what they hold."""
        if (told := self.__dict__.get("_told")) is not None:
            return {**told, "name": self.name}
        record: Record = {"method": self.method, "parameters": dict(self.parameters)}
        record |= common(self.seed, self.name, self.shape, self.dtype)
        if self.padding_idx is not None:
            record["padding_idx"] = self.padding_idx
        if self.name_from is not None:
            record["name_from"] = self.name_from
        if self.purpose:
            record["purpose"] = self.purpose
        return record

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> TensorSpec:
        """What a record says; raises InputError where it says nothing that could be filled."""
        missing = [key for key in ("method", "seed", "shape", "dtype", "stream") if key not in record]
        if missing:
            raise InputError(f"expected a record of a fill, got one without {', '.join(missing)}")
        if record["stream"] != STREAM:
            raise InputError(
                f"expected a record of stream version {STREAM}, got version {record['stream']!r}; use the version of "
                "bigin that wrote it"
            )
        parameters = record.get("parameters") or {}
        if not isinstance(parameters, dict) or not isinstance(record["method"], str):
            raise InputError(f"expected a record of a fill, got method {record['method']!r} with {parameters!r}")
        shape = record["shape"] if isinstance(record["shape"], list) else None
        spec = cls.parse(
            record["method"],
            parameters,
            record["seed"],
            record.get("name", ""),
            parse_shape(shape),
            dtypes.parse_dtype(record["dtype"]),
            record.get("padding_idx"),
        )
        purpose = parse_name(record.get("purpose", ""))
        return replace(spec, purpose=purpose) if purpose else spec

    @property
    def call(self) -> str:
        """The method with the parameters that are not its defaults: normal(std=0.02)."""
        defaults = table.find(self.method).defaults
        given = [f"{key}={value}" for key, value in self.parameters.items() if value != defaults[key]]
        if self.padding_idx is not None:
            given.append(f"padding_idx={self.padding_idx}")
        return f"{self.method}({', '.join(given)})"

    def __str__(self) -> str:
        name = f", name {self.name}" if self.name else ""
        name += f", {self.purpose}" if self.purpose else ""
        shape = "x".join(map(str, self.shape)) or "scalar"
        return f"{self.call}, seed {self.seed}{name}, {shape} {self.dtype.name}"


def parse_name(name: Any) -> str:
    """A tensor's name: text without NUL, which separates it from a purpose in the stream's hash."""
    if not isinstance(name, str) or "\0" in name:
        raise InputError(f"expected a name that is text without NUL characters, got {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"expected a name that can be encoded in UTF-8, got {name!r}") from None
    return name


def parse_padding(padding_idx: Any, shape: Shape) -> int:
    """The row of zeros. Negative ones count from the end, as in torch."""
    if isinstance(padding_idx, bool) or not hasattr(padding_idx, "__index__"):
        raise InputError(f"expected padding_idx to be an integer, got {padding_idx!r}")
    row = padding_idx.__index__()
    if not shape or not -shape[0] <= row < shape[0]:
        raise InputError(f"expected padding_idx to be a row of shape {shape}, got {row}")
    return int(row % shape[0])
