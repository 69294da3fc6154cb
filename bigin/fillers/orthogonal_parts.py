"""The preparation of orthogonal in parts, for processes that share nothing but a store of small values.

In a first round S = X'X is made: its tasks are the products of a strip of rows for a square of S, in the order in which
one process adds them. A part has some that follow each other. A sum that begins in a part is kept as a sum; what is to
be added to a sum of another part is kept product by product, as floating-point addition is not associative. In a second
round every part solves some columns of tiles of the triangle W, which do not depend on each other. So the bits are
those of one process.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, Protocol

import numpy as np

from bigin.core.errors import DamagedError
from bigin.core.threads import Stopping, run_threads
from bigin.fillers.filler import Array, Filler, SetupProgress
from bigin.fillers.orthogonal import AHEAD, STRIP, TILE, WIDE, InOrder, Reflections, Tiles

COLUMNS = 4  # of tiles that a part of the triangle has at least: every part reads all of S up to its last column


class Store(Protocol):
    """Values by their keys, which many processes share."""

    def get(self, key: str) -> bytes | None:
        """The value of a key."""

    def put(self, key: str, data: bytes) -> None:
        """Sets the value of a key."""


class GramTasks(Sequence[tuple[int, int]]):
    """The tasks of S: (square, strip), where a square is a pair of WIDE rows and columns on or above the diagonal."""

    def __init__(self, m: int, n: int) -> None:
        wide = range(0, n, WIDE)
        self.squares = [(i, j) for j in wide for i in wide if i <= j]
        self.strips = [len(range(j // STRIP * STRIP, m, STRIP)) for _, j in self.squares]
        self.ends = [0, *accumulate(self.strips)]

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> tuple[int, int]:  # type: ignore[override]
        square = bisect_right(self.ends, index) - 1
        return square, index - self.ends[square]

    def span(self, part: int, parts: int) -> range:
        """The tasks of a part."""
        return range(len(self) * part // parts, len(self) * (part + 1) // parts)


def counts(m: int, n: int, parts: int) -> dict[str, int]:
    """How many parts the two rounds have, where the fill has so many."""
    columns = -(-n // TILE)
    return {"gram": min(parts, len(GramTasks(m, n))), "triangle": min(parts, -(-columns // COLUMNS))}


def reflections_of(filler: Filler) -> Reflections:
    """What is prepared of a filler of orthogonal values, which may be moved or padded."""
    inner: Any = filler
    while not hasattr(inner, "reflections"):
        inner = inner.matrix if hasattr(inner, "matrix") else inner.whole
    reflections: Reflections = inner.reflections
    return reflections


class Preparation:
    """The preparation of a matrix, in parts, by way of a store."""

    def __init__(self, reflections: Reflections, store: Store, parts: int) -> None:
        self.reflections = reflections
        self.store = store
        self.parts = parts  # of the first round
        self.tasks = GramTasks(reflections.m, reflections.n)
        self.layout = Tiles(reflections.n, in_memory=True)  # for the tiles' shapes alone

    def gram(self, part: int, threads: int, report: SetupProgress) -> None:
        """A part of the first round."""
        span = self.tasks.span(part, self.parts)
        sums = InOrder(len(span), AHEAD * threads)
        total: dict[int, Array] = {}

        def add(index: int, product: Array) -> None:
            square, strip = self.tasks[span[index]]
            total[square] = product if strip == 0 else total[square] + product
            if index + 1 == len(span) or self.tasks[span[index + 1]][0] != square:
                self._keep("sum", square, total.pop(square))

        def worker(stopping: Stopping) -> Callable[[int], int]:
            def work(index: int) -> int:
                square, strip = self.tasks[span[index]]
                i, j = self.tasks.squares[square]
                product = self.reflections._strip_product(j // STRIP * STRIP + strip * STRIP, i, j)
                if span.start > self.tasks.ends[square]:  # its sum begins in another part
                    self._keep(f"strip-{strip}", square, product)
                    sums.put(index, lambda: None, stopping)
                else:
                    sums.put(index, lambda: add(index, product), stopping)
                return 1

            return work

        run_threads(range(len(span)), worker, threads, lambda done, front: report(done / max(1, len(span))))

    def _keep(self, what: str, square: int, total: Array) -> None:
        """Keeps the tiles of a square on or above the diagonal."""
        top, left = self.tasks.squares[square]
        for i, j in self._tiles_of(square):
            (r0, r1), (c0, c1) = self.layout.span(i), self.layout.span(j)
            tile = np.ascontiguousarray(total[r0 - top : r1 - top, c0 - left : c1 - left])
            self.store.put(f"gram-tiles/{i}-{j}/{what}", tile.tobytes())

    def _tiles_of(self, square: int) -> Iterator[tuple[int, int]]:
        top, left = self.tasks.squares[square]
        n = self.reflections.n
        for j in range(left // TILE, -(-min(left + WIDE, n) // TILE)):
            for i in range(top // TILE, min(j + 1, -(-min(top + WIDE, n) // TILE))):
                yield i, j

    def _kept(self, key: str, i: int, j: int) -> Array:
        data = self.store.get(key)
        shape = self.layout.shape(i, j)
        if data is None or len(data) != 8 * shape[0] * shape[1]:
            raise DamagedError(f"{key}: expected what was prepared for the plan, got nothing; make the plan again")
        return np.frombuffer(data, np.float64).reshape(shape).copy()

    def gram_tile(self, i: int, j: int) -> Array:
        """A tile of S, from what the first round has kept."""
        wide = TILE * (WIDE // TILE)
        square = self.tasks.squares.index((i * TILE // wide * wide, j * TILE // wide * wide))
        first, last = self.tasks.ends[square], self.tasks.ends[square + 1]
        part = ((first + 1) * self.parts - 1) // len(self.tasks)  # the one that begins the sum
        stop = min(last, self.tasks.span(part, self.parts).stop)
        total = self._kept(f"gram-tiles/{i}-{j}/sum", i, j)
        for strip in range(stop - first, last - first):
            total = total + self._kept(f"gram-tiles/{i}-{j}/strip-{strip}", i, j)
        return total

    def triangle(self, columns: range, threads: int, max_memory: int, report: SetupProgress) -> None:
        """A part of the second round: some columns of tiles of W."""
        reflections = self.reflections
        tiles = Tiles(reflections.n, in_memory=reflections.memory() <= max_memory)
        pairs = [(i, j) for i, j in tiles.pairs() if j <= columns[-1]]
        diagonal = []
        for i, j in [*pairs, *((k, k) for k in range(columns[-1] + 1, tiles.count))]:
            tile = self.gram_tile(i, j)
            if i == j:
                diagonal.append(np.diagonal(tile).copy())
            if j <= columns[-1]:
                tiles.put(i, j, tile)
        squares = np.concatenate(diagonal)
        reflections.set_scalars(squares)
        reflections._triangle(tiles, pairs, threads)
        reflections._solve(tiles, columns, threads, report)
        for j in columns:
            for i in range(j + 1):
                self.store.put(f"triangle-tiles/{j}/{i}", np.ascontiguousarray(tiles.get(i, j)).tobytes())
        self.store.put("triangle-tiles/squares", squares.tobytes())  # the same from every part

    def load(self, threads: int, max_memory: int) -> None:
        """Takes the whole triangle from the store: into memory, or into a scratch file where it does not fit."""
        reflections = self.reflections
        squares = self.store.get("triangle-tiles/squares")
        if squares is None or len(squares) != 8 * reflections.n:
            raise DamagedError("expected the triangle that was prepared for the plan, got none; make the plan again")
        tiles = Tiles(reflections.n, in_memory=reflections.memory() <= max_memory)
        for i, j in tiles.pairs():
            tiles.put(i, j, self._kept(f"triangle-tiles/{j}/{i}", i, j))
        reflections.set_scalars(np.frombuffer(squares, np.float64))
        reflections.use(tiles, threads, max_memory)
