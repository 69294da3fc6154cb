"""dask.distributed: a Client as an executor. Its tasks have names, by which the dashboard shows their progress."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

RETRIES = 3  # by the scheduler, of a part whose worker was lost or whose attempt failed

_number = itertools.count()


class DaskExecutor:
    """Submits to a distributed.Client; the futures are those of concurrent.futures."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._executor = client.get_executor(pure=False, retries=RETRIES)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a function on a worker."""
        name = function.__name__.strip("_").replace("_", "-")
        return self._executor.submit(function, *arguments, key=f"bigin-{name}-{id(self):x}-{next(_number)}")
