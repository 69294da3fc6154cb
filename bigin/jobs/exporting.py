"""Rows of a table in a file of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from bigin.core.disk import replacing_for_good
from bigin.core.errors import ExistsError, InputError
from bigin.fillers.filler import Array
from bigin.targets.npy import npy_header
from bigin.targets.rows import Rows

BATCH = 4 << 20  # bytes of rows that are read at once

Write = Callable[[BinaryIO, Array, Array], None]


def export_rows(rows: Rows, ids: Array | range, path: Path) -> int:
    """Writes rows to a new .npy or .csv file, whole or not at all; returns how many."""
    count, width = len(ids) if isinstance(ids, range) else ids.size, rows.target.shape[1]
    dtype = rows.target.dtype
    if not isinstance(ids, range) and ids.ndim != 1:
        raise InputError(f"expected ids of one axis, got shape {ids.shape}")
    if path.suffix not in (".npy", ".csv"):
        raise InputError(f"{path}: expected the name of a .npy or .csv file for rows; choose another ending")
    if path.exists():
        raise ExistsError(f"{path}: expected nothing there, got a file; choose another path or remove it")
    if path.suffix == ".npy":
        header, write = npy_header((count, width), dtype), write_values
    else:
        header, write = (",".join(["id", *map(str, range(width))]) + "\n").encode(), write_lines
    with replacing_for_good(path) as file:
        file.write(header)
        for numbers, values in batches(rows, ids):
            write(file, numbers, values)
    return count


def batches(rows: Rows, ids: Array | range) -> Iterator[tuple[Array, Array]]:
    """Rows in the order asked, so many at once: (their numbers, their values)."""
    width = rows.target.shape[1]
    step = max(1, BATCH // (width * rows.target.dtype.itemsize))
    for first in range(0, len(ids), step):
        part = ids[first : first + step]
        if isinstance(part, range):
            yield np.arange(part.start, part.stop), rows.read(((part.start, part.stop), (0, width)))
        else:
            yield part, rows.gather(part)


def write_values(file: BinaryIO, numbers: Array, values: Array) -> None:
    """Their bytes."""
    file.write(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)


def write_lines(file: BinaryIO, numbers: Array, values: Array) -> None:
    """A line for each, with as many digits as tell a number from its neighbours in the dtype."""
    lines = (",".join([str(number), *map(str, row)]) for number, row in zip(numbers.tolist(), values, strict=True))
    file.write("".join(f"{line}\n" for line in lines).encode())
