"""orthogonal on CUDA: the matrix product in the fixed order of matmul.py, and the small loops of reflectors.py.

A thread block makes a tile of the product from chunks of its factors in shared memory, each thread a square of it in
registers. For each element the products of a block of DEPTH consecutive k are summed by fma from 0, k ascending, in the
type of the factors, and the blocks' sums are added in float64: the order of the CPU, so its bits.

No kernel subtracts or adds what it has multiplied itself: such pairs go through memory, where nothing can fuse them.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import cuda, types

from bigin.kernels.cpu import STORES
from bigin.kernels.cuda.device import called_as, launch, start
from bigin.kernels.matmul import DEPTH
from bigin.rng.portable import f32, f64, fma, i64

# 128 x 64 tiles, with the next chunk read ahead and at most 128 registers, were a quarter slower on an H200.
TILE = 64  # rows and columns of a thread block's tile
SIDE = 4  # rows and columns of a thread's
ACROSS = TILE // SIDE  # threads along each side of a tile
CHUNK = 16  # of k, in shared memory
LOADS = CHUNK * TILE // ACROSS**2  # that each thread makes of a chunk of a factor
SQUARE = SIDE * SIDE
FAR = 1 << 40  # a bound that binds nothing


@called_as("cuda")
def multiply_add(a, b, c):
    """fma, which the simulator can call from here."""
    return fma(a, b, c)


@called_as("cuda")
def narrowed(x):
    """A float64 rounded to float32."""
    return f32(x)


@cache
def product_kernel(double: bool, by_rows: bool) -> Any:
    """The kernel of total = A B, or total += A B, for factors of float64 or float32.

    A[i, k] is a[a_place + i a_row + k a_k], where by_rows says that a_k is 1 (else a_row is, so that neighbouring
    threads read neighbours); B[k, j] is b[b_place + k b_k + j], total[i, j] is out[o_place + i o_row + j]. A is rows x
    depth, B depth x columns; all are int64. Blocks of zeros are left out: for the tile whose first column is j, what
    lies before lower + j; what lies from upper_column + j on, j its last column, and upper_row + i likewise. With
    `triangle`, so are the tiles below the diagonal.
    """
    kind = types.float64 if double else types.float32
    zero = f64(0.0) if double else f32(0.0)

    @cuda.jit
    def kernel(
        a, a_place, a_row, a_k, b, b_place, b_k, out, o_place, o_row, rows, columns, depth, lower, upper_row,
        upper_column, triangle, add
    ):  # fmt: skip
        left = cuda.shared.array((CHUNK, TILE), kind)
        right = cuda.shared.array((CHUNK, TILE), kind)
        sums = cuda.local.array(SQUARE, kind)
        totals = cuda.local.array(SQUARE, types.float64)
        tx, ty = i64(cuda.threadIdx.x), i64(cuda.threadIdx.y)
        thread = ty * i64(ACROSS) + tx
        i0, j0 = i64(cuda.blockIdx.y) * i64(TILE), i64(cuda.blockIdx.x) * i64(TILE)
        if j0 >= columns or (triangle != i64(0) and i0 >= j0 + i64(TILE)):
            return
        for p in range(SQUARE):
            totals[p] = f64(0.0)
        k = max(i64(0), lower + j0) // i64(DEPTH) * i64(DEPTH)
        stop = min(depth, min(upper_row + i0 + i64(TILE), upper_column + j0 + i64(TILE)))
        while k < stop:
            end = min(k + i64(DEPTH), stop)
            for p in range(SQUARE):
                sums[p] = zero
            while k < end:
                for load in range(LOADS):
                    index = i64(load * ACROSS * ACROSS) + thread
                    if by_rows:
                        i, ka = index // i64(CHUNK), index % i64(CHUNK)
                    else:
                        i, ka = index % i64(TILE), index // i64(TILE)
                    j, kb = index % i64(TILE), index // i64(TILE)
                    left[ka, i] = zero
                    if k + ka < end and i0 + i < rows:
                        left[ka, i] = a[a_place + (i0 + i) * a_row + (k + ka) * a_k]
                    right[kb, j] = zero
                    if k + kb < end and j0 + j < columns:
                        right[kb, j] = b[b_place + (k + kb) * b_k + j0 + j]
                cuda.syncthreads()
                for kk in range(CHUNK):
                    for p in range(SIDE):
                        for q in range(SIDE):
                            sums[p * SIDE + q] = multiply_add(
                                left[kk, ty * SIDE + p], right[kk, tx + q * ACROSS], sums[p * SIDE + q]
                            )
                cuda.syncthreads()
                k += i64(CHUNK)
            for p in range(SQUARE):
                totals[p] = totals[p] + f64(sums[p])
        for p in range(SIDE):
            for q in range(SIDE):
                i, j = i0 + ty * SIDE + p, j0 + tx + q * ACROSS
                if i < rows and j < columns:
                    at = o_place + i * o_row + j
                    total = totals[p * SIDE + q]
                    out[at] = out[at] + total if add != i64(0) else total

    return kernel


def product(
    stream: Any,
    a: tuple[Any, int, int, int],
    b: tuple[Any, int, int],
    out: tuple[Any, int, int],
    size: tuple[int, int, int],
    lower: int = -FAR,
    upper_row: int = FAR,
    upper_column: int = FAR,
    triangle: bool = False,
    add: bool = False,
) -> None:
    """Launches product_kernel: a is (array, place, row, k), b (array, place, k), out (array, place, row); size is
    (rows, columns, depth)."""
    rows, columns, depth = size
    if rows <= 0 or columns <= 0:
        return
    kernel = product_kernel(a[0].dtype == np.float64, a[3] == 1)
    numbers = (depth, lower, upper_row, upper_column, int(triangle), int(add))
    grid = (-(-columns // TILE), -(-rows // TILE))
    arguments = (a[0], *map(i64, a[1:]), b[0], *map(i64, b[1:]), out[0], *map(i64, out[1:]), i64(rows), i64(columns))
    start(kernel, grid, (ACROSS, ACROSS), stream, *arguments, *map(i64, numbers))


@cuda.jit(device=True)
def place_of_thread():
    """(x, y, steps): where a thread is in a grid, and how far it walks."""
    x = i64(cuda.blockIdx.x) * i64(cuda.blockDim.x) + i64(cuda.threadIdx.x)
    y = i64(cuda.blockIdx.y) * i64(cuda.blockDim.y) + i64(cuda.threadIdx.y)
    return x, y, i64(cuda.blockDim.x) * i64(cuda.gridDim.x), i64(cuda.blockDim.y) * i64(cuda.gridDim.y)


@cuda.jit
def trapezoid_kernel(x, row, column, rows, columns, heads, with_heads):
    """Clears what of a tile of X lies above the diagonal, and puts the reflectors' heads on it if asked.

    x is the tile (rows x columns, contiguous), whose first element is the matrix's (row, column).
    """
    j, top, across, down = place_of_thread()
    while j < columns:
        i = top
        while i < rows:
            if row + i < column + j:
                x[i * columns + j] = 0
            elif row + i == column + j and with_heads != i64(0):
                x[i * columns + j] = heads[column + j]
            i += down
        j += across


@cuda.jit
def diagonal_kernel(x, n, out):
    """out[k] = x[k, k] of an n x n matrix."""
    k, _, across, _ = place_of_thread()
    while k < n:
        out[k] = x[k * n + k]
        k += across


@cuda.jit
def triangle_kernel(gram, n, x, row, rows, scales, steps):
    """reflectors.triangle_tile for the columns of S from `row` on; x is X[row : row + rows, :n], contiguous."""
    j, top, across, down = place_of_thread()
    while j < n:
        i = top
        while i < rows:
            k = row + i
            at = j * n + k
            if k < j:
                gram[at] = f64(0.0)
            elif k == j:
                gram[at] = f64(0.5)
            else:
                scale = scales[j] * scales[k]
                gram[at] = multiply_add(f64(x[i * n + j]), steps[k], gram[at]) * scale
            i += down
        j += across


@cuda.jit
def inverse_kernel(upper, place, stride, size, inverse):
    """reflectors.invert_triangle: a thread block for each column of the inverse, a thread for each row.

    What a step needs of the triangle is read a step earlier, and its result lies in one of two places in turn: then
    one barrier a step is enough.
    """
    shared = cuda.shared.array(2, types.float64)
    j, q = i64(cuda.blockIdx.x), i64(cuda.threadIdx.x)
    if j >= size:
        return
    value = f64(1.0) if q == j else f64(0.0)
    row = place + q * stride
    reciprocal = f64(1.0) / upper[row + q] if q <= j else f64(0.0)
    factor = upper[row + j] if q < j else f64(0.0)
    r = j
    while r >= i64(0):
        if q == r:
            value = value * reciprocal
            shared[r & i64(1)] = value
        following = upper[row + r - i64(1)] if q < r - i64(1) else f64(0.0)
        cuda.syncthreads()
        if q < r:
            value = multiply_add(-factor, shared[r & i64(1)], value)
        factor = following
        r -= i64(1)
    if q < size:
        inverse[q * size + j] = value


@cuda.jit
def right_side_kernel(x, rows, columns, scales, column, out):
    """out[j, i] = x[i, j] scales[column + j]: rows of V1', from a tile (rows x columns) of X whose heads are set."""
    i, top, across, down = place_of_thread()
    while i < rows:
        j = top
        while j < columns:
            out[j * rows + i] = f64(x[i * columns + j]) * scales[column + j]
            j += down
        i += across


