"""What bigin is compared with. Each imports its library when it is made, so that a missing one skips only its cases."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from bench.check import moments, pieces
from bench.measure import Work, WrongError, burst
from bench.setting import COLUMNS, Setting, cores, zarr_layout

BLOCK = 1 << 20
SLOW = 8  # a peer that takes many times as long makes this many times less, so that a run takes a second or two


def in_memory(setting: Setting, method: str, out: np.ndarray[Any, Any], make: Callable[[], object]) -> Work:
    """Makes one block again and again in the calling thread."""

    def block(i: int) -> int:
        make()
        return out.nbytes

    return Work(lambda: burst(block, setting.seconds), lambda: moments(method, pieces(out)))


def numpy_block(setting: Setting, method: str) -> Work:
    """numpy's Generator (PCG64, ziggurat) into a block of 1 MiB."""
    out = np.empty(BLOCK // 4, np.float32)
    generator = np.random.default_rng(0)
    draw = {"uniform": generator.random, "normal": generator.standard_normal}[method]
    return in_memory(setting, method, out, lambda: draw(out=out, dtype=np.float32))


def torch_block(setting: Setting, method: str) -> Work:
    """torch.nn.init on one core into a block of 1 MiB."""
    import torch

    out = torch.empty(BLOCK // 4)
    draw = getattr(torch.nn.init, method + "_")
    work = in_memory(setting, method, out.numpy(), lambda: draw(out))

    def run() -> int:
        torch.set_num_threads(1)
        return work.run()

    return replace(work, run=run)


def ready_blocks(setting: Setting, sync: bool) -> Work:
    """What the disk can do: pwrite of one block of ready bytes all over a file whose space is reserved, all cores."""
    path = setting.folder / "peer" / "blocks"
    data = np.random.default_rng(0).bytes(BLOCK)
    threads = cores()

    def run() -> int:
        fd = os.open(path, os.O_RDWR | os.O_CREAT)
        os.posix_fallocate(fd, 0, setting.size)

        def work(first: int) -> None:
            for offset in range(first * BLOCK, setting.size, threads * BLOCK):
                if os.pwrite(fd, data, offset) != BLOCK:
                    raise OSError("a write was cut short")

        pool = [threading.Thread(target=work, args=(i,)) for i in range(threads)]
        for thread in pool:
            thread.start()
        for thread in pool:
            thread.join()
        if sync:
            os.fsync(fd)
        os.close(fd)
        return setting.size

    def check() -> None:
        with path.open("rb") as file:
            for offset in (0, setting.size // 2 // BLOCK * BLOCK, setting.size - BLOCK):
                file.seek(offset)
                if file.read(BLOCK) != data:
                    raise WrongError(f"the block at {offset} is not what was written")
            if file.read(1):
                raise WrongError("the file is longer than was written")

    return Work(run, check, path.parent, setting.size)


def less(size: int) -> int:
    """What a slow peer makes."""
    return max(4 << 20, size // SLOW)


def memmap(setting: Setting, draw: Callable[[np.ndarray[Any, Any]], object]) -> Work:
    """Draws into the mapping of a new .npy file, and brings it to the disk."""
    path = setting.folder / "peer" / "w.npy"
    size = less(setting.size)
    shape = (size // 4 // COLUMNS, COLUMNS)

    def run() -> int:
        values = np.lib.format.open_memmap(path, "w+", np.float32, shape)
        draw(values)
        values.flush()
        return values.nbytes

    def check() -> None:
        values = np.load(path, mmap_mode="r")
        moments("normal", pieces(values))

    return Work(run, check, path.parent, size)


def torch_memmap(setting: Setting) -> Work:
    """torch.nn.init.normal_ on torch.from_numpy(memmap), all cores."""
    import torch

    def draw(values: np.ndarray[Any, Any]) -> None:
        torch.set_num_threads(cores())
        torch.nn.init.normal_(torch.from_numpy(values))

    return memmap(setting, draw)


def numpy_memmap(setting: Setting) -> Work:
    """numpy's standard_normal into a memmap; it knows one core."""
    generator = np.random.default_rng(0)
    return memmap(setting, lambda values: generator.standard_normal(out=values, dtype=np.float32))


def dask_zarr(setting: Setting) -> Work:
    """dask's float32 normals stored into an uncompressed zarr array chunk by chunk, all cores, to the page cache."""
    import dask.array as da
    import zarr

    path = setting.folder / "peer" / "w.zarr"
    layout = zarr_layout(setting.size)

    def run() -> int:
        array = zarr.create_array(path, dtype="float32", compressors=None, **layout)
        generator = da.random.default_rng(0)
        values = generator.standard_normal(layout["shape"], chunks=layout["chunks"], dtype=np.float32)
        da.store(values, array, lock=False, scheduler="threads", num_workers=cores())
        return array.nbytes

    def check() -> None:
        values = zarr.open_array(path, mode="r")
        moments("normal", pieces(values))

    return Work(run, check, path.parent, setting.size)
