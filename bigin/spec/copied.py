"""Values that another checkpoint holds: a tensor of it as it is, or with more rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.record import Record
from bigin.core.regions import Shape
from bigin.core.source import Source
from bigin.core.text import parse_shape
from bigin.fillers.arranged import ViewFiller
from bigin.fillers.copied import CopyFiller
from bigin.fillers.filler import Filler
from bigin.fillers.grown import GrownFiller, Held, MeanFiller, MultivariateFiller, RowFiller
from bigin.methods.scalars import drawn_as
from bigin.spec.spec import common
from bigin.spec.tensor import TensorSpec, parse_name

MEAN, COVARIANCE, ROW = "mean", "mean+covariance", "row"  # kinds of new rows, besides a method's values


def check_dtype(source: Source, dtype: np.dtype[Any]) -> None:
    """Raises InputError where values cannot be copied into a dtype."""
    floats = {dtypes.name_of(source.dtype), dtypes.name_of(dtype)} <= set(dtypes.FLOATS)
    if dtype != source.dtype and not floats:
        raise InputError(f"{source.tensor}: expected the dtype of what is copied, {source.dtype}, got {dtype}")


@dataclass(frozen=True)
class CopySpec:
    """The values of a tensor of another checkpoint. name and seed decide none of them."""

    source: Source
    dtype: np.dtype[Any]
    name: str = ""
    seed: int = 0

    @property
    def shape(self) -> Shape:
        """The shape of what is copied."""
        return self.source.shape

    def plan(self) -> Callable[[], Filler]:
        """What makes the filler; raises SourceError where the other checkpoint is gone, or not what it was."""
        check_dtype(self.source, self.dtype)
        self.source.check()
        return lambda: CopyFiller(self.source, self.dtype)

    def record(self) -> Record:
        """The provenance record."""
        return {"method": "copy", "copy": self.source.record()} | common(self.seed, self.name, self.shape, self.dtype)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> CopySpec:
        """What a record says; raises InputError where it says nothing that could be filled."""
        source = Source.from_record(record.get("copy"))
        if parse_shape(record.get("shape")) != source.shape:
            raise InputError(f"expected a record of a copy of shape {source.shape}, got {record.get('shape')}")
        return cls(source, dtypes.parse_dtype(record.get("dtype")), *of_common(record))

    def __str__(self) -> str:
        return f"copy of {self.source.tensor}"


@dataclass(frozen=True)
class NewRows:
    """The values of new rows: kind MEAN, COVARIANCE, ROW (`row` says which), or a method's values."""

    kind: str
    row: int = 0
    method: str = ""
    parameters: Mapping[str, Any] | None = None

    def record(self) -> Record:
        """As a record tells it."""
        if self.kind == ROW:
            return {"row": self.row}
        return {"method": self.method, "parameters": dict(self.parameters or {})} if self.method else {"as": self.kind}

    @classmethod
    def from_record(cls, told: Any) -> NewRows:
        """What a record tells; raises InputError where it tells no rows."""
        if isinstance(told, dict) and type(told.get("row")) is int:
            return cls(ROW, told["row"])
        if isinstance(told, dict) and told.get("as") in (MEAN, COVARIANCE):
            return cls(told["as"])
        if isinstance(told, dict) and isinstance(told.get("method"), str):
            return cls("method", method=told["method"], parameters=told.get("parameters") or {})
        raise InputError(f"expected a record of new rows, got {told!r:.100}")

    def __str__(self) -> str:
        return self.method or (f"row {self.row}" if self.kind == ROW else self.kind)


