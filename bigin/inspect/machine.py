"""What this machine offers a fill, for `bigin doctor`."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import resource
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bigin.core import memory
from bigin.core.errors import FillError, InputError, NotFoundError, StoreError
from bigin.core.limits import Limits
from bigin.core.paths import kernel_cache_root
from bigin.jobs.workers import FIRST
from bigin.targets.objects.open import store_at
from bigin.targets.objects.urls import is_cloud

PACKAGES = (
    "bigin", "numpy", "numba", "llvmlite", "zarr", "numcodecs", "ml_dtypes", "numba-cuda", "torch", "jax",
    "safetensors", "icechunk", "fsspec", "s3fs", "gcsfs", "adlfs", "obstore", "matplotlib",
)  # fmt: skip
FEATURES = ("avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512dq", "avx512vl", "neon", "sve")
# the store -> the package that opens it
STORES = {"s3://": "obstore", "gs://": "obstore", "az://": "obstore", "http://": "aiohttp", "icechunk": "icechunk"}
DISK_SECONDS = 2.0  # of writing, at most
OBJECT = 4 << 20  # bytes of an object that is written to measure a store
PIECE = 16 << 20  # bytes between two syncs, so that a slow disk is not given much more than it writes in that time


def examine(folder: str = ".") -> dict[str, Any]:
    """Return the facts as `bigin doctor --json` prints them.

    A file is written in the folder for two seconds and removed, or objects where it is the URL of a store.

    Raises:
        NotFoundError: there is no such folder.
    """
    remote = is_cloud(folder)
    if not remote and not os.path.isdir(folder):
        raise NotFoundError(f"{folder}: expected a folder to measure the disk in, got none; create it or name another")
    return {
        "versions": versions(),
        "cpu": processor(),
        "gpu": device(),
        "memory": room(),
        "cache": kernel_cache(),
        **({"store": store_of(folder)} if remote else {"disk": disk(folder)}),
        "stores": {store: importlib.util.find_spec(package) is not None for store, package in STORES.items()},
    }


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages, None for those that are not installed."""
    found: dict[str, str | None] = {"python": platform.python_version(), "system": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    if found["bigin"] is None:  # run from its sources
        from bigin import __version__

        found["bigin"] = __version__
    return found


def processor() -> dict[str, Any]:
    """Return the CPU as numba compiles for it, and the tile of sums that matrix products keep in its registers."""
    from numba.core.registry import cpu_target

    from bigin.kernels.matmul import TILES
    from bigin.rng.instructions import instruction_set

    _, name, features = cpu_target.target_context.codegen().magic_tuple()
    has = {feature.removeprefix("+") for feature in features.split(",") if feature.startswith("+")}
    tiles = TILES[instruction_set()]
    return {
        "name": name,
        "cores": os.cpu_count(),
        "usable_cores": memory.threads(),
        "features": [feature for feature in FEATURES if feature in has],
        "instruction_set": instruction_set(),
        "tile": {f"float{bits}": [tile.rows, tile.columns] for bits, tile in tiles.items()},
    }


def device() -> dict[str, Any]:
    """Return the CUDA device, or why there is none."""
    try:
        from bigin.kernels.cuda import device as cuda
    except ImportError:
        return {
            "usable": False,
            "reason": "numba-cuda is not installed; pip install 'bigin[cuda13]' or 'bigin[cuda12]'",
        }
    if why := cuda.problem():
        return {"usable": False, "reason": why}
    return {"usable": True, "name": cuda.device_name(), "count": cuda.count(), "free": cuda.free_memory()}


def room() -> dict[str, Any]:
    """Return the free memory and the limits of this process; None is no limit."""

    def limit(which: int) -> int | None:
        soft, _ = resource.getrlimit(which)
        return None if soft == resource.RLIM_INFINITY else soft

    return {
        "available": memory.available(),
        "default_max_memory": Limits.parse().memory,
        "address_space_limit": limit(resource.RLIMIT_AS),
        "open_files_limit": limit(resource.RLIMIT_NOFILE),
        "file_size_limit": limit(resource.RLIMIT_FSIZE),
    }


def kernel_cache() -> dict[str, Any]:
    """Return where bigin.kernels.cache keeps compiled kernels, and how much that is; no folder where it is off."""
    root = kernel_cache_root()
    if not root:
        return {"folder": None, "files": 0, "bytes": 0, "writable": False}
    sizes = list(_sizes(Path(root)))
    nearest = Path(root)
    while not nearest.exists():
        nearest = nearest.parent
    writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    return {"folder": root, "files": len(sizes), "bytes": sum(sizes), "writable": writable}


def _sizes(root: Path) -> Iterator[int]:
    for path in root.rglob("*"):
        try:
            if path.is_file():
                yield path.stat().st_size
        except OSError:  # another process replaced it
            continue


def disk(folder: str) -> dict[str, Any]:
    """Return the free space of a folder's disk, and the bytes per second that reach it; None where that fails.

    Each piece is synced, so the speed is that of the disk and not of the page cache.
    """
    facts: dict[str, Any] = {"folder": os.path.abspath(folder), "free": shutil.disk_usage(folder).free}
    piece = os.urandom(PIECE)  # a disk may compress
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            start, written = time.perf_counter(), 0
            while (seconds := time.perf_counter() - start) < DISK_SECONDS and written + 2 * PIECE < facts["free"]:
                written += os.write(file.fileno(), piece)
                os.fsync(file.fileno())
        return facts | {"write_speed": written / seconds if written else None, "reason": None}
    except OSError as error:
        return facts | {"write_speed": None, "reason": error.strerror or str(error)}


def store_of(url: str) -> dict[str, Any]:
    """Return whether a store can be used, and the bytes per second that it takes; None where that fails.

    Objects are written below the URL by as many requests at once as a fill begins with, and removed.
    """
    facts: dict[str, Any] = {"url": url, "create_only": None, "write_speed": None, "requests": FIRST, "reason": None}
    held: list[str] = []
    try:
        place, key = store_at(url)
        below = f"{key.rstrip('/')}/.bigin-doctor-{uuid.uuid4().hex}".lstrip("/")
        held.append(f"{below}/lock")
        first, second = place.create(held[0], b"bigin"), place.create(held[0], b"twice")
        facts["create_only"] = first and not second
        piece = os.urandom(OBJECT)
        start = time.perf_counter()

        def write(worker: int) -> int:
            written = 0
            while time.perf_counter() - start < DISK_SECONDS:
                held.append(f"{below}/{worker}-{written}")
                place.put(held[-1], piece)
                written += OBJECT
            return written

        with ThreadPoolExecutor(FIRST) as pool:
            written = sum(pool.map(write, range(FIRST)))
        facts["write_speed"] = written / (time.perf_counter() - start)
    except (InputError, FillError, OSError, StoreError) as error:
        facts["reason"] = " ".join(str(error).split())
    for name in held:
        with contextlib.suppress(OSError, StoreError):
            place.delete(name)
    return facts
