"""bigin.fill, bigin.fill_flat and bigin.create."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigin.api.streams import warn_of_shared_stream
from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.core.paths import expand
from bigin.core.text import counted, parse_shape
from bigin.jobs.executors.named import running
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

    The value of an element depends only on the seed, the name, the method, the global shape and the element's index.

    Args:
        target: a numpy array or memmap, a torch tensor or parameter, anything else with a writable buffer or
            __array_interface__, or an array on a CUDA device with __cuda_array_interface__ or DLPack (all of these are
            filled in place); the path of a .npy file; a path, URL or store of a zarr array; a zarr.Array; or with `raw`
            the path of a file.
        method: a name that `bigin methods` lists, such as "xavier_uniform".
        seed: an integer from 0 to 2^64 - 1.
        name: the name of the tensor in its model. By default the path of an array in its zarr hierarchy, or the file
            name of a file or a root array, without its ending. An array in memory has no name. Tensors with different
            names have different values.
        shape, dtype: of a new target (float32 by default); those of an existing target must match. A raw file needs
            both.
        chunks, shards: shapes of the chunks and shards of a new zarr array, as in `create`; those of an existing array
            must match.
        region: the part of a tensor of the global `shape` that the target is, such as the shard of a rank: a slice or a
            pair (start, stop) for each axis. Slices may have steps. Fans, std and structure come from the global shape.
        padding_idx: the row of zeros, as in torch.nn.Embedding.
        raw, offset: whether the target is a file of values without a header, and the byte at which they begin.
        overwrite: whether a target that holds other data may be filled. Without it, an interrupted fill of the same
            values continues, and a complete one is left unchanged.
        threads: number of threads; by default the number of cores that this process may use.
        max_memory: bytes of buffers and preparation that the fill may add to the memory of the process, or a string
            such as "2GiB". By default a quarter of what is available.
        requests: number of chunks of a network store that are in flight at once, as far as max_memory allows. By
            default the number adapts to the store: 16 at first, more while cores are idle, up to 64, and half as many
            after each error.
        sync: whether to wait until the data is on the disk before the record says that the fill is complete.
        device: where the values are computed: "cpu", "cuda", "cuda:1", or "auto" for CUDA if that is faster. By default
            the CPU for a target on the host, and its own device for a target on a CUDA device. The values are the same.
        max_device_memory: bytes of the CUDA device's memory that the fill may use, or a string such as "2GiB". By
            default all that is free.
        progress: a function that is called about ten times a second, in the calling thread, with the bytes made so far
            and the total bytes; `bigin.ProgressBar()` shows a bar.
        executor: runs the parts of the fill in other processes, which open the target by its path or URL: anything with
            submit(function, *arguments) -> Future, such as concurrent.futures.ProcessPoolExecutor, a dask Client, the
            module ray, or a string such as "processes:8" or "dask://scheduler:8786". By default threads of this
            process. The values are the same. `bigin.plan` makes parts that any scheduler can run.
        **parameters: the method's, with torch's names and defaults.

    Returns:
        A report: bytes, seconds and the record.

    Raises:
        InputError: an argument is invalid; nothing was changed.
        FillError: the fill could not be finished; the record says that it is incomplete, and the same call continues
            it.
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
    return fill_job(
        what, where, limits, FillOptions(overwrite=overwrite, sync=sync, progress=progress, executor=executor)
    )


def fill_job(what: What, where: Where, limits: Limits, options: FillOptions) -> Report:
    """The fill of a target, by an executor that is started and ended here where a text names it."""
    if options.executor is None:
        return _filled(what, where, limits, options)
    with running(options.executor) as pool:
        return _filled(what, where, limits, replace(options, executor=pool))


def _filled(what: What, where: Where, limits: Limits, options: FillOptions) -> Report:
    retries = Retries(remote=where.remote)
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
    """Fill an array in memory with a slice of a flattened tensor, such as a rank of FSDP holds.

    Args:
        target: an array or tensor in memory, as in `fill`. Its elements in C order are those of the tensor of the
            global `shape`, flattened in C order, starting at the element `offset`.
        method, seed, name, threads, max_memory, **parameters: as in `fill`.
        shape: of the whole tensor.
        offset: index of the first element in the flattened tensor.

    Returns:
        A report: bytes, seconds and the record.

    Raises:
        InputError: an argument is invalid, or the slice does not fit; nothing was changed.

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
                f"expected a slice of the {counted(size, 'element')} of shape {whole}, "
                f"got {counted(elements, 'element')} from {first} on"
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
    """Create an empty array with a layout that suits a fill.

    Args:
        path: a path that ends in .npy creates a file; any other path or URL creates a zarr array without compression.
            Inside a zarr group, missing groups are created.
        shape: the shape of the array.
        dtype: the name of a dtype, or a numpy dtype.
        chunks: the shape of a chunk of a zarr array; by default 16 MiB of whole rows, and more for arrays that would
            have over 10,000 chunks.
        shards: the shape of a shard; by default there are none.
        zarr_format: 2 or 3.

    Returns:
        The opened array: a zarr.Array, or a np.memmap of the file.

    Raises:
        InputError: an argument is invalid, or something exists at the path; nothing was created.

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
