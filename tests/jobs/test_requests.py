"""Requests to a store on a network: many are under way at once, as many as memory and the store allow."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
import zarr
from common import LIMIT, few
from zarr.storage import MemoryStore, WrapperStore

import bigin
from bigin.core.limits import Limits
from bigin.jobs import workers
from bigin.jobs.workers import Gate, Workers, workers_for
from bigin.targets.memory import memory_target
from bigin.targets.open import open_target

CHUNKS, SIZE = 32, 1000


class Together(WrapperStore):
    """A store that answers requests for chunks only when so many are under way; it counts them."""

    number, now, most = 1, 0, 0
    barrier: asyncio.Barrier | None = None

    async def _meet(self, key: str) -> None:
        if "/c/" not in f"/{key}":
            return
        cls = type(self)
        cls.now += 1
        cls.most = max(cls.most, cls.now)
        try:
            if cls.number == 0:
                await asyncio.sleep(0.002)
            else:
                cls.barrier = cls.barrier or asyncio.Barrier(cls.number)
                await asyncio.wait_for(cls.barrier.wait(), 30)
        finally:
            cls.now -= 1

    async def get(self, key, *arguments, **options):
        await self._meet(key)
        return await super().get(key, *arguments, **options)

    async def set(self, key, *arguments, **options):
        await self._meet(key)
        await super().set(key, *arguments, **options)


@pytest.fixture
def together():
    """Has the store wait for so many requests; 0 for none."""

    def start(number: int) -> None:
        Together.number, Together.now, Together.most, Together.barrier = number, 0, 0, None

    yield start
    start(0)


def array(**layout: object) -> Together:
    store = Together(MemoryStore())
    zarr.create_array(store, shape=(CHUNKS, SIZE), chunks=(1, SIZE), dtype="float32", **layout)
    return store


@pytest.mark.parametrize("layout", few({"compressors": None}, {}), ids=["plain", "compressed"])
def test_more_requests_are_under_way_than_there_are_threads(layout, together):
    store = array(**layout)
    together(workers.FIRST)
    bigin.fill(store, "normal", threads=1)
    assert Together.most >= workers.FIRST
    together(workers.FIRST)
    assert bigin.verify(store, threads=1).equal


def test_a_new_array_is_on_the_network_once_it_is_made(together):
    together(workers.FIRST)
    table = bigin.EmbeddingTable.create(Together(MemoryStore()), CHUNKS, 8, "normal", chunks=1, threads=1)
    assert len(table) == CHUNKS
    assert Together.most >= workers.FIRST


@pytest.mark.parametrize("requests", [1, 5])
def test_no_more_requests_are_under_way_than_asked_for(requests, together):
    store = array(compressors=None)
    together(0)
    bigin.fill(store, "normal", threads=2, requests=requests)
    assert bigin.verify(store, threads=2, requests=requests).equal
    assert Together.most <= requests


def test_requests_stay_within_the_memory(together):
    store = array(compressors=None)
    target = open_target(store)
    need = target.block_memory()
    together(0)
    for requests in (None, 30):
        bigin.fill(store, "normal", threads=1, max_memory=4 * need, requests=requests, overwrite=True)
        assert Together.most <= 4
        bigin.verify(store, threads=1, max_memory=4 * need, requests=requests)
        assert Together.most <= 4
    with pytest.raises(bigin.InputError, match="raise --max-memory"):
        bigin.fill(store, "normal", max_memory=need - 1, overwrite=True)


def test_what_is_on_this_machine_has_as_many_workers_as_threads():
    zarr.create_array("a.zarr", shape=(CHUNKS, SIZE), chunks=(1, SIZE), dtype="float32")
    for target in (open_target("a.zarr"), memory_target(np.zeros(5, np.float32))):
        assert workers_for(target, Limits(3, 1 << 30, requests=40), 1000) == Workers(3, 3)


def test_a_store_that_refuses_gets_half_as_many_and_one_that_does_not_gets_more():
    gate = Gate(Workers(2, workers.MOST, first=workers.FIRST))

    def allowed(rounds: int, *, error: bool = False) -> int:
        for _ in range(rounds):
            try:
                with gate.region(lambda: False):
                    if error:
                        raise OSError("503 Slow Down")
            except OSError:
                pass
        return int(gate._allowed)

    assert allowed(0) == workers.FIRST
    assert allowed(workers.FIRST + 1) == workers.FIRST + 1
    assert allowed(1, error=True) == (workers.FIRST + 1) // 2
    assert allowed(20, error=True) == 1
    assert allowed(10_000) == workers.MOST


def test_a_number_that_is_asked_for_is_the_first_and_the_most():
    store = array()
    target = open_target(store)
    assert workers_for(target, Limits(2, 1 << 30, requests=8), 1000) == Workers(2, 8, first=8)
    gate = workers_for(target, Limits(2, 1 << 30, requests=8), 1000).gate()
    with pytest.raises(OSError, match="429"), gate.region(lambda: False):
        raise OSError("429 Too Many Requests")
    assert gate._allowed == 4
    for _ in range(1000):
        with gate.region(lambda: False):
            pass
    assert gate._allowed == 8


def test_requests_that_would_wait_for_a_core_are_not_added():
    gate = Gate(Workers(1, workers.MOST, first=workers.FIRST))
    at_work, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with gate.region(lambda: False), gate.making():
            at_work.set()
            enough.wait(LIMIT)

    first = threading.Thread(target=hold)
    first.start()
    at_work.wait(LIMIT)
    second = threading.Thread(target=hold)
    second.start()
    while not gate._busy:
        time.sleep(0.001)
    enough.set()
    first.join()
    second.join()
    assert gate._allowed < workers.FIRST + 1.5 / workers.FIRST  # the second had the core for itself when it ended


def test_no_more_workers_make_values_than_there_are_cores():
    gate, now, most, lock = Gate(Workers(2, 16, first=16)), 0, 0, threading.Lock()

    def work() -> None:
        nonlocal now, most
        with gate.region(lambda: False), gate.making():
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.01)
            with lock:
                now -= 1

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 2


@pytest.mark.parametrize(("requests", "text"), [(0, "at least 1 request"), ("two", "requests to be an integer")])
def test_a_number_of_requests_that_makes_no_sense_is_refused(requests, text):
    with pytest.raises(bigin.InputError, match=text):
        bigin.fill(array(), "normal", requests=requests)
