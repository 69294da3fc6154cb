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


def switches(instructions: str) -> dict[str, str]:
    """The variables that have bigin and its peers use AVX2 on a CPU that has AVX-512.

    They are read when a library is imported. On a CPU without AVX-512 there is nothing to switch off.
    """
    assert instructions == "avx2"
    if "avx512f" not in Path("/proc/cpuinfo").read_text():
        return {}
    import numpy as np

    dispatched = np._core._multiarray_umath.__cpu_dispatch__  # type: ignore[attr-defined]
    return {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": "+avx2,+fma,+bmi,+bmi2,+lzcnt,+popcnt,+f16c,+movbe",
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
        "NPY_DISABLE_CPU_FEATURES": " ".join(f for f in dispatched if "AVX512" in f or f == "X86_V4"),
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2 --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    }
