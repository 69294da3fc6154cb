"""The provenance record: what a target was filled with, as JSON. Specifications make it, stores keep it."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

Record = dict[str, Any]
NO_NAME = "\0"  # which no tensor is called

COMMON = ("seed", "stream", "bigin")  # of a tensor's record, what a model's record says once
ASIDE = ("stream", "bigin", "complete", "name_from")  # what a tensor's record inside a model's leaves out


def model_record(records: Mapping[str, Record]) -> Record:
    """The record of a model from those of its tensors, in the order of the names."""
    tensors = {name: without(record, ASIDE) for name, record in sorted(records.items())}
    first: Record = next(iter(records.values()), {})
    return {"method": "a recipe", "tensors": tensors} | {key: first[key] for key in COMMON if key in first}


def without(record: Mapping[str, Any], keys: Iterable[str]) -> Record:
    """A record without some of its keys."""
    left = dict(record)
    for key in keys:
        left.pop(key, None)
    return left


def text_of(record: Record, **options: Any) -> str:
    """`json.dumps` of a record. In that of a model, tensors that hold the same objects but for their names are written
    once, and the names put in: in a third of the time.
    """
    tensors = record.get("tensors")
    if not isinstance(tensors, dict) or not all(isinstance(inner, dict) for inner in tensors.values()):
        return json.dumps(record, **options)
    encode = json.JSONEncoder(**options).encode
    known: dict[Hashable, tuple[str, str, str]] = {}  # before a name, and behind it
    written = []
    for name, inner in sorted(tensors.items()) if options.get("sort_keys") else tensors.items():
        kind = kind_of(inner)
        if kind not in known:
            known[kind] = encode({**inner, "name": NO_NAME} if "name" in inner else inner).partition(encode(NO_NAME))
        before, cut, behind = known[kind]
        written.append(f"{encode(name)}: {before}{encode(inner['name']) if cut else ''}{behind}")
    before, _, behind = encode({**record, "tensors": NO_NAME}).partition(encode(NO_NAME))
    return f"{before}{{{', '.join(written)}}}{behind}"


def kind_of(record: Mapping[str, Any]) -> Hashable:
    """Equal for two records that hold the same objects but for their names, as many in a model do; others may not be.

    It is made in a tenth of the time of a text, and holds as long as both records are there.
    """
    held = without(record, ("name",))
    return (*held, *map(id, held.values()))
