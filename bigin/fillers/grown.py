"""Tensors that have got more rows: those of a file, and behind them new ones.

The new rows may have the mean of the old ones, or be drawn from a normal distribution with their mean and a small
multiple of their covariance (J. Hewitt, "Initializing new word embeddings for pretrained language models", 2021).
Sums and products are made in a fixed order, so that the same rows give the same bits everywhere: the columns' sums row
by row in blocks of 1024 rows, and block by block; the products as kernels/matmul.py has them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from bigin.core.regions import Region, Shape
from bigin.core.text import counted
from bigin.core.threads import Stopping, map_threads, run_threads
from bigin.fillers.computed import rounded
from bigin.fillers.copied import BLOCK
from bigin.fillers.filler import Array, Filler, Least, SetupProgress
from bigin.methods.scalars import drawn_as

ROWS = 1024  # whose sums are made before they are added to those of the rows before
PANEL = 256  # rows of the covariance that one thread makes at once, and of its factor
SCALE = 1e-9  # of the covariance: transformers' resize_token_embeddings has it too
LEAST = 1e-6  # of a column's variance: what is left of it below that is rounding errors


class Held(NamedTuple):
    """The rows of a tensor that is there: what reads them, and their dtype."""

    filler: Filler
    dtype: np.dtype[Any]

    @property
    def shape(self) -> Shape:
        """The shape of the tensor."""
        return tuple(self.filler.shape)


class GrownFiller(Filler):
    """The rows of one filler, and behind them those of another, which has the whole tensor's shape."""

    on_device = "bigin.fillers.cuda.fillers:HostedOnDevice"

    def __init__(self, old: Filler, new: Filler) -> None:
        self.old, self.new = old, new
        self.shape = new.shape
        self.kept = old.shape[0]
        self.region_bytes = new.region_bytes
        self.worker_memory = old.worker_memory + new.worker_memory
        self.has_setup, self.least = new.has_setup, new.least

    def setup(self, threads: int, max_memory: int, report: SetupProgress) -> None:
        self.new.setup(threads, max_memory, report)

    def __call__(self, region: Region, out: Array) -> None:
        (top, bottom), *rest = region
        edge = min(max(top, self.kept), bottom)
        if top < edge:
            self.old(((top, edge), *rest), out[: edge - top])
        if edge < bottom:
            self.new(((edge, bottom), *rest), out[edge - top :])


class RowFiller(Filler):
    """Every row as one row of a file."""

    on_device = "bigin.fillers.cuda.fillers:HostedOnDevice"

    def __init__(self, shape: tuple[int, ...], source: Filler, row: int) -> None:
        self.shape, self.source, self.row = shape, source, row
        self.worker_memory = source.worker_memory

    def __call__(self, region: Region, out: Array) -> None:
        if out.size == 0:
            return
        _, *rest = region
        self.source(((self.row, self.row + 1), *rest), out[:1])
        out[1:] = out[:1]


class MeanFiller(Filler):
    """Every row as the mean of a file's rows."""

    has_setup = True
    on_device = "bigin.fillers.cuda.fillers:HostedOnDevice"

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype[Any], source: Held) -> None:
        self.shape, self.dtype, self.source = shape, dtype, source
        self.columns = math.prod(shape[1:])

    def setup(self, threads: int, max_memory: int, report: SetupProgress) -> None:
        """The mean, in one pass over the rows."""
        sums = np.zeros(self.columns)
        for parts in groups(self.source, threads):
            for part in map_threads(lambda rows: column_sums(self.source, rows), parts, threads):
                sums += part
            report(parts[-1].stop / self.source.shape[0])
        self.mean = sums / self.source.shape[0]

    def __call__(self, region: Region, out: Array) -> None:
        mean = rounded(self.mean, self.dtype).reshape(self.shape[1:])
        out[...] = mean[tuple(slice(*axis) for axis in region[1:])]


