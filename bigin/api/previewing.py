"""bigin.preview: what a fill would do."""

from __future__ import annotations

from typing import Any

from bigin.core.floats import default_modes
from bigin.core.limits import Limits
from bigin.jobs.preview import Preview
from bigin.jobs.preview import preview as preview_of
from bigin.jobs.retries import Retries
from bigin.jobs.what import What
from bigin.jobs.where import Blocks, as_fill_error, opened


def preview(
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
    **parameters: Any,
) -> Preview:
    """Describe what `fill` would do: bytes, chunks, memory, and an estimated time.

    To measure the speed, some values (256 MiB at most, or one chunk) are written beside the target and removed. The
    target itself is not changed.

    Args:
        target, method, seed, name, shape, dtype, chunks, shards, raw, offset, region, padding_idx, overwrite, threads,
            max_memory, requests, **parameters: as in `fill`.

    Returns:
        A preview of the fill.

    Raises:
        InputError: `fill` would refuse it.

    Example:
        >>> bigin.preview("table.npy", "normal", shape=(40000, 64)).nbytes
        10240000
    """
    what = What.parse(method, parameters, seed, name, shape, region, padding_idx)
    where = what.where(target, dtype, raw=raw, offset=offset, blocks=Blocks.parse(chunks, shards))
    limits, retries = Limits.parse(threads, max_memory, requests=requests), Retries(remote=where.remote)
    with default_modes(), opened(where, retries) as there, as_fill_error(there.label):
        return preview_of(what, there, limits, retries, overwrite=overwrite)
