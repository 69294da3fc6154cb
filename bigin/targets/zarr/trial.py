"""An array of the same layout beside another one, to try how fast it is written."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zarr.storage import FsspecStore, LocalStore, MemoryStore

from bigin.targets.zarr.array import ZarrTarget
from bigin.targets.zarr.names import TensorPath
from bigin.targets.zarr.private import get_bytes, moved, set_bytes, wait

DOCUMENTS = ("zarr.json", ".zarray", ".zattrs")


@contextmanager
def trial_array(target: Any) -> Iterator[ZarrTarget | None]:
    """The array, for as long as it is needed; None where a store has no place beside an array."""
    array, name = target.array, f".bigin-trial-{uuid.uuid4().hex}"
    held = array.store_path.store
    store: Any
    if target.folder is not None:
        folder = target.folder.absolute()
        while not folder.parent.is_dir():
            folder = folder.parent
        store = LocalStore(folder.parent / name)
    elif target.make is None and isinstance(held, FsspecStore):
        store = FsspecStore(fs=held.fs, path=f"{held.path.rstrip('/')}{name}")
    elif isinstance(held, MemoryStore) and target.make is None:
        store = MemoryStore()
    else:
        yield None
        return
    try:
        for document in DOCUMENTS:
            key = f"{array.store_path.path}/{document}".lstrip("/")
            if (data := wait(get_bytes(held, key))) is not None:
                wait(set_bytes(store, key, data))
        folder = store.root / array.store_path.path if isinstance(store, LocalStore) else None
        yield ZarrTarget(moved(array, store), target.label, TensorPath(""), folder)
    finally:
        if isinstance(store, LocalStore):
            shutil.rmtree(store.root, ignore_errors=True)
        else:
            wait(store.delete_dir(""))
