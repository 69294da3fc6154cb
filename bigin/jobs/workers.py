"""How many regions are under way: as many as there are cores, and more if they wait for a network."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

from bigin.core.errors import InputError
from bigin.core.limits import Limits
from bigin.core.text import size_text
from bigin.core.threads import Stopped, Stopping
from bigin.fillers.filler import Filler
from bigin.fillers.model import ModelFiller
from bigin.targets.model import ModelTarget
from bigin.targets.target import BATCH, Target

FIRST = 16  # requests that are sent concurrently to a store at first
MOST = 64
TURN = 0.05  # seconds between two looks at whether a worker that waits should stop


@dataclass(frozen=True)
class Workers:
    """`cores` make or compare values at once, and `requests` regions are under way, of which the others wait.

    On this machine both are one number. On a network `requests` is the most, of which the `first` are let through until
    it is known how many the store bears.
    together: whether each has the memory that batches of small regions take.
    """

    cores: int
    requests: int
    first: int = 0
    together: bool = field(default=True, compare=False)

    def shared(self, buffers: int) -> Workers:
        """Fewer workers, for tasks that need that many times the memory."""
        return Workers(
            max(1, self.cores // buffers), max(1, self.requests // buffers), self.first, together=self.together
        )

    def gate(self) -> Gate:
        """The gate for the workers of a run."""
        return Gate(self) if self.first else OPEN


def workers_for(target: Target, limits: Limits, need: int) -> Workers:
    """The workers, if each needs `need` bytes; at least one."""
    fit = limits.memory // need if need else sys.maxsize
    cores = max(1, min(limits.threads, fit))
    if not target.remote:
        return Workers(cores, cores, together=limits.memory // cores >= need + 4 * BATCH)
    if limits.requests is not None:
        requests = max(1, min(limits.requests, fit))
        return Workers(min(cores, requests), requests, first=requests)
    return Workers(
        cores, max(cores, min(MOST, fit // 2)), first=max(cores, FIRST)
    )  # the other half is for a filler's preparation


def worker_memory(target: Target, filler: Filler) -> int:
    """The bytes of memory that a worker needs."""
    return target.block_memory(filler.region_bytes) + filler.worker_memory


def workers_within(target: Target, filler: Filler, limits: Limits, buffers: int = 1) -> Workers:
    """The workers that the limits allow, with so many buffers each; InputError where they do not allow one."""
    return workers_for(target, limits, required_memory(target, filler, limits, buffers))


def required_memory(target: Target, filler: Filler, limits: Limits, buffers: int = 1) -> int:
    """The bytes of memory that one worker needs; InputError where the limits do not allow one."""
    need = buffers * worker_memory(target, filler)
    least = filler.least
    if least.nbytes and least.nbytes + need > limits.memory:
        wanted = -(-(least.nbytes + need) >> 20)
        raise InputError(
            f"{target.label}: expected {wanted} MiB of memory for {least.what}, got {size_text(limits.memory)}; raise "
            f"--max-memory (max_memory=) to {wanted}MiB"
        )
    if need and need > limits.memory:
        block = "x".join(map(str, target.grid(filler.region_bytes).block))
        raise InputError(
            f"{target.label}: expected a chunk or shard that fits in {size_text(limits.memory)}, got one of {block} "
            f"that takes {need} bytes ({size_text(need)}) to make; raise --max-memory (max_memory=) to that, or store "
            f"chunks {-(-need // max(1, limits.memory))} times smaller"
        )
    return need


class Gate:
    """Lets so many regions be under way, and so many of them make values.

    Their number grows while cores are idle, by one for each round of requests, and is halved when a request fails, as
    in TCP: stores that are asked too much refuse (503 Slow Down). More requests than keep the cores busy gain nothing.
    """

    def __init__(self, workers: Workers) -> None:
        self._most = workers.requests
        self._allowed = float(min(workers.first, self._most))
        self._under_way = 0
        self._change = threading.Condition()
        self._cores = threading.Semaphore(workers.cores)
        self._busy = False  # whether someone has waited for a core of late

    def region(self, stopping: Stopping) -> AbstractContextManager[None]:
        """While a region is under way; raises Stopped where the worker should rather stop than wait."""
        return self._region(stopping)

    @contextmanager
    def _region(self, stopping: Stopping) -> Iterator[None]:
        with self._change:
            while self._under_way >= int(self._allowed):
                if stopping():
                    raise Stopped
                self._change.wait(TURN)
            self._under_way += 1
        failed = True
        try:
            yield
            failed = False
        finally:
            with self._change:
                self._under_way -= 1
                self._learn(failed=failed)
                self._change.notify()

    def _learn(self, *, failed: bool) -> None:
        if failed:
            self._allowed = max(1.0, self._allowed / 2)
        elif not self._busy:
            self._allowed = min(self._most, self._allowed + 1 / self._allowed)
        self._busy = False

    def making(self) -> AbstractContextManager[None]:
        """While a worker needs a core."""
        return self._making()

    @contextmanager
    def _making(self) -> Iterator[None]:
        if not self._cores.acquire(blocking=False):
            self._busy = True
            self._cores.acquire()
        try:
            yield
        finally:
            self._cores.release()


class OpenGate(Gate):
    """Holds nobody back: there are no more workers than cores. A small array is filled in less than a gate takes."""

    def __init__(self) -> None:
        pass

    def region(self, stopping: Stopping) -> nullcontext[None]:
        """Nothing."""
        return FREE

    def making(self) -> nullcontext[None]:
        """Nothing."""
        return FREE


FREE, OPEN = nullcontext(), OpenGate()


def tell_sizes(target: Target, filler: Filler) -> None:
    """Tells the target of a model how large a region of each of its tensors is worth making at once."""
    if isinstance(target, ModelTarget) and isinstance(filler, ModelFiller):
        target.region_bytes = filler.sizes
