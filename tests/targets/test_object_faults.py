"""What stores and networks do wrong, through a proxy of our own before a real server; and who may write."""

from __future__ import annotations

import io
import json
import threading
import time
import warnings

import numpy as np
import pytest
from proxy import CUT, DROP, UNANSWERED, proxied
from servers import SERVERS, missing

import bigin
from bigin.jobs import retries
from bigin.targets.objects import layout, lock
from bigin.targets.objects.open import store_at

ROWS = 5000
SHAPE = (ROWS, 1000)  # 20 MB: four parts of 5 MiB


@pytest.fixture
def proxy(moto, monkeypatch, tmp_path):
    """A proxy, in the environment; `proxy.url(key)` is that of an object of this test."""
    with proxied(moto.port) as held:
        for name, value in moto.through(held.port).items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(layout, "PART", 5 << 20)
        held.url = lambda key: moto.url(f"{tmp_path.name}/{key}")
        yield held


def expected(name: str, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    values = np.empty(shape, np.float32)
    bigin.fill(values, "normal", name=name)
    return values


def read(url: str) -> bytes:
    store, key = store_at(url)
    data = store.get(key)
    assert data is not None
    return data


def sending(path: str) -> bool:
    """Whether a PUT is that of a part or a chunk."""
    return "partNumber=" in path or "/c/" in path


def failing_first(action, times=2):
    """What a proxy decides: every part and chunk fails at first, so many times."""
    seen: dict[str, int] = {}

    def decide(method, path, count):
        if method != "PUT" or not sending(path):
            return "pass"
        seen[path] = seen.get(path, 0) + 1
        return action if seen[path] <= times else "pass"

    return decide


FAULTS = ["503", *(pytest.param(fault, marks=pytest.mark.slow) for fault in ("429", DROP, UNANSWERED))]


@pytest.mark.parametrize("fault", FAULTS)
def test_requests_that_fail_are_made_again(proxy, fault):
    proxy.decide = failing_first(fault, 1)
    report = bigin.fill(proxy.url("w.npy"), "normal", shape=SHAPE)
    assert report.retries >= 4
    proxy.decide = lambda method, path, count: "pass"
    assert np.array_equal(np.load(io.BytesIO(read(proxy.url("w.npy")))), expected("w"))


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["503", "429", DROP, UNANSWERED])
def test_chunks_that_fail_are_sent_again(proxy, fault):
    proxy.decide = failing_first(fault)
    report = bigin.fill(proxy.url("t.zarr"), "normal", shape=(100, 50), chunks=(20, 50))
    assert report.retries >= 5
    assert bigin.verify(proxy.url("t.zarr")).equal


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["503", DROP, CUT])
def test_what_was_not_read_whole_is_read_again(proxy, fault):
    bigin.fill(proxy.url("w.npy"), "normal", shape=SHAPE)
    bigin.fill(proxy.url("t.zarr"), "normal", shape=(100, 50), chunks=(20, 50))
    seen: dict[str, int] = {}

    def decide(method, path, count):
        if method == "GET" and (path.endswith("/w.npy") or "/c/" in path):
            seen[path] = seen.get(path, 0) + 1
            return fault if seen[path] % 2 else "pass"
        return "pass"

    proxy.decide = decide
    for key in ("w.npy", "t.zarr"):
        assert bigin.verify(proxy.url(key), requests=1).equal
    assert sum(seen.values()) >= 10


@pytest.mark.slow
def test_a_put_that_times_out_is_sent_again(proxy):
    proxy.decide = failing_first(4.0, 1)
    with bigin.storage_options(timeout="2"):
        bigin.fill(proxy.url("w.npy"), "normal", shape=SHAPE)
        proxy.decide = failing_first(4.0, 1)
        bigin.fill(proxy.url("t.zarr"), "normal", shape=(10, 50), chunks=(5, 50))
    assert np.array_equal(np.load(io.BytesIO(read(proxy.url("w.npy")))), expected("w"))


