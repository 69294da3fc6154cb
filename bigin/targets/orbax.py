"""What makes a zarr group an Orbax checkpoint: a folder of arrays with dots in their names, and files about the tree.

The form is what `orbax.checkpoint.PyTreeCheckpointHandler(use_ocdbt=False, use_zarr3=True)` writes; Orbax reads it by
tensorstore. Nothing of Orbax is needed to write it. Orbax itself writes no metadata of a group around the arrays.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from bigin.core.errors import InputError
from bigin.core.names import dotted
from bigin.spec.model import TensorValues
from bigin.targets.paths import is_url, local_path
from bigin.targets.safetensors.companions import Companions
from bigin.targets.safetensors.folder import SUFFIX

FORMAT = "orbax"
DICT = 2  # Orbax's type of a key of a dictionary
TREE, STEP = "_METADATA", "_CHECKPOINT_METADATA"
HANDLER = "orbax.checkpoint._src.handlers.pytree_checkpoint_handler.PyTreeCheckpointHandler"


def check_place(out: Any) -> None:
    """Raises InputError for anything but a folder of this machine."""
    path = local_path(out)
    if is_url(out) or path is None or path.suffix in (".zarr", SUFFIX):
        raise InputError(
            f"{out}: expected a local folder for an Orbax checkpoint, got another path; copy it to a store"
        )


def as_tree(specs: Mapping[str, TensorValues]) -> dict[str, TensorValues]:
    """The tensors by the names that Orbax gives their folders; raises InputError where they are no tree."""
    made = {dotted(name): spec for name, spec in specs.items()}
    if len(made) < len(specs):
        raise InputError("expected names that stay different when slashes become dots, got two that do not")
    for name in made:
        parts = name.split(".")
        above = [".".join(parts[:depth]) for depth in range(1, len(parts)) if ".".join(parts[:depth]) in made]
        if "" in parts or above:
            found = f"{above[0]!r} and {name!r}" if above else repr(name)
            raise InputError(f"expected names that are paths in a tree of dictionaries, got {found}")
    return made


def tree_files(names: Iterable[str]) -> Companions:
    """The files beside the arrays of these names, of which the last says that the checkpoint is complete."""
    tree = {
        str(tuple(name.split("."))): {
            "key_metadata": [{"key": part, "key_type": DICT} for part in name.split(".")],
            "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
        }
        for name in sorted(names)
    }
    about = {
        "tree_metadata": tree,
        "use_ocdbt": False,
        "use_zarr3": True,
        "store_array_data_equal_to_fill_value": True,
        "custom_metadata": None,
    }
    step = {"item_handlers": HANDLER, "metrics": {}, "performance_metrics": {}, "custom_metadata": {}}
    files: dict[str, Path | bytes] = {
        TREE: json.dumps(about).encode(),
        STEP: json.dumps(step).encode(),
        "commit_success.txt": b"Checkpoint commit was successful\n",
    }
    return Companions(files)


def written_by_orbax(path: Path) -> bool:
    """Whether Orbax itself has written a folder: a checkpoint, or a step of several. bigin makes a group of its own."""
    if not path.is_dir() or (path / "zarr.json").exists():
        return False
    return (path / TREE).is_file() or ((path / STEP).is_file() and any(path.glob(f"*/{TREE}")))
