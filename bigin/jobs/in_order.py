"""Reading a target in the order of its flat indices, in stretches of bounded size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from bigin.core.errors import FillError, InputError
from bigin.core.handlers import let_through
from bigin.core.regions import Grid, Region, block_of_rows
from bigin.core.threads import Stopped
from bigin.jobs.retries import Retries, one_line
from bigin.targets.target import Array, Target

STRETCH = 4 << 20  # bytes that are read at once
MOST = 64 << 20  # bytes if a row of chunks is larger: otherwise each chunk would be read many times


def grid_in_order(target: Target, memory: int) -> Grid:
    """Regions that are contiguous in C order and follow each other: some rows, or a part of one.

    They have the rows of a chunk, where `memory` bytes allow that.
    """
    item = target.dtype.itemsize
    size = STRETCH
    if target.blocks is not None and target.shape:
        rows = (target.blocks[1] or target.blocks[0])[0]
        tall = rows * math.prod(target.shape[1:]) * item
        if size < tall <= min(MOST, memory):
            size = tall
    return Grid(target.shape, block_of_rows(target.shape, max(1, min(size, memory) // item)))


def read_in_order(target: Target, grid: Grid, tasks: Sequence[int], retries: Retries) -> Iterator[tuple[Region, Array]]:
    """What some regions of the grid hold, in their order; raises FillError where it cannot be read."""
    for task in tasks:
        region = grid[task]
        try:
            yield region, retries.attempt(lambda region=region: target.read(region))  # type: ignore[misc]
        except (InputError, FillError, Stopped, OSError, GeneratorExit):
            raise
        except Exception as error:  # codecs raise errors of many kinds
            let_through(error)
            raise FillError(f"{target.label}: cannot be read: {one_line(error)}") from error