@pytest.mark.slow
def test_a_store_that_is_asked_too_much_is_asked_less(proxy):
    """A store that bears four requests at once refuses the others; all chunks arrive, few are refused late."""
    refused: list[int] = []

    def decide(method, path, count):
        if method == "PUT" and sending(path):
            if proxy.at_once > 4:
                refused.append(count)
                return "503"
            return 0.05
        return "pass"

    proxy.decide = decide
    report = bigin.fill(proxy.url("t.zarr"), "normal", shape=(200, 50), chunks=(1, 50), max_memory="1GiB")
    assert report.retries > 0
    total = len(proxy.requests)
    late = sum(count > total * 0.7 for count in refused)
    early = sum(count < total * 0.3 for count in refused)
    assert late <= max(early, 20)
    assert bigin.verify(proxy.url("t.zarr"), requests=4).equal


def test_throttling_is_waited_out_for_two_minutes_at_most(monkeypatch):
    from bigin.core.errors import StoreError

    now, pauses = [0.0], []
    monkeypatch.setattr(retries.time, "monotonic", lambda: now[0])
    held = retries.Retries(remote=True)

    def pause(seconds, stopping):
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(held, "_pause", pause)

    def refuse():
        raise StoreError("SlowDown", passes=True, throttled=True)

    with pytest.raises(StoreError):
        held.attempt(refuse)
    assert 120 <= sum(pauses) <= 135
    assert max(pauses) <= 15
    assert len(set(pauses)) > len(pauses) // 2  # with jitter
    pauses.clear()

    def fail():
        raise StoreError("InternalError", passes=True)

    with pytest.raises(StoreError):
        held.attempt(fail)
    assert len(pauses) == 5

    def forbid():
        raise PermissionError(13, "AccessDenied")

    with pytest.raises(PermissionError):
        held.attempt(forbid)
    assert len(pauses) == 5  # at once


@pytest.mark.slow
def test_a_fill_that_fails_for_good_leaves_no_parts(proxy, monkeypatch):
    """The store drops a part after it was answered for, and the object is another one: nothing can be done."""
    store, key = store_at(proxy.url("w.npy"))
    uploads = type(store.uploads)
    aborted = []
    abort = uploads.abort
    monkeypatch.setattr(uploads, "abort", lambda self, *of: (aborted.append(of), abort(self, *of)))

    def broken(self, *arguments):
        raise bigin.DamagedError("damaged")

    with monkeypatch.context() as patch:
        patch.setattr(uploads, "complete", broken)
        with pytest.raises(bigin.DamagedError):
            bigin.fill(proxy.url("w.npy"), "normal", shape=SHAPE)
    assert len(aborted) == 1
    assert store.uploads.parts(*aborted[0]) is None
    assert list(store.list(f"{key}/")) == []


def test_one_writer_at_a_time(proxy, monkeypatch):
    store, key = store_at(proxy.url("x"))
    first = lock.StoreLock(store, key, "first")
    with pytest.raises(bigin.LockedError, match="expected no other writer"):
        lock.StoreLock(store, key, "second")
    first.release()
    second = lock.StoreLock(store, key, "second")
    second.release()
    assert store.head(key) is None
    assert [stat.key for stat in store.list(f"{key}.")] == []


@pytest.mark.slow
def test_a_lock_is_renewed_and_taken_over_when_it_has_expired(proxy, monkeypatch):
    monkeypatch.setattr(lock, "EXPIRES", 3.0)
    store, key = store_at(proxy.url("x"))
    first = lock.StoreLock(store, key, "first")
    time.sleep(5)
    with pytest.raises(bigin.LockedError):  # it was renewed
        lock.StoreLock(store, key, "second")
    first._end.set()  # a process that hangs
    first._thread.join()
    time.sleep(5)
    second = lock.StoreLock(store, key, "second")
    first._end.clear()
    thread = threading.Thread(target=first._renew)
    thread.start()
    thread.join(20)
    with pytest.raises(bigin.FillError, match="another writer has taken over"):
        first.check()
    first.release()  # not the other's
    assert json.loads(store.get(key) or b"")["owner"] == second.owner
    second.release()