@cuda.jit
def subtract_kernel(left, right, size):
    """right = left - right"""
    i, _, across, _ = place_of_thread()
    while i < size:
        right[i] = left[i] - right[i]
        i += across


@cache
def scale_kernel(double: bool) -> Any:
    """The kernel of Z = diag(scales) W, rounded to the drawn type."""

    @cuda.jit
    def kernel(w, n, scales, out):
        j, top, across, down = place_of_thread()
        while j < n:
            k = top
            while k < n:
                scaled = w[k * n + j] * scales[k]
                out[k * n + j] = scaled if double else narrowed(scaled)
                k += down
            j += across

    return kernel


@cache
def finish_kernel(dtype: str) -> Any:
    """The kernel of Q = (E - P) D gain, rounded to the drawn type and once more to the dtype.

    p is P[row : row + rows, column : column + columns], contiguous; out has its place and its steps in elements.
    """
    double = dtype == "float64"
    store = STORES[dtype]

    @called_as(f"cuda-finish-{dtype}")
    def stored(value):
        return store(value if double else f32(value))

    @cuda.jit
    def kernel(p, row, column, rows, columns, signs, gain, out, place, steps):
        j, top, across, down = place_of_thread()
        while j < columns:
            i = top
            while i < rows:
                one = f64(1.0) if row + i == column + j else f64(0.0)
                value = (one - p[i * columns + j]) * signs[column + j] * gain
                out[place + i * steps[0] + j * steps[1]] = stored(value)
                i += down
            j += across

    return kernel


def run_over(kernel: Any, width: int, height: int, stream: Any, *arguments: Any) -> None:
    """Launches one of the kernels above over width x height places; its integers become int64."""
    launch(kernel, width, height, stream, *(i64(a) if isinstance(a, int) else a for a in arguments))


def invert(stream: Any, upper: Any, place: int, stride: int, size: int, inverse: Any) -> None:
    """Launches inverse_kernel for a tile of at most 512 rows that begins at upper[place]."""
    threads = 1 << (size - 1).bit_length()
    start(inverse_kernel, (size, 1), (threads, 1), stream, upper, i64(place), i64(stride), i64(size), inverse)


assert CHUNK * TILE % ACROSS**2 == 0
assert DEPTH % CHUNK == 0
