"""Arrays of np.memmap: filled in place as any other array in memory, but written to their files with pwrite.

They have no ledger and no lock: several processes may each fill a part of one mapped file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from bigin.targets.files import FileTarget


def memmap_target(array: np.memmap[Any, Any]) -> FileTarget | None:
    """The target of a memory-mapped array; None where its file cannot be told for certain.

    The offset is taken from the system's list of mappings, as a view of a memmap carries its parent's offset, and a
    file may have been replaced by another of its name.
    """
    if not (array.flags.c_contiguous and array.flags.writeable and array.size and array.filename):
        return None
    mapping = shared_mapping(array.ctypes.data, array.nbytes)
    path = Path(array.filename)
    try:
        status = path.stat()
    except OSError:
        return None
    if mapping is None or mapping[:2] != (status.st_dev, status.st_ino) or not os.access(path, os.W_OK):
        return None
    target = FileTarget(path, array.shape, array.dtype, mapping[2])
    target.name, target.name_from = "", "unnamed"  # the caller names an array, and no file
    return target


def shared_mapping(address: int, size: int) -> tuple[int, int, int] | None:
    """The device, the inode and the offset in the file of a stretch of memory that is a file, mapped to be written."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        span, access, offset, device, inode = line.split()[:5]
        start, stop = (int(end, 16) for end in span.split("-"))
        if start <= address < stop:
            if not access.startswith("rw") or not access.endswith("s") or address + size > stop:
                return None
            major, minor = (int(part, 16) for part in device.split(":"))
            return os.makedev(major, minor), int(inode), int(offset, 16) + address - start
    return None
