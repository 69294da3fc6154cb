"""Plans of a zarr array in S3, by a real server: the plan's ledger lies there, too."""

from __future__ import annotations

import pytest
from executors import Here

import bigin
from bigin.core.errors import FillError, InputError, NotFoundError
from bigin.jobs.plans.work import Options, do_part
from bigin.targets.objects.open import store_at

SHAPE = (700, 100)
pytestmark = pytest.mark.filterwarnings("ignore::bigin.core.errors.LockWarning")


@pytest.fixture
def url(moto, monkeypatch, tmp_path):
    """The URL of an array that is still to be made."""
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    return moto.url(f"{tmp_path.name}/t.zarr")


def held(url: str) -> list[str]:
    """The keys that begin as a URL does."""
    store, path = store_at(url)
    return [stat.key for stat in store.list(f"{path.rpartition('/')[0]}/")]


@pytest.mark.slow
def test_a_plan_in_s3(url):
    plan = bigin.plan(url, "normal", shape=SHAPE, chunks=(64, 100), parts=4)
    for part in (2, 0, 2):
        plan.work([part])
    assert plan.work([0])[0].stored
    assert plan.status().missing == [1, 3]
    assert any(".bigin.parts" in key for key in held(url))
    with pytest.raises(FillError, match="parts 1,3 are not done"):
        plan.finish()
    plan.work("1,3")
    store, path = store_at(url)
    store.delete(f"{path}/c/0/0")
    store.put(f"{path}/c/10/0", b"short")
    with pytest.raises(FillError, match=r"parts 0,3 are marked, but missing or short \(chunk c/0/0 of part 0\)"):
        plan.finish()
    executor = Here()
    plan.run(executor)
    assert [part for *_, part, _ in executor.submitted] == [0, 3]
    assert plan.finish().stored == 4 * 700 * 100
    assert not any(".bigin.parts" in key for key in held(url))
    assert bigin.verify(url).equal
    assert bigin.plan_verify(url, parts=3).run(Here()).equal
    assert bigin.plan_show(url, parts=3).run(Here()).looks_right


def test_wrong_use_in_s3(url):
    plan = bigin.plan(url, "normal", shape=SHAPE, chunks=(64, 100), parts=4)
    with pytest.raises(InputError, match=r"expected to be filled by plan .*, but it is being filled by plan"):
        bigin.plan(url, "normal", shape=SHAPE, chunks=(64, 100), parts=3)
    with pytest.raises(NotFoundError, match=r"expected a plan there, got nothing on .*"):
        do_part(plan._data.ledger + "x", plan.fingerprint, "fill", 0, Options())
    store, _ = store_at(url)
    for key in held(url):
        store.delete(key)
    with pytest.raises(InputError, match=r"expected the target of the plan, got nothing on .*every worker sees"):
        plan.work([0])


@pytest.mark.slow
def test_a_table_grows_in_s3(url):
    bigin.EmbeddingTable.create(url, 1000, 16, "normal", std=0.02, chunks=300)
    assert bigin.plan_grow(url, 5000, parts=4).run(Here()).nbytes == 4000 * 64
    assert bigin.EmbeddingTable.open(url).verify().equal
