"""The files that hold a checkpoint's tensors: one safetensors file, or those of a folder, which an index names."""

from __future__ import annotations

import json
from pathlib import Path

from bigin.core.errors import InputError, NotFoundError
from bigin.targets.safetensors.header import read_header

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
SUFFIX = ".safetensors"
LARGEST_INDEX = 1 << 28  # bytes


def is_checkpoint(path: Path) -> bool:
    """Whether a path is a safetensors file, an index of some, or a folder with either."""
    if path.is_dir():
        if any((path / key).exists() for key in ("zarr.json", ".zarray", ".zgroup")):
            return False  # which may hold a million chunks to look through
        return (path / INDEX).is_file() or any(path.glob(f"*{SUFFIX}"))
    return path.name.endswith((SUFFIX, f"{SUFFIX}.index.json"))


def checkpoint_files(path: Path) -> list[Path]:
    """The files of a checkpoint: those that its index names; every safetensors file of a folder without one."""
    if path.is_dir():
        index = path / INDEX
        files = index_files(index) if index.is_file() else sorted(path.glob(f"*{SUFFIX}"))
    else:
        files = index_files(path) if path.name.endswith(".json") else [path]
    if not files:
        raise NotFoundError(f"{path}: expected safetensors files, got none")
    return files


def index_files(index: Path) -> list[Path]:
    """The files that an index names, in order."""
    return sorted({index.parent / file for file in read_index(index).values()})


def read_index(index: Path) -> dict[str, str]:
    """The file of every tensor, as an index says."""
    try:
        if index.stat().st_size > LARGEST_INDEX:
            raise InputError(f"{index}: expected an index of at most {LARGEST_INDEX} bytes, got a larger one")
        data = json.loads(index.read_bytes())
    except OSError as error:
        raise InputError(f"{index}: expected an index that can be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{index}: expected an index in JSON, got something else") from None
    held = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(held, dict) or not all(isinstance(file, str) for file in held.values()):
        raise InputError(f"{index}: expected an index with a weight_map of names and files, got one without")
    for file in set(held.values()):
        if Path(file).name != file or file in ("", ".", "..") or "\0" in file:
            raise InputError(f"{index}: expected files in its own folder, got {file!r}")
    return held


def tensor_files(path: Path) -> dict[str, Path]:
    """The file of every tensor of a checkpoint; raises InputError where an index and its files do not agree."""
    files: dict[str, Path] = {}
    for file in checkpoint_files(path):
        for name in read_header(file).entries:
            if name in files:
                raise InputError(
                    f"{path}: expected every tensor once, got {name} in {files[name].name} and {file.name}"
                )
            files[name] = file
    index = path / INDEX if path.is_dir() else path
    if index.name.endswith(".json") and index.is_file():
        told = {name: index.parent / file for name, file in read_index(index).items()}
        for name in sorted(set(told) | set(files)):
            if told.get(name) != files.get(name):
                where = files[name].name if name in files else "no file"
                raise InputError(
                    f"{index}: expected {name} in {told.get(name, Path('no file')).name}, got it in {where}"
                )
    return files
