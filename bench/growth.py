"""python -m bench.growth: how speed and memory grow with the bytes of one array and with its chunks.

Each fill runs in a process of its own, whose peak of memory is what the kernel counted. Aims: GB/s of every size within
10% of the first's, and a peak that does not grow. On a busy machine, --clock cpu gives GB per second of CPU time, which
the disk does not slow down. Chunks of a few hundred bytes (--chunk-size) let a million of them fit on a small disk.
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

from bench.measure import new_folder
from bigin.cli.layout import print_table
from bigin.core.text import parse_size, size_text

COLUMNS = 4096
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
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
start, cpu = time.perf_counter(), time.process_time()
bigin.fill(path, "normal", sync=json.loads(sys.argv[4]), **where)
wall, cpu = time.perf_counter() - start, time.process_time() - cpu
print(json.dumps([wall, cpu, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10]))
"""


@dataclass(frozen=True)
class Measured:
    """One fill: seconds by the clock and of CPU time, the peak of memory before it and at its end."""

    wall: float
    cpu: float
    before: int
    peak: int


@dataclass(frozen=True)
class Layout:
    """One fill: what is counted, the file's name, the shape and the chunks."""

    name: str
    file: str
    rows: int
    chunks: tuple[int, int] | None
    columns: int = COLUMNS
    count: int = 0  # of chunks, where those are counted

    @property
    def nbytes(self) -> int:
        return 4 * self.rows * self.columns


def layouts(largest: int, chunks: int, chunk_size: int) -> Iterator[list[Layout]]:
    """Groups compared with their first: .npy and zarr of 1, 4, 16 GiB and the largest; 10^2 to 10^6 small chunks."""
    yield from sized(largest)
    columns = chunk_size // 4
    counts = [count for count in (10**i for i in range(2, 7)) if count <= chunks]
    yield [
        Layout(f"{count:,} chunks of {size_text(chunk_size)}", "w.zarr", count, (1, columns), columns, count)
        for count in counts
    ]


def sized(largest: int) -> Iterator[list[Layout]]:
    """Arrays of 1, 4 and 16 GiB, as far as they are smaller than the largest, and of that; none where it is 0."""
    if not largest:
        return
    sizes = [*(size for size in ((1 << 30) << (2 * i) for i in range(3)) if size < largest), largest]
    rows = [size // 4 // COLUMNS for size in sizes]
    yield [Layout(f"{size_text(s)} into .npy", "w.npy", n, None) for s, n in zip(sizes, rows, strict=True)]
    tall = (16 << 20) // 4 // COLUMNS
    yield [
        Layout(f"{size_text(s)} into zarr, 16 MiB chunks", "w.zarr", n, (tall, COLUMNS))
        for s, n in zip(sizes, rows, strict=True)
    ]


def measured(layout: Layout, folder: Path, *, sync: bool) -> Measured:
    """One fill, up to the disk if `sync` is set."""
    with tempfile.TemporaryDirectory(prefix="bigin-growth-", dir=folder) as place:
        new_folder(Path(place, "apart"))
        arguments = [
            str(Path(place, "apart", layout.file)),
            json.dumps([layout.rows, layout.columns]),
            json.dumps(layout.chunks),
            json.dumps(sync),
        ]
        if sync:
            os.sync()
        ran = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return Measured(*json.loads(ran.stdout))


@click.command(help="Measure how speed and memory grow with the size of an array and with its chunks.")
@click.option("--largest", default="4GiB", show_default=True, help="Bytes of the largest array; 0 for none.")
@click.option("--chunks", default=10_000, show_default=True, help="The largest number of chunks; 0 for none.")
@click.option("--chunk-size", default="64KiB", show_default=True, help="Bytes of a chunk, where chunks are counted.")
@click.option("--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path(), help="Disk.")
@click.option("--clock", type=click.Choice(["wall", "cpu"]), default="wall", show_default=True, help="What GB/s is by.")
@click.option("--sync/--no-sync", default=True, help="Up to the disk, or to the page cache.")
def main(largest: str, chunks: int, chunk_size: str, folder: Path, clock: str, sync: bool) -> None:
    most = 0 if largest == "0" else parse_size(largest)
    groups = [group for group in layouts(most, chunks, parse_size(chunk_size)) if group]
    most, free = max(one.nbytes for group in groups for one in group), shutil.disk_usage(folder).free
    if free < most * 1.1:
        raise click.UsageError(f"expected {size_text(most)} of disk in {folder}, got {size_text(free)} free")
    columns = ("fill", f"GB/s ({clock})", "of the first", "CPU time a chunk", "peak of memory", "of that, the fill's")
    rows = []
    for group in groups:
        first = None
        for one in group:
            found = measured(one, folder, sync=sync)
            speed = one.nbytes / (found.cpu if clock == "cpu" else found.wall) / 1e9
            first = speed if first is None else first
            each = f"{1e6 * found.cpu / one.count:.0f} us" if one.count else ""
            peak, own = size_text(found.peak >> 20 << 20), f"{(found.peak - found.before) / (1 << 20):.1f} MiB"
            rows.append((one.name, f"{speed:.3g}", f"{speed / first:.2f}", each, peak, own))
    print_table("growth", columns, rows)


if __name__ == "__main__":
    main()
