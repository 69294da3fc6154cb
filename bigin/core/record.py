"""The provenance record: what a target was filled with, as JSON. Specifications make it, stores keep it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Record = dict[str, Any]

COMMON = ("seed", "stream", "bigin")  # of a tensor's record, what a model's record says once
ASIDE = ("stream", "bigin", "complete", "name_from")  # what a tensor's record inside a model's leaves out


def model_record(records: Mapping[str, Record]) -> Record:
    """The record of a model from those of its tensors, in the order of the names."""
    tensors = {
        name: {key: value for key, value in record.items() if key not in ASIDE}
        for name, record in sorted(records.items())
    }
    first: Record = next(iter(records.values()), {})
    return {"method": "a recipe", "tensors": tensors} | {key: first[key] for key in COMMON if key in first}
