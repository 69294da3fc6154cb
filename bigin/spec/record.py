"""From a record to what it says: the values of a tensor, of a fused one, of a part of one, or of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bigin.core.errors import InputError
from bigin.core.regions import parse_region
from bigin.core.text import parse_shape
from bigin.fillers.filler import Filler
from bigin.fillers.parts import RegionFilled, StretchFilled
from bigin.spec.fused import Values, values_of
from bigin.spec.model import ModelSpecification


def specification_of(record: Mapping[str, Any]) -> Values | ModelSpecification:
    """The specification that a record tells; raises InputError where it says nothing that could be filled."""
    return ModelSpecification.from_record(record) if "tensors" in record else values_of(record)


def filler_of(record: Mapping[str, Any]) -> Filler:
    """What makes the values of a target that a record describes: a whole tensor's, a region's, or a stretch's.

    Raises InputError where the record says nothing that could be filled.
    """
    try:
        return _filler_of(record)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # people may have written anything into it
        raise InputError(f"expected a record of a fill, got one that makes no sense: {error!r:.200}") from None


def _filler_of(record: Mapping[str, Any]) -> Filler:
    specification = specification_of(record)
    if isinstance(specification, ModelSpecification):
        return specification.filler()
    filler = specification.filler()
    region, stretch = record.get("region"), record.get("stretch")
    if region is not None:
        return RegionFilled(filler, parse_region([slice(*bounds) for bounds in region], specification.shape))
    if stretch is not None:
        return StretchFilled(filler, stretch[0].__index__(), parse_shape(stretch[1]))
    return filler
