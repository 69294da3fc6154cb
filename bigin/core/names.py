"""The names of tensors that are derived from where they lie, so that no two of a model share values unasked."""

from __future__ import annotations


def dotted(path: str) -> str:
    """The name of a tensor at a path in a hierarchy: one name, whether a model lies in a checkpoint or in a group."""
    return path.replace("/", ".")


def file_name(path: str) -> str:
    """The name of a root array or a file: the last part of its path without the ending (w1.npy, w1.zarr.zip: w1)."""
    name = path.rstrip("/").rpartition("/")[2].removesuffix(".zip")
    stem, dot, _ = name.rpartition(".")
    return stem if dot and stem else name
