"""Whether anything answers where a URL leads.

The libraries behind fsspec wait for an end point that may come back: 30 s for one that was mistyped, and then zarr's
other requests end in tracebacks while Python shuts down. So the first thing is to connect once.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from zarr.storage import FsspecStore

from bigin.core.errors import TargetError
from bigin.core.handlers import let_through
from bigin.targets.zarr.private import wait

PATIENCE = 5.0  # seconds for a connection; one that takes longer may still succeed
PORTS = {"http": 80, "https": 443}


def check_endpoint(url: str) -> None:
    """Raises TargetError where nobody listens, or the name of the host is not known.

    Says nothing where that cannot be told, as behind a proxy.
    """
    try:
        endpoint = _endpoint(url)
    except Exception as error:  # whatever it is, opening the store says it better
        let_through(error)
        return
    parts = urlsplit(endpoint or "")
    if parts.hostname is None or parts.scheme not in PORTS or getproxies().keys() & {parts.scheme, "all"}:
        return
    try:
        socket.create_connection((parts.hostname, parts.port or PORTS[parts.scheme]), PATIENCE).close()
    except (ConnectionRefusedError, socket.gaierror) as error:
        raise TargetError(
            f"{url}: expected an end point that answers, got {error.strerror} from {endpoint}; check the end point "
            "(AWS_ENDPOINT_URL) and the network"
        ) from None
    except OSError:
        return


def _endpoint(url: str) -> str | None:
    """The URL of the server, where it is known: of HTTP itself, or of a store that speaks S3."""
    if urlsplit(url).scheme in PORTS:
        return url
    fs: Any = FsspecStore.from_url(url).fs
    with suppress(AttributeError):
        if not (fs.config_kwargs or {}).get("proxies"):
            return str(wait(fs.set_session()).meta.endpoint_url)
    return None
