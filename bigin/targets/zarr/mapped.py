"""Which files hold a zarr array's values as they are, to be mapped into memory."""

from __future__ import annotations

import math
import mmap
from pathlib import Path

import zarr

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.text import counted
from bigin.targets.mapping import MappedLayout
from bigin.targets.zarr.chunks import chunk_key, stores_plain_bytes


def zarr_layout(path: Path) -> MappedLayout:
    """A zarr array whose chunks are whole rows without a codec, each of them a file of the chunk's values."""
    try:
        array = zarr.open(path, mode="r")
    except (FileNotFoundError, ValueError, TypeError, KeyError, OSError, NotImplementedError) as error:
        raise InputError(f"{path}: expected a .npy file or a zarr array, got neither: {error}") from None
    if isinstance(array, zarr.Group):
        raise InputError(f"{path}: expected a zarr array, got a group; name an array in it")
    chunks = tuple(max(1, size) for size in array.chunks)
    got = None
    if not stores_plain_bytes(array):
        got = "compressed or reordered ones"
    elif array.shards is not None:
        got = "shards"
    elif any(size > chunk for size, chunk in zip(array.shape[1:], chunks[1:], strict=True)):
        got = f"chunks of {'x'.join(map(str, chunks))} of shape {'x'.join(map(str, array.shape))}"
    if got is not None:
        raise InputError(
            f"{path}: expected chunks of whole rows, without compression and shards, which can be mapped into memory, "
            f"got {got}; fill such an array or a .npy file, or read parts: torch.from_numpy(zarr.open(path)[rows])"
        )
    region = tuple((0, size) for size in array.shape)
    count = 0 if 0 in array.shape else -(-array.shape[0] // chunks[0]) if array.shape else 1
    starts = (((i * chunks[0], 0), *region[1:]) for i in range(count)) if array.shape else [region] * count
    files = [path / chunk_key(array, start, chunks) for start in starts]
    layout = MappedLayout(files, 0, array.shape, chunks, dtypes.parse_dtype(array.dtype))
    if count > 1 and layout.block_bytes % mmap.PAGESIZE:
        row = layout.block_bytes // chunks[0]
        rows = mmap.PAGESIZE // math.gcd(mmap.PAGESIZE, row)
        raise InputError(
            f"{path}: expected chunks whose rows are a multiple of {rows}, which fill whole pages of memory, "
            f"got chunks of {counted(chunks[0], 'row')} of {counted(row, 'byte')}; "
            "fill an array of such chunks, or a .npy file"
        )
    missing = next((file for file in files if not file.exists()), None)
    if missing is not None:
        raise InputError(f"{path}: expected values, got an array without its chunk {missing.name}; fill it first")
    return layout
