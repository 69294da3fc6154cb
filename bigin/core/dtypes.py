"""The dtypes that bigin fills: one row each."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import ml_dtypes
import numpy as np

from bigin.core.errors import InputError


@dataclass(frozen=True)
class DType:
    """A dtype that bigin fills.

    name: numpy's or ml_dtypes', and torch's. safetensors: its name in a safetensors file, None where it has none.
    dlpack: DLPack's type code. plain: whether it is numpy's own.
    """

    name: str
    safetensors: str | None
    dlpack: int
    plain: bool = True

    @cached_property
    def numpy(self) -> np.dtype[Any]:
        """The numpy dtype, in native byte order."""
        return np.dtype(self.name if self.plain else getattr(ml_dtypes, self.name))

    @property
    def floating(self) -> bool:
        """Whether random values can be drawn in it."""
        return self.dlpack not in (DLPACK_INT, DLPACK_UINT, DLPACK_COMPLEX, DLPACK_BOOL)


# DLPack's type codes (dlpack.h); those of the 8-bit floats came with version 1.1.
DLPACK_INT, DLPACK_UINT, DLPACK_FLOAT, DLPACK_BFLOAT, DLPACK_COMPLEX, DLPACK_BOOL = 0, 1, 2, 4, 5, 6
DLPACK_FLOAT8_E4M3FN, DLPACK_FLOAT8_E5M2 = 10, 12

ROWS = (
    DType("float64", "F64", DLPACK_FLOAT),
    DType("float32", "F32", DLPACK_FLOAT),
    DType("float16", "F16", DLPACK_FLOAT),
    DType("bfloat16", "BF16", DLPACK_BFLOAT, plain=False),
    DType("float8_e4m3fn", "F8_E4M3", DLPACK_FLOAT8_E4M3FN, plain=False),
    DType("float8_e5m2", "F8_E5M2", DLPACK_FLOAT8_E5M2, plain=False),
    DType("int8", "I8", DLPACK_INT),
    DType("int16", "I16", DLPACK_INT),
    DType("int32", "I32", DLPACK_INT),
    DType("int64", "I64", DLPACK_INT),
    DType("uint8", "U8", DLPACK_UINT),
    DType("uint16", "U16", DLPACK_UINT),
    DType("uint32", "U32", DLPACK_UINT),
    DType("uint64", "U64", DLPACK_UINT),
    DType("bool", "BOOL", DLPACK_BOOL),
    DType("complex64", "C64", DLPACK_COMPLEX),
    DType("complex128", None, DLPACK_COMPLEX),
)
ALIASES = {
    "double": "float64",
    "fp64": "float64",
    "float": "float32",
    "single": "float32",
    "fp32": "float32",
    "half": "float16",
    "fp16": "float16",
    "bf16": "bfloat16",
    "bool_": "bool",
    "cfloat": "complex64",
    "cdouble": "complex128",
}

DTYPES = {each.name: each.numpy for each in ROWS}
FLOATS = {each.name: each.numpy for each in ROWS if each.floating}
ML_DTYPES = tuple(each.name for each in ROWS if not each.plain)  # those that are not numpy's own
SAFETENSORS = {each.safetensors: each.name for each in ROWS if each.safetensors is not None}


_NATIVE = {each: each for each in DTYPES.values()}
_NAMES = {each: name for name, each in DTYPES.items()}  # numpy makes a dtype's name again each time: 3 us


def parse_dtype(dtype: Any) -> np.dtype[Any]:
    """A dtype that bigin fills, in native byte order, from a name, a numpy or ml_dtypes type, or a torch dtype.

    `float` is float32 and `half` float16, as in torch; Python's own types are what numpy takes them for.
    """
    if type(dtype) is str and dtype in DTYPES:
        return DTYPES[dtype]
    if isinstance(dtype, np.dtype) and dtype in _NATIVE:
        return _NATIVE[dtype]
    if type(dtype).__module__ == "torch":
        return _of_torch(dtype)
    return _parse(dtype)


@cache
def _of_torch(dtype: Any) -> np.dtype[Any]:
    """The dtype of one of torch's, of which there are few."""
    return _parse(dtype)


def _parse(dtype: Any) -> np.dtype[Any]:
    """The dtype of a name or a type."""
    name = str(dtype).removeprefix("torch.") if not isinstance(dtype, type) else dtype.__name__
    if isinstance(dtype, str):
        name = ALIASES.get(name, name)
    if name in DTYPES:
        return DTYPES[name]
    with contextlib.suppress(TypeError, ValueError):
        name = np.dtype(dtype).name
    if name not in DTYPES:
        raise InputError(f"expected a dtype among {', '.join(DTYPES)}, got {name}")
    return DTYPES[name]


def parse_stored(dtype: Any) -> np.dtype[Any]:
    """A dtype as `parse_dtype` returns it, but in the byte order that was asked for."""
    parsed = parse_dtype(dtype)
    with contextlib.suppress(TypeError, ValueError):
        given: np.dtype[Any] = np.dtype(dtype)
        return parsed if given.isnative else parsed.newbyteorder("S")
    return parsed


def row(dtype: np.dtype[Any]) -> DType:
    """The row of a dtype that bigin fills."""
    return ROWS[[*DTYPES].index(dtype.name)]


@cache
def name_of(dtype: np.dtype[Any]) -> str:
    """The name of a dtype that bigin fills."""
    return _NAMES.get(dtype) or dtype.name


def from_dlpack(code: int, bits: int) -> np.dtype[Any]:
    """The dtype of DLPack's type code and width; raises InputError for one that bigin does not fill."""
    for candidate in ROWS:
        if candidate.dlpack == code and 8 * candidate.numpy.itemsize == bits:
            return candidate.numpy
    raise InputError(f"expected a dtype among {', '.join(DTYPES)}, got DLPack's type {code} of {bits} bits")


def stored_dtype(dtype: object, label: str) -> np.dtype[Any]:
    """The dtype of what `label` names."""
    try:
        return parse_dtype(dtype)
    except InputError as error:
        raise InputError(f"{label}: {error}") from None


def storage(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type that kernels write: the dtype's own, or unsigned integers of its size for its bits."""
    return dtype if dtype in (DTYPES["float64"], DTYPES["float32"]) else unsigned(dtype)


def unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Unsigned integers of the dtype's size, for its bits; of half its size for complex128, as no integer is wider."""
    return np.dtype(f"u{min(8, dtype.itemsize)}")


def integer_range(dtype: np.dtype[Any]) -> tuple[int, int]:
    """The smallest and the largest integer of an integer dtype; 0 and 1 for bool."""
    if dtype.kind == "b":
        return 0, 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


@cache
def largest(dtype: np.dtype[Any]) -> float:
    """The largest finite number of a float dtype."""
    return float(ml_dtypes.finfo(dtype).max)  # type: ignore[no-untyped-call]


def has_infinity(dtype: np.dtype[Any]) -> bool:
    """Whether a float dtype has infinities."""
    return bool(np.isinf(np.asarray(np.inf, np.float32).astype(dtype)))


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
