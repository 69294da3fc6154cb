"""Arrays that lie beside each other in no group: checkpoints that Orbax itself has written, to be read."""

from __future__ import annotations

import json
from pathlib import Path

import zarr
from zarr.abc.store import Store
from zarr.storage import LocalStore

from bigin.core.errors import InputError
from bigin.targets.orbax import STEP, TREE
from bigin.targets.zarr.private import get_bytes, group_around, wait

ARRAYS = {"zarr.json": 3, ".zarray": 2}  # what an array's folder holds, and the format of zarr
OCDBT = "manifest.ocdbt"  # of Orbax's database, in which all arrays are


def orbax_group(place: Path | Store, label: str) -> zarr.Group | None:
    """The arrays of a checkpoint that Orbax has written, as a group that is only read; None for anything else.

    Raises InputError for one that is a database, or a step with several checkpoints.
    """
    store = LocalStore(place, read_only=True) if isinstance(place, Path) else place.with_read_only(read_only=True)
    if (tree := wait(get_bytes(store, TREE))) is None:
        if wait(get_bytes(store, STEP)) is None:
            return None
        for item in wait(names_in(store)):
            if wait(store.exists(f"{item}/{TREE}")):
                raise InputError(
                    f"{label}: expected a checkpoint, got a step of Orbax with items; name one, such as {label}/{item}"
                )
        return None
    names = wait(names_in(store))
    if OCDBT in names or is_database(tree):
        raise InputError(
            f"{label}: expected arrays of zarr, got an Orbax checkpoint in its database OCDBT; restore it and save it "
            "again by ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=False))"
        )
    for name in names:
        for key, number in ARRAYS.items():
            if wait(store.exists(f"{name}/{key}")):
                return group_around(store, number)
    raise InputError(f"{label}: expected an Orbax checkpoint with arrays, got one without")


async def names_in(store: Store) -> list[str]:
    """What lies at the root of a store."""
    return sorted([name.strip("/") async for name in store.list_dir("")])


def is_database(tree: bytes) -> bool:
    """Whether the file about the tree says that the arrays are in a database."""
    try:
        return json.loads(tree).get("use_ocdbt") is True
    except (ValueError, AttributeError, RecursionError):
        return False
