"""How zarr arrays are opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.storage import LocalStore

from bigin.core.disk import SMALL
from bigin.core.errors import InputError, TargetError
from bigin.core.handlers import let_through
from bigin.targets.zarr.array import METADATA, ZarrTarget
from bigin.targets.zarr.cloud import resolved
from bigin.targets.zarr.endpoint import check_endpoint
from bigin.targets.zarr.ledger import ZarrLedger
from bigin.targets.zarr.names import TensorPath, check_links, hierarchy_name, root_of
from bigin.targets.zarr.zip import as_store

PLAIN_MISTAKES = (ImportError, ValueError, TypeError, KeyError, NotImplementedError)


def open_node(store: Any, label: str) -> zarr.Array[Any] | None:
    """The array at the root of a store; None where there is nothing, InputError for anything else.

    Other errors are those of a store on a network, and may pass.
    """
    store = resolved(store)
    if isinstance(store, Path):
        check_links(store)
        if not store.exists():
            return None
    elif isinstance(store, str):
        check_endpoint(store)
    try:
        if isinstance(store, Path):
            check_metadata(store)
        opened = as_store(store)
        node = zarr.open(opened, mode="r" if getattr(opened, "read_only", False) else "r+")
    except FileNotFoundError:
        if isinstance(store, Path) and store.is_dir() and any(item.suffix != ".partial" for item in store.iterdir()):
            raise InputError(f"{label}: expected a zarr array, got a folder that holds something else") from None
        return None
    except PermissionError as error:
        raise TargetError(f"{label}: expected a store that can be written: {error.strerror}") from None
    except Exception as error:
        let_through(error)
        if not isinstance(store, Path) and not isinstance(error, PLAIN_MISTAKES):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{label}: expected a zarr array, got one that cannot be opened: {reason}") from None
    if isinstance(node, zarr.Group):
        arrays = sorted(name for name, member in node.members(max_depth=None) if isinstance(member, zarr.Array))
        inside = f", such as {label}/{arrays[0]}" if arrays else ""
        raise InputError(f"{label}: expected a zarr array, got a group; name an array in it{inside}")
    return node


def existing(array: zarr.Array[Any], label: str) -> ZarrTarget:
    """The target of an array that is there."""
    store = array.store_path.store
    folder = store.root / array.store_path.path if isinstance(store, LocalStore) else None
    inner = hierarchy_name(store, array.store_path.path)
    path = TensorPath(inner, "" if inner else root_of(store, array.store_path.path))
    try:
        return with_ledger(ZarrTarget(array, label, path, folder))
    except InputError:
        raise
    except Exception as error:  # metadata that zarr opens and that make no sense
        let_through(error)
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{label}: expected a zarr array, got one whose layout cannot be used: {reason}") from None


def with_ledger(target: ZarrTarget) -> ZarrTarget:
    """An array's target, with what is remembered of it."""
    target.ledger = ZarrLedger(target)
    return target


def check_metadata(folder: Path) -> None:
    """Refuses metadata that are no small files: a pipe would never end, and a huge file fill the memory."""
    for key in METADATA:
        path = folder / key
        if path.exists() and not (path.is_file() and path.stat().st_size <= SMALL):
            raise InputError(
                f"{path}: expected a file of zarr metadata, got something else, or a file that is too large"
            )


def reopened(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """An array opened again: its metadata may have changed since."""
    return zarr.open_array(array.store_path, mode="r" if array.store_path.store.read_only else "r+")


def is_array_or_store(target: Any) -> bool:
    """Whether a target is zarr's: an array or a store."""
    return isinstance(target, zarr.Array | Store)
