"""orthogonal: the Q of a Gaussian matrix's QR, with the signs of R's diagonal, made from reflectors that are drawn.

A Gaussian stays Gaussian under reflections, so the k-th Householder vector can be built from an independent Gaussian
vector of length m - k + 1 (G. Stewart 1980), and with D, the signs of R's diagonal, Q is Haar-distributed (F. Mezzadri
2007). The vectors come from the counter-based stream and are never stored. With X (m x n, m >= n) the Gaussian matrix
below and on its diagonal, V the reflectors (X with its diagonal replaced, its columns scaled to length 1):

1. S = X'X, one pass over the rows. Its diagonal gives the lengths, and with them V'V follows entry by entry.
2. inv(T) = striu(V'V) + 1/2 (the UT transform of the compact WY form), and inv(T) W = V1', V1 the top n x n of V.
3. Q[rows] = (E[rows] - V[rows] W) D: any rows, at any time, from the n x n triangle W.

Products are those of kernels/matmul.py, in one order whatever the tiling, so the bits obey the law.
"""

from __future__ import annotations

import math
import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from bigin.core.disk import write_all
from bigin.core.regions import Region, Shape, extent, place_in, segments
from bigin.core.threads import Stopped, Stopping, map_threads, run_threads
from bigin.fillers.bands import Band, Bands
from bigin.fillers.filler import Array, DrawnFiller, Filler, SetupProgress
from bigin.kernels import loops, matmul

TILE = 512  # rows and columns of a tile of the triangle
STRIP = 8192  # rows whose products are summed before they are added to S: a part of the order of operations
SHORT = 64  # elements of the diagonal that are drawn with the square around them
WIDE = 2 * TILE  # rows and columns of S that are made together: the wider, the fewer elements are drawn again
DRAWN = 1 << 17  # elements that are drawn at once: they stay in the cache, and Python's share of the time is small
AHEAD = 1  # products of strips that each thread may be ahead of the one that is added next
NEAR = 12  # rows that cost as much as one: those of the largest register tile
ROWS = 480  # of Q that are made at once: a multiple of every register tile's
KEPT = 256 << 20  # bytes of bands at most that are kept for other chunks


