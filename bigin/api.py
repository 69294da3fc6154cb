"""What Python callers use; each a few lines over the parts."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bigin
from bigin import dtypes
from bigin.errors import InputError
from bigin.filling import memory
from bigin.filling.floats import default_modes
from bigin.filling.prepare import prepare
from bigin.filling.run import run, workers_within
from bigin.methods import table
from bigin.targets.base import Target
from bigin.targets.open import open_target
from bigin.targets.record import Record
from bigin.text import parse_shape, parse_size

if TYPE_CHECKING:
    import numpy as np
    import zarr

STREAM = 1  # the version of the stream, docs/stream-v1.md


@dataclass(frozen=True)
class Report:
    """What a fill did: the target's label, how many bytes of values in how many seconds, and the record it keeps."""

    target: str
    nbytes: int
    seconds: float
    record: Record


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
    overwrite: bool = False,
    threads: int | None = None,
    max_memory: int | str | None = None,
    sync: bool = True,
    progress: Callable[[int, int], None] | None = None,
    **parameters: Any,
) -> Report:
    """Fill a target with a method's initial values.

    The value of an element depends on seed, name, method, global shape and its index alone.

    Args:
        target: a numpy array or memmap (filled in place), the path of a .npy file, a path, URL or store of a zarr
            array, a zarr.Array, or with `raw` the path of a file.
        method: a name that `bigin methods` lists, such as "xavier_uniform".
        seed: an integer from 0 to 2^64 - 1.
        name: what the tensor is called in its model; by default an array's path in its zarr hierarchy, and nothing
            for a root array, a file or an array in memory. Tensors of other names draw other values.
        shape, dtype: make a missing target (float32 by default), or must match an existing one; for `raw` both.
        raw, offset: the target is a file of values without a header, from `offset` bytes on.
        overwrite: whether an existing file or zarr array that already holds data may be filled.
        threads: by default the cores that this process may use.
        max_memory: bytes, or a text such as "2GiB", that the fill may add to what the process has; by default a
            quarter of what is free.
        sync: wait until the data is on the disk before the record says that the fill is complete.
        progress: called now and then, from the calling thread, with the bytes made so far and the bytes in all.
        **parameters: the method's, with torch's names and defaults.

    Raises:
        InputError: something is wrong with what was asked for; nothing was changed.
        FillError, OSError: the fill could not be finished; the record does not say complete.
    """
    row = table.find(method)
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or not 0 <= seed.__index__() < 1 << 64:
        raise InputError(f"expected a seed from 0 to 2^64 - 1, got {seed!r}")
    with default_modes():
        values = row.parse(parameters)
        opened = open_target(
            target,
            shape=None if shape is None else parse_shape(shape),
            dtype=None if dtype is None else dtypes.parse_dtype(dtype),
            raw=raw,
            offset=offset,
        )
        try:
            return _fill(opened, row, values, seed.__index__(), name, overwrite, threads, max_memory, sync, progress)
        finally:
            opened.close()


def _fill(
    target: Target,
    method: table.Method,
    values: Mapping[str, Any],
    seed: int,
    name: str | None,
    overwrite: bool,
    threads: int | None,
    max_memory: int | str | None,
    sync: bool,
    progress: Callable[[int, int], None] | None,
) -> Report:
    stream = parse_name(target.name if name is None else name)
    distribution = table.resolve(method, target.shape, values)
    filler = prepare(distribution, target.shape, target.dtype, seed, stream)
    limit = memory.available() // 4 if max_memory is None else parse_size(max_memory)
    workers = workers_within(target, filler, memory.threads() if threads is None else threads, limit)
    if not overwrite and target.holds_data():
        raise InputError(f"{target.label} {describe(target.record())}; --overwrite (overwrite=True) fills it anew")
    record = {
        "method": method.name,
        "parameters": dict(values),
        "seed": seed,
        "name": stream,
        "name_from": "caller" if name is not None else "hierarchy" if stream else "unnamed",
        "shape": list(target.shape),
        "dtype": target.dtype.name,
        "stream": STREAM,
        "bigin": bigin.__version__,
        "complete": False,
    }
    start = time.perf_counter()
    target.sync = sync
    target.begin(record)
    run(target, filler, workers, limit, progress)
    record["complete"] = True
    target.finish(record)
    return Report(target.label, target.nbytes, time.perf_counter() - start, record)


def parse_name(name: Any) -> str:
    """A tensor's name: text without NUL, which separates it from a purpose in the stream's hash."""
    if not isinstance(name, str) or "\0" in name:
        raise InputError(f"expected a name that is text without NUL characters, got {name!r}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"expected a name that can be encoded in UTF-8, got {name!r}") from None
    return name


def describe(record: Record | None) -> str:
    """What a target that must not be overwritten holds."""
    if record is None:
        return "already holds data"
    state = "is filled" if record.get("complete") else "holds an incomplete fill"
    return f"{state} with {record.get('method')}, seed {record.get('seed')}"


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
        return _create_npy(Path(path), parsed, kind)
    from bigin.targets.hierarchy import create_array

    return create_array(
        path,
        parsed,
        kind,
        None if chunks is None else parse_shape(chunks),
        None if shards is None else parse_shape(shards),
        zarr_format,
    )


def _create_npy(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.memmap[Any, Any]:
    import numpy as np

    from bigin.targets.files import npy_target

    if path.exists():
        raise InputError(f"{path}: expected nothing there, found a file; choose another path or remove it")
    target = npy_target(path, shape, dtype)
    target.make()
    target.close()
    return np.memmap(path, dtype, "r+", target.offset, shape)
