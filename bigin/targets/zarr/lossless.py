"""Whether a zarr array returns the values that were stored: codecs such as BitRound and Quantize round them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import zarr
from zarr.storage import MemoryStore

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.handlers import let_through
from bigin.targets.zarr.chunks import stores_plain_bytes

ELEMENTS = 1024  # of a chunk that is tried: a codec that rounds changes nearly all of them


def check_lossless(array: zarr.Array[Any], label: str) -> None:
    """Raises InputError for an array whose codecs change values, or cannot be written.

    A list of codecs would never be whole, so a small chunk of random values is stored in memory and read back.
    """
    if stores_plain_bytes(array):
        return
    if array.metadata.zarr_format == 2 and array.dtype.name in dtypes.ML_DTYPES:  # what others have encoded can be read
        raise InputError(
            f"{label}: expected {array.dtype.name} in zarr format 3, or in format 2 without compressor, filters and "
            "Fortran order, got such a layout, which numcodecs cannot encode; make the array in format 3"
        )
    dtype = dtypes.parse_dtype(array.dtype)
    shape = tuple(min(size, max(1, chunk)) for size, chunk in zip(_small(array.chunks), array.chunks, strict=True))
    values = _random(shape, dtype)
    bits = dtypes.unsigned(dtype)
    try:
        copy = _like(array, shape)
        copy[...] = values
        back = np.ascontiguousarray(np.asarray(copy[...], dtype))
    except Exception as error:  # a codec that needs chunks of a certain shape: nothing is known of it
        let_through(error)
        return
    if not np.array_equal(back.reshape(-1).view(bits), values.reshape(-1).view(bits)):
        from bigin.targets.zarr.array import codecs

        raise InputError(
            f"{label}: expected codecs that keep every bit, got {', '.join(codecs(array.metadata))}, which change "
            "values; use an array without them"
        )


def _small(chunks: tuple[int, ...]) -> tuple[int, ...]:
    """A shape of few elements: the last axes as they are, the first ones shorter."""
    left, shape = ELEMENTS, []
    for size in reversed(chunks):
        shape.append(max(1, min(size, left)))
        left //= shape[-1]
    return tuple(reversed(shape))


def _random(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    generator = np.random.default_rng(0)
    if dtype.kind in "iu":
        return generator.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    return generator.standard_normal(shape).astype(dtype)


def _like(array: zarr.Array[Any], shape: tuple[int, ...]) -> zarr.Array[Any]:
    """A small array in memory, of one chunk with the same codecs."""
    zarr_format: Any = array.metadata.zarr_format
    options: dict[str, Any] = {"order": array.order} if zarr_format == 2 else {"serializer": array.serializer}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of codecs that have no specification yet
        return zarr.create_array(
            MemoryStore(),
            shape=shape,
            chunks=shape,
            dtype=array.dtype if zarr_format == 2 else array.dtype.name,
            filters=list(array.filters) or None,
            compressors=list(array.compressors) or None,
            fill_value=array.fill_value,
            zarr_format=zarr_format,
            config={"write_empty_chunks": True},
            **options,
        )