def band(n: int) -> int:
    """How many rows of Q are made at once: a multiple of the register tile's, which the bits do not depend on."""
    return max(1, DRAWN // (n * ROWS)) * ROWS


class Tiles:
    """The upper tiles of an n x n float64 matrix, in memory or in a file without a name."""

    def __init__(self, n: int, *, in_memory: bool, folder: str | None = None) -> None:
        self.n = n
        self.count = -(-n // TILE)
        self.in_memory = in_memory
        self._tiles: dict[tuple[int, int], Array] = {}
        self._file = None if in_memory else tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (lives as long as this)
        if self._file is not None:
            weakref.finalize(self, self._file.close)

    def span(self, i: int) -> tuple[int, int]:
        """The rows (or columns) of a tile."""
        return i * TILE, min(i * TILE + TILE, self.n)

    def shape(self, i: int, j: int) -> Shape:
        """A tile's shape."""
        return extent((self.span(i), self.span(j)))

    def get(self, i: int, j: int) -> Array:
        """A tile; one from memory is the tile itself."""
        if self._file is None:
            return self._tiles[i, j]
        rows, columns = self.shape(i, j)
        data = os.pread(self._file.fileno(), 8 * rows * columns, self._place(i, j))
        return np.frombuffer(data, np.float64).reshape(rows, columns).copy()

    def put(self, i: int, j: int, tile: Array) -> None:
        """Keeps a tile."""
        if self._file is None:
            self._tiles[i, j] = tile
            return
        data = np.ascontiguousarray(tile).reshape(-1).view(np.uint8).data
        write_all(self._file.fileno(), data, self._place(i, j))

    def _place(self, i: int, j: int) -> int:
        return 8 * TILE * TILE * (i * self.count + j)

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Every tile on or above the diagonal."""
        return ((i, j) for j in range(self.count) for i in range(j + 1))


class Reflections:
    """A (m, n) matrix with orthonormal columns, m >= n, as a product of reflections. `prepare` comes first."""

    def __init__(self, m: int, n: int, drawn: np.dtype[Any], draw: DrawnFiller, gain: float) -> None:
        self.m, self.n = m, n
        self.drawn = drawn
        self.draw = draw
        self.gain = gain
        self.triangle: Tiles | None = None
        self.packed: dict[tuple[int, int], list[matmul.Packed]] = {}
        self.bands = Bands(0)

    def memory(self) -> int:
        """How many bytes the preparation takes in memory: the triangle, and its packed form."""
        return int(self.n) ** 2 * (8 + self.drawn.itemsize) // 2 + 4 * TILE * self.n * 8

    def prepare(self, threads: int, max_memory: int, report: SetupProgress) -> None:
        """The triangle W, by `threads` threads; in a scratch file where it does not fit in max_memory."""
        in_memory = self.memory() <= max_memory
        tiles = Tiles(self.n, in_memory=in_memory)
        self._gram(tiles, threads, report)
        self._scalars(tiles)
        self._triangle(tiles, list(tiles.pairs()), threads)
        self._solve(tiles, range(tiles.count), threads, report)
        self.use(tiles, threads, max_memory)

    def use(self, tiles: Tiles, threads: int, max_memory: int) -> None:
        """Takes a triangle, and packs it where it is in memory."""
        self.triangle = tiles
        if tiles.in_memory:
            pairs = list(tiles.pairs())
            self.packed = dict(zip(pairs, map_threads(lambda pair: self._packed(*pair), pairs, threads), strict=True))
            self.bands = Bands(min(KEPT, max_memory - self.memory()))

    def _x(self, rows: tuple[int, int], columns: tuple[int, int], *, heads: bool = False) -> Array:
        """A tile of X: 0 above the diagonal, and with the reflectors' heads on it if asked."""
        tile = np.empty(extent((rows, columns)), self.drawn)
        if rows[1] <= columns[0]:
            tile[:] = 0
            return tile
        self.draw((rows, columns), tile)
        if rows[0] < columns[1]:
            loops.clear_above(tile, rows[0], columns[0])
            if heads:
                loops.set_diagonal(tile, rows[0], columns[0], self.heads)
        return tile

    def _gram(self, tiles: Tiles, threads: int, report: SetupProgress) -> None:
        """S = X'X: for each tile the strips in order, in each strip the blocks in order."""
        wide = range(0, self.n, WIDE)
        pairs = [(i, j) for j in wide for i in wide if i <= j]
        tasks = [(strip, i, j) for i, j in pairs for strip in range(j // STRIP * STRIP, self.m, STRIP)]
        sums = InOrder(len(tasks), AHEAD * threads)

        def worker(stopping: Stopping) -> Callable[[int], int]:
            def work(index: int) -> int:
                strip, i, j = tasks[index]
                total = self._strip_product(strip, i, j)
                first = strip == j // STRIP * STRIP
                sums.put(index, lambda: self._add_to_tiles(tiles, total, i, j, first=first), stopping)
                return 1

            return work

        run_threads(range(len(tasks)), worker, threads, lambda done, front: report(0.4 * done / len(tasks)))

    def _add_to_tiles(self, tiles: Tiles, total: Array, top: int, left: int, *, first: bool) -> None:
        """Adds X[strip]'X[strip] from (top, left) on to the tiles of S there."""
        for j in range(left // TILE, -(-min(left + WIDE, self.n) // TILE)):
            for i in range(top // TILE, min(j + 1, -(-min(top + WIDE, self.n) // TILE))):
                (r0, r1), (c0, c1) = tiles.span(i), tiles.span(j)
                part = total[r0 - top : r1 - top, c0 - left : c1 - left]
                tiles.put(i, j, part.copy() if first else tiles.get(i, j) + part)

    def _strip_product(self, strip: int, top: int, left: int) -> Array:
        """X[strip, top :]' X[strip, left :], WIDE rows and columns, where it lies on or above the diagonal of S."""
        rows, columns = (top, min(top + WIDE, self.n)), (left, min(left + WIDE, self.n))
        total: Array = matmul.zeros((rows[1] - rows[0], columns[1] - columns[0]))
        product = matmul.Product(total.shape[0], total.shape[1], self.drawn)
        diagonal = 0 if top == left else matmul.WHOLE.diagonal
        step = max(matmul.DEPTH, DRAWN // (total.shape[1] * matmul.DEPTH) * matmul.DEPTH)
        for row in range(max(strip, left), min(strip + STRIP, self.m), step):
            span = (row, min(row + step, strip + STRIP, self.m))
            b = self._x(span, columns)
            a = b if top == left else self._x(span, rows)
            bounds = matmul.Bounds(left_first=top - row, right_first=left - row, diagonal=diagonal)
            product.add(a, b, total, bounds)
        return total

    def _scalars(self, tiles: Tiles) -> None:
        """What follows from the diagonal of S."""
        self.set_scalars(np.concatenate([np.diagonal(tiles.get(i, i)) for i in range(tiles.count)]))

    def set_scalars(self, squares: Array) -> None:
        """The reflectors' heads, scales and signs, and how far a head is from the element that it replaces."""
        diagonal = np.empty(self.n)
        for k in range(0, self.n, SHORT):
            span = (k, min(k + SHORT, self.n))
            diagonal[slice(*span)] = np.diagonal(self._x(span, span))
        self.heads, self.scales, self.signs = np.empty(self.n), np.empty(self.n), np.empty(self.n)
        drawn = np.empty(1, self.drawn)
        loops.reflector_scalars(squares, diagonal, self.heads, self.scales, self.signs, drawn)
        self.steps = self.heads - diagonal

    def _triangle(self, tiles: Tiles, pairs: Sequence[tuple[int, int]], threads: int) -> None:
        """S to inv(T), in place, of some tiles."""

        def work(pair: tuple[int, int]) -> None:
            i, j = pair
            gram = tiles.get(i, j)
            top = self._x(tiles.span(j), tiles.span(i))
            loops.triangle_tile(gram, top, self.scales, self.steps, i * TILE, j * TILE)
            tiles.put(i, j, gram)

        map_threads(work, pairs, threads)

    def _solve(self, tiles: Tiles, columns: Sequence[int], threads: int, report: SetupProgress) -> None:
        """inv(T) W = V1', row of tiles by row of tiles from the last; W takes the place of inv(T).

        Columns of tiles do not depend on each other: only some, in order, may be solved.
        """
        inverses: dict[int, Array] = {}
        for i in reversed(range(columns[-1] + 1 if columns else 0)):
            if i not in inverses:
                group = range(max(0, i - threads + 1), i + 1)
                found = map_threads(lambda k: spaced(inverted(tiles.get(k, k))), group, threads)
                inverses.update(zip(group, found, strict=True))
            self._solve_row(tiles, i, [j for j in columns if j >= i], inverses.pop(i), threads)
            report(0.4 + 0.6 * (1 - (i / tiles.count) ** 2))

    def _solve_row(self, tiles: Tiles, i: int, columns: Sequence[int], inverse: Array, threads: int) -> None:
        """W[i, j] for some columns, from the rows below; `inverse` is that of inv(T)[i, i]."""
        factors = {k: spaced(tiles.get(i, k)) for k in range(i + 1, columns[-1] + 1)}
        columns = columns[::-1]  # the longest sum first
        row = map_threads(lambda j: self._solve_tile(tiles, i, j, factors, inverse), columns, threads)
        for j, tile in zip(columns, row, strict=True):
            tiles.put(i, j, tile)

    def _solve_tile(self, tiles: Tiles, i: int, j: int, factors: dict[int, Array], inverse: Array) -> Array:
        """W[i, j] = inv(T)[i, i]^-1 (V1'[i, j] - sum over k > i of inv(T)[i, k] W[k, j]); the factors are spaced."""
        size = (tiles.shape(i, j)[0], tiles.shape(i, j)[1])
        above: Array = matmul.zeros(size)
        result: Array = matmul.zeros(size)
        product = matmul.Product(0, 0, above.dtype)
        upper = matmul.Bounds(right_last=0)  # W[j, j] and V1'[j, j] are 0 below the diagonal, as the inverse is
        for k in range(i + 1, j + 1):
            multiply(product, factors[k], tiles.get(k, j), above, upper if k == j else matmul.WHOLE)
        right = self._x(tiles.span(j), tiles.span(i), heads=True).astype(np.float64)
        loops.right_side(right, self.scales, i * TILE)
        bounds = upper if i == j else matmul.WHOLE
        multiply(product, inverse, np.ascontiguousarray(right.T - above), result, bounds._replace(left_first=0))
        return result

    def _packed(self, i: int, j: int) -> list[matmul.Packed]:
        """A tile of diag(scales) W, rounded to the drawn type and packed."""
        assert self.triangle is not None
        first, last = self.triangle.span(i)
        scaled = (self.triangle.get(i, j) * self.scales[first:last, None]).astype(self.drawn)
        return matmul.Product(0, 0, self.drawn).pack(scaled)

    def fill(self, rows: tuple[int, int], columns: tuple[int, int], out: Array) -> None:
        """Q[rows, columns] times the gain, into an array of that shape, rounded to its type."""
        height = band(self.n)
        narrow: list[Band] = []
        for top in range(rows[0] // height * height, rows[1], height):
            part = (max(top, rows[0]), min(top + height, rows[1]))
            pieces = self._tiles_of(part, columns)
            whole = [p for p in pieces if columns[0] <= p.columns[0] and p.columns[1] <= columns[1]]
            narrow += [p for p in pieces if p not in whole]
            left = self._factors(part, columns[1]) if whole else []
            for piece in whole:
                self._place(piece, self._band(piece, left), rows[0], columns, out)
        if narrow:
            self.bands.each(
                narrow,
                lambda piece: self._band(piece, self._factors(piece.rows, piece.columns[1])).astype(self.drawn),
                lambda piece, values: self._place(piece, values, rows[0], columns, out),
            )

    def _tiles_of(self, rows: tuple[int, int], columns: tuple[int, int]) -> list[Band]:
        """The tiles of columns that some columns lie in, of some rows."""
        first, stop = columns[0] // TILE, -(-columns[1] // TILE)
        return [Band(rows, (j * TILE, min(j * TILE + TILE, self.n))) for j in range(first, stop)]

    def _place(self, piece: Band, values: Array, row: int, columns: tuple[int, int], out: Array) -> int:
        """What is wanted of a band into `out`, which begins at (row, columns[0]); returns how many columns that is."""
        first, stop = max(columns[0], piece.columns[0]), min(columns[1], piece.columns[1])
        place = out[piece.rows[0] - row : piece.rows[1] - row, first - columns[0] : stop - columns[0]]
        place[...] = values[:, first - piece.columns[0] : stop - piece.columns[0]]
        return stop - first

    def _factors(self, rows: tuple[int, int], end: int) -> list[Array]:
        """X[rows] with its heads, tile by tile, as far as it is not 0 and columns before `end` need it."""
        tiles = -(-min(end, self.n, rows[1]) // TILE)
        return [spaced(self._x(rows, (i * TILE, min(i * TILE + TILE, self.n)), heads=True)) for i in range(tiles)]

    def _band(self, piece: Band, left: Sequence[Array]) -> Array:
        """(E - X diag(scales) W) D gain of one tile of columns; `left` is from _factors."""
        top, first = piece.rows[0], piece.columns[0]
        total: Array = matmul.zeros((piece.rows[1] - top, piece.width))
        product = matmul.Product(0, 0, self.drawn)
        j = first // TILE
        for i, x in enumerate(left[: j + 1]):
            packed = self.packed.get((i, j))
            for b, block in enumerate(self._packed(i, j) if packed is None else packed):
                k = i * TILE + b * matmul.DEPTH
                bounds = matmul.Bounds(left_last=top - k, right_last=first - k)
                product.add_block(x, b * matmul.DEPTH, block, total, bounds)
        loops.finish_tile(total, top, first, self.signs, self.gain)
        return total


class InOrder:
    """Has what several threads made added in the order of the tasks, by whichever thread comes."""

    def __init__(self, tasks: int, ahead: int) -> None:
        self.ahead = ahead
        self._lock = threading.Condition()
        self._waiting: dict[int, Callable[[], None]] = {}
        self._next = 0

    def put(self, index: int, add: Callable[[], None], stopping: Stopping) -> None:
        """Calls add() in its turn; a thread that is too far ahead waits for the others."""
        with self._lock:
            self._waiting[index] = add
            while self._next in self._waiting:
                self._waiting.pop(self._next)()
                self._next += 1
                self._lock.notify_all()
            while index - self._next > self.ahead:
                if stopping():
                    raise Stopped
                self._lock.wait(0.1)


def spaced(matrix: Array) -> Array:
    """A matrix as a left factor: with rows that do not lie a multiple of 4096 bytes apart, and zeros behind them.

    All rows of a register tile would else meet in the same lines of the L1 cache.
    """
    rows, columns = matrix.shape
    space = 64 // matrix.itemsize
    out: Array = matmul.aligned(rows * (columns + space), matrix.dtype).reshape(rows, columns + space)
    out[:, :columns] = matrix
    return out


def multiply(product: matmul.Product, left: Array, right: Array, total: Array, bounds: matmul.Bounds) -> None:
    """total += left @ right; `left` is spaced."""
    for b, block in enumerate(product.pack(right)):
        product.add_block(left, b * matmul.DEPTH, block, total, bounds.at(b * matmul.DEPTH))


def inverted(upper: Array) -> Array:
    """The inverse of an upper triangular tile."""
    inverse = np.empty_like(upper)
    loops.invert_triangle(upper, inverse)
    return inverse


class OrthogonalFiller(Filler):
    """gain Q, for a tensor whose trailing axes are flattened; transposed where it has fewer rows than columns."""

    on_device = "bigin.fillers.cuda.orthogonal:OrthogonalOnDevice"
    has_setup = needs_setup = True
    near = TILE
    region_bytes = 16 << 20  # the triangle is read for every band of a region

    def __init__(self, shape: Shape, draw: DrawnFiller, drawn: np.dtype[Any], gain: float) -> None:
        self.shape = shape
        rows, columns = shape[0], int(np.prod(shape[1:], dtype=object))
        self.transposed = rows < columns
        m, n = max(rows, columns), min(rows, columns)
        self.reflections = Reflections(m, n, drawn, draw, gain)
        self.drawn = drawn
        wide = min(
            n, WIDE
        )  # a product that is made and one that waits; buffers of both factors; a band and its factors
        sums = 8 * ((1 + AHEAD) * wide * wide + band(n) * min(n, TILE))
        drawn_bytes = drawn.itemsize * (4 * matmul.DEPTH * wide + 2 * DRAWN + PART + 2 * band(n) * n)
        self.worker_memory = sums + drawn_bytes

    def setup(self, threads: int, max_memory: int, report: SetupProgress) -> None:
        self.reflections.prepare(threads, max_memory, report)

    def __call__(self, region: Region, out: Array) -> None:
        rows = region[0]
        flat = out.reshape(rows[1] - rows[0], -1)
        place = 0
        for first, length in merged(segments(self.shape[1:], region[1:])):
            part = flat[:, place : place + length]
            place += length
            self._matrix(rows, (first, first + length), part)

    def gather(self, starts: Array, out: Array) -> None:
        """As Filler.gather: runs in rows that are near each other are made together, as that costs no more."""
        run, width = out.shape[1], math.prod(self.shape[1:])
        rows, lefts = (places.astype(np.int64) for places in np.divmod(starts, np.uint64(width)))
        for i in np.flatnonzero(lefts + run > width):
            self.fill_flat(int(starts[i]), out[i])
        inside = np.flatnonzero(lefts + run <= width)
        inside = inside[np.argsort(rows[inside], kind="stable")]
        for group in self._near(inside, rows, lefts, run):
            top, bottom = int(rows[group[0]]), int(rows[group[-1]]) + 1
            left, right = int(lefts[group].min()), int(lefts[group].max()) + run
            if len(group) == 1:
                self._matrix((top, bottom), (left, right), out[group[0] : group[0] + 1])
                continue
            box = np.empty((bottom - top, right - left), out.dtype)
            self._matrix((top, bottom), (left, right), box)
            places = (rows[group] - top) * (right - left) + lefts[group] - left
            out[group] = np.lib.stride_tricks.sliding_window_view(box.reshape(-1), run)[places]

    def _near(self, order: Array, rows: Array, lefts: Array, run: int) -> Iterator[Array]:
        """Cuts a list of runs, sorted by rows, where rows are far from each other or a group would be large."""
        reach = TILE if self.transposed else NEAR  # rows that cost as much as one
        first = 0
        left, right = 0, 0
        for i, place in enumerate(order.tolist()):
            low, high = min(left, int(lefts[place])), max(right, int(lefts[place]) + run)
            if i > first:
                step = int(rows[place] - rows[order[i - 1]])
                area = (int(rows[place] - rows[order[first]]) + 1) * (high - low)
                if step > reach or area > PART:
                    yield order[first:i]
                    first = i
            if i == first:
                low, high = int(lefts[place]), int(lefts[place]) + run
            left, right = low, high
        if len(order):
            yield order[first:]

    def _matrix(self, rows: tuple[int, int], columns: tuple[int, int], out: Array) -> None:
        """A region of the tensor's matrix."""
        if self.transposed:
            self._fill(columns, rows, out.T)
        else:
            self._fill(rows, columns, out)

    def _fill(self, rows: tuple[int, int], columns: tuple[int, int], out: Array) -> None:
        """Q[rows, columns] into a view of the tensor's dtype, some rows at a time."""
        step = max(ROWS, PART // (columns[1] - columns[0]))
        for top in range(rows[0], rows[1], step):
            part = (top, min(top + step, rows[1]))
            place = out[top - rows[0] : part[1] - rows[0]]
            if out.dtype == self.drawn:
                self.reflections.fill(part, columns, place)
                continue
            values = np.empty(extent((part, columns)), self.drawn)
            self.reflections.fill(part, columns, values)
            place[...] = values


PART = 1 << 20  # elements of Q that are made at once


def merged(parts: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """(start, length) of stretches, with those joined that touch."""
    joined: list[tuple[int, int]] = []
    for start, length in parts:
        if joined and sum(joined[-1]) == start:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        else:
            joined.append((start, length))
    return joined


class DeltaOrthogonalFiller(Filler):
    """gain Q (out x in) at the centre of a kernel (out, in, ...) of zeros."""

    on_device = "bigin.fillers.cuda.orthogonal:DeltaOrthogonalOnDevice"
    has_setup = needs_setup = True
    near = TILE
    region_bytes = OrthogonalFiller.region_bytes

    def __init__(self, shape: Shape, draw: DrawnFiller, drawn: np.dtype[Any], gain: float) -> None:
        self.shape = shape
        self.matrix = OrthogonalFiller(shape[:2], draw, drawn, gain)
        self.centre = tuple((size - 1) // 2 for size in shape[2:])
        self.worker_memory = self.matrix.worker_memory

    def setup(self, threads: int, max_memory: int, report: SetupProgress) -> None:
        self.matrix.setup(threads, max_memory, report)

    def __call__(self, region: Region, out: Array) -> None:
        out.fill(0)
        centre = place_in(region[2:], self.centre)
        if centre is None:
            return
        values = np.empty(extent(region[:2]), out.dtype)
        self.matrix(region[:2], values)
        out[..., *centre] = values
