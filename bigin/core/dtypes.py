"""The dtypes that bigin fills, by name."""

from __future__ import annotations

import contextlib
from typing import Any

import ml_dtypes
import numpy as np

from bigin.core.errors import InputError

FLOATS: dict[str, np.dtype[Any]] = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "float8_e4m3fn": np.dtype(ml_dtypes.float8_e4m3fn),
    "float8_e5m2": np.dtype(ml_dtypes.float8_e5m2),
}
INTEGERS: dict[str, np.dtype[Any]] = {
    name: np.dtype(name) for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
}
DTYPES = FLOATS | INTEGERS
ML_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2")  # those that are not numpy's own


def parse_dtype(dtype: Any) -> np.dtype[Any]:
    """A dtype that bigin fills, in native byte order, from a name, a numpy or ml_dtypes type, or a torch dtype."""
    name = str(dtype).removeprefix("torch.") if not isinstance(dtype, type) else dtype.__name__
    if name in DTYPES:
        return DTYPES[name]
    with contextlib.suppress(TypeError, ValueError):
        name = np.dtype(dtype).name
    if name not in DTYPES:
        raise InputError(f"expected a dtype among {', '.join(DTYPES)}, got {name}")
    return DTYPES[name]


def stored_dtype(dtype: object, label: str) -> np.dtype[Any]:
    """The dtype of what `label` names."""
    try:
        return parse_dtype(dtype)
    except InputError as error:
        raise InputError(f"{label}: {error}") from None


def storage(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that kernels write: the dtype's own, or unsigned integers of its size for its bits."""
    return dtype if dtype.name in ("float64", "float32") else unsigned(dtype)


def unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Unsigned integers of the dtype's size, for its bits."""
    return np.dtype(f"u{dtype.itemsize}")


def largest(dtype: np.dtype[Any]) -> float:
    """The largest finite number of a float dtype."""
    return float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]


def smallest_at_or_above(bound: float, dtype: np.dtype[Any]) -> float:
    """The smallest number of a float dtype that is not below `bound`, which lies within the dtype's range."""
    nearest = np.asarray(bound, np.float64).astype(dtype)
    if float(nearest) < bound:
        nearest = np.nextafter(nearest, np.asarray(largest(dtype), dtype))
    return float(nearest) + 0.0  # never -0.0


def largest_at_or_below(bound: float, dtype: np.dtype[Any]) -> float:
    """The largest number of a float dtype that is not above `bound`, which lies within the dtype's range."""
    return -smallest_at_or_above(-bound, dtype) + 0.0


def largest_below(bound: float, dtype: np.dtype[Any]) -> float:
    """The largest number of a float dtype that is below `bound`, which lies within the dtype's range."""
    below = largest_at_or_below(bound, dtype)
    if below == bound:
        below = float(np.nextafter(np.asarray(bound, dtype), np.asarray(-largest(dtype), dtype)))
    return below + 0.0
