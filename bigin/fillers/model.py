"""The tensors of a model as one filler, whose regions name their tensor first: ((i, i + 1), ...) is of the i-th."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from bigin.core.regions import Region
from bigin.fillers.filler import Array, Filler, Least, SetupProgress

KEPT = 2  # fillers that stay set up: tensors are filled one after the other, and their ends overlap


SetUp = Callable[[Filler, int, int], None]  # sets a filler up, with so many threads, in so many bytes


def set_up_alone(filler: Filler, threads: int, max_memory: int) -> None:
    """The filler's own setup."""
    filler.setup(threads, max_memory, lambda part: None)


class Setups:
    """Sets fillers up when they are first needed, and frees those that have not been needed for long.

    What orthogonal prepares takes much memory: that of all layers of a model would not fit.
    """

    def __init__(self) -> None:
        self.threads = 1
        self.memory = 0
        self.fillers: list[Filler] = []  # of all tensors, or of their parts, in the order in which they are made
        self._lock = threading.Lock()
        self._ready: OrderedDict[int, Filler] = OrderedDict()

    def get(self, key: int, make: Callable[[], Filler], set_up: SetUp) -> Filler:
        """A filler that is set up. Other threads that need one wait meanwhile."""
        with self._lock:
            filler = self._ready.get(key)
            if filler is None:
                while len(self._ready) >= KEPT:
                    self._ready.popitem(last=False)
                filler = make()
                set_up(filler, self.threads, self.memory)
                self._ready[key] = filler
            self._ready.move_to_end(key)
            return filler


class LateFiller(Filler):
    """A filler that is made and set up when its first region is needed."""

    def __init__(self, make: Callable[[], Filler], filler: Filler, setups: Setups) -> None:
        self.make = make
        self.shape = filler.shape
        self.region_bytes = filler.region_bytes
        self.worker_memory, self.least = filler.worker_memory, filler.least
        self.setups = setups
        self.set_up: SetUp = set_up_alone

    def __call__(self, region: Region, out: Array) -> None:
        self.setups.get(id(self), self.make, self.set_up)(region, out)


def late(make: Callable[[], Filler], setups: Setups) -> Filler:
    """The filler that `make` makes, if it needs no setup; else one that is set up late."""
    filler = make()
    setups.fillers.append(LateFiller(make, filler, setups) if filler.has_setup else filler)
    return setups.fillers[-1]


class ModelFiller(Filler):
    """Every tensor by its own filler.

    The region ((first, stop),) of two or more tensors is all of their bytes, one tensor after the other.
    """

    def __init__(self, fillers: Sequence[Filler], setups: Setups, dtypes: Sequence[np.dtype[Any]]) -> None:
        self.shape = (len(fillers),)
        self.fillers = fillers
        self.dtypes = dtypes
        self.setups = setups
        self.sizes = [filler.region_bytes for filler in fillers]
        self.region_bytes = max(self.sizes, default=0)
        self.worker_memory = max((filler.worker_memory for filler in fillers), default=0)
        self.least = max((filler.least for filler in fillers), key=lambda least: least.nbytes, default=Least())
        self.has_setup = True

    def setup(self, threads: int, max_memory: int, report: SetupProgress) -> None:
        """Nothing yet: only how a tensor is to be set up when it is needed."""
        self.setups.threads, self.setups.memory = threads, max_memory // KEPT
        self.has_setup = False

    def __call__(self, region: Region, out: Array) -> None:
        (number, stop), *inside = region
        if stop - number == 1:
            self.fillers[number](tuple(inside), out.reshape(out.shape[1:]))
            return
        start = 0
        while number < stop:
            filler, first = self.fillers[number], number
            number += 1
            while number < stop and filler.alike is not None and self.fillers[number].alike is filler.alike:
                number += 1
            size = (number - first) * math.prod(filler.shape) * self.dtypes[first].itemsize
            values = out[start : start + size].view(self.dtypes[first])
            if number - first > 1:
                filler.fill_alike(self.fillers[first:number], values)
            elif size:
                filler.fill_flat(0, values)
            start += size