def test_a_lock_whose_process_has_ended_is_taken_over_at_once(proxy, monkeypatch):
    store, key = store_at(proxy.url("x"))
    with monkeypatch.context() as patch:
        patch.setattr(lock.os, "getpid", lambda: 2**22 + 1)  # above every process's number
        first = lock.StoreLock(store, key, "first")
    second = lock.StoreLock(store, key, "second")
    assert json.loads(store.get(key) or b"")["owner"] == second.owner
    first.release()
    second.release()


@pytest.mark.slow
def test_of_many_that_take_over_one_does(proxy, monkeypatch):
    store, key = store_at(proxy.url("x"))
    with monkeypatch.context() as patch:
        patch.setattr(lock.os, "getpid", lambda: 2**22 + 1)
        dead = lock.StoreLock(store, key, "dead")
        dead._end.set()
    held, refused = [], []

    def take():
        try:
            held.append(lock.StoreLock(store, key, "taker"))
        except bigin.LockedError:
            refused.append(1)

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1
    assert len(refused) == 7
    held[0].release()


@pytest.mark.slow
def test_two_fills_at_once_are_refused(proxy):
    def slow(method, path, count):
        return 1.0 if sending(path) else "pass"

    proxy.decide = slow
    errors: list[Exception] = []

    def fill(seed):
        try:
            bigin.fill(proxy.url("t.zarr"), "normal", shape=(6, 50), chunks=(1, 50), seed=seed, requests=1)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=fill, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
        time.sleep(0.5)
    for thread in threads:
        thread.join()
    assert len(errors) == 1
    assert isinstance(errors[0], bigin.LockedError | bigin.ExistsError)


@pytest.mark.slow
def test_a_store_without_create_only_requests_is_told_and_filled():
    if reason := missing("rclone"):
        pytest.skip(reason)
    with SERVERS["rclone"]() as held, pytest.MonkeyPatch.context() as patch:
        for name, value in held.environment.items():
            patch.setenv(name, value)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            bigin.fill(held.url("t.zarr"), "normal", shape=(4, 5))
        assert [warning.category for warning in told].count(bigin.LockWarning) == 1
        assert bigin.verify(held.url("t.zarr")).equal


RIGHTS = {
    "list": lambda method, path: method == "GET" and ("list-type" in path or "prefix=" in path),
    "write": lambda method, path: method in ("PUT", "POST"),
    "read": lambda method, path: method in ("GET", "HEAD") and "list-type" not in path,
}


@pytest.mark.parametrize("name", ["w.npy", "w.zarr", "out"])
@pytest.mark.parametrize("right", [*RIGHTS])
def test_without_a_right_nothing_is_written_and_one_line_says_so(proxy, right, name, like_one):
    proxy.decide = lambda method, path, count: "403" if RIGHTS[right](method, path) else "pass"
    calls = {"out": lambda url: bigin.initialize("r.toml", url, like=like_one)}
    fill = calls.get(name, lambda url: bigin.fill(url, "normal", shape=(10, 20)))
    with pytest.raises(bigin.InputError, match=r"right|credentials") as told:
        fill(proxy.url(name))
    assert "\n" not in str(told.value)
    proxy.decide = lambda method, path, count: "pass"
    store, key = store_at(proxy.url(""))
    assert [stat.key for stat in store.list(f"{key.rstrip('/')}/")] == []


@pytest.fixture
def like_one():
    from safetensors.numpy import save_file

    save_file({"a": np.zeros((3, 4), np.float32)}, "like.safetensors")
    with open("r.toml", "w") as file:
        file.write('[[rule]]\nmatch = "*"\nmethod = "normal"\n')
    return "like.safetensors"
