"""Readers of a virtual store beside the same readers of a store on a disk:

python -m bench.readers
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
import tensorstore as ts
import zarr

import bigin
from bench import report
from bigin.core.text import parse_size, size_text

Read = Callable[[], Any]


@click.command(
    help="Measure how fast zarr-python and tensorstore read computed arrays, over HTTP too, and stored ones."
)
@click.option("--size", default="1GiB", show_default=True, help="Bytes of the array.")
@click.option("--chunk", default="16MiB", show_default=True, help="Bytes of a chunk.")
@click.option("--dtype", default="float32", show_default=True, help="Data type of the values.")
@click.option(
    "--repeats", default=5, show_default=True, type=click.IntRange(1), help="Samples of each reader, by turns."
)
@click.option("--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path(), help="Disk.")
def main(size: str, chunk: str, dtype: str, repeats: int, folder: Path) -> None:
    bigin.register_dtypes()
    columns = 1024
    rows = parse_size(size) // (columns * bigin.virtual((1,), "ones", dtype=dtype).itemsize)
    w = bigin.virtual((rows, columns), "normal", std=0.02, dtype=dtype, name="w")
    click.echo(f"{report.machine()['cpu']}, {size_text(w.nbytes)} of {dtype} normals in chunks of {chunk}")
    with tempfile.TemporaryDirectory(dir=folder) as made:
        store = bigin.virtual_store(w, chunks=chunk)
        stored = Path(made, "w.zarr")
        chunks = zarr.open_array(store, mode="r").chunks
        bigin.fill(stored, "normal", std=0.02, dtype=dtype, name="w", shape=w.shape, chunks=chunks)
        with bigin.serve(w, chunks=chunk, port=0) as server:
            readers = {
                "zarr-python, virtual store": by_zarr(store),
                "zarr-python, files in the page cache": by_zarr(stored),
                "tensorstore, bigin serve": by_tensorstore({"driver": "http", "base_url": f"{server.url}/"}),
                "tensorstore, files in the page cache": by_tensorstore({"driver": "file", "path": f"{stored}/"}),
                "numpy.asarray of the virtual array": lambda: np.asarray(w),
            }
            measured(readers, w.nbytes, repeats)


def by_zarr(store: Any) -> Read:
    array = zarr.open_array(store, mode="r")
    return lambda: array[...]


def by_tensorstore(kvstore: dict[str, str]) -> Read:
    nothing_kept = {"cache_pool": {"total_bytes_limit": 0}}
    array = ts.open({"driver": "zarr3", "kvstore": kvstore, "context": nothing_kept}).result()
    return lambda: array.read().result()


def measured(readers: dict[str, Read], nbytes: int, repeats: int) -> None:
    """Prints the rate of each reader, after one reading whose values are compared."""
    expected = None
    for name, read in readers.items():
        values = np.asarray(read()).tobytes()
        expected = expected or values
        if values != expected:
            raise click.ClickException(f"{name}: read other values")
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
    for _ in range(repeats):
        for name, read in readers.items():
            start, cpu = time.perf_counter(), time.process_time()
            read()
            seconds[name].append((time.perf_counter() - start, time.process_time() - cpu))
    click.echo(f"{'':40} GB/s, median (lowest - highest); GB per second of CPU, server and reader")
    for name, samples in seconds.items():
        rates, on_cpu = (sorted(nbytes / each / 1e9 for each in clock) for clock in zip(*samples, strict=True))
        spread = f"({rates[0]:.2f} - {rates[-1]:.2f})"
        click.echo(f"{name:40} {statistics.median(rates):.2f} {spread}; {statistics.median(on_cpu):.2f}")


if __name__ == "__main__":
    main()
