"""The figures of docs/scale.md: processes beside threads, planning, and what a scheduler costs.

    python -m bench.scale [--gib 4] [processes] [planning] [scheduler]

Wall time on a machine that others use says little, so that CPU time stands beside it, and both sides of a ratio take
turns.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import bigin

ROUNDS = 3
COLUMNS = 4096
PETABYTE = {"shape": (2_000_000_000_000, 256), "dtype": "bfloat16", "chunks": (500_000, 256)}


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock, and of CPUs in this process and in its children that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    before = [resource.getrusage(kind) for kind in kinds]
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    after = [resource.getrusage(kind) for kind in kinds]
    return seconds, sum(b.ru_utime + b.ru_stime - a.ru_utime - a.ru_stime for a, b in zip(before, after, strict=True))


def warm(folder: str) -> None:
    """Loads what a worker needs, by a small fill of the same kind."""
    path = Path(folder) / f"warm-{os.getpid()}.zarr"
    bigin.fill(path, "normal", shape=(256, COLUMNS), chunks=(256, COLUMNS), overwrite=True)
    time.sleep(1)  # so that every process of a pool gets one
    shutil.rmtree(path)


def processes(folder: Path, gib: float) -> None:
    """8 worker processes, which have been started, beside 2 threads of one process."""
    shape, chunks = (int(gib * 2**30) // (4 * COLUMNS), COLUMNS), (1024, COLUMNS)  # 16 MiB
    path = folder / "w.zarr"
    clocks: list[float] = []
    cpus: list[float] = []
    for number in range(ROUNDS + 1):
        alone = spent(lambda: bigin.fill(path, "normal", shape=shape, chunks=chunks, threads=2))
        shutil.rmtree(path)
        plan = bigin.plan(path, "normal", shape=shape, chunks=chunks, parts=64)
        pool = ProcessPoolExecutor(8, mp_context=get_context("spawn"))
        list(pool.map(warm, [str(folder)] * 8))
        used = cpu_of(pool)
        seconds, mine = spent(lambda: plan.run(pool, threads=1))  # noqa: B023 (called at once)
        both = (seconds, mine + cpu_of(pool) - used)
        pool.shutdown()
        shutil.rmtree(path)
        if number == 0:
            continue  # the first round compiles
        print(
            f"2 threads {alone[0]:.1f} s, {alone[1]:.1f} s of CPU; 8 processes {both[0]:.1f} s, {both[1]:.1f} s of CPU"
        )
        clocks.append(alone[0] / both[0])
        cpus.append(alone[1] / both[1])
    print(
        f"processes: 8 processes reach {statistics.median(clocks):.2f} of 2 threads by the clock, "
        f"{statistics.median(cpus):.2f} by CPU time, {gib:g} GiB, median of {ROUNDS}"
    )


def cpu_of(pool: ProcessPoolExecutor) -> float:
    """Seconds of CPU of the processes of a pool."""
    total = 0
    for pid in pool._processes:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / 100


def planning(folder: Path) -> None:
    """A million parts of a petabyte, of which nothing is stored."""
    import bigin.targets.zarr.ledger as ledger

    ledger.require_space = lambda folder, size: None  # type: ignore[attr-defined]
    bigin.plan(folder / "small.zarr", "normal", shape=(1000, 256), chunks=(10, 256), parts=100)  # imports
    seconds, cpu = spent(lambda: bigin.plan(folder / "a.zarr", "normal", parts=1_000_000, **PETABYTE))  # type: ignore[arg-type]
    tracemalloc.start()
    plan = bigin.plan(folder / "b.zarr", "normal", parts=1_000_000, **PETABYTE)  # type: ignore[arg-type]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    plan.write(folder / "plan.json")
    size = (folder / "plan.json").stat().st_size
    print(
        f"planning: 10^6 parts of 1 PB in {seconds:.3f} s ({cpu:.3f} s of CPU), {peak / 2**20:.1f} MiB at the peak; "
        f"plan.json has {size} bytes"
    )


def scheduler(folder: Path) -> None:
    """What 500 parts cost beside their bytes: by dask, and in this process."""
    shape, chunks = (500 * 256, COLUMNS), (256, COLUMNS)  # 500 chunks of 4 MiB
    path = folder / "w.zarr"
    bigin.fill(path, "normal", shape=(256, COLUMNS), chunks=chunks)
    shutil.rmtree(path)
    _, alone = spent(lambda: bigin.fill(path, "normal", shape=shape, chunks=chunks, threads=1))
    shutil.rmtree(path)
    plan = bigin.plan(path, "normal", shape=shape, chunks=chunks, parts=500)
    _, parts = spent(lambda: plan.work(range(500), threads=1))
    print(f"scheduler: a part costs {1000 * (parts - alone) / 500:.1f} ms of CPU beside its bytes")
    from distributed import Client, LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        client.gather([client.submit(warm, str(folder), pure=False) for _ in range(2)])
        start = time.perf_counter()
        client.gather([client.submit(len, (), pure=False) for _ in range(500)])
        print(f"scheduler: 500 empty tasks of dask take {time.perf_counter() - start:.2f} s by the clock")


def main() -> None:
    """Measures what is named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["processes", "planning", "scheduler"])
    parser.add_argument("--gib", type=float, default=4.0)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bigin-scale-"))
    try:
        for what in given.what:
            {"processes": lambda: processes(folder, given.gib), "planning": lambda: planning(folder),
             "scheduler": lambda: scheduler(folder)}[what]()  # fmt: skip
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
