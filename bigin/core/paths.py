"""Paths as users write them."""

from __future__ import annotations

import os
from typing import Any


def expand(path: Any) -> Any:
    """A path whose leading ~ or ~user is replaced by a home folder, as a shell does where it is not quoted.

    URLs, stores, arrays and paths of unknown users are returned as they are.
    """
    if isinstance(path, str) and path.startswith("~"):
        return os.path.expanduser(path)
    if isinstance(path, os.PathLike) and str(path).startswith("~"):
        return type(path)(os.path.expanduser(path))  # type: ignore[call-arg]
    return path
