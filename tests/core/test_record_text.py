"""The text of a model's record is that of json.dumps, whatever its tensors share."""

from __future__ import annotations

import json

import pytest

from bigin.core.record import model_record, text_of

SHARED = {"mean": 0.0, "std": 0.02}
PARTS = [{"method": "normal", "name": "q\0"}, {"method": "zeros", "name": 'k"'}]


def record(name: str, **other: object) -> dict[str, object]:
    return {"method": "normal", "parameters": SHARED, "seed": 3, "name": name, "shape": [8], "stream": 1, **other}


RECORDS = {
    "alike": {name: record(name) for name in ("b", "a", "a.b", 'ü"\\')},
    "other names than their own": {"a/b": record("a.b"), "c/d": record("c.d")},
    "without names": {"x": {"split": 0, "parts": PARTS}, "y": {"split": 0, "parts": PARTS}, "z": record("z")},
    "not alike": {"a": record("a"), "b": record("b", padding_idx=3), "c": record("c", purpose="normal")},
    "none": {},
}


@pytest.mark.parametrize("options", [{}, {"sort_keys": True, "default": str}])
@pytest.mark.parametrize("kind", RECORDS)
def test_a_models_record_has_the_text_that_json_gives_it(kind, options):
    held = model_record(RECORDS[kind]) | {"complete": False}
    assert text_of(held, **options) == json.dumps(held, **options)
    read = json.loads(json.dumps(held))  # in which tensors share nothing
    assert text_of(read, sort_keys=True) == text_of(held, sort_keys=True)


def test_any_other_record_has_that_text_too():
    for held in (record("w"), {"tensors": [1, 2]}, {"tensors": {"a": 3}}):
        assert text_of(held) == json.dumps(held)
