"""How zarr groups are opened and made."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import zarr
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore, MemoryStore

from bigin.core.errors import ExistsError, InputError, TargetError
from bigin.core.regions import Shape
from bigin.targets.orbax import written_by_orbax
from bigin.targets.paths import check_ending
from bigin.targets.zarr.cloud import CloudZarr, resolved
from bigin.targets.zarr.endpoint import check_endpoint
from bigin.targets.zarr.group import GroupTarget
from bigin.targets.zarr.group_ledger import GroupLedger
from bigin.targets.zarr.loose import orbax_group
from bigin.targets.zarr.make import ZarrLayout, new_array
from bigin.targets.zarr.names import hierarchy_name, local_root
from bigin.targets.zarr.zip import as_store


def open_group(group: Any, label: str, mode: str = "r+") -> zarr.Group | None:
    """The group at a path, a URL or the root of a store; None where there is something else, or nothing."""
    if isinstance(group, Path) and not group.exists():
        return None
    if isinstance(group, Path) and written_by_orbax(group):
        return orbax_group(group, label)
    group = resolved(group)
    if isinstance(group, str):
        check_endpoint(group)
    store = as_store(group)
    try:
        return zarr.open_group(store, mode="r" if store is not group else mode, use_consolidated=False)  # type: ignore[arg-type]
    except PermissionError as error:
        raise TargetError(f"{label}: expected a store that can be read and written: {error.strerror}") from None
    except (ImportError, ValueError, TypeError, KeyError, OSError, NotImplementedError):
        return orbax_group(store, label) if isinstance(store, CloudZarr) else None


def group_arrays(group: zarr.Group) -> dict[str, zarr.Array[Any]]:
    """The arrays in a group, at any depth, by their names: their paths below the outermost group around them."""
    above = group_prefix(group)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr's, on the journal of a fill that was interrupted
        members = group.members(max_depth=None, use_consolidated_for_children=False)
    return {above + path: member for path, member in members if isinstance(member, zarr.Array)}


def group_prefix(group: zarr.Group) -> str:
    """What the names of a group's arrays begin with, if it lies in another group; with a slash at the end."""
    path = f"{group.store_path.path}/" if group.store_path.path else ""
    return hierarchy_name(group.store_path.store, f"{path}x").removesuffix("x")


def group_target(
    group: zarr.Group, label: str, arrays: Mapping[str, zarr.Array[Any]], names: Iterable[str] | None = None
) -> GroupTarget:
    """The target of a group's arrays, or of those that are named."""
    missing = [name for name in names or () if name not in arrays]
    if missing:
        raise ExistsError(f"{label}: expected nothing there, or a group with the array {missing[0]}, got one without")
    return with_ledger(GroupTarget(group, label, arrays if names is None else {name: arrays[name] for name in names}))


def missing_group(path: Any, label: str, tensors: Mapping[str, tuple[Any, Shape]]) -> GroupTarget:
    """The target of a group that is still to be made, with arrays of good chunks and without compression."""
    if isinstance(path, str | Path):
        check_ending(path)
    if isinstance(path, Path):
        if path.exists() and (not path.is_dir() or (path / "zarr.json").exists()):
            raise ExistsError(f"{label}: expected nothing there, or a zarr group, got something else")
        if not path.absolute().parent.is_dir():
            raise InputError(f"{label}: expected an existing folder {path.parent}; create it first")
        if local_root(path)[1]:
            raise InputError(
                f"{label}: expected a path outside of other groups, which would name its arrays; choose another one"
            )
        store: Store = LocalStore(path)
    else:
        there = resolved(path)
        store = FsspecStore.from_url(there) if isinstance(there, str) else there
    for name in tensors:
        if any(part in ("", ".", "..") for part in name.split("/")) or "\0" in name:
            raise InputError(f"{label}: expected names that are paths in a group, got {name!r}")
    group = zarr.create_group(MemoryStore())
    arrays = {name: new_array(group.store, name, ZarrLayout(shape, dtype)) for name, (dtype, shape) in tensors.items()}
    return with_ledger(GroupTarget(group, label, arrays, store))


def with_ledger(target: GroupTarget) -> GroupTarget:
    """A group's target, with what is remembered of it."""
    target.ledger = GroupLedger(target)
    return target