class MultivariateFiller(MeanFiller):
    """Rows of a normal distribution with the mean of a file's rows and SCALE times their covariance.

    `standard` makes the standard normal values of the whole tensor, in the type in which the products are made.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], source: Held, standard: Filler, drawn: np.dtype[Any]
    ) -> None:
        super().__init__(shape, dtype, source)
        self.standard, self.drawn = standard, drawn
        self.worker_memory = max(1, BLOCK // dtype.itemsize // max(1, self.columns)) * self.columns * 24
        self.least = least_of(self.columns, drawn)

    def setup(self, threads: int, max_memory: int, report: SetupProgress) -> None:
        """The mean, the covariance and its factor, in one pass over the rows."""
        covariance = self._covariance(threads, report)
        factor(covariance, threads)
        from bigin.kernels.matmul import DEPTH, Product

        product, self.blocks = Product(0, 0, self.drawn), []
        for k in range(0, self.columns, DEPTH):  # a block at a time, as all in the type of the draws would be a copy
            self.blocks += product.pack(covariance[k : k + DEPTH].astype(self.drawn))

    def _covariance(self, threads: int, report: SetupProgress) -> Array:
        """The upper triangle of the covariance; sets the mean. Values are shifted by the mean of the first rows."""
        from bigin.kernels.loops import add_rows

        count, columns = self.source.shape[0], self.columns
        first = column_sums(self.source, range(min(ROWS, count)))
        shift = (first / min(ROWS, count)).astype(self.drawn)
        sums, shifted, total = np.zeros(columns), np.zeros(columns), np.zeros((columns, columns))
        for parts in groups(self.source, 1):
            (rows,) = parts
            values = read_rows(self.source, rows)
            part = np.zeros(columns)
            add_rows(values, part)
            sums += part
            moved = np.subtract(values, shift, dtype=self.drawn)
            add_rows(moved, shifted)
            add_squares(moved, total, threads)
            report(0.9 * rows.stop / count)
        self.mean = sums / count
        away = shifted / count
        for i in range(columns):
            row = total[i, i:]
            row /= count
            row -= away[i] * away[i:]
        return total

    def __call__(self, region: Region, out: Array) -> None:
        from bigin.kernels.matmul import DEPTH, Product

        (top, bottom), *rest = region
        whole = tuple((0, size) for size in self.shape[1:])
        drawn = np.empty((bottom - top, *self.shape[1:]), self.drawn)
        self.standard(((top, bottom), *whole), drawn)
        flat, total = drawn.reshape(bottom - top, -1), np.zeros((bottom - top, self.columns))
        product = Product(0, 0, self.drawn)
        for number, block in enumerate(self.blocks):
            product.add_block(flat, number * DEPTH, block, total)
        total *= math.sqrt(SCALE)
        total += self.mean
        made = rounded(total, self.dtype).reshape(drawn.shape)
        out[...] = made[(slice(None), *(slice(*axis) for axis in rest))]


def least_of(columns: int, drawn: np.dtype[Any]) -> Least:
    """What the covariance of so many columns takes while its factor is made, beside one factor that is kept."""
    square = columns * columns * (8 + 2 * drawn.itemsize)
    rows = columns * (3 * ROWS + 2 * PANEL) * drawn.itemsize
    return Least(square + rows, f'the covariance of {counted(columns, "column")} (new rows by "mean" need none)')


def groups(source: Held, count: int) -> Iterator[list[range]]:
    """The rows of a tensor in blocks of ROWS, so many at a time."""
    rows, step = source.shape[0], ROWS * count
    for start in range(0, rows, step):
        yield [range(top, min(top + ROWS, rows)) for top in range(start, min(start + step, rows), ROWS)]


def read_rows(source: Held, rows: range) -> Array:
    """Rows of a tensor as a matrix, in float32, or in float64 where that is its own type."""
    values = np.empty((len(rows), *source.shape[1:]), source.dtype)
    source.filler(((rows.start, rows.stop), *((0, size) for size in source.shape[1:])), values)
    return values.reshape(len(rows), -1).astype(drawn_as(source.dtype), copy=False)


def column_sums(source: Held, rows: range) -> Array:
    """The sum of each column over some rows."""
    from bigin.kernels.loops import add_rows

    values = read_rows(source, rows)
    sums = np.zeros(values.shape[1])
    add_rows(values, sums)
    return sums


def add_squares(values: Array, total: Array, threads: int) -> None:
    """total += values.T @ values, its upper triangle."""
    from bigin.kernels.matmul import Bounds, Product

    columns = total.shape[0]

    def worker(stopping: Stopping) -> Callable[[int], int]:
        product = Product(min(PANEL, columns), columns, values.dtype)

        def work(top: int) -> int:
            part = np.ascontiguousarray(values[:, top : top + PANEL])
            product.add(part, values, total[top : top + PANEL], Bounds(diagonal=-top))
            return 1

        return work

    run_threads(range(0, columns, PANEL), worker, threads)


def factor(covariance: Array, threads: int) -> None:
    """The upper triangular R with R'R = a covariance, in place of its upper triangle: Cholesky's, block by block."""
    from bigin.kernels.loops import factor_rows
    from bigin.kernels.matmul import Bounds, Product

    columns = covariance.shape[0]
    least = LEAST * np.abs(np.diagonal(covariance))
    for first in range(0, columns, PANEL):
        stop = min(first + PANEL, columns)
        factor_rows(covariance, first, stop, least)
        above = covariance[first:stop]

        def worker(stopping: Stopping, above: Array = above) -> Callable[[int], int]:
            product = Product(PANEL, columns, covariance.dtype)

            def work(top: int) -> int:
                left = np.ascontiguousarray(-above[:, top : top + PANEL])
                product.add(left, above, covariance[top : top + PANEL], Bounds(diagonal=-top))
                return 1

            return work

        run_threads(range(stop, columns, PANEL), worker, threads)
