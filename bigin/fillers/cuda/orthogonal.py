"""orthogonal on a CUDA device: fillers/orthogonal.py, step by step, on matrices in the device's memory."""

from __future__ import annotations

import threading
from operator import mul
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.regions import Region, dense, indices, place_in, strided_runs
from bigin.fillers.cuda.fillers import DeviceFiller, DrawnOnDevice, fill_constant, matrix_at
from bigin.fillers.filler import SetupProgress
from bigin.fillers.orthogonal import STRIP, TILE, DeltaOrthogonalFiller, OrthogonalFiller, Reflections
from bigin.kernels import loops
from bigin.kernels.cuda import device as cuda_device
from bigin.kernels.cuda import matrix
from bigin.kernels.cuda.device import View

BAND = 4096  # rows of Q that are made at once
STEP = 8192  # columns of Q that are made at once


class DeviceReflections:
    """The matrix of fillers.orthogonal.Reflections, with the same bits. `prepare` comes first."""

    def __init__(self, host: Reflections, draw: DrawnOnDevice, dtype: np.dtype[Any]) -> None:
        self.m, self.n, self.gain, self.drawn = host.m, host.n, host.gain, host.drawn
        self.draw = draw
        self.dtype = dtype
        self.z: Any = None
        self.workers = threading.local()

    def memory(self) -> int:
        """Of the setup: the triangle and its rounded form; a strip of X, or what solves a row of tiles."""
        n, itemsize = self.n, self.drawn.itemsize
        strip = min(STRIP, self.m) * n * itemsize
        solution = n * TILE * (itemsize + 16) + 8 * TILE * TILE
        return n * n * (8 + itemsize) + max(strip, solution)

    def worker_memory(self) -> int:
        """A band of X and its product."""
        return BAND * (self.n * self.drawn.itemsize + 8 * min(STEP, self.n))

    def prepare(self, stream: Any, report: SetupProgress) -> None:
        """W, and from it Z, which is all that the values need."""
        n = self.n
        triangle = self._array((n, n), np.float64)
        strip = self._array((min(STRIP, self.m), n), self.drawn)
        self._gram(triangle, strip, stream)
        report(0.3)
        self._scalars(triangle, stream)
        self._triangle(triangle, strip, stream)
        del strip
        self._solve(triangle, stream, report)
        z = self._array((n, n), self.drawn)
        scale = matrix.scale_kernel(self.drawn == np.float64)
        matrix.run_over(scale, n, n, stream, self._flat(triangle), n, self.scales, self._flat(z))
        self.z = z

    def _array(self, shape: tuple[int, int], dtype: Any) -> View:
        return cuda_device.contiguous(shape, np.dtype(dtype))

    def _buffer(self, name: str, size: int, dtype: Any) -> View:
        """A worker's, which it keeps: numba frees late, so new ones for each region would add up."""
        kept: View | None = getattr(self.workers, name, None)
        if kept is None or kept.shape[1] < size:
            kept = self._array((1, size), dtype)
            setattr(self.workers, name, kept)
        return kept

    def _flat(self, view: View) -> Any:
        """A view's memory as a 1-d array of its floats."""
        return view.array(np.float64 if view.itemsize == 8 else np.float32)

    def _x(
        self, rows: tuple[int, int], columns: tuple[int, int], buffer: View, stream: Any, *, heads: bool = False
    ) -> Any:
        """A tile of X at the start of a buffer, as a 1-d array: 0 above the diagonal, with heads on it if asked."""
        shape = (rows[1] - rows[0], columns[1] - columns[0])
        tile = buffer.at(0, shape, dense(shape))
        self.draw((rows, columns), tile, stream)
        flat = self._flat(tile)
        if rows[0] < columns[1]:
            arguments = (flat, rows[0], columns[0], *shape, self.heads if heads else flat, int(heads))
            matrix.run_over(matrix.trapezoid_kernel, shape[1], shape[0], stream, *arguments)
        return flat

    def _gram(self, triangle: View, strip: View, stream: Any) -> None:
        """S = X'X on and above the diagonal: the strips in order, in each the blocks in order."""
        n, s = self.n, self._flat(triangle)
        for row in range(0, self.m, STRIP):
            rows = (row, min(row + STRIP, self.m))
            x = self._x(rows, (0, n), strip, stream)
            size = (n, n, rows[1] - rows[0])
            matrix.product(stream, (x, 0, 1, n), (x, 0, n), (s, 0, n), size, lower=-row, triangle=True, add=row > 0)

    def _scalars(self, triangle: View, stream: Any) -> None:
        """The reflectors' heads, scales, signs and steps, made by the CPU: n numbers of each."""
        n = self.n
        squares, diagonal = self._array((1, n), np.float64), self._array((n, 1), self.drawn)
        matrix.run_over(matrix.diagonal_kernel, n, 1, stream, self._flat(triangle), n, self._flat(squares))
        # Element (k, k) of n columns is element (k, 0) of n + 1.
        self.draw.as_shape((n, n + 1))(((0, n), (0, 1)), diagonal, stream)
        x = cuda_device.to_host(diagonal, self.drawn, stream).reshape(n).astype(np.float64)
        heads, scales, signs = np.empty(n), np.empty(n), np.empty(n)
        s = cuda_device.to_host(squares, np.dtype(np.float64), stream).reshape(n)
        loops.reflector_scalars(s, x, heads, scales, signs, np.empty(1, self.drawn))
        self.heads = cuda_device.to_device(heads.astype(self.drawn), stream)
        self.scales, self.signs, self.steps = (cuda_device.to_device(a, stream) for a in (scales, signs, heads - x))

    def _triangle(self, triangle: View, strip: View, stream: Any) -> None:
        """S to inv(T), in place."""
        n = self.n
        for row in range(0, n, STRIP):
            rows = (row, min(row + STRIP, n))
            x = self._x(rows, (0, n), strip, stream)
            arguments = (self._flat(triangle), n, x, row, rows[1] - row, self.scales, self.steps)
            matrix.run_over(matrix.triangle_kernel, n, rows[1] - row, stream, *arguments)

    def _solve(self, triangle: View, stream: Any, report: SetupProgress) -> None:
        """inv(T) W = V1', row of tiles by row of tiles from the last; W takes the place of inv(T)."""
        n, w = self.n, self._flat(triangle)
        columns = self._array((n, TILE), self.drawn)
        right, left = (self._flat(self._array((TILE, n), np.float64)) for _ in range(2))
        inverse = self._flat(self._array((TILE, TILE), np.float64))
        for first in reversed(range(0, n, TILE)):
            last = min(first + TILE, n)
            size, width, corner = last - first, n - first, first * n + first
            matrix.invert(stream, w, corner, n, size, inverse)
            # inv(T)[tile, k] W[k, j] over the k behind the tile, for the columns from it on.
            a, b = (w, corner + size, n, 1), (w, last * n + first, n)
            matrix.product(stream, a, b, (left, 0, width), (size, width, n - last), upper_column=-size)
            x = self._x((first, n), (first, last), columns, stream, heads=True)
            matrix.run_over(matrix.right_side_kernel, width, size, stream, x, width, size, self.scales, first, right)
            matrix.run_over(matrix.subtract_kernel, size * width, 1, stream, right, left, size * width)
            a, b = (inverse, 0, size, 1), (left, 0, width)
            matrix.product(stream, a, b, (w, corner, n), (size, width, size))
            report(0.3 + 0.7 * (1 - (first / n) ** 2))

    def fill(self, rows: tuple[int, int], columns: tuple[int, int], out: View, stream: Any) -> None:
        """Q[rows, columns] times the gain, into a view of that shape, rounded to its dtype."""
        n = self.n
        height, width = min(BAND, rows[1] - rows[0]), min(STEP, columns[1] - columns[0])
        band, p = self._buffer("band", height * n, self.drawn), self._buffer("product", height * width, np.float64)
        for top in range(rows[0], rows[1], height):
            bottom = min(top + height, rows[1])
            x = self._x((top, bottom), (0, n), band, stream, heads=True)
            for left in range(columns[0], columns[1], width):
                right = min(left + width, columns[1])
                place = ((top - rows[0], bottom - rows[0]), (left - columns[0], right - columns[0]))
                self._fill(x, (top, bottom), (left, right), p, out.part(place), stream)
        cuda_device.wait(stream)  # before the buffers are used again

    def _fill(self, x: Any, rows: tuple[int, int], columns: tuple[int, int], p: View, out: View, stream: Any) -> None:
        """(E - X Z) D gain for rows of X that are there."""
        n, flat = self.n, self._flat(p)
        size = (rows[1] - rows[0], columns[1] - columns[0], n)
        b = (self._flat(self.z), columns[0], n)
        to = (flat, 0, size[1])
        matrix.product(stream, (x, 0, n, 1), b, to, size, upper_row=rows[0], upper_column=columns[0])
        finish = matrix.finish_kernel(self.dtype.name)
        places = (flat, rows[0], columns[0], size[0], size[1], self.signs, np.float64(self.gain))
        target = (out.array(dtypes.storage(self.dtype)), out.place, tuple(map(np.int64, out.strides)))
        matrix.run_over(finish, size[1], size[0], stream, *places, *target)


