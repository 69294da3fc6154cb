"""Memory never grows with the array: the peak of a whole process, as the system counted it, stays bounded."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import zarr
from common import MIB, PEAK, few

import bigin
from bigin.core import dtypes, memory
from bigin.core.text import parse_size
from bigin.jobs.journal import progress
from bigin.jobs.resume import identity
from bigin.jobs.where import Where, opened

MAX_MEMORY = "64MiB"
BOUND = 288 * MIB  # what Python, the libraries and a compiled kernel take, and MAX_MEMORY


def peak_of(*command: str) -> int:
    """The peak resident size of a command's process, in bytes.

    The process reads it itself, at its end: what the system tells a parent of a child includes the parent's own size.
    """
    command = (*command, "--quiet", "--max-memory", MAX_MEMORY, "--threads", "4")
    done = subprocess.run([sys.executable, "-c", PEAK, *command], capture_output=True, text=True, check=True)
    peak = int(done.stdout.split()[-2]) * 1024
    print(f"{' '.join(command[:4])}: peak {peak / MIB:.0f} MiB of {BOUND / MIB:.0f} MiB")
    return peak


def interrupt(path: str) -> None:
    """Makes a complete fill one that was killed when all of its regions were stored."""
    with opened(Where(path)) as target:
        record = target.ledger.record()
        target.ledger.begin(record | {"complete": False})
        target.ledger.checkpoint(progress(target, target.grid(), len(target.grid()), identity(record)))


CASES = {
    "npy": {},
    "plain": {"chunks": (2048, 2048)},
    "sharded": {"chunks": (512, 512), "shards": (2048, 2048)},
    "sharded small": {"chunks": (32, 32), "shards": (2048, 2048)},
    "compressed": {"chunks": (1024, 1024), "compressors": "auto"},
    "sharded compressed": {"chunks": (512, 512), "shards": (1024, 1024), "compressors": "auto"},
    "format 2 compressed": {"chunks": (1024, 1024), "compressors": "auto", "zarr_format": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("case", few("compressed", *sorted(CASES.keys() - {"compressed"})))
def test_the_peak_stays_below_the_bound_for_an_array_of_eight_times_its_size(case):
    """Of a fill, of a fill that goes on and compares what is there, and of verify."""
    rows = 8 * BOUND // (4 * 2**14) if "compressed" not in case else 2 * BOUND // (4 * 2**14)
    path = "a.npy" if case == "npy" else "a.zarr"
    if case != "npy":
        zarr.create_array(path, shape=(rows, 2**14), dtype="float32", **{"compressors": None, **CASES[case]})
    fill = ("fill", "--method", "normal", path, "--no-sync", "--shape", f"{rows},{2**14}")
    assert peak_of(*fill) < BOUND
    interrupt(path)
    assert peak_of(*fill) < BOUND
    assert peak_of("verify", "--sample", "25%", path) < BOUND


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "shape", "dtype"),
    [
        ("orthogonal", f"{8 * 288 * MIB // 512},64", "float64"),
        ("sparse --sparsity 0.9", f"{2**17},{8 * 288 * MIB // 2**19}", "float32"),
        ("trunc_normal", f"{8 * 288 * MIB // 2**11},1024", "bfloat16"),
    ],
)
def test_the_peak_stays_below_the_bound_for_other_methods(method, shape, dtype):
    """Once the kernels are compiled: for the first fill of a kind LLVM takes up to 100 MiB more."""
    name, *more = method.split()
    bigin.fill(np.zeros((64, 64), dtypes.parse_dtype(dtype)), name, **({"sparsity": float(more[1])} if more else {}))
    assert (
        peak_of("fill", "a.npy", "--method", *method.split(), "--shape", shape, "--dtype", dtype, "--no-sync") < BOUND
    )


def test_fewer_threads_run_where_the_memory_is_short():
    array = zarr.create_array("a.zarr", shape=(64, 4096), chunks=(16, 4096), dtype="float32", compressors=None)
    bigin.fill(array, "normal", threads=64, max_memory=16 * 4096 * 4)
    with pytest.raises(bigin.InputError, match=r"of 16x4096 that takes 262144 bytes .* store chunks 2 times"):
        bigin.fill(array, "normal", max_memory=16 * 4096 * 4 - 1, overwrite=True)


def test_the_default_bound_is_a_quarter_of_what_is_free(monkeypatch):
    array = zarr.create_array("a.zarr", shape=(64, 4096), chunks=(64, 4096), dtype="float32", compressors=None)
    monkeypatch.setattr(memory, "available", lambda: 4 * MIB - 4)
    with pytest.raises(bigin.InputError, match=r"fits in 1024.0 KiB"):
        bigin.fill(array, "normal")
    monkeypatch.setattr(memory, "available", lambda: 4 * MIB)
    bigin.fill(array, "normal")


def test_what_is_free_is_a_part_of_the_machine():
    assert 0 < memory.available() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 1 <= memory.threads() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("512MiB", 512 * MIB),
        ("2GB", 2 * 10**9),
        ("1.5G", 15 * 10**8),
        ("3 kib", 3072),
        (7, 7),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes_are_read_as_people_write_them(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1", "0", "1XB", "1e9", 0, True])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(bigin.InputError, match="expected a size"):
        parse_size(text)


def test_an_array_that_is_made_needs_no_more_memory_than_one_that_is_there():
    bigin.fill("new.zarr", "normal", shape=(2048, 1024), chunks=(2048, 1024), name="", max_memory="1MiB")
    bigin.create("old.zarr", shape=(2048, 1024), chunks=(2048, 1024))
    bigin.fill("old.zarr", "normal", name="", max_memory="1MiB")
    assert (zarr.open_array("new.zarr")[:] == zarr.open_array("old.zarr")[:]).all()
