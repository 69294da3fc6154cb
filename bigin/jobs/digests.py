"""Digests of a tensor's values: the stored ones, and those of a specification."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.limits import Limits
from bigin.core.regions import Grid, Shape, block_of_rows, extent
from bigin.jobs.in_order import STRETCH, grid_in_order, read_in_order
from bigin.jobs.retries import Retries
from bigin.spec.model import TensorValues
from bigin.targets.target import Target


def begun(dtype: np.dtype[Any], shape: Shape) -> Any:
    """A BLAKE2b-256 that has taken in dtype and shape, as text with a NUL behind each: float32, 120x400."""
    digest = hashlib.blake2b(digest_size=32)
    digest.update(f"{dtypes.name_of(dtype)}\0{'x'.join(map(str, shape))}\0".encode())
    return digest


def add(digest: Any, values: np.ndarray[Any, Any]) -> None:
    """Takes in values, in C order and little-endian."""
    flat = np.ascontiguousarray(values).reshape(-1)
    if flat.dtype.byteorder == ">":
        flat = flat.astype(flat.dtype.newbyteorder("<"))
    digest.update(flat.view(np.uint8).data)


def digest_stored(target: Target, limits: Limits, retries: Retries) -> str:
    """The digest of the stored values, which are read in bounded memory."""
    digest = begun(target.dtype, target.shape)
    grid = grid_in_order(target, max(1 << 20, limits.memory // (4 * limits.threads)))
    for _, values in read_in_order(target, grid, range(len(grid)), retries):
        add(digest, values)
    return str(digest.hexdigest())


def digest_specified(spec: TensorValues, limits: Limits) -> str:
    """The digest of the specified values, which are made in bounded memory."""
    digest = begun(spec.dtype, spec.shape)
    filler = spec.plan()()
    if filler.has_setup:
        filler.setup(limits.threads, limits.memory, lambda part: None)
    grid = Grid(spec.shape, block_of_rows(spec.shape, STRETCH // spec.dtype.itemsize))
    buffer = np.empty(min(STRETCH, max(1, int(np.prod(grid.block, dtype=object)) * spec.dtype.itemsize)), np.uint8)
    for region in grid:
        shape = extent(region)
        count = int(np.prod(shape, dtype=object))
        made = buffer[: count * spec.dtype.itemsize].view(spec.dtype).reshape(shape)
        filler(region, made)
        add(digest, made)
    return str(digest.hexdigest())
