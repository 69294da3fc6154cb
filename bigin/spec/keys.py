"""Keys as users give them: 64-bit integers, or strings that are hashed to integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from bigin.core.errors import InputError
from bigin.core.regions import Shape
from bigin.rng.streams import key_of_text

Array = np.ndarray[Any, np.dtype[Any]]
WANTED = "expected keys that are integers from -2^63 to 2^64 - 1, or text"


def parse_keys(keys: Any) -> tuple[Array, Shape]:
    """Keys as a contiguous uint64 array of one axis, and their shape; raises InputError.

    A negative integer is its two's complement, as in an int64: -1 is the key 2^64 - 1. A text is hashed, as
    docs/stream-v1.md defines it.
    """
    if isinstance(keys, str):
        return _texts([keys]), ()
    array = keys if isinstance(keys, np.ndarray) else _array(keys)
    if array.dtype.kind in "iu":
        wide = np.ascontiguousarray(array.reshape(-1), np.int64 if array.dtype.kind == "i" else np.uint64)
        return wide.view(np.uint64), array.shape
    if array.dtype.kind in "OU":
        return _each(array.reshape(-1).tolist()), array.shape
    if array.size == 0 and not isinstance(keys, np.ndarray):  # an empty list says no dtype
        return np.empty(0, np.uint64), array.shape
    raise InputError(f"{WANTED}, got {array.dtype.name}")


def _array(keys: Any) -> Array:
    """What is no numpy array as one. Python's integers stay as they are if int64 cannot hold all of them."""
    try:
        array = np.asarray(keys)
        if array.dtype.kind in "fU" and array.size and not hasattr(keys, "dtype"):
            array = np.asarray(keys, object)  # numpy makes floats of integers beyond 2^63, and texts of all beside one
    except (ValueError, TypeError, OverflowError):
        raise InputError(f"{WANTED}, got a {type(keys).__name__} that is no array of them") from None
    return array


def _each(keys: list[Any]) -> Array:
    if all(isinstance(key, str) for key in keys):
        return _texts(keys)
    out = np.empty(len(keys), np.uint64)
    for i, key in enumerate(keys):
        if isinstance(key, bool) or not hasattr(key, "__index__"):
            raise InputError(f"{WANTED}, got {key!r}; a list holds only integers or only texts")
        if not -(1 << 63) <= key.__index__() < 1 << 64:
            raise InputError(f"{WANTED}, got {key}")
        out[i] = key.__index__() % (1 << 64)
    return out


def _texts(texts: list[str]) -> Array:
    try:
        return np.array([key_of_text(text) for text in texts], np.uint64)
    except UnicodeEncodeError as error:
        raise InputError(f"expected text that UTF-8 can encode, got {error.object!r}") from None
