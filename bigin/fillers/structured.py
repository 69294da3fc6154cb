"""Fillers of the methods whose values are not independent draws, but decided one by one: eye, dirac, sparse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.regions import Region, Shape, place_in
from bigin.core.threads import Stopping, run_threads
from bigin.fillers.filler import Array, DrawnFiller, Filler, SetupProgress, Stream


class EyeFiller(Filler):
    """`one` on the diagonal of a matrix."""

    on_device = "bigin.fillers.cuda.fillers:OnesOnDevice"

    def __init__(self, shape: Shape, one: Array) -> None:
        self.shape = shape
        self.one = one

    def __call__(self, region: Region, out: Array) -> None:
        out.fill(0)
        (top, bottom), (left, right) = region
        diagonal = np.arange(max(top, left), min(bottom, right))
        out[diagonal - top, diagonal - left] = self.one


class DiracFiller(Filler):
    """`one` at the centre of the kernels that pass a channel through, as in torch.nn.init.dirac_."""

    on_device = "bigin.fillers.cuda.fillers:OnesOnDevice"

    def __init__(self, shape: Shape, one: Array, groups: int) -> None:
        self.shape = shape
        self.one = one
        self.outputs = shape[0] // groups  # of a group
        self.inputs = shape[1]
        self.centre = tuple(size // 2 for size in shape[2:])

    def __call__(self, region: Region, out: Array) -> None:
        out.fill(0)
        (top, bottom), (left, right) = region[:2]
        centre = place_in(region[2:], self.centre)
        if centre is None:
            return
        rows = np.arange(top, bottom)
        columns = rows % self.outputs
        inside = (columns < min(self.outputs, self.inputs)) & (columns >= left) & (columns < right)
        out[rows[inside] - top, columns[inside] - left, *centre] = self.one


IN_CACHE = 512 << 10  # bytes that are drawn and then cleared while they are in the cache


class SparseFiller(Filler):
    """Normal values, with 0 where a permutation of the rows of each column gives a number below `zeros`.

    Where the memory allows it, the setup marks the rarer of zeros and others once, by the permutations' inverses. Else
    every element is decided alone, by the same permutations.
    """

    has_setup = True
    on_device = "bigin.fillers.cuda.fillers:SparseOnDevice"

    def __init__(self, shape: Shape, values: DrawnFiller, zeros: int, stream: Stream) -> None:
        from bigin.kernels import loops
        from bigin.rng.halves import halves

        self.kernels: Any = loops
        self.shape = shape
        self.rows, self.columns = shape
        self.values = values
        self.zeros = zeros
        self.halves = tuple(map(np.uint64, halves(self.rows)))
        self.key = stream.of("sparse").words()
        self.marks: Array | None = None

    def setup(self, threads: int, max_memory: int, report: SetupProgress) -> None:
        """Mark the rarer kind, with a bit for every element: 64 columns to a word."""
        groups = -(-self.columns // 64)
        if 8 * groups * self.rows > max_memory:
            return
        marks = np.zeros((groups, self.rows), np.uint64)
        few = self.zeros <= self.rows - self.zeros
        first, last = (0, self.zeros) if few else (self.zeros, self.rows)

        def worker(stopping: Stopping) -> Callable[[int], int]:
            def work(group: int) -> int:
                self.kernels.mark_origins(
                    marks[group],
                    np.uint64(64 * group),
                    min(64, self.columns - 64 * group),
                    np.uint64(self.rows),
                    np.uint64(first),
                    np.uint64(last),
                    *self.halves,
                    *self.key,
                )
                return 1

            return work

        run_threads(range(groups), worker, threads, lambda done, front: report(done / groups))
        self.mark, self.marks = np.uint64(few), marks  # last: other threads read the marks once they are set

    def __call__(self, region: Region, out: Array) -> None:
        (top, bottom), columns = region
        step = max(1, IN_CACHE // max(1, out.itemsize * (columns[1] - columns[0])))
        for row in range(top, bottom, step):
            rows = (row, min(row + step, bottom))
            self._fill((rows, columns), out[rows[0] - top : rows[1] - top])

    def _fill(self, region: Region, out: Array) -> None:
        self.values(region, out)
        bits: Any = out.view(dtypes.unsigned(out.dtype))
        (top, _), (left, _) = region
        if self.marks is not None:
            self.kernels.clear_marked(bits, self.marks, top, left, self.mark)
            return
        where: Any = (np.uint64(top), np.uint64(left), np.uint64(self.rows), np.uint64(self.zeros))
        columns = bits.shape[1]
        buffers = np.empty((4, columns), np.uint64), np.empty(columns, np.uint64)
        self.kernels.clear_permuted(bits, *where, *self.halves, *self.key, *buffers)
