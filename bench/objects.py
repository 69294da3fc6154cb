"""Chunks in an object store: a fill beside obstore alone, which sends a ready-made buffer by as many requests.

    python -m bench.objects

rclone's server of S3 runs on this machine, in memory where /dev/shm is there, so it takes a part of the same cores.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from servers import SERVERS, Server, missing

import bigin

MIB = 1 << 20
REQUESTS = 8
TURNS = 5
CASES = ((16 * MIB, 24), (MIB, 256))  # bytes of a chunk, chunks
AIMS = {16 * MIB: 0.9, MIB: 0.7}


def ours(server: Server, size: int, count: int, turn: int) -> float:
    """Bytes in a second of a fill of a new zarr array: the lock, the metadata and the list at the end included."""
    columns = 1024
    rows = size // (4 * columns)
    report = bigin.fill(
        server.url(f"ours-{size}-{turn}.zarr"),
        "uniform",
        shape=(rows * count, columns),
        chunks=(rows, columns),
        requests=REQUESTS,
        max_memory="2GiB",
    )
    return report.nbytes / report.seconds


def obstore_alone(server: Server, size: int, count: int, turn: int) -> float:
    """Bytes in a second of obstore, from as many threads."""
    import obstore
    from obstore.store import S3Store

    store = S3Store(
        "bucket",
        prefix=f"alone-{size}-{turn}",
        endpoint=server.environment["AWS_ENDPOINT_URL"],
        region="us-east-1",
        client_options={"allow_http": True},
    )
    data = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    with ThreadPoolExecutor(REQUESTS) as pool:
        start = time.perf_counter()
        list(pool.map(lambda number: obstore.put(store, f"c/{number}/0", data, use_multipart=False), range(count)))
        return size * count / (time.perf_counter() - start)


def main() -> None:
    """Measures in turn, and prints the medians."""
    if reason := missing("rclone"):
        sys.exit(reason)
    warnings.simplefilter("ignore")
    sides: tuple[Callable[[Server, int, int, int], float], ...] = (obstore_alone, ours)
    for size, count in CASES:
        with SERVERS["rclone"]() as server:
            os.environ.update(server.environment)
            for side in sides:
                side(server, size, 2, -1)
            rates = [[side(server, size, count, turn) for side in sides] for turn in range(TURNS)]
        alone, filled = (statistics.median(rate[side] for rate in rates) for side in (0, 1))
        ratio = statistics.median(rate[1] / rate[0] for rate in rates)
        print(
            f"{size // MIB:3} MiB x {count}, {REQUESTS} requests: obstore {alone / 1e9:.2f} GB/s, "
            f"fill {filled / 1e9:.2f} GB/s, {ratio:.2f} of it (aim {AIMS[size]})"
        )


if __name__ == "__main__":
    main()
