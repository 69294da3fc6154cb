"""A matrix product in a fixed order of operations: the same bits on every CPU, for any tiling and number of threads.

For each element of C: the products of a block of DEPTH consecutive k are summed by fma from 0, k ascending, in the type
of the operands; the sums of the blocks are added in float64, blocks ascending. Blocks start at multiples of DEPTH from
the start of the contraction. Nothing else decides a bit, so rows, columns, whole blocks of zeros, and the zeros at
either end of a block may be left out or done apart (0 b + 0 is +0, s + 0 b is s, and no sum is ever -0).

The blocking is that of K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication" (2008). The
micro-kernel keeps a tile of sums in registers; it is one intrinsic that emits vector IR. The tile is chosen by the
instruction set, as one that needs more registers than there are spills at every step: 12 x 32 float32 ran at 26 GFLOP/s
on AVX2, where 6 x 16 runs at 85 and OpenBLAS at 82 (Zen 3, one core, whose bound is 99).
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from bigin.kernels.loops import Loop
from bigin.rng.instructions import instruction_set

DEPTH = 256  # products in a block


class Tile(NamedTuple):
    """The sums that the micro-kernel keeps in registers: `rows` by `vectors` of `lanes` floats."""

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes


# Sums, a row of the right factor and one spread element of the left: 27 of 32, 15 of 16 and 28 of 32 registers.
# instruction set -> bits of a float -> tile
TILES = {
    "avx512": {32: Tile(12, 2, 16), 64: Tile(12, 2, 8)},
    "avx2": {32: Tile(6, 2, 8), 64: Tile(6, 2, 4)},
    "neon": {32: Tile(8, 3, 4), 64: Tile(8, 3, 2)},
}


class Bounds(NamedTuple):
    """Where factors are 0, and which part of the product is wanted; k, i and j count from the start of a block.

    Left factor: 0 where k < i + left_first or k > i + left_last. Right factor: the same for j. The product is wanted
    where i <= j + diagonal, and may be made elsewhere.
    """

    left_first: int = -(1 << 40)
    left_last: int = 1 << 40
    right_first: int = -(1 << 40)
    right_last: int = 1 << 40
    diagonal: int = 1 << 40

    def at(self, k: int) -> Bounds:
        """The same for a block that starts at k."""
        return Bounds(*(bound - k for bound in self[:4]), self.diagonal)


WHOLE = Bounds()


def aligned(count: int, dtype: Any) -> Any:
    """An empty 1-d array at the start of a cache line: no vector of a panel lies across two."""
    itemsize = np.dtype(dtype).itemsize
    data = np.empty(count * itemsize + 64, np.uint8)
    first = -data.ctypes.data % 64
    return data[first : first + count * itemsize].view(dtype)


def zeros(shape: tuple[int, int]) -> Any:
    """A tile of float64 to which products are added."""
    tile = aligned(shape[0] * shape[1], np.float64).reshape(shape)
    tile[:] = 0
    return tile


@cache
def loops(tile: Tile, bits: int) -> tuple[Loop, ...]:
    """The loops of one tile, of panels.py."""
    return tuple(Loop("panels", name, tile, (bits,)) for name in ("add_product", "multiply_rows", "pack_right"))


class Packed(NamedTuple):
    """A block of a right factor, as panels of the register tile's columns."""

    data: Any
    depth: int
    columns: int


class Product:
    """Adds products to a contiguous array of float64, with buffers of its own: one for each thread.

    The array may have more columns than the product. Where a row is a multiple of 4096 bytes, the rows of a register
    tile meet in the same lines of the L1 cache: 84 GFLOP/s against 91 with 8 columns more.

    `rows` and `columns` are the largest that the tile of `add` will have. `tile`: the CPU's own by default.
    """

    def __init__(self, rows: int, columns: int, dtype: np.dtype[Any], tile: Tile | None = None) -> None:
        bits = 8 * dtype.itemsize
        self.dtype = dtype
        self.tile = tile or TILES[instruction_set()][bits]
        self.add_product, self.multiply_rows, self.pack_right = loops(self.tile, bits)
        self.left = aligned(DEPTH * (rows + self.tile.rows), dtype) if rows else None
        self.right = aligned(DEPTH * (columns + self.tile.columns), dtype) if columns else None
        self.edge = np.zeros(self.tile.rows * self.tile.columns)

    def add(self, a: Any, b: Any, total: Any, bounds: Bounds = WHOLE) -> None:
        """total += a.T @ b, for contiguous a (k, rows) and b (k, columns)."""
        self.add_product(a, b, bounds, self.left, self.right, self.edge, total.reshape(-1), *total.shape)

    def add_block(self, a: Any, k: int, block: Packed, total: Any, bounds: Bounds = WHOLE) -> None:
        """total += a[:, k : k + block.depth] @ b, for a contiguous `a` and a packed block of b."""
        left, right = (a.reshape(-1), k, a.shape[1]), (block.data, block.depth, block.columns)
        self.multiply_rows(*left, *right, bounds, self.edge, total.reshape(-1), *total.shape)

    def pack(self, matrix: Any) -> list[Packed]:
        """A matrix (k, columns) as the right factor, block by block."""
        columns = matrix.shape[1]
        size = -(-columns // self.tile.columns) * self.tile.columns
        data = aligned(matrix.shape[0] * size, self.dtype)
        blocks = []
        for k in range(0, matrix.shape[0], DEPTH):
            depth = min(DEPTH, matrix.shape[0] - k)
            blocks.append(Packed(data[k * size : (k + depth) * size], depth, columns))
            self.pack_right(matrix[k : k + depth], blocks[-1].data)
        return blocks
