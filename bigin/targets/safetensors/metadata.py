"""The records of a checkpoint's tensors, in the metadata of its files."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping

from bigin.core.record import kind_of, without
from bigin.targets.records import Record, parse_record
from bigin.targets.safetensors.header import Header

KEY = "bigin"  # of the metadata, which holds the records
ENCODE = json.JSONEncoder(sort_keys=True).encode  # json.dumps would make an encoder for every tensor


def pack_records(records: Mapping[str, Record]) -> str:
    """Records of tensors as text: each way to fill once, and which tensor takes which. Shapes are in the header."""
    fills: list[Record] = []
    numbers: dict[str, int] = {}
    tensors: dict[str, int] = {}
    told: dict[Hashable, int] = {}  # the same by what is made sooner; several of them may mean one fill
    for name, record in records.items():
        own = record.get("name") == name
        kind = own or record.get("name"), kind_of(record)
        if kind not in told:
            fill = without(record, ("shape", "dtype", *(["name"] if own else [])))
            told[kind] = numbers.setdefault(ENCODE(fill), len(fills))
            if told[kind] == len(fills):
                fills.append(fill)
        tensors[name] = told[kind]
    return json.dumps({"fills": fills, "tensors": tensors}, separators=(",", ":"))


def unpack_records(header: Header) -> dict[str, Record]:
    """The records of a file's tensors, as its metadata has them; none where it says nothing that can be understood."""
    held = parse_record(header.metadata.get(KEY, "").encode()) or {}
    fills, tensors = held.get("fills"), held.get("tensors")
    if not isinstance(fills, list) or not isinstance(tensors, dict):
        return {}
    records: dict[str, Record] = {}
    known: dict[Hashable, Record] = {}  # by what tensors share
    for name, number in tensors.items():
        entry = header.entries.get(name)
        if entry is None or type(number) is not int or not 0 <= number < len(fills):
            continue
        if isinstance(fills[number], dict):
            kind = number, entry.code, entry.shape
            if (record := known.get(kind)) is None:
                dtype, shape = entry.stored
                told = {"shape": list(shape), "dtype": dtype, "complete": True}
                record = known[kind] = ({} if "split" in fills[number] else {"name": name}) | fills[number] | told
            own = "name" in record and "name" not in fills[number]
            records[name] = {**record, "name": name} if own else dict(record)
    return records
