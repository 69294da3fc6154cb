"""Whether anything answers at an endpoint.

Libraries wait for one that may come back: 30 s for one that was mistyped. So the first thing is to connect once.
"""

from __future__ import annotations

import socket
from urllib.parse import urlsplit
from urllib.request import getproxies

from bigin.core.errors import TargetError

PATIENCE = 5.0  # seconds for a connection; one that takes longer may still succeed
PORTS = {"http": 80, "https": 443}


def check_answers(url: str, endpoint: str | None) -> None:
    """Raises TargetError where nobody listens, or the name of the host is not known.

    Says nothing where that cannot be told, as behind a proxy.
    """
    parts = urlsplit(endpoint or "")
    if parts.hostname is None or parts.scheme not in PORTS or getproxies().keys() & {parts.scheme, "all"}:
        return
    try:
        socket.create_connection((parts.hostname, parts.port or PORTS[parts.scheme]), PATIENCE).close()
    except (ConnectionRefusedError, socket.gaierror) as error:
        raise TargetError(
            f"{url}: expected an endpoint that answers, got {error.strerror} from {endpoint}; check the endpoint "
            "(AWS_ENDPOINT_URL) and the network"
        ) from None
    except OSError:
        return
