"""Arguments of other types than a function takes: one line of InputError, and nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import bigin

RECIPE = '[[rule]]\nmatch = "*"\nmethod = "normal"\n'


@pytest.fixture
def model() -> None:
    Path("r.toml").write_text(RECIPE)
    group = zarr.open_group("m.zarr", mode="w")
    group.create_array("a.b", shape=(4, 3), dtype="float32")


def served(**options: Any) -> None:
    bigin.serve(bigin.virtual((100, 8), "normal", name="w"), **({"port": 0} | options)).close()


def planned() -> bigin.Plan:
    return bigin.plan("p.npy", "normal", shape=(400_000, 8), parts=2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: served(origin=5), "expected an origin such as"),
        (lambda: served(chunks=1.5), "expected a size such as 512MiB or 2GB, got 1.5"),
        (lambda: served(host=5), "expected a host such as 127.0.0.1, got 5"),
        (lambda: bigin.initialize("r.toml", "m.zarr", variables=[1]), "expected variables as a mapping"),
        (lambda: bigin.check("m.zarr", "r.toml", variables=5), "expected variables as a mapping"),
        (lambda: bigin.initialize("r.toml", "", like="m.zarr"), "expected the path or the URL of a target, got ''"),
        (lambda: bigin.plan_initialize("r.toml", "", like="m.zarr", parts=1), "expected"),
        (lambda: bigin.Attestation.read(5), "expected the path of a manifest, got 5"),
        (lambda: bigin.Plan.read(None), "expected the path of a plan, got None"),
        (lambda: bigin.KeyedTable(8, "normal", name="k").dump([1], [2]), r"expected the path of a folder, got \[2\]"),
        (lambda: bigin.KeyedTable(8, "normal", name="k").dump([1], "s3://b/d"), "expected a local folder for a dump"),
    ],
)
def test_it_is_refused(call, message, model):
    before = sorted(Path().rglob("*"))
    with pytest.raises(bigin.InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
    assert sorted(Path().rglob("*")) == before
    assert not np.asarray(zarr.open_group("m.zarr")["a.b"]).any()


@pytest.mark.parametrize(
    ("parts", "options", "message"),
    [
        (1.5, {}, "expected the numbers of parts, or a string such as 17,40-60, got 1.5"),
        ([0, "a"], {}, "expected parts such as 17"),
        (0, {"again": "yes"}, "expected again to be True or False, got 'yes'"),
        (0, {"sync": None}, "expected sync to be True or False, got None"),
    ],
)
def test_what_parts_are_not(parts, options, message):
    plan = planned()
    with pytest.raises(bigin.InputError, match=message):
        plan.work(parts, **options)
    assert plan.status().missing == [0, 1]
