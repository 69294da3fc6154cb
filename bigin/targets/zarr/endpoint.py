"""Whether anything answers where a URL leads.

With fsspec, zarr's other requests end in tracebacks while Python shuts down, so it is looked at first.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from zarr.storage import FsspecStore

from bigin.core.handlers import let_through
from bigin.targets.objects.endpoint import PORTS, check_answers
from bigin.targets.zarr.private import wait


def check_endpoint(url: str) -> None:
    """Raises TargetError where nobody listens, or the name of the host is not known.

    Says nothing where that cannot be told, as behind a proxy.
    """
    try:
        endpoint = _endpoint(url)
    except Exception as error:  # whatever it is, opening the store says it better
        let_through(error)
        return
    check_answers(url, endpoint)


def _endpoint(url: str) -> str | None:
    """The URL of the server, where it is known: of HTTP itself, or of a store that speaks S3."""
    if urlsplit(url).scheme in PORTS:
        return url
    fs: Any = FsspecStore.from_url(url).fs
    with suppress(AttributeError):
        if not (fs.config_kwargs or {}).get("proxies"):
            return str(wait(fs.set_session()).meta.endpoint_url)
    return None
