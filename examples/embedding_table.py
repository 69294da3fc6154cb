"""An embedding table that is larger than the memory it may use: made, grown, read, and rows of it brought back.

    python examples/embedding_table.py

In the folder where it runs it makes users.zarr, and removes it at the end.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

import bigin
from bigin.core.text import parse_size, size_text

MEMORY = "64MiB"
ROWS, MORE, WIDTH = 1_500_000, 2_000_000, 64


def resident_peak() -> int:
    """The most memory that this process has had, in bytes."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def main() -> None:
    bigin.EmbeddingTable.create("users.zarr", 1, WIDTH, "normal", dtype="bfloat16")  # kernels and libraries are loaded
    shutil.rmtree("users.zarr")
    before = resident_peak()
    table = bigin.EmbeddingTable.create(
        "users.zarr", ROWS, WIDTH, "normal", std=0.01, dtype="bfloat16", padding_idx=0, seed=3, max_memory=MEMORY
    )
    print(f"made  {table.num_embeddings:,} rows, {size_text(ROWS * WIDTH * 2)} within {MEMORY}")
    old = table.rows([0, 1, 1, ROWS - 1])
    table.grow(MORE, max_memory=MEMORY)
    print(f"grown to {table.num_embeddings:,} rows, {size_text(MORE * WIDTH * 2)} within {MEMORY}")
    grew = resident_peak() - before
    print("the process stayed within it" if grew <= parse_size(MEMORY) else f"THE PROCESS GREW BY {size_text(grew)}")

    same = np.array_equal(table.rows([0, 1, 1, ROWS - 1]), old)
    print("the old rows are", "what they were" if same else "OTHERS")
    new = table.rows(MORE - 1)
    alone = np.empty((1, WIDTH), new.dtype)  # the row alone, computed anew as a part of the larger table
    name = table.specification.name  # "users", from the path
    bigin.fill(alone, "normal", std=0.01, seed=3, name=name, shape=(MORE, WIDTH), region=slice(MORE - 1, MORE))
    print("the last row is", "what it is alone" if np.array_equal(new, alone[0]) else "ANOTHER")

    print("rows brought back:", table.reset([7, 7, 1_999_999]))
    print("every row is right" if table.verify(max_memory=MEMORY).equal else "SOME ROWS ARE WRONG")
    table.close()
    shutil.rmtree("users.zarr")


if __name__ == "__main__":
    main()
