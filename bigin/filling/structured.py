"""The methods whose values are not independent draws, but decided one by one: eye, dirac, sparse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bigin import dtypes
from bigin.filling.engine import run_threads
from bigin.filling.filler import Array, Drawn, Filler, Report
from bigin.regions import Region, Shape


class EyeFilled(Filler):
    """`one` on the diagonal of a matrix."""

    def __init__(self, one: Array) -> None:
        self.one = one

    def __call__(self, region: Region, out: Array) -> None:
        out.fill(0)
        (top, bottom), (left, right) = region
        places = np.arange(max(top, left), min(bottom, right))
        out[places - top, places - left] = self.one


class DiracFilled(Filler):
    """`one` at the centre of the kernels that pass a channel on, as torch.nn.init.dirac_ has it."""

    def __init__(self, shape: Shape, one: Array, groups: int) -> None:
        self.one = one
        self.outputs = shape[0] // groups  # of a group
        self.inputs = shape[1]
        self.centre = tuple(size // 2 for size in shape[2:])

    def __call__(self, region: Region, out: Array) -> None:
        out.fill(0)
        (top, bottom), (left, right) = region[:2]
        if not all(start <= place < stop for place, (start, stop) in zip(self.centre, region[2:], strict=True)):
            return
        rows = np.arange(top, bottom)
        columns = rows % self.outputs
        inside = (columns < min(self.outputs, self.inputs)) & (columns >= left) & (columns < right)
        centre: Any = (place - start for place, (start, _) in zip(self.centre, region[2:], strict=True))
        out[rows[inside] - top, columns[inside] - left, *centre] = self.one


class SparseFilled(Filler):
    """Normal values, with the first `zeros` places of a permutation of every column set to 0.

    Where the memory allows it, the setup marks the rarer of zeros and others once, by the permutations' inverses. Else
    every element is decided alone, by the same permutations.
    """

    has_setup = True
    columns_at_once = 64  # of the marks: their rows then stay in the cache

    def __init__(self, shape: Shape, values: Drawn, zeros: int, seed: int, stream: str) -> None:
        from bigin.kernels import sparse
        from bigin.rng.permutation import halves
        from bigin.rng.philox import stream_id

        self.kernels: Any = sparse
        self.rows, self.columns = shape
        self.values = values
        self.zeros = zeros
        self.halves = tuple(map(np.uint64, halves(self.rows)))
        self.key = (np.uint64(stream_id(stream, "sparse")), np.uint64(seed))
        self.marks: Array | None = None

    def setup(self, threads: int, max_memory: int, report: Report) -> None:
        """Marks the rarer kind, with a byte for every element."""
        if self.rows * self.columns > max_memory:
            return
        marks = np.zeros((self.rows, self.columns), np.uint8)
        few = self.zeros <= self.rows - self.zeros
        first, last = (0, self.zeros) if few else (self.zeros, self.rows)

        def worker() -> Callable[[int], int]:
            def work(column: int) -> int:
                self.kernels.mark_origins(
                    marks[:, column : column + self.columns_at_once],
                    np.uint64(column),
                    np.uint64(self.rows),
                    np.uint64(first),
                    np.uint64(last),
                    *self.halves,
                    *self.key,
                )
                return 1

            return work

        starts = range(0, self.columns, self.columns_at_once)
        run_threads(starts, worker, threads, lambda done: report(done / len(starts)))
        self.marks, self.mark = marks, np.uint8(few)

    def __call__(self, region: Region, out: Array) -> None:
        self.values(region, out)
        bits: np.ndarray[Any, Any] = out.view(dtypes.unsigned(out.dtype))
        (top, _), (left, _) = region
        if self.marks is not None:
            self.kernels.clear_marked(bits, self.marks, top, left, self.mark)
            return
        place: Any = (np.uint64(top), np.uint64(left), np.uint64(self.rows), np.uint64(self.zeros))
        self.kernels.clear_permuted(bits, *place, *self.halves, *self.key)
