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
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np

from bigin.core.disk import write_all
from bigin.core.regions import Region, Shape, extent, place_in, segments
from bigin.core.threads import map_threads
from bigin.fillers.filler import Array, Drawn, Filler, Report
from bigin.kernels import matmul, reflectors

TILE = 512  # rows and columns of a tile of the triangle
STRIP = 8192  # rows whose products are summed before they are added to S: a part of the order of operations
SHORT = 64  # elements of the diagonal that are drawn with the square around them
DRAWN = 1 << 18  # elements that are drawn at once: they stay in the cache, and Python's share of the time is small


def band(n: int) -> int:
    """How many rows of Q are made at once: a multiple of the register tile's, which the bits do not depend on."""
    return max(480, DRAWN // n // matmul.ROWS * matmul.ROWS)


class Tiles:
    """The upper tiles of an n x n float64 matrix, in memory or in a file without a name."""

    def __init__(self, n: int, in_memory: bool, folder: str | None = None) -> None:
        self.n = n
        self.count = -(-n // TILE)
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

    def __init__(self, m: int, n: int, drawn: np.dtype[Any], draw: Drawn, gain: float) -> None:
        self.m, self.n = m, n
        self.drawn = drawn
        self.draw = draw
        self.gain = gain
        self.triangle: Tiles | None = None
        self.packed: dict[tuple[int, int], Array] = {}

    def memory(self) -> int:
        """How many bytes the preparation takes in memory: the triangle, and its packed form."""
        return int(self.n) ** 2 * (8 + self.drawn.itemsize) // 2 + 4 * TILE * self.n * 8

    def prepare(self, threads: int, max_memory: int, report: Report) -> None:
        """The triangle W, by `threads` threads; in a scratch file where it does not fit in max_memory."""
        in_memory = self.memory() <= max_memory
        tiles = Tiles(self.n, in_memory)
        self._gram(tiles, threads, report)
        self._scalars(tiles)
        self._triangle(tiles, threads)
        self._solve(tiles, threads, report)
        self.triangle = tiles
        if in_memory:
            pairs = list(tiles.pairs())
            self.packed = dict(zip(pairs, map_threads(lambda pair: self._packed(*pair), pairs, threads), strict=True))

    def _x(self, rows: tuple[int, int], columns: tuple[int, int], heads: bool = False) -> Array:
        """A tile of X: 0 above the diagonal, and with the reflectors' heads on it if asked."""
        tile = np.empty(extent((rows, columns)), self.drawn)
        if rows[1] <= columns[0]:
            tile[:] = 0
            return tile
        self.draw((rows, columns), tile)
        if rows[0] < columns[1]:
            reflectors.clear_above(tile, rows[0], columns[0])
            if heads:
                reflectors.set_diagonal(tile, rows[0], columns[0], self.heads)
        return tile

    def _gram(self, tiles: Tiles, threads: int, report: Report) -> None:
        """S = X'X: for each tile the strips in order, in each strip the blocks in order."""
        for j in range(tiles.count):
            first = tiles.span(j)[0] // STRIP * STRIP  # above, the columns of tile j are 0
            strips = range(first, self.m, STRIP)
            tasks = [(strip, i, j) for strip in strips for i in range(j + 1)]
            # So many at a time wait for their turn to be added, strip by strip.
            for start in range(0, len(tasks), 4 * threads):
                group = tasks[start : start + 4 * threads]
                totals = map_threads(lambda task: self._strip_product(tiles, *task), group, threads)
                for (strip, i, _), total in zip(group, totals, strict=True):
                    tiles.put(i, j, total if strip == first else tiles.get(i, j) + total)
            report(0.4 * ((j + 1) / tiles.count) ** 2)

    def _strip_product(self, tiles: Tiles, strip: int, i: int, j: int) -> Array:
        """X[strip, tile i]' X[strip, tile j]."""
        total = np.zeros(tiles.shape(i, j))
        product = matmul.Product(total.shape[0], total.shape[1], self.drawn)
        step = max(matmul.DEPTH, DRAWN // (total.shape[1] * matmul.DEPTH) * matmul.DEPTH)
        for row in range(max(strip, tiles.span(j)[0]), min(strip + STRIP, self.m), step):
            rows = (row, min(row + step, strip + STRIP, self.m))
            right = self._x(rows, tiles.span(j))
            left = right if i == j else self._x(rows, tiles.span(i))
            product.add(left, right, total)
        return total

    def _scalars(self, tiles: Tiles) -> None:
        """The reflectors' heads, scales and signs, and how far a head is from the element that it replaces."""
        squares = np.concatenate([np.diagonal(tiles.get(i, i)) for i in range(tiles.count)])
        diagonal = np.empty(self.n)
        for k in range(0, self.n, SHORT):
            span = (k, min(k + SHORT, self.n))
            diagonal[slice(*span)] = np.diagonal(self._x(span, span))
        self.heads, self.scales, self.signs = np.empty(self.n), np.empty(self.n), np.empty(self.n)
        drawn = np.empty(1, self.drawn)
        reflectors.reflector_scalars(squares, diagonal, self.heads, self.scales, self.signs, drawn)
        self.steps = self.heads - diagonal

    def _triangle(self, tiles: Tiles, threads: int) -> None:
        """S to inv(T), in place."""

        def work(pair: tuple[int, int]) -> None:
            i, j = pair
            gram = tiles.get(i, j)
            top = self._x(tiles.span(j), tiles.span(i))
            reflectors.triangle_tile(gram, top, self.scales, self.steps, i * TILE, j * TILE)
            tiles.put(i, j, gram)

        map_threads(work, list(tiles.pairs()), threads)

    def _solve(self, tiles: Tiles, threads: int, report: Report) -> None:
        """inv(T) W = V1', row of tiles by row of tiles from the last; W takes the place of inv(T)."""
        inverses: dict[int, Array] = {}
        for i in reversed(range(tiles.count)):
            if i not in inverses:
                group = range(max(0, i - threads + 1), i + 1)
                packed = map_threads(lambda k: matmul.pack_blocks(inverted(tiles.get(k, k))), group, threads)
                inverses.update(zip(group, packed, strict=True))
            self._solve_row(tiles, i, inverses.pop(i), threads)
            report(0.4 + 0.6 * (1 - (i / tiles.count) ** 2))

    def _solve_row(self, tiles: Tiles, i: int, inverse: Array, threads: int) -> None:
        """W[i, j] for every j, from the rows below; `inverse` is that of inv(T)[i, i], packed."""
        following = range(i + 1, tiles.count)
        packed = map_threads(lambda k: matmul.pack_blocks(tiles.get(i, k)), following, threads)
        factors = dict(zip(following, packed, strict=True))
        columns = range(i, tiles.count)[::-1]  # the longest sum first
        row = map_threads(lambda j: self._solve_tile(tiles, i, j, factors, inverse), columns, threads)
        for j, tile in zip(columns, row, strict=True):
            tiles.put(i, j, tile)

    def _solve_tile(self, tiles: Tiles, i: int, j: int, factors: dict[int, Array], inverse: Array) -> Array:
        """W[i, j] = inv(T)[i, i]^-1 (V1'[i, j] - sum over k > i of inv(T)[i, k] W[k, j]); the factors are packed."""
        above, result = np.zeros(tiles.shape(i, j)), np.zeros(tiles.shape(i, j))
        product = matmul.Product(above.shape[0], above.shape[1], above.dtype)
        for k in range(i + 1, j + 1):
            product.add_left_packed(factors[k], tiles.get(k, j), above)
        right = self._x(tiles.span(j), tiles.span(i), heads=True).astype(np.float64)
        reflectors.right_side(right, self.scales, i * TILE)
        product.add_left_packed(inverse, np.ascontiguousarray(right.T - above), result)
        return result

    def _packed(self, i: int, j: int) -> Array:
        """A tile of diag(scales) W, rounded to the drawn type and packed: one after the other, its blocks of DEPTH."""
        assert self.triangle is not None
        tile = self.triangle.get(i, j)
        rows, columns = tile.shape
        first, last = self.triangle.span(i)
        scaled = (tile * self.scales[first:last, None]).astype(self.drawn)
        product = matmul.Product(0, 0, self.drawn)
        padded = -(-columns // product.width) * product.width
        out = np.empty(rows * padded, self.drawn)
        for k in range(0, rows, matmul.DEPTH):
            matmul.pack_right(scaled[k : k + matmul.DEPTH], product.width, out[k * padded :])
        return out

    def fill(self, rows: tuple[int, int], columns: tuple[int, int], out: Array) -> None:
        """Q[rows, columns] times the gain, into an array of that shape, rounded to its type."""
        height = band(self.n)
        for top in range(rows[0], rows[1], height):
            bottom = min(top + height, rows[1])
            self._fill_band((top, bottom), columns, out[top - rows[0] : bottom - rows[0]])

    def _fill_band(self, rows: tuple[int, int], columns: tuple[int, int], out: Array) -> None:
        """(E - X diag(scales) W) D gain, tile of columns by tile of columns."""
        assert self.triangle is not None
        tiles = self.triangle
        product = matmul.Product(0, 0, self.drawn)
        panels = -(-(rows[1] - rows[0]) // matmul.ROWS) * matmul.ROWS
        last = -(-columns[1] // TILE)
        depth = min(last * TILE, self.n, rows[1])  # beyond, X is 0 or W is not needed
        left = self._packed_rows(rows, depth, panels)
        for j in range(columns[0] // TILE, last):
            span = tiles.span(j)
            total = np.zeros((rows[1] - rows[0], span[1] - span[0]))
            stride = -(-total.shape[1] // product.width) * product.width
            for i in range(min(j + 1, -(-depth // TILE))):
                packed = self.packed.get((i, j))
                packed = self._packed(i, j) if packed is None else packed
                for k in range(i * TILE, min(tiles.span(i)[1], depth), matmul.DEPTH):
                    size = min(matmul.DEPTH, self.n - k)
                    product.add_packed(left[k * panels :], packed[(k - i * TILE) * stride :], size, total)
            reflectors.finish_tile(total, rows[0], span[0], self.signs, self.gain)
            first, stop = max(columns[0], span[0]), min(columns[1], span[1])
            out[:, first - columns[0] : stop - columns[0]] = total[:, first - span[0] : stop - span[0]]

    def _packed_rows(self, rows: tuple[int, int], depth: int, panels: int) -> Array:
        """X[rows, :depth] with its heads, packed for a product from the left, block of DEPTH by block."""
        left = np.empty(panels * (depth + matmul.DEPTH), self.drawn)
        for k in range(0, depth, matmul.DEPTH):
            block = (k, min(k + matmul.DEPTH, self.n))
            x = self._x(rows, block, heads=True)
            matmul.pack_rows(x, 0, block[1] - k, left[k * panels :])
        return left


def inverted(upper: Array) -> Array:
    """The inverse of an upper triangular tile."""
    inverse = np.empty_like(upper)
    reflectors.invert_triangle(upper, inverse)
    return inverse


class OrthogonalFilled(Filler):
    """gain Q, for a tensor whose trailing axes are flattened; transposed where it has fewer rows than columns."""

    has_setup = needs_setup = True
    near = TILE
    region_bytes = 16 << 20  # the triangle is read for every band of a region

    def __init__(self, shape: Shape, draw: Drawn, drawn: np.dtype[Any], gain: float) -> None:
        self.shape = shape
        rows, columns = shape[0], int(np.prod(shape[1:], dtype=object))
        self.transposed = rows < columns
        m, n = max(rows, columns), min(rows, columns)
        self.reflections = Reflections(m, n, drawn, draw, gain)
        self.drawn = drawn
        self.worker_memory = 8 * (PART + 2 * TILE * TILE) + drawn.itemsize * (4 * TILE * TILE + band(n) * n)

    def setup(self, threads: int, max_memory: int, report: Report) -> None:
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
            self.fill_stretch(int(starts[i]), out[i])
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
        reach = TILE if self.transposed else matmul.ROWS  # rows that cost as much as one
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
        step = max(matmul.ROWS, PART // (columns[1] - columns[0]))
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


class DeltaOrthogonalFilled(Filler):
    """gain Q (out x in) at the centre of a kernel (out, in, ...) of zeros."""

    has_setup = needs_setup = True
    near = TILE
    region_bytes = OrthogonalFilled.region_bytes

    def __init__(self, shape: Shape, draw: Drawn, drawn: np.dtype[Any], gain: float) -> None:
        self.shape = shape
        self.matrix = OrthogonalFilled(shape[:2], draw, drawn, gain)
        self.centre = tuple((size - 1) // 2 for size in shape[2:])
        self.worker_memory = self.matrix.worker_memory

    def setup(self, threads: int, max_memory: int, report: Report) -> None:
        self.matrix.setup(threads, max_memory, report)

    def __call__(self, region: Region, out: Array) -> None:
        out.fill(0)
        centre = place_in(region[2:], self.centre)
        if centre is None:
            return
        values = np.empty(extent(region[:2]), out.dtype)
        self.matrix(region[:2], values)
        out[..., *centre] = values
