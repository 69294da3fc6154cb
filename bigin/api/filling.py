"""What Python callers use; each a few lines over the parts."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bigin.core import dtypes, memory
from bigin.core.errors import FillError, InputError, Interrupted, Terminated
from bigin.core.floats import default_modes
from bigin.core.regions import Grid, parse_region
from bigin.core.text import parse_shape, parse_size, size_text
from bigin.core.threads import after_stragglers, apart
from bigin.fillers.filler import Filler
from bigin.jobs.compare import BUFFERS
from bigin.jobs.device import choose
from bigin.jobs.journal import done_regions
from bigin.jobs.resume import identity, plan_on, state_of
from bigin.jobs.retries import Retries, explain
from bigin.jobs.run import Plan, run, set_up, workers_within
from bigin.spec.record import filler_of
from bigin.spec.tensor import Specification, part_record, part_shape
from bigin.targets.open import open_target
from bigin.targets.records import Record
from bigin.targets.target import Target

if TYPE_CHECKING:
    import numpy as np
    import zarr


@dataclass(frozen=True)
class Report:
    """What a fill did: the target's label, how many bytes of values in how many seconds, and the record it keeps.

    found is how many bytes an earlier fill had stored already, retries how often the store had to be asked again,
    device where the values were made, and why where that was left open.
    """

    target: str
    nbytes: int
    seconds: float
    record: Record
    found: int = 0
    retries: int = 0
    device: str = "cpu"


def fill(
    target: Any,
    method: str,
    *,
    seed: int = 0,
    name: str | None = None,
    shape: Any = None,
    dtype: Any = None,
    raw: bool = False,
    offset: int = 0,
    region: Any = None,
    padding_idx: int | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    max_memory: int | str | None = None,
    sync: bool = True,
    device: str | None = None,
    max_device_memory: int | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    **parameters: Any,
) -> Report:
    """Fill a target with a method's initial values.

    The value of an element depends on seed, name, method, global shape and its index alone.

    Args:
        target: a numpy array or memmap, a torch tensor or parameter, anything else with a writable buffer or
            __array_interface__, or on a CUDA device with __cuda_array_interface__ or DLPack (all filled in place), the
            path of a .npy file, a path, URL or store of a zarr array, a zarr.Array, or with `raw` the path of a file.
        method: a name that `bigin methods` lists, such as "xavier_uniform".
        seed: an integer from 0 to 2^64 - 1.
        name: what the tensor is called in its model; by default an array's path in its zarr hierarchy, and nothing
            for a root array, a file or an array in memory. Tensors of other names draw other values.
        shape, dtype: make a missing target (float32 by default), or must match an existing one; for `raw` both.
        region: the target is this part of a tensor of the global `shape`, as a rank's shard is: a slice or a pair of
            (start, stop) for each axis, with steps if need be. Fans, std and structure come from the global shape.
        padding_idx: the row that is zeros, as in torch.nn.Embedding.
        raw, offset: the target is a file of values without a header, from `offset` bytes on.
        overwrite: whether a target that holds other data may be filled. One that the same fill has begun goes on where
            that stopped, and one that it has completed is left as it is.
        threads: by default the cores that this process may use.
        max_memory: bytes, or a text such as "2GiB", that the fill may add to what the process has; by default a
            quarter of what is free.
        sync: wait until the data is on the disk before the record says that the fill is complete.
        device: where the values are made: "cpu", "cuda", "cuda:1", or "auto" for CUDA where that is faster; by default
            the CPU for a target on the host, and its own device for one on a CUDA device. The values are the same.
        max_device_memory: bytes, or a text such as "2GiB", that the fill may take of the CUDA device; by default what
            is free.
        progress: called now and then, from the calling thread, with the bytes made so far and the bytes in all.
        **parameters: the method's, with torch's names and defaults.

    Raises:
        InputError: something is wrong with what was asked for; nothing was changed.
        FillError: the fill could not be finished; the record does not say complete, and the same call goes on from
            there.
        Interrupted: a KeyboardInterrupt that says how far the fill got.
    """
    whole = None if shape is None else parse_shape(shape)
    ranges = None if region is None else parse_region(region, whole)
    retries = Retries(on_network(target))
    with default_modes(), opened(target, part_shape(whole, ranges), dtype, raw, offset, retries=retries) as place:
        stream = place.name if name is None else name
        specification = Specification.parse(
            method, parameters, seed, stream, whole or place.shape, place.dtype, padding_idx
        )
        record = specification.record() | part_record(ranges)
        record["name_from"] = "caller" if name is not None else "hierarchy" if stream else "unnamed"
        where = (device, max_device_memory)
        return fill_target(
            place, filler_of(record), record, overwrite, threads, max_memory, sync, progress, *where, retries=retries
        )


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
    """Fill an array in memory with a stretch of a flattened tensor, as a rank of FSDP holds one.

    Args:
        target: as in `fill`, an array or tensor in memory; its elements in C order are those of the tensor of the
            global `shape`, flattened in C order, from the element `offset` on.
        method, seed, name, threads, max_memory, **parameters: as in `fill`.

    Raises:
        InputError: something is wrong with what was asked for, or the stretch does not fit; nothing was changed.
    """
    whole = parse_shape(shape)
    if isinstance(offset, bool) or not hasattr(offset, "__index__") or offset.__index__() < 0:
        raise InputError(f"expected an offset in elements that is not negative, got {offset!r}")
    if isinstance(target, str | os.PathLike):
        raise InputError(f"expected an array or tensor in memory, got the path {str(target)!r}; fill takes files")
    with default_modes(), opened(target) as place:
        size, elements = math.prod(whole), math.prod(place.shape)
        if offset.__index__() + elements > size:
            raise InputError(
                f"expected a stretch of the {size} elements of shape {whole}, got {elements} elements from {offset} on"
            )
        specification = Specification.parse(method, parameters, seed, name, whole, place.dtype)
        record = specification.record() | {"stretch": [offset.__index__(), list(place.shape)]}
        return fill_target(place, filler_of(record), record, True, threads, max_memory, True, None)


@contextmanager
def opened(
    target: Any,
    shape: tuple[int, ...] | None = None,
    dtype: Any = None,
    raw: bool = False,
    offset: int = 0,
    *,
    damaged: bool = False,
    models: bool = False,
    retries: Retries | None = None,
) -> Iterator[Target]:
    """A target, for as long as it is needed: by what an interruption has left at work, too."""
    kind = None if dtype is None else dtypes.parse_dtype(dtype)
    with told_as_fill_errors(str(target)):
        place = (retries or Retries(on_network(target))).attempt(
            lambda: open_target(target, shape=shape, dtype=kind, raw=raw, offset=offset, damaged=damaged, models=models)
        )
    try:
        yield place
    finally:
        after_stragglers(place.close)


def on_network(target: Any) -> bool:
    """Whether errors in opening a target may be passing ones, so far as its name tells: that of a URL or a store."""
    if isinstance(target, str | os.PathLike):
        return "://" in str(target) and not str(target).startswith("file://")
    return hasattr(target, "store_path") or hasattr(target, "list_prefix")


@contextmanager
def told_as_fill_errors(label: str) -> Iterator[None]:
    """Whatever goes wrong is told in one line."""
    try:
        yield
    except (InputError, FillError):
        raise
    except Exception as error:
        raise FillError(explain(error, label)) from error


def fill_target(
    target: Target,
    filler: Filler,
    record: Record,
    overwrite: bool,
    threads: int | None,
    max_memory: int | str | None,
    sync: bool,
    progress: Callable[[int, int], None] | None,
    device: str | None = None,
    max_device_memory: int | str | None = None,
    retries: Retries | None = None,
) -> Report:
    """Fills a target as its record says, which must say so of this filler; or goes on with what was begun."""
    limit = memory.limit(max_memory)
    most = None if max_device_memory is None else parse_size(max_device_memory)
    chosen = choose(target, filler, device, memory.threads() if threads is None else threads, most)
    filler = chosen.filler
    workers = workers_within(target, filler, chosen.threads, limit)
    record["complete"] = False
    start = time.perf_counter()
    target.sync = sync
    grid, which = target.grid(filler.region_bytes), identity(record)
    ledger = target.ledger
    retries = retries or Retries(target.remote)
    retries.remote = target.remote or (retries.remote and not target.exists())
    try:
        with told_as_fill_errors(target.label):
            if ledger is not None:
                ledger.lock()
            state = retries.attempt(lambda: state_of(target, record, overwrite))
            if state == "done":
                assert ledger is not None
                ledger.clean()
                return Report(target.label, 0, 0.0, record | {"complete": True}, found=target.nbytes)
            if ledger is None:
                retries.attempt(target.start)
            elif state == "new":
                retries.attempt(lambda: ledger.begin(record))
            else:
                retries.attempt(ledger.resume)
            retries.remote = target.remote
            set_up(target, filler, workers, limit, progress)
            plan = Plan(grid, fill=which)
            if state == "begun":
                plan = plan_on(target, filler, grid, which, max(1, workers // BUFFERS), retries)
            made = run(target, filler, plan, workers, retries, progress)
            record["complete"] = True
            retries.attempt(lambda: apart(target.flush if ledger is None else lambda: ledger.finish(record)))
    except KeyboardInterrupt as stop:
        raise stopped(stop, target, grid, which) from None
    seconds = time.perf_counter() - start
    return Report(target.label, made, seconds, record, target.nbytes - made, retries.count, chosen.device)


def stopped(stop: KeyboardInterrupt, target: Target, grid: Grid, which: str) -> KeyboardInterrupt:
    """The interruption, with how far the fill got and how it goes on."""
    kind = Terminated if isinstance(stop, Terminated) else Interrupted
    what = "terminated" if kind is Terminated else "interrupted"
    if target.ledger is None:
        return kind(f"{target.label}: {what}; it is partly filled")
    done = 0.0
    if target.exists():
        with suppress(Exception):  # not known, then
            done = done_regions(target, grid, which) / max(1, len(grid))
    return kind(
        f"{target.label}: {what}; at least {100 * done:.0f}% of {size_text(target.nbytes)} is stored for good, and the "
        "same command goes on from there"
    )


def create(
    path: str | Path,
    *,
    shape: Any,
    dtype: Any = "float32",
    chunks: Any = None,
    shards: Any = None,
    zarr_format: int = 3,
) -> zarr.Array[Any] | np.memmap[Any, Any]:
    """Make an empty array that suits a fill, and return it opened.

    A path that ends in .npy becomes a file, returned as a numpy memmap; every other path or URL a zarr array without
    compression, with chunks of whole rows of 16 MiB (more for arrays of over 10,000 chunks) unless `chunks` says
    otherwise, and shards of `shards` elements where that is given. Inside a zarr group, missing groups on the way are
    made. Raises InputError if something is there already.
    """
    parsed, kind = parse_shape(shape), dtypes.parse_dtype(dtype)
    if str(path).endswith(".npy"):
        if chunks is not None or shards is not None:
            raise InputError("expected no chunks or shards for a .npy file, which is one piece; leave them out")
        from bigin.targets.npy import create_npy

        return create_npy(Path(path), parsed, kind)
    from bigin.targets.zarr.make import ZarrLayout, create_array

    inner = None if chunks is None else parse_shape(chunks)
    outer = None if shards is None else parse_shape(shards)
    return create_array(path, ZarrLayout(parsed, kind, inner, outer, zarr_format))
