"""Paths as users write them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from bigin.core.errors import InputError


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


def parse_path(path: Any, what: str) -> Path:
    """A path of this machine as a caller gives it; raises InputError for anything else."""
    if not isinstance(path, str | os.PathLike) or not os.fspath(path):
        raise InputError(f"expected the path of {what}, got {path!r}")
    return Path(expand(path))


def kernel_cache_root() -> str:
    """The folder of compiled kernels: $BIGIN_CACHE_DIR, or bigin/ in the user's cache; empty where the cache is off."""
    root = os.environ.get("BIGIN_CACHE_DIR")
    if root is None:
        root = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "bigin")
    return root
