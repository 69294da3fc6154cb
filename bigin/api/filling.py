"""bigin.fill, bigin.fill_flat and bigin.create."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigin.api.streams import warn_of_shared_stream
from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.paths import expand
from bigin.core.text import parse_shape
from bigin.jobs.job import FillOptions, Job
from bigin.jobs.report import Report
from bigin.jobs.retries import Retries
from bigin.jobs.what import What
from bigin.jobs.where import Blocks, Where, opened
from bigin.spec.part import FlatSliceSpec
from bigin.spec.tensor import TensorSpec
from bigin.targets.paths import local_path

if TYPE_CHECKING:
    import numpy as np
    import zarr


def fill(
    target: Any,
    method: str,
    *,
    seed: int = 0,
    name: str | None = None,
    shape: Any = None,
    dtype: Any = None,
    chunks: Any = None,
    shards: Any = None,
    raw: bool = False,
    offset: int = 0,
    region: Any = None,
    padding_idx: int | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    max_memory: int | str | None = None,
    requests: int | None = None,
    sync: bool = True,
    device: str | None = None,
    max_device_memory: int | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    executor: Any = None,
    **parameters: Any,
) -> Report:
    """Fill a target with a method's initial values.

    The value of an element depends on the seed, the name, the method, the global shape and its index alone.

    Args:
        target: a numpy array or memmap, a torch tensor or parameter, anything else with a writable buffer or
            __array_interface__, or on a CUDA device with __cuda_array_interface__ or DLPack (all filled in place), the
            path of a .npy file, a path, URL or store of a zarr array, a zarr.Array, or with `raw` the path of a file.
        method: a name that `bigin methods` lists, such as "xavier_uniform".
        seed: an integer from 0 to 2^64 - 1.
        name: the name of the tensor in its model. By default an array's path in its zarr hierarchy; a root array, a
            file and an array in memory have none. Tensors of other names draw other values.
        shape, dtype: of a target that is made (float32 by default); those of an existing target must match. A raw file
            needs both.
        chunks, shards: shapes of those of a zarr array that is made, as in `create`; those of an existing one must
            match.
        region: the target is this part of a tensor of the global `shape`, as a rank's shard is: a slice or a pair of
            (start, stop) for each axis, with steps if needed. Fans, std and structure come from the global shape.
        padding_idx: the row that is zeros, as in torch.nn.Embedding.
        raw, offset: the target is a file of values without a header, which begin at byte `offset`.
        overwrite: whether a target that holds other data may be filled. A fill of the same values that was interrupted
            continues, and a complete one is left as it is.
        threads: number of threads. By default the cores that this process may use.
        max_memory: bytes of buffers and preparation that the fill may add to what the process has, or a text such as
            "2GiB". By default a quarter of what is available.
        requests: number of chunks of a store on a network that are under way at once, as far as max_memory has room for
            them. By default as many as the store bears: 16 at first, more while cores are idle, up to 64, and half as
            many after each error.
        sync: wait until the data is on the disk before the record says that the fill is complete.
        device: where the values are made: "cpu", "cuda", "cuda:1", or "auto" for CUDA where that is faster. By default
            the CPU for a target on the host, and its own device for one on a CUDA device. The values are the same.
        max_device_memory: bytes of the CUDA device's memory that the fill may use, or a text such as "2GiB". By default
            what is free.
        progress: a function that is called from the calling thread, some ten times a second, with the bytes made so far
            and the bytes in all; `bigin.ProgressBar()` is one that shows a bar.
        executor: runs the parts of the fill in other processes, which open the target by its path or URL: anything with
            submit(function, *arguments) -> Future, such as concurrent.futures.ProcessPoolExecutor, a dask Client, the
            module ray, or a text, "processes:8" or "dask://scheduler:8786". By default threads of this process. The
            values are the same. `bigin.plan` makes parts that any scheduler may run.
        **parameters: the method's, with torch's names and defaults.

    Returns:
        What was done: bytes, seconds, and the record.

    Raises:
        InputError: something is wrong with what was asked for; nothing was changed.
        FillError: the fill could not be finished; the record does not say complete, and the same call continues it.
        Interrupted: a KeyboardInterrupt that says how far the fill got.

    Example:
        >>> w = np.empty((256, 784), np.float32)
        >>> bigin.fill(w, "xavier_uniform", seed=7).nbytes
        802816
        >>> bool(abs(w).max() < (6 / (256 + 784)) ** 0.5)
        True
    """
    what = What.parse(method, parameters, seed, name, shape, region, padding_idx)
    where = what.where(target, dtype, raw=raw, offset=offset, blocks=Blocks.parse(chunks, shards))
    limits = Limits.parse(threads, max_memory, device, max_device_memory, requests)
    return fill_job(what, where, limits, FillOptions(overwrite, sync, progress, executor))


def fill_job(what: What, where: Where, limits: Limits, options: FillOptions) -> Report:
    """The fill of a target."""
    retries = Retries(where.remote)
    with default_modes(), opened(where, retries) as target:
        spec = what.spec(target)
        report = Job(spec, target, limits, retries, where).fill(options)
    if target.ledger is None:
        warn_of_shared_stream(where.target, spec)
    return report


def fill_flat(
    target: Any,
    method: str,
    *,
    shape: Any,
    offset: int,
    seed: int = 0,
    name: str = "",
    threads: int | None = None,
    max_memory: int | str | None = None,
    **parameters: Any,
) -> Report:
    """Fill an array in memory with a slice of a flattened tensor, as a rank of FSDP holds one.

    Args:
        target: as in `fill`, an array or tensor in memory. Its elements in C order are those of the tensor of the
            global `shape`, flattened in C order, from the element `offset` on.
        method, seed, name, threads, max_memory, **parameters: as in `fill`.
        shape: of the whole tensor.
        offset: index of the first element in the flattened tensor.

    Returns:
        What was done: bytes, seconds, and the record.

    Raises:
        InputError: something is wrong with what was asked for, or the slice does not fit; nothing was changed.

    Example:
        >>> part = np.empty(1000, np.float32)
        >>> bigin.fill_flat(part, "normal", std=0.02, shape=(512, 256), offset=5000).nbytes
        4000
    """
    whole = parse_shape(shape)
    if isinstance(offset, bool) or not hasattr(offset, "__index__") or offset.__index__() < 0:
        raise InputError(f"expected an offset in elements that is not negative, got {offset!r}")
    if isinstance(target, str | os.PathLike):
        raise InputError(f"expected an array or tensor in memory, got the path {str(target)!r}; fill takes files")
    limits = Limits.parse(threads, max_memory)
    with default_modes(), opened(Where(target)) as place:
        size, elements, first = math.prod(whole), math.prod(place.shape), int(offset.__index__())
        if first + elements > size:
            raise InputError(
                f"expected a slice of the {size} elements of shape {whole}, got {elements} elements from {first} on"
            )
        tensor = TensorSpec.parse(method, parameters, seed, name, whole, place.dtype)
        return Job(FlatSliceSpec(tensor, first, place.shape), place, limits).fill(FillOptions(overwrite=True))


def create(
    path: str | Path,
    *,
    shape: Any,
    dtype: Any = "float32",
    chunks: Any = None,
    shards: Any = None,
    zarr_format: int = 3,
) -> zarr.Array[Any] | np.memmap[Any, Any]:
    """Make an empty array with a layout that suits a fill.

    Args:
        path: a path that ends in .npy makes a file; any other path or URL makes a zarr array without compression.
            Inside a zarr group, missing groups on the way are made.
        shape: the shape of the array.
        dtype: the name of a dtype, or a numpy dtype.
        chunks: the shape of a chunk of a zarr array; by default whole rows of 16 MiB, and more for arrays that would
            have over 10,000 chunks.
        shards: the shape of a shard; by default there are none.
        zarr_format: 2 or 3.

    Returns:
        The opened array: a zarr.Array, or a np.memmap of the file.

    Raises:
        InputError: an argument is invalid, or something exists at the path; nothing was made.

    Example:
        >>> bigin.create("t.zarr", shape=(10**7, 256), dtype="float32").chunks
        (16384, 256)
    """
    path, parsed, kind = expand(path), parse_shape(shape), dtypes.parse_stored(dtype)
    if (file := local_path(path)) is not None and file.suffix == ".npy":
        if chunks is not None or shards is not None:
            raise InputError("expected no chunks or shards for a .npy file, which is one piece; leave them out")
        from bigin.targets.npy import create_npy

        return create_npy(file, parsed, kind)
    from bigin.targets.zarr.make import ZarrLayout, create_array

    inner = None if chunks is None else parse_shape(chunks)
    outer = None if shards is None else parse_shape(shards)
    return create_array(path, ZarrLayout(parsed, kind, inner, outer, zarr_format))
