"""The table: what is measured, against what, and what is aimed at. The goals are reported, never asserted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from bench import ours, peers
from bench.measure import Work
from bench.setting import Setting

Side = Callable[[Setting], Work]
MEMORY = "1 MiB blocks"
FILE = ""  # as large as --size says


@dataclass(frozen=True)
class Case:
    """A row: bigin's side, the peer's, and the ratio of their speeds that is aimed at."""

    name: str
    ours: Side
    peer_name: str
    peer: Side
    goal: float
    size: str = FILE


def in_memory(method: str, library: str, peer: Callable[[Setting, str], Work], goal: float) -> Case:
    """One core, float32, in memory."""
    name = f"float32 {method}, one core"
    return Case(name, partial(ours.kernel, method=method), library, partial(peer, method=method), goal, MEMORY)


def of_dtype(dtype: str) -> Case:
    """A dtype against float32: the same bytes, to the page cache, so that the disk does not hide the kernel."""
    side, float32 = partial(ours.npy, dtype=dtype, sync=False), partial(ours.npy, sync=False)
    return Case(f"{dtype} normal into .npy, page cache", side, "bigin float32", float32, 0.4)


CASES = (
    in_memory("uniform", "numpy random(out=)", peers.numpy_block, 3),
    in_memory("normal", "numpy standard_normal(out=)", peers.numpy_block, 12),
    in_memory("uniform", "torch uniform_", peers.torch_block, 4),
    in_memory("normal", "torch normal_", peers.torch_block, 4),
    in_memory("trunc_normal", "torch trunc_normal_", peers.torch_block, 15),
    Case(
        "normal into .npy, fsync",
        ours.npy,
        "pwrite of ready blocks, fsync",
        partial(peers.ready_blocks, sync=True),
        0.9,
    ),
    Case(
        "normal into zarr, 16 MiB chunks, page cache",
        ours.in_zarr,
        "pwrite of ready blocks, page cache",
        partial(peers.ready_blocks, sync=False),
        0.5,
    ),
    Case(
        "normal into zarr, 64 MiB shards of 1 MiB chunks, page cache",
        partial(ours.in_zarr, sharded=True),
        "pwrite of ready blocks, page cache",
        partial(peers.ready_blocks, sync=False),
        0.5,
    ),
    Case("normal into .npy, fsync", ours.npy, "torch normal_ on a memmap, flush", peers.torch_memmap, 4),
    Case("normal into .npy, fsync", ours.npy, "numpy standard_normal on a memmap, flush", peers.numpy_memmap, 10),
    Case("normal into zarr, 16 MiB chunks, page cache", ours.in_zarr, "dask normals into zarr", peers.dask_zarr, 8),
    of_dtype("float64"),
    of_dtype("float16"),
    of_dtype("bfloat16"),
)
