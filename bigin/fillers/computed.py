"""Values that follow from the index: counts, frequencies, sinusoidal positions; and an identity plus noise.

What needs a logarithm or a power is computed once, in decimal arithmetic, so that no C library decides a bit.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Context, Decimal, localcontext
from functools import cached_property
from typing import Any

import numpy as np

from bigin.core.errors import InputError
from bigin.core.regions import Region, Shape
from bigin.fillers.filler import Array, DrawnFiller, Filler
from bigin.methods import normal_cdf, scalars
from bigin.methods.distributions import Arange, Linspace, LogArange, Rotary, Rows, Sinusoidal
from bigin.methods.scalars import drawn_as

CONTEXT = Context(prec=40, Emin=-999_999, Emax=999_999)
LONGEST = 1 << 20  # numbers that are computed in decimal arithmetic


class RowsFiller(Filler):
    """Equal rows: a value depends only on the index along the last axis."""

    on_device = "bigin.fillers.cuda.fillers:HostedOnDevice"

    def __init__(self, shape: Shape, dtype: np.dtype[Any], row: Callable[[int, int], Array]) -> None:
        self.shape, self.dtype, self.row = shape, dtype, row

    def __call__(self, region: Region, out: Array) -> None:
        out[...] = rounded(self.row(*region[-1]), self.dtype)


class SinusoidalFiller(Filler):
    """Sines and cosines of each row's number times the frequencies, which are counted in turns."""

    on_device = "bigin.fillers.cuda.fillers:HostedOnDevice"

    def __init__(self, shape: Shape, dtype: np.dtype[Any], distribution: Sinusoidal) -> None:
        self.shape, self.dtype, self.halves = shape, dtype, distribution.order == "halves"
        self.base = distribution.base

    @cached_property
    def turns(self) -> Array:
        """The frequency of each pair of columns, in turns per row."""
        return frequencies(self.base, self.shape[1] // 2, 1 / (2 * normal_cdf.pi()))

    def __call__(self, region: Region, out: Array) -> None:
        from bigin.kernels.loops import sines_and_cosines

        (top, bottom), (left, right) = region
        columns = np.arange(left, right)
        half = self.shape[1] // 2
        pair, odd = (columns % half, columns >= half) if self.halves else (columns // 2, columns % 2 == 1)
        sines, cosines = np.empty(right - left), np.empty(right - left)
        for row in range(top, bottom):
            part = row * self.turns[pair]
            part -= np.rint(part)
            part -= part >= 0.5
            angles = (part * 2.0**64).astype(np.int64).view(np.uint64)
            sines_and_cosines(angles, sines, cosines)
            out[row - top] = rounded(np.where(odd, cosines, sines), self.dtype)


class NoisyIdentityFiller(Filler):
    """A normal draw around 0, and on the diagonal the same draw around the gain."""

    on_device = "bigin.fillers.cuda.fillers:NoisyIdentityOnDevice"

    def __init__(self, shape: Shape, values: DrawnFiller, diagonal: DrawnFiller) -> None:
        self.shape, self.values, self.diagonal = shape, values, diagonal

    def __call__(self, region: Region, out: Array) -> None:
        self.values(region, out)
        (top, bottom), (left, right) = region
        rows = np.arange(max(top, left), min(bottom, right))
        if rows.size:
            made = np.empty((rows.size, 1), out.dtype)
            self.diagonal.gather(rows.astype(np.uint64) * np.uint64(self.shape[1] + 1), made)
            out[rows - top, rows - left] = made[:, 0]


def rounded(values: Array, dtype: np.dtype[Any]) -> Array:
    """Float64 numbers in a dtype: those narrower than float32 are the float32 value, rounded once."""
    return values if dtype.kind in "iu" else values.astype(drawn_as(dtype)).astype(dtype)


def row_of(distribution: Rows, shape: Shape, dtype: np.dtype[Any]) -> Callable[[int, int], Array]:
    """What computes the values from one index along the last axis to another, in float64; integers in their dtype."""
    count = shape[-1]
    match distribution:
        case Arange(start, step) if dtype.kind in "iu":
            return lambda first, stop: integers(int(start), int(step), first, stop).astype(dtype)
        case Arange(start, step):
            return lambda first, stop: start + np.arange(first, stop, dtype=np.float64) * step
        case Linspace(a, b):
            step = (b - a) / max(1, count - 1)

            def spaced(first: int, stop: int) -> Array:
                values = a + np.arange(first, stop, dtype=np.float64) * step
                if count > 1 and first <= count - 1 < stop:
                    values[count - 1 - first] = b
                return values

            return spaced
        case LogArange(start):
            with localcontext(CONTEXT):
                whole = np.array([float((Decimal(start) + i).ln()) for i in range(count)])
        case Rotary(base):
            whole = frequencies(base, count, Decimal(1))
        case _:
            raise AssertionError(distribution)
    return lambda first, stop: whole[first:stop]


def integers(start: int, step: int, first: int, stop: int) -> Array:
    """start + step i, in integers."""
    return np.arange(first, stop, dtype=np.int64) * step + start


def frequencies(base: float, count: int, unit: Decimal) -> Array:
    """base^(-i / count) in a unit, each rounded to a float64."""
    with localcontext(CONTEXT):
        logarithm = Decimal(base).ln()
        return np.array([float((-logarithm * i / count).exp() * unit) for i in range(count)])


def check_rows(distribution: Rows, shape: Shape, dtype: np.dtype[Any]) -> tuple[float, float]:
    """The least and the largest value; raises InputError where a dtype cannot hold them, or they are many."""
    count = shape[-1]
    whole = isinstance(distribution, Arange) and all(float(x).is_integer() for x in vars(distribution).values())
    if dtype.kind in "bc" or (dtype.kind in "iu" and not whole):
        raise InputError(f"expected a float dtype, or whole numbers for an integer one, got {distribution} in {dtype}")
    if count > LONGEST and not isinstance(distribution, Arange | Linspace):
        raise InputError(f"expected up to {LONGEST} numbers along the last axis, got {count}")
    return scalars.row_ends(distribution, count)
