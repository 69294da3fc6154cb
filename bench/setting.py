"""How large and how long, and the layouts that both sides of a case share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLUMNS = 4096  # elements in a row of what is written to files
CHUNK, SHARD, INNER = 16 << 20, 64 << 20, 1 << 20  # bytes; less where the array has less


@dataclass(frozen=True)
class Setting:
    """Where files go, how many bytes one has, how long a measure in memory takes."""

    folder: Path
    size: int
    seconds: float


def cores() -> int:
    """The cores that this process may use: what "all cores" means."""
    return len(os.sched_getaffinity(0))


def zarr_layout(size: int, sharded: bool = False) -> dict[str, Any]:
    """Shape, chunks and shards (elements) of a float32 array of so many bytes."""
    row = 4 * COLUMNS
    shape = (size // row, COLUMNS)
    if not sharded:
        return {"shape": shape, "chunks": (min(CHUNK, size // 4) // row, COLUMNS)}
    shard = min(SHARD, size // 4)
    inner = INNER * shard // SHARD
    return {"shape": shape, "chunks": (inner // row, COLUMNS), "shards": (shard // row, COLUMNS)}
