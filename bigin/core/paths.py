"""Paths as users write them."""

from __future__ import annotations

import os
from typing import Any


def is_path(target: Any) -> bool:
    """Whether something names a file or a URL (isinstance with os.PathLike, an abstract class, takes 0.7 us)."""
    return isinstance(target, str) or hasattr(target, "__fspath__")


def expand(path: Any) -> Any:
    """A path whose leading ~ or ~user is replaced by a home folder, as a shell does where it is not quoted.

    URLs, stores, arrays and paths of unknown users are returned as they are.
    """
    if isinstance(path, str) and path.startswith("~"):
        return os.path.expanduser(path)
    if hasattr(path, "__fspath__") and str(path).startswith("~"):
        return type(path)(os.path.expanduser(path))  # type: ignore[call-arg]
    return path
