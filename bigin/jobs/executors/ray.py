"""Ray as an executor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

RETRIES = 3  # by Ray, of a part whose worker was lost


class RayExecutor:
    """Submits to the cluster that ray.init() has connected to; one core is asked for each part."""

    def __init__(self, ray: Any, **options: Any) -> None:
        self._ray = ray
        self._options = {"max_retries": RETRIES, "num_cpus": 1} | options
        self._functions: dict[Callable[..., Any], Any] = {}

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a function on a worker."""
        if function not in self._functions:
            self._functions[function] = self._ray.remote(**self._options)(function)
        return self._functions[function].remote(*arguments).future()