@dataclass(frozen=True)
class GrownSpec:
    """A tensor of another checkpoint, and new rows behind its own.

    The new rows of a method, or those with a covariance, are drawn from the stream of `name`, at their index in the
    grown tensor: how many rows were there before decides none of their draws. `like` is the tensor whose rows they have
    the mean of, or copy, if that is another one: where two matrices are tied, that of the inputs. axis: 1 for a matrix
    that has a column for every token, and gets more of them.
    """

    source: Source
    new: NewRows
    rows: int
    dtype: np.dtype[Any]
    name: str = ""
    seed: int = 0
    like: Source | None = None
    axis: int = 0

    @property
    def kept(self) -> int:
        """The number of old rows."""
        return self.source.shape[self.axis]

    @property
    def pattern(self) -> Source:
        """The tensor whose rows the new ones follow."""
        return self.like or self.source

    @property
    def shape(self) -> Shape:
        """The shape with all rows."""
        return (*self.source.shape[: self.axis], self.rows, *self.source.shape[self.axis + 1 :])

    @property
    def as_rows(self) -> Shape:
        """The same with the axis that grows before the others."""
        return (self.rows, *self.source.shape[: self.axis], *self.source.shape[self.axis + 1 :])

    @property
    def drawn(self) -> np.dtype[Any]:
        """The type in which moments are made, and the values that they are multiplied with."""
        return np.dtype(drawn_as(self.pattern.dtype))

    def tensor(self, method: str, parameters: Mapping[str, Any], dtype: np.dtype[Any]) -> TensorSpec:
        """What a method says of the whole tensor."""
        return TensorSpec.parse(method, parameters, self.seed, self.name, self.shape, dtype)

    def plan(self) -> Callable[[], Filler]:
        """What makes the filler.

        Raises InputError where the dtype cannot hold the values, SourceError where the other checkpoint is gone.
        """
        kept, source, new, shape, dtype = self.source, self.pattern, self.new, self.as_rows, self.dtype
        for each in {kept, source}:
            check_dtype(each, dtype)
            each.check()
        make: Callable[[], Filler]
        if new.method:
            drawn = self.tensor(new.method, new.parameters or {}, dtype).plan()
            make = lambda: self._turned(drawn(), dtype)  # noqa: E731
        elif new.kind == ROW:
            make = lambda: RowFiller(shape, self._rows(source, dtype), new.row)  # noqa: E731
        elif dtypes.name_of(source.dtype) not in dtypes.FLOATS:
            raise InputError(f"{source.tensor}: expected floats to take the mean of, got {source.dtype}")
        elif new.kind == MEAN:
            make = lambda: MeanFiller(shape, dtype, self._held(source))  # noqa: E731
        else:
            standard = replace(self.tensor("normal", {}, self.drawn), shape=shape).plan()
            make = lambda: MultivariateFiller(shape, dtype, self._held(source), standard(), self.drawn)  # noqa: E731
        return lambda: self._turned(GrownFiller(self._rows(kept, dtype), make()), dtype)

    def _turned(self, filler: Filler, dtype: np.dtype[Any]) -> Filler:
        """The transpose, if columns are added instead of rows."""
        return transposed(filler, dtype) if self.axis else filler

    def _rows(self, source: Source, dtype: np.dtype[Any]) -> Filler:
        return self._turned(CopyFiller(source, dtype), dtype)

    def _held(self, source: Source) -> Held:
        return Held(self._rows(source, source.dtype), source.dtype)

    def record(self) -> Record:
        """The provenance record, which says from which row on the rows are new."""
        grown = {"from": self.source.record(), "new_from": self.kept, "new": self.new.record()}
        if self.axis:
            grown["axis"] = self.axis
        if self.like is not None:
            grown["like"] = self.like.record()
        return {"method": "grown", "grown": grown} | common(self.seed, self.name, self.shape, self.dtype)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> GrownSpec:
        """What a record says; raises InputError where it says nothing that could be filled."""
        told = record.get("grown")
        if not isinstance(told, dict):
            raise InputError(f"expected a record of a grown tensor, got {told!r:.100}")
        source, shape = Source.from_record(told.get("from")), parse_shape(record.get("shape"))
        new, dtype = NewRows.from_record(told.get("new")), dtypes.parse_dtype(record.get("dtype"))
        axis = told.get("axis", 0)
        if axis not in (0, 1) or len(shape) <= axis:
            raise InputError(f"expected a record of more rows than {source.shape} has, got {shape}")
        spec = grown(source, new, shape[axis], dtype, *of_common(record), axis)
        if spec.shape != shape:
            raise InputError(f"expected a record of more rows than {source.shape} has, got {shape}")
        return replace(spec, like=Source.from_record(told["like"])) if "like" in told else spec

    def __str__(self) -> str:
        return f"copy of {self.source.tensor}, {'columns' if self.axis else 'rows'} from {self.kept} on: {self.new}"


def grown(
    source: Source,
    new: NewRows,
    rows: int,
    dtype: np.dtype[Any] | None = None,
    name: str = "",
    seed: int = 0,
    axis: int = 0,
) -> GrownSpec:
    """A tensor with more rows; raises InputError if it has that many already, or the new ones cannot be made."""
    spec = GrownSpec(source, new, rows, source.dtype if dtype is None else dtype, name, seed, axis=axis)
    if len(source.shape) <= axis or source.shape[axis] == 0 or (axis and len(source.shape) != 2):
        wanted = "a matrix with columns" if axis else "a tensor with rows"
        raise InputError(f"{source.tensor}: expected {wanted}, got shape {source.shape}")
    if rows <= spec.kept:
        raise InputError(
            f"{source.tensor}: expected more {'columns' if axis else 'rows'} than its {spec.kept}, got {rows}"
        )
    if new.kind == ROW and not 0 <= new.row < spec.kept:
        raise InputError(f"{source.tensor}: expected a row from 0 to {spec.kept - 1} to copy, got {new.row}")
    if new.method:
        whole = spec.tensor(new.method, new.parameters or {}, spec.dtype)
        whole.plan()  # refuses what does not fit the shape or the dtype
        return replace(spec, new=replace(new, method=whole.method, parameters=whole.parameters))
    return spec


def transposed(filler: Filler, dtype: np.dtype[Any]) -> Filler:
    """The transpose of another filler's matrix."""
    rows, columns = filler.shape
    return ViewFiller(filler, dtype, (columns, rows), (1, 0), [np.arange(columns), np.arange(rows)])


def of_common(record: Mapping[str, Any]) -> tuple[str, int]:
    """The name and the seed that a record tells."""
    return parse_name(record.get("name", "")), int(record.get("seed", 0))
