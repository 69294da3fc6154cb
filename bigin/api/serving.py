"""bigin.serve: a zarr store of initial values over HTTP, computed when they are asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from bigin.api.virtual_store import RecipeArguments, computed
from bigin.core.errors import InputError
from bigin.core.limits import Limits

if TYPE_CHECKING:
    from bigin.targets.zarr.http import Server


def serve(
    model: Any,
    *,
    like: Any = None,
    seed: int | None = None,
    variables: Mapping[str, Any] | None = None,
    strict: bool = False,
    dtype: Any = None,
    chunks: Any = None,
    shards: Any = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    origin: str | None = "*",
    threads: int | None = None,
    max_memory: int | str | None = None,
) -> Server:
    """Serve initial values as a zarr store over HTTP; they are computed on request and never stored.

    The store is that of `virtual_store`, in zarr format 3. Byte ranges, HEAD requests and entity tags are supported.
    Web pages of any site may read the store, unless `origin` names one. There is no encryption and no authentication:
    set `host` to a public address only if anybody may read the values.

    Args:
        model, like, seed, variables, strict, dtype, chunks, shards: as in `virtual_store`.
        host: the address to listen on; by default it is reachable only from this machine.
        port: the port to listen on; 0 for any free port.
        origin: the site whose web pages may read the store, such as "https://example.org" (CORS); "*" for all sites,
            None for none.
        threads: number of concurrent responses; by default the number of cores that this process may use.
        max_memory: bytes of chunks that are being made and sent, and of preparation, or a string such as "2GiB". By
            default a quarter of what is available. It also limits the number of connections.

    Returns:
        The server, which runs in a thread until it is closed. It is a context manager.

    Raises:
        InputError: an argument is invalid, or the port is in use.

    Example:
        >>> import urllib.request
        >>> w = bigin.virtual((1000, 8), "normal", name="w")
        >>> with bigin.serve(w, port=0) as server:
        ...     data = urllib.request.urlopen(f"{server.url}/c/0/0").read()
        >>> data == w[...].tobytes()
        True
    """
    from bigin.targets.zarr.http import Server

    limits = Limits.parse(threads, max_memory)
    if isinstance(port, bool) or not isinstance(port, int) or not 0 <= port < 1 << 16:
        raise InputError(f"expected a port from 0 to 65535, got {port!r}")
    if not isinstance(host, str):
        raise InputError(f"expected a host such as 127.0.0.1, got {host!r}")
    if origin is not None and not (isinstance(origin, str) and re.fullmatch(r"\*|null|https?://[^/\s]+", origin)):
        raise InputError(f"expected an origin such as https://example.org, * or None, got {origin!r}")
    half = limits.memory // 2  # the other half is for what is being sent
    recipe = RecipeArguments(like, seed, variables, strict=strict, dtype=dtype)
    hierarchy = computed(model, recipe, (chunks, shards), replace(limits, max_memory=half))
    return Server(hierarchy, host, port, half, origin)
