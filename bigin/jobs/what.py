"""What a target should hold, according to a caller or to its record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bigin.core.errors import InputError, RecordError, SourceError
from bigin.core.record import Record
from bigin.core.regions import Shape, parse_region
from bigin.core.text import parse_shape
from bigin.jobs.where import Where, recorded_layout
from bigin.spec.part import RegionSpec
from bigin.spec.record import spec_of
from bigin.spec.spec import Spec
from bigin.spec.tensor import TensorSpec
from bigin.targets.open import is_recorded_raw
from bigin.targets.target import Target


@dataclass(frozen=True)
class What:
    """What a caller asks for: a method with its parameters, seed, name, global shape, region, and row of zeros.

    Without a method it is what the target's record says. Without a name it is the target's own; without a shape, the
    target's.
    """

    method: str | None
    parameters: Mapping[str, Any]
    seed: Any = 0
    name: str | None = None
    shape: Shape | None = None
    region: tuple[range, ...] | None = None
    padding_idx: Any = None

    @classmethod
    def parse(
        cls,
        method: str | None,
        parameters: Mapping[str, Any],
        seed: Any,
        name: str | None,
        shape: Any,
        region: Any = None,
        padding_idx: Any = None,
    ) -> What:
        """The arguments of a caller, with the shape and the region checked; raises InputError."""
        whole = None if shape is None else parse_shape(shape)
        ranges = None if region is None else parse_region(region, whole)
        if method is None:
            given = [*parameters, *([] if padding_idx is None else ["padding_idx"])]
            if given:
                raise InputError(f"expected a method for {', '.join(given)}; give --method (method=)")
        return cls(method, parameters, seed, name, whole, ranges, padding_idx)

    def where(self, target: Any, dtype: Any, **options: Any) -> Where:
        """Where it lies: a target that holds the whole tensor, or the region."""
        shape = self.shape if self.region is None else tuple(map(len, self.region))
        if self.method is None and not options.get("raw"):
            options["raw"] = shape is None and dtype is None and is_recorded_raw(target)
        if options.get("raw") and self.method is None and shape is None and dtype is None:
            shape, dtype, offset = recorded_layout(target)
            options["offset"] = options.get("offset") or offset
        return Where(target, shape, dtype, **options)

    def spec(self, target: Target) -> TensorSpec | RegionSpec:
        """What the target is to hold; raises InputError."""
        assert self.method is not None
        name = target.name if self.name is None else self.name
        spec = TensorSpec.parse(
            self.method,
            self.parameters,
            self.seed,
            name,
            target.shape if self.shape is None else self.shape,
            target.dtype,
            self.padding_idx,
            target.name_from if self.name is None else "caller",
        )
        return spec if self.region is None else RegionSpec(spec, self.region)


def recorded_spec(target: Target, record: Record | None) -> Spec:
    """What a target's record says that all of it holds; raises RecordError where it does not say so."""
    if record is None:
        raise RecordError("no record")
    spec = usable_spec(record)
    check_matches(target, spec, record)
    return spec


def check_matches(target: Target, spec: Spec, record: Record) -> None:
    """Raises RecordError where a target is not of the shape and dtype that its record says."""
    if not target.matches(spec.shape, record):
        shape = "x".join(map(str, spec.shape)) or "scalar"
        raise RecordError(f"its record is of {shape} {record.get('dtype')}")


def usable_spec(record: Record) -> Spec:
    """What a record says; raises RecordError where that could not be filled."""
    try:
        spec = spec_of(record)
        spec.plan()
    except SourceError:
        raise
    except InputError as error:
        raise RecordError(f"its record cannot be used: {error}") from None
    return spec
