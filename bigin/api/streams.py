"""The warning that two arrays in memory were filled from one stream, which is rarely intended."""

from __future__ import annotations

import threading
from typing import Any

from bigin.core.errors import StreamWarning
from bigin.core.warning import warn
from bigin.fillers.families import family
from bigin.spec.tensor import TensorSpec

_lock = threading.Lock()
_filled: dict[int, Any] = {}  # by seed, what identifies the first array that was filled from the unnamed stream
_told = False


def warn_of_shared_stream(array: Any, spec: Any) -> None:
    """Warns, once in a process, when a second array is filled from the unnamed stream of a seed.

    `fill` is a function of its arguments: two layers that are filled without names hold the same values. Parts of one
    tensor, and values that are not random, share nothing.
    """
    global _told
    if _told or not isinstance(spec, TensorSpec) or spec.name_from != "unnamed":
        return
    if not family(spec.distribution).random:
        return
    with _lock:
        first = _filled.setdefault(spec.seed, _identity(array))
        if first == _identity(array) or _told:
            return
        _told = True
    warn(
        f"a second array is filled from the unnamed stream of seed {spec.seed}: both hold values of the same draws; "
        "give each tensor its name (name=), or use bigin.init, which draws a fresh stream for each call",
        StreamWarning,
    )


def _identity(array: Any) -> Any:
    """What identifies an array: the address of its memory, or the object."""
    if hasattr(array, "data_ptr"):
        return array.data_ptr()
    interface = getattr(array, "__array_interface__", None)
    return interface["data"][0] if isinstance(interface, dict) else id(array)
