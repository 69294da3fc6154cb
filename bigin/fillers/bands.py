"""Whole bands of rows, kept for the other chunks of columns that cross them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bigin.fillers.filler import Array


class Band(NamedTuple):
    """Rows and columns of a matrix that are made together."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def width(self) -> int:
        return self.columns[1] - self.columns[0]


class Bands:
    """The bands that were made last, in so many bytes; for several threads, none of which makes what another is at.

    Where chunks are narrow, each crosses the same bands as its neighbours: (4000, 500) in chunks of (4000, 1) made
    every band 500 times. A band goes when as many of its columns were taken as it has, or as the oldest one.
    """

    def __init__(self, memory: int) -> None:
        self.memory = memory
        self._lock = threading.Condition()
        self._kept: OrderedDict[Band, Array] = OrderedDict()
        self._left: dict[Band, int] = {}  # columns that were not taken
        self._size = 0
        self._making: set[Band] = set()

    def each(self, bands: Sequence[Band], make: Callable[[Band], Array], take: Callable[[Band, Array], int]) -> None:
        """Calls take(band, values) once for every band, in any order; it returns how many columns it took."""
        pending = list(bands)
        while pending:
            band, values = self._next(pending)
            pending.remove(band)
            if values is None:
                try:
                    values = make(band)
                finally:
                    self._made(band, values)
            self._taken(band, take(band, values))

    def _next(self, pending: Sequence[Band]) -> tuple[Band, Array | None]:
        """A band with its values; or without, where the caller is to make them."""
        with self._lock:
            while True:
                for band in pending:
                    if band in self._kept:
                        return band, self._kept[band]
                for band in pending:
                    if band not in self._making:
                        self._making.add(band)
                        return band, None
                self._lock.wait()

    def _made(self, band: Band, values: Array | None) -> None:
        """Keeps a band if there is room, and tells who waits; None: it could not be made."""
        with self._lock:
            self._making.discard(band)
            if values is not None and values.nbytes <= self.memory:
                while self._size + values.nbytes > self.memory:
                    self._drop(next(iter(self._kept)))
                self._kept[band] = values
                self._left[band] = band.width
                self._size += values.nbytes
            self._lock.notify_all()

    def _taken(self, band: Band, columns: int) -> None:
        with self._lock:
            if band in self._kept:
                self._left[band] -= columns
                if self._left[band] <= 0:
                    self._drop(band)

    def _drop(self, band: Band) -> None:
        self._size -= self._kept.pop(band).nbytes
        del self._left[band]