class OrthogonalOnDevice(DeviceFiller):
    """gain Q, whose trailing axes are flattened; transposed where it has fewer rows than columns."""

    def __init__(self, filler: OrthogonalFiller, dtype: np.dtype[Any]) -> None:
        self.shape, self.transposed = filler.shape, filler.transposed
        self.reflections = DeviceReflections(
            filler.reflections, DrawnOnDevice(filler.reflections.draw, filler.reflections.drawn), dtype
        )

    def memory(self) -> int:
        return self.reflections.memory()

    def worker_memory(self) -> int:
        return self.reflections.worker_memory()

    def setup(self, stream: Any, report: SetupProgress) -> None:
        self.reflections.prepare(stream, report)

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        rows = region[0]
        trailing = [range(*span) for span in region[1:]]
        first, counts, strides, steps, run, step = strided_runs(self.shape[1:], trailing, out.strides[1:])
        if run == 0 or rows[0] == rows[1]:
            return
        # The trailing axes are flattened into columns; each run of them is a matrix.
        for index in indices(list(map(range, counts))):
            start = first + sum(map(mul, index, strides))
            place = sum(map(mul, index, steps))
            columns = (start, start + run)
            if self.transposed:
                part = out.at(place, (run, rows[1] - rows[0]), (step, out.strides[0]))
                self.reflections.fill(columns, rows, part, stream)
            else:
                part = out.at(place, (rows[1] - rows[0], run), (out.strides[0], step))
                self.reflections.fill(rows, columns, part, stream)


class DeltaOrthogonalOnDevice(DeviceFiller):
    """gain Q at the centre of a kernel of zeros."""

    def __init__(self, filler: DeltaOrthogonalFiller, dtype: np.dtype[Any]) -> None:
        self.matrix = OrthogonalOnDevice(filler.matrix, dtype)
        self.centre = filler.centre
        self.zero = np.zeros((), dtype)

    def memory(self) -> int:
        return self.matrix.memory()

    def worker_memory(self) -> int:
        return self.matrix.worker_memory()

    def setup(self, stream: Any, report: SetupProgress) -> None:
        self.matrix.setup(stream, report)

    def __call__(self, region: Region, out: View, stream: Any) -> None:
        fill_constant(out, self.zero, stream)
        centre = place_in(region[2:], self.centre)
        if centre is not None:
            self.matrix(region[:2], matrix_at(out, tuple(centre)), stream)
