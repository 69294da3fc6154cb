"""python -m bench.growth: how speed and memory grow with the bytes of one array and with its chunks.

Each fill runs in a process of its own, whose peak of memory is what the kernel counted. Aims: GB/s of every size within
10% of the first's, and a peak that does not grow.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.measure import new_folder
from bigin.core.text import parse_size, size_text

COLUMNS = 4096
CHUNKED = 64 << 10  # bytes of a chunk, where chunks are counted
PROGRAM = """
import json, resource, sys, time
import bigin
path, shape, chunks = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
if chunks:
    bigin.create(path, shape=shape, dtype="float32", chunks=chunks)
    where = {}
else:
    where = {"shape": shape, "dtype": "float32"}
bigin.fill(path + ".warm.npy", "normal", shape=(1024, 1024), dtype="float32")
start = time.perf_counter()
bigin.fill(path, "normal", **where)
seconds = time.perf_counter() - start
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10]))
"""


@dataclass(frozen=True)
class Layout:
    """One fill: what is counted, the file's name, the shape and the chunks."""

    name: str
    file: str
    rows: int
    chunks: tuple[int, int] | None

    @property
    def nbytes(self) -> int:
        return 4 * self.rows * COLUMNS


def layouts(largest: int, chunks: int) -> Iterator[list[Layout]]:
    """Groups compared with their first: .npy and zarr of 1, 4, 16 and 64 GiB; 10^2 to 10^6 chunks of 64 KiB."""
    sizes = [size for size in ((1 << 30) << (2 * i) for i in range(4)) if size <= largest] or [largest]
    rows = [size // 4 // COLUMNS for size in sizes]
    yield [Layout(f"{size_text(s)} into .npy", "w.npy", n, None) for s, n in zip(sizes, rows, strict=True)]
    tall = (16 << 20) // 4 // COLUMNS
    yield [
        Layout(f"{size_text(s)} into zarr, 16 MiB chunks", "w.zarr", n, (tall, COLUMNS))
        for s, n in zip(sizes, rows, strict=True)
    ]
    low = CHUNKED // 4 // COLUMNS
    counts = [count for count in (10**i for i in range(2, 7)) if count <= chunks]
    yield [Layout(f"{count:,} chunks of 64 KiB", "w.zarr", low * count, (low, COLUMNS)) for count in counts]


def measured(layout: Layout, folder: Path) -> tuple[float, int]:
    """Seconds and the peak of memory of one fill, up to the disk."""
    with tempfile.TemporaryDirectory(prefix="bigin-growth-", dir=folder) as place:
        new_folder(Path(place, "apart"))
        arguments = [
            str(Path(place, "apart", layout.file)),
            json.dumps([layout.rows, COLUMNS]),
            json.dumps(layout.chunks),
        ]
        os.sync()
        ran = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    seconds, peak = json.loads(ran.stdout)
    return seconds, peak


@click.command(help="Measure how speed and memory grow with the size of an array and with its chunks.")
@click.option("--largest", default="4GiB", show_default=True, help="Bytes of the largest array.")
@click.option("--chunks", default=10_000, show_default=True, help="The largest number of chunks.")
@click.option("--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path(), help="Disk.")
def main(largest: str, chunks: int, folder: Path) -> None:
    groups = list(layouts(parse_size(largest), chunks))
    most, free = max(one.nbytes for group in groups for one in group), shutil.disk_usage(folder).free
    if free < most * 1.1:
        raise click.UsageError(f"expected {size_text(most)} of disk in {folder}, got {size_text(free)} free")
    shown = Table("fill", "GB/s", "of the first", "peak of memory")
    for group in groups:
        first = None
        for one in group:
            seconds, peak = measured(one, folder)
            speed = one.nbytes / seconds / 1e9
            first = speed if first is None else first
            shown.add_row(one.name, f"{speed:.2f}", f"{speed / first:.2f}", size_text(peak >> 20 << 20))
    Console(width=None if sys.stdout.isatty() else 120).print(shown)


if __name__ == "__main__":
    main()
