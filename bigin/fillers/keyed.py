"""Rows by key: each is the start of a stream of its own, whose id is the key."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.fillers.families import family, require_float
from bigin.fillers.filler import Array
from bigin.kernels.native import Tail, kernel
from bigin.kernels.sizes import BLOCKS, STREAMS
from bigin.methods import scalars
from bigin.methods.distributions import Constant, Distribution
from bigin.methods.scalars import Scalars, drawn_as
from bigin.rng.streams import table_key


class RowFiller(ABC):
    """Makes the rows of a keyed table, from several threads.

    dim: the elements of a row. on_device: the class, as "module:name", that makes the same rows on a CUDA device.
    """

    on_device: str

    def __init__(self, dim: int, dtype: np.dtype[Any]) -> None:
        self.dim, self.dtype = dim, dtype

    @abstractmethod
    def __call__(self, keys: Array, out: Array) -> None:
        """Fill a contiguous array of shape (keys, dim); keys is a contiguous uint64 array."""


class ConstantRows(RowFiller):
    """One value everywhere."""

    on_device = "bigin.fillers.cuda.keyed:ConstantRowsOnDevice"

    def __init__(self, dim: int, dtype: np.dtype[Any], value: Array) -> None:
        super().__init__(dim, dtype)
        self.value = value

    def __call__(self, keys: Array, out: Array) -> None:
        out.fill(self.value[()])


class DrawnRows(RowFiller):
    """Independent draws: a row is the start of the stream whose id is its key, under the table's key."""

    on_device = "bigin.fillers.cuda.keyed:DrawnRowsOnDevice"

    def __init__(self, dim: int, dtype: np.dtype[Any], numbers: Scalars, key: int) -> None:
        super().__init__(dim, dtype)
        self.storage = dtypes.storage(dtype)
        self.kind = numbers.kind
        self.tail = (np.uint64(key), tuple(map(drawn_as(dtype), numbers.values)), np.uint64(numbers.anchor))
        self.shared = Tail(0, *self.tail)
        long = dim > BLOCKS * (2 if dtype == np.float64 else 4)
        self.kernel = kernel("long" if long else "keyed", self.kind, dtypes.name_of(dtype))
        self.kernel.load(self.shared.count)  # here and now, so that no thread waits for it

    def __call__(self, keys: Array, out: Array) -> None:
        if out.size:
            self.kernel.fill_runs(out.reshape(-1).view(self.storage), keys, self.dim, STREAMS, self.shared)


def plan_rows(
    distribution: Distribution, dim: int, dtype: np.dtype[Any], seed: int, name: str
) -> Callable[[], RowFiller]:
    """What makes the rows of a keyed table; all checks are done, and nothing is compiled.

    Raises InputError where the dtype cannot hold the values, or they are no independent draws and no constant.
    """
    row = family(distribution)
    require_float(row, dtype)
    if isinstance(distribution, Constant):
        return partial(ConstantRows, dim, dtype, scalars.constant(distribution.value, dtype))
    if row.scalars is None:
        raise InputError(
            f"expected independent draws or one value everywhere, got {row.formula(distribution)}; choose normal or "
            "uniform"
        )
    numbers = row.scalars(distribution, dtype)

    def make() -> RowFiller:
        return DrawnRows(dim, dtype, numbers, table_key(seed, name))

    return make
