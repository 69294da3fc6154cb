"""The table: what is measured, against what, and what is aimed at. The goals are reported, never asserted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from bench import cliffs, generators, models, ours, peers, reliability, small, structured, virtual
from bench.check import QUICK
from bench.measure import Work
from bench.setting import Setting

Side = Callable[[Setting], Work]
MEMORY = "1 MiB blocks"
CACHED = 4  # what goes to the page cache is so many times smaller, or the kernel would make it wait for the disk
LESS = f" (1/{peers.SLOW} of the size)"
SMALLEST = QUICK  # bytes: of it all layouts have multiples


@dataclass(frozen=True)
class Case:
    """A row: bigin's side, the peer's, and the ratio of their speeds that is aimed at."""

    name: str
    ours: Side
    peer_name: str
    peer: Side
    goal: float
    memory: str = ""  # what is made in memory; a file is as large as --size says, divided by `share`
    share: int = 1
    by_index: str = ""  # whether a call of the peer makes a value from its index alone

    def within(self, setting: Setting) -> Setting:
        """The setting with this case's size."""
        return replace(setting, size=max(SMALLEST, setting.size // self.share))


def in_memory(
    method: str,
    library: str,
    peer: Callable[[Setting, str], Work],
    goal: float,
    by_index: str,
    dtype: str = "float32",
) -> Case:
    """One core, in memory."""
    side = partial(ours.kernel, method=method, dtype=dtype)
    name = f"{dtype} {method}, one core"
    return Case(name, side, library, partial(peer, method=method), goal, MEMORY, by_index=by_index)


def of_dtype(dtype: str) -> Case:
    """A dtype against float32: the same bytes, to the page cache, so that the disk does not hide the kernel."""
    side, float32 = partial(ours.npy, dtype=dtype, sync=False), partial(ours.npy, sync=False)
    return Case(f"{dtype} normal into .npy, page cache", side, "bigin float32", float32, 0.4, share=CACHED)


def orthogonal(shape: tuple[int, int], dtype: str, goal: float) -> Case:
    """orthogonal in memory, all cores."""
    rows, columns = shape
    return Case(
        f"{dtype} orthogonal {rows:,} x {columns:,}, all cores",
        partial(structured.orthogonal, shape=shape, dtype=dtype),
        "torch orthogonal_",
        partial(structured.torch_orthogonal, shape=shape, dtype=dtype),
        goal,
        "in memory",
    )


def small_array(size: int, goal: float) -> Case:
    """A call for so many elements, in memory."""
    ours_, theirs = partial(small.normal, size=size), partial(small.torch_normal, size=size)
    return Case(f"float32 normal_ of {size:,} elements", ours_, "torch normal_", theirs, goal, "in memory")


def journal(name: str, side: Side) -> Case:
    """A fill beside the same without its journal."""
    peer = partial(reliability.unjournalled, journalled=side)
    return Case(f"{name}, with its journal", side, "bigin without", peer, 0.97)


def cliff(layout: str, goal: float) -> Case:
    """A layout of many small pieces."""
    ours_, zarrs = partial(cliffs.in_zarr, name=layout), partial(cliffs.assigned, name=layout)
    size = f"{4 * math.prod(cliffs.LAYOUTS[layout].get('shape', (cliffs.SIDE, cliffs.SIDE))) // 10**6} MB"
    return Case(f"normal into zarr, {layout}, page cache", ours_, "zarr z[...] = ready values", zarrs, goal, size)


CASES = (
    in_memory("uniform", "numpy random(out=)", peers.numpy_block, 3, "no, but skips ahead"),
    in_memory("normal", "numpy standard_normal(out=)", peers.numpy_block, 12, "no"),
    in_memory("uniform", "torch uniform_", peers.torch_block, 6, "no"),
    in_memory("normal", "torch normal_", peers.torch_block, 4, "no"),
    in_memory("trunc_normal", "torch trunc_normal_", peers.torch_block, 20, "no"),
    *(
        in_memory(method, f"jax.random.{function}", generators.jax_block, goal, "no, but each device makes its own")
        for method, function, goal in (("uniform", "uniform", 4), ("normal", "normal", 4))
    ),
    *(
        in_memory(
            method,
            f"mkl_random {generator}",
            partial(generators.mkl, generator=generator),
            goal,
            "no, but skips ahead",
            "float64",
        )
        for generator, goal in (("SFMT19937", 1), ("PHILOX4X32X10", 2))
        for method in ("uniform", "normal")
    ),
    *(
        in_memory(method, f"randomgen {name}", partial(generators.randomgen, generator=name), goal, index, "float64")
        for name, index in (("SFC64", "no"), ("AESCounter", "no, but skips ahead"))
        for method, goal in (("uniform", 1), ("normal", 2))
    ),
    in_memory("uniform", "dgen-py generate_uniform", generators.dgen, 1, "no"),
    Case(
        "words, one core",
        generators.words,
        "Random123's Philox in C (cc -O3)",
        generators.random123,
        0.9,
        MEMORY,
        by_index="yes",
    ),
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
        share=CACHED,
    ),
    Case(
        "normal into zarr, 64 MiB shards of 1 MiB chunks, page cache",
        partial(ours.in_zarr, sharded=True),
        "pwrite of ready blocks, page cache",
        partial(peers.ready_blocks, sync=False),
        0.5,
        share=CACHED,
    ),
    Case("normal into .npy, fsync", ours.npy, f"torch normal_ on a memmap, flush{LESS}", peers.torch_memmap, 4),
    Case(
        "normal into .npy, fsync", ours.npy, f"numpy standard_normal on a memmap, flush{LESS}", peers.numpy_memmap, 10
    ),
    Case(
        "normal into zarr, 16 MiB chunks, page cache",
        ours.in_zarr,
        "dask normals into zarr",
        peers.dask_zarr,
        8,
        share=CACHED,
        by_index="no: other chunks, other values",
    ),
    of_dtype("float64"),
    of_dtype("float16"),
    of_dtype("bfloat16"),
    journal("normal into .npy, fsync", ours.npy),
    journal("normal into zarr, 16 MiB chunks, fsync", partial(ours.in_zarr, sync=True)),
    Case(f"a checkpoint of {models.TENSORS} tensors, fsync", models.checkpoint, "bigin, one .npy", ours.npy, 0.9),
    Case("verify .npy, from the disk", reliability.verified, "reading it", reliability.read, 1),
    Case(
        "a random row of 128 float32 normals out of 10^12",
        virtual.one_row,
        "numpy, a Philox generator for each row",
        virtual.numpy_row,
        2,
        "in memory",
    ),
    Case(
        "100,000 random rows of 128 float32 normals, one core",
        virtual.many_rows,
        "bigin, rows in order",
        virtual.rows_in_order,
        0.7,
        "in memory",
    ),
    *(
        Case(
            "100,000 rows of 128 float32 normals by key, one core",
            virtual.keyed_rows,
            peer_name,
            peer,
            goal,
            "in memory",
        )
        for peer_name, peer, goal in (
            ("bigin, random rows by number", virtual.many_rows, 1.0),
            ("bigin, rows in order", virtual.rows_in_order, 0.9),
            ("torch.nn.Embedding, 1,000,000 rows that are in memory", virtual.torch_embedding, 0.5),
        )
    ),
    *(small_array(1 << power, goal) for power, goal in ((0, 0.05), (6, 0.05), (12, 0.5), (18, 4), (24, 4), (28, 4))),
    Case(
        f"{small.PARAMETERS:,} parameters of 8 x 8 and 8",
        small.parameters,
        "torch.nn.init",
        small.torch_parameters,
        0.1,
        "in memory",
    ),
    Case(
        "float32 product 1536^3, one core (GFLOP/s)",
        partial(structured.product, n=1536),
        "numpy matmul, one thread",
        partial(structured.numpy_product, n=1536),
        1,
        "in memory",
    ),
    orthogonal((4096, 4096), "float32", 2.5),
    orthogonal((1_000_000, 64), "float32", 4),
    orthogonal((200_000, 256), "float32", 4),
    orthogonal((2048, 2048), "float64", 2),
    Case(
        "float32 sparse 20,000 x 2,000, all cores",
        partial(structured.sparse, shape=(20_000, 2_000)),
        "torch sparse_",
        partial(structured.torch_sparse, shape=(20_000, 2_000)),
        10,
        "in memory",
    ),
    *(cliff(layout, 1 if "zstd" in layout else 3) for layout in cliffs.LAYOUTS),
    Case(
        "a checkpoint of 50,000 tensors of 8",
        cliffs.small_tensors,
        "safetensors save_file",
        cliffs.saved,
        0.1,
        "1.6 MB",
    ),
    Case(
        "verify that checkpoint",
        partial(cliffs.small_tensors, verified=True),
        "bigin's init of it",
        cliffs.small_tensors,
        1,
        "1.6 MB",
    ),
)
