"""From a record that was read from a store to the specification that it tells.

The kinds of specifications are imported when a record is read: a new target has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bigin.core.errors import RecordError, SourceError
from bigin.core.regions import parse_region
from bigin.core.text import parse_shape
from bigin.spec.spec import Spec


def described(record: Mapping[str, Any]) -> str:
    """The values that a record tells, in words; those of a keyed table's dump, too."""
    from bigin.spec.keyed import KeyedSpec

    return str(KeyedSpec.from_record(record) if record.get("keys") is not None else spec_of(record))


def spec_of(record: Mapping[str, Any]) -> Spec:
    """The specification that a record tells: of a tensor, a part of one, a fused one, or a model.

    Raises RecordError where the record says nothing that could be filled. People may have edited it.
    """
    from bigin.spec.model import ModelSpec, values_of
    from bigin.spec.part import FlatSliceSpec, RegionSpec

    try:
        if "tensors" in record:
            return ModelSpec.from_record(record)
        whole = values_of(record)
        region, flat_slice = record.get("region"), record.get("flat_slice")
        if region is not None:
            return RegionSpec(whole, parse_region([slice(*bounds) for bounds in region], whole.shape))
        if flat_slice is not None:
            return FlatSliceSpec(whole, flat_slice[0].__index__(), parse_shape(flat_slice[1]))
        return whole
    except (RecordError, SourceError):
        raise
    except (ValueError, TypeError, AttributeError, LookupError) as error:
        reason = str(error) if isinstance(error, ValueError) else f"expected a record of a fill, got {error!r:.200}"
        raise RecordError(reason) from None
