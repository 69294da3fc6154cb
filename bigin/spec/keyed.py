"""All that determines the values of a table whose rows are named by 64-bit keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

import bigin
from bigin.core import dtypes
from bigin.core.errors import InputError, RecordError
from bigin.core.generator import parse_seed
from bigin.core.record import Record
from bigin.fillers.keyed import RowFiller, plan_rows
from bigin.methods import table
from bigin.spec.spec import STREAM
from bigin.spec.tensor import parse_name

ROWS = (1, 1 << 20)  # two sizes of a table, at which a method must be the same
MOST = 1 << 40  # elements in a row


@dataclass(frozen=True)
class KeyedSpec:
    """The values of a keyed table: method with all its parameters, seed, name, elements in a row, dtype."""

    method: str
    parameters: Mapping[str, Any]
    seed: int
    name: str
    dim: int
    dtype: np.dtype[Any]

    @classmethod
    def parse(cls, method: str, parameters: Mapping[str, Any], seed: Any, name: Any, dim: Any, dtype: Any) -> KeyedSpec:
        """What a user asks for, checked; raises InputError."""
        row = table.find(method)
        if isinstance(dim, bool) or not hasattr(dim, "__index__") or not 1 <= dim.__index__() <= MOST:
            raise InputError(f"expected dim to be an integer from 1 to 2^40, got {dim!r}")
        if not dtypes.parse_stored(dtype).isnative:
            raise InputError(f"expected a dtype in the machine's byte order for a keyed table, got {dtype!r}")
        seed, name, dtype = parse_seed(seed), parse_name(name), dtypes.parse_dtype(dtype)
        spec = cls(row.name, row.parse(parameters), seed, name, int(dim.__index__()), dtype)
        spec.plan()
        return spec

    def plan(self) -> Callable[[], RowFiller]:
        """What makes the filler of rows; raises InputError where a value would depend on more than its key."""
        row = table.find(self.method)
        few, many = (table.resolve(row, (rows, self.dim), self.parameters) for rows in ROWS)
        if few != many:
            raise InputError(
                f"expected a method whose values do not depend on the number of rows, got {self.method}: {few} for "
                f"{ROWS[0]} row would be {many} for {ROWS[1]}; choose normal or uniform"
            )
        try:
            return plan_rows(few, self.dim, self.dtype, self.seed, self.name)
        except InputError as error:
            raise InputError(f"{self.method} of a keyed table: {error}") from None

    def record(self) -> Record:
        """The provenance record."""
        return {
            "method": self.method,
            "parameters": dict(self.parameters),
            "seed": self.seed,
            "name": self.name,
            "keys": "uint64",
            "dim": self.dim,
            "dtype": dtypes.name_of(self.dtype),
            "stream": STREAM,
            "bigin": bigin.__version__,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> KeyedSpec:
        """What a record says; raises RecordError."""
        if record.get("keys") != "uint64" or record.get("stream") != STREAM:
            raise RecordError(
                f"expected a record of a keyed table of stream version {STREAM}, got keys {record.get('keys')!r} and "
                f"version {record.get('stream')!r}"
            )
        try:
            rest = (record["seed"], record["name"], record["dim"], record["dtype"])
            return cls.parse(record["method"], record["parameters"], *rest)
        except (InputError, LookupError, TypeError, AttributeError) as error:
            raise RecordError(f"expected a record of a keyed table, got one that says {error}") from None

    @property
    def call(self) -> str:
        """The method with the parameters that are not its defaults: normal(std=0.02)."""
        return f"{self.method}({', '.join(f'{key}={value}' for key, value in self.given.items())})"

    @property
    def given(self) -> dict[str, Any]:
        """The parameters that are not the method's defaults."""
        defaults = table.find(self.method).defaults
        return {key: value for key, value in self.parameters.items() if value != defaults[key]}

    def __str__(self) -> str:
        name = f", name {self.name}" if self.name else ""
        return f"{self.call}, seed {self.seed}{name}, rows of {self.dim} {self.dtype.name} by key"
