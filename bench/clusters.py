"""A model of a plan on a cluster: workers with their rates and failures, parts, and a store with its limits.

    python -m bench.clusters            # what 1,000 workers and 100 TB take: the table of docs/scale.md
    python -m bench.clusters --check    # real plans run by threads that sleep, beside what the model says of them

The model is of events: a worker takes the next part, writes it, and takes another. All who write share the store's
bandwidth and its requests per second evenly, and nobody gets more than its own rate. A worker that is lost begins its
part again after a pause, as a scheduler requeues it.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import bigin

HOUR = 3600.0
KEYS, LISTING = 1000, 0.1  # keys that a store lists by one request, and the seconds that it takes
MARKER = 0.03  # seconds that a marker takes to be read or written
READERS = 16  # markers that `finish` reads at once


@dataclass(frozen=True)
class Cluster:
    """Workers, parts and a store.

    nbytes: of the target. chunk: bytes of a chunk or shard. rate: bytes per second of a worker. spread: standard
    deviation of the workers' rates, of their logarithm. slow: how many workers have a tenth of the rate. lost: losses
    per worker and hour. pause: seconds until a lost worker's part begins again. start: seconds from a worker's start to
    its first byte. overhead: seconds per part beside its writing. bandwidth: bytes per second of the store. requests:
    writes per second that the store takes.
    """

    workers: int = 1000
    parts: int = 10_000
    nbytes: float = 100e12
    chunk: float = 256e6
    rate: float = 1e9
    spread: float = 0.1
    slow: int = 0
    lost: float = 0.01
    pause: float = 60.0
    start: float = 10.0
    overhead: float = 2 * MARKER
    bandwidth: float = np.inf
    requests: float = np.inf

    @property
    def most(self) -> float:
        """Bytes per second that the store takes in all."""
        return min(self.bandwidth, self.requests * self.chunk)


@dataclass(frozen=True)
class Run:
    """What a run took: seconds until the last part, and for `finish`; parts that were begun again."""

    seconds: float
    finish: float
    again: int
    idle: float  # share of the workers' time in which they wrote nothing


def shared(rates: np.ndarray, most: float) -> np.ndarray:
    """The rates of workers that share so many bytes per second, of which none gets more than its own rate."""
    if rates.sum() <= most:
        return rates
    order = np.sort(rates)
    # Whoever wants less than an even share gets it, and the others share what is left evenly.
    left = most - np.concatenate(([0.0], np.cumsum(order)[:-1]))
    level = left / np.arange(order.size, 0, -1)
    at = int(np.argmax(order >= level))
    return np.minimum(rates, level[at])


def simulate(cluster: Cluster, seed: int = 0) -> Run:
    """A run of a plan."""
    random_ = np.random.default_rng(seed)
    count = min(cluster.workers, cluster.parts)
    rates = (
        cluster.rate * np.exp(random_.normal(0.0, cluster.spread, count))
        if cluster.spread
        else np.full(count, cluster.rate)
    )
    rates[: cluster.slow] /= 10
    size = cluster.nbytes / cluster.parts
    left = np.full(count, size)  # bytes of each worker's part
    wakes = np.full(count, cluster.start + cluster.overhead)  # when a worker that waits begins
    waiting, active = np.ones(count, bool), np.zeros(count, bool)
    next_loss = losses(random_, cluster, count)
    queue, done, again, now, busy = cluster.parts - count, 0, 0, 0.0, 0.0
    while done < cluster.parts:
        speeds = np.zeros(count)
        speeds[active] = shared(rates[active], cluster.most)
        with np.errstate(divide="ignore", invalid="ignore"):
            ends = np.where(active, now + left / speeds, np.inf)
        moments = np.minimum(np.where(waiting, wakes, np.inf), np.minimum(ends, np.where(active, next_loss, np.inf)))
        step = max(0.0, float(moments.min()) - now)
        busy += step * active.sum()
        left[active] -= speeds[active] * step
        now += step
        who = int(moments.argmin())
        if waiting[who]:
            waiting[who], active[who] = False, True
        elif next_loss[who] <= ends[who]:
            again += 1
            left[who], wakes[who], next_loss[who] = size, now + cluster.pause + cluster.start, np.inf
            waiting[who], active[who] = True, False
            next_loss[who] = now + losses(random_, cluster, 1)[0]
        else:
            done += 1
            active[who] = False
            if queue:
                queue, left[who], wakes[who], waiting[who] = queue - 1, size, now + cluster.overhead, True
    listing = cluster.nbytes / cluster.chunk / KEYS * LISTING
    return Run(now, listing + cluster.parts / READERS * MARKER, again, 1.0 - busy / (now * count))


def losses(random_: np.random.Generator, cluster: Cluster, count: int) -> np.ndarray:
    """When workers are lost next, from now on."""
    return random_.exponential(HOUR / cluster.lost, count) if cluster.lost else np.full(count, np.inf)


CASES = {
    "a file system of 100 GB/s, shards of 256 MB, 10,000 parts": Cluster(bandwidth=100e9),
    "... 1,000 parts: one for each worker": Cluster(bandwidth=100e9, parts=1000),
    "... 10 workers at a tenth of the rate": Cluster(bandwidth=100e9, slow=10),
    "... 10 such workers, 1,000 parts": Cluster(bandwidth=100e9, slow=10, parts=1000),
    "... one loss per worker and hour": Cluster(bandwidth=100e9, lost=1.0),
    "... one loss per worker and hour, 1,000 parts": Cluster(bandwidth=100e9, lost=1.0, parts=1000),
    "a store without a limit of bandwidth, shards of 256 MB": Cluster(),
    "... 3,500 requests per second (S3, one prefix), shards of 256 MB": Cluster(requests=3500),
    "... 3,500 requests per second, chunks of 16 MB": Cluster(requests=3500, chunk=16e6),
    "... 3,500 requests per second, chunks of 1 MB": Cluster(requests=3500, chunk=1e6),
}


def table() -> None:
    """What 100 TB take."""
    print("| case | last part after | `finish` | parts again | workers idle |\n|---|---|---|---|---|")
    for name, cluster in CASES.items():
        run = simulate(cluster)
        print(f"| {name} | {minutes(run.seconds)} | {minutes(run.finish)} | {run.again} | {100 * run.idle:.0f}% |")


def minutes(seconds: float) -> str:
    """A time, in words."""
    return (
        f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.0f} min"
        if seconds < 7200
        else f"{seconds / HOUR:.1f} h"
    )


# Small cases, measured


class Sleeping:
    """An executor of threads that take as long for a part as workers of the model would. They do the part as well."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.pool = ThreadPoolExecutor(cluster.workers)
        self.size = cluster.nbytes / cluster.parts
        self.lock, self.writing, self.again = threading.Lock(), 0, 0
        self.free = list(range(cluster.workers))
        self.random = random.Random(3)

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        """Runs a part."""
        return self.pool.submit(self._work, function, arguments)

    def _work(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        with self.lock:
            worker = self.free.pop(0)
        try:
            self._write(self.cluster.rate / (10 if worker < self.cluster.slow else 1))
            return function(*arguments)
        finally:
            with self.lock:
                self.free.append(worker)

    def _write(self, rate: float) -> None:
        """Sleeps while a part is written, at this worker's share of the store."""
        fails = self.random.expovariate(self.cluster.lost / HOUR) if self.cluster.lost else np.inf
        left, begun = self.size, time.monotonic()
        with self.lock:
            self.writing += 1
        try:
            last = begun
            while left > 0:
                time.sleep(0.002)
                now = time.monotonic()
                left -= min(rate, self.cluster.most / self.writing) * (now - last)
                last = now
                if now - begun > fails:
                    self.again += 1
                    raise ConnectionError("a worker is lost")
        finally:
            with self.lock:
                self.writing -= 1


SMALL = Cluster(2, 48, 48e6, 1e6, 2.5e6, 0.0, lost=0.0, pause=0.0, start=0.0)  # 0.4 s a part
MEASURED = {
    "2 workers": SMALL,
    "4 workers": replace(SMALL, workers=4),
    "8 workers": replace(SMALL, workers=8),
    "8 workers, a store of 8 MB/s": replace(SMALL, workers=8, bandwidth=8e6),
    "8 workers, a store of 5 requests per second": replace(SMALL, workers=8, requests=5),
    "4 workers, one at a tenth of the rate": replace(SMALL, workers=4, slow=1),
    "4 workers, each lost once in 2 s": replace(SMALL, workers=4, lost=HOUR / 2),
}


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that is removed again."""
    path = Path(tempfile.mkdtemp(prefix="bigin-clusters-"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


def measured(cluster: Cluster, place: Path) -> float:
    """The seconds that a real plan takes, of which every part is as large as in the model, and written in its time."""
    plan = bigin.plan(place / "w.zarr", "ones", shape=(cluster.parts, 100), chunks=(1, 100), parts=cluster.parts)
    executor = Sleeping(cluster)
    start = time.monotonic()
    plan.run(executor)
    seconds = time.monotonic() - start
    shutil.rmtree(place / "w.zarr")
    return seconds


def check() -> None:
    """Measured small cases beside the model."""
    with folder() as place:
        measured(replace(SMALL, parts=4, nbytes=1), place)  # compiles
        overhead = measured(replace(SMALL, workers=1, nbytes=1), place) / SMALL.parts
        print(f"Without writing a part takes {1000 * overhead:.0f} ms.\n")
        print("| small case | measured | model | ratio |\n|---|---|---|---|")
        for name, cluster in MEASURED.items():
            real = measured(cluster, place)
            runs = [simulate(replace(cluster, overhead=overhead), seed).seconds for seed in range(9)]
            said = float(np.mean(runs))
            print(f"| {name} | {real:.1f} s | {said:.1f} s | {real / said:.2f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="run real plans beside the model")
    check() if parser.parse_args().check else table()
