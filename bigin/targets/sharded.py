"""Checkpoints that torch.distributed.checkpoint has written, read without torch.

They are files of tensors, each as torch.save writes it, and `.metadata`, a pickle that says where they are; or
safetensors files, some of whose tensors are in several of them.
"""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import DamagedError, InputError, TargetError
from bigin.core.regions import Shape
from bigin.targets.boxes import Box, Boxed, Stored
from bigin.targets.pickled import ERRORS, Archive, Named, PickledTensor, Reading
from bigin.targets.safetensors.header import read_header

METADATA = ".metadata"
SHARDING = "DCP_SHARDING_INFO"  # in safetensors files whose tensors lie in several of them


def is_written_by_torch(path: Path) -> bool:
    """Whether a folder is a checkpoint of torch's FileSystemWriter, or of its HuggingFaceStorageWriter in parts."""
    if not path.is_dir():
        return False
    return (path / METADATA).is_file() or _sharding(path) is not None


def read_sharded(path: Path) -> Stored:
    """Where the values of each tensor of a checkpoint lie; raises InputError where that cannot be said."""
    try:
        found = _of_metadata(path) if (path / METADATA).is_file() else _of_safetensors(path)
    except (InputError, DamagedError):
        raise
    except ERRORS as error:
        said = " ".join(str(error).split())[:200]
        raise TargetError(
            f"{path}: expected a checkpoint of torch.distributed, got another {METADATA}: {said}"
        ) from None
    for name, tensor in found.tensors.items():
        held = sum(math.prod(box.shape) for box in tensor.boxes)
        if held != math.prod(tensor.shape):
            raise DamagedError(
                f"{path}: expected parts that make up {name} of shape {tensor.shape}, got {held} of its "
                f"{math.prod(tensor.shape)} elements"
            )
    return found


def _of_metadata(path: Path) -> Stored:
    """What .metadata says, and what torch.save has written in the files that it names."""
    with (path / METADATA).open("rb") as file:
        held = Reading(file).load()
    tensors, others = {}, []
    placed: dict[tuple[str, Shape], Any] = {}
    for index, info in held["storage_data"].items():
        placed[index["fqn"], index.state.get("offset") or ()] = info
    with _Files(path) as files:
        for name, told in held["state_dict_metadata"].items():
            dtype = None if told.name != "TensorStorageMetadata" else _dtype(told["properties"].state[0].name)
            if dtype is None:
                others.append(name)
                continue
            boxes = []
            for chunk in told["chunks"]:
                start, shape = tuple(chunk["offsets"]), tuple(chunk["sizes"])
                info = placed.get((name, start)) or placed[name, ()]
                if info.state.get("transform_descriptors"):
                    raise InputError(f"{path}: expected values as they are, got {name} behind a transform; load it")
                if math.prod(shape):
                    offset, fortran = files.values(info, name, shape)
                    boxes.append(Box(path / info["relative_path"], start, shape, offset, fortran=fortran))
            tensors[name] = Boxed(dtype, tuple(told["size"]), tuple(boxes))
    return Stored(tensors, tuple(others))


def _dtype(name: str) -> np.dtype[Any] | None:
    try:
        return dtypes.parse_dtype(name)
    except InputError:
        return None


class _Files:
    """The files of a checkpoint, each opened once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: dict[str, BinaryIO] = {}

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self.opened.values():
            file.close()

    def values(self, info: Named, name: str, shape: Shape) -> tuple[int, bool]:
        """The byte at which the values of a part begin, and whether its axes are in the other order."""
        path = info["relative_path"]
        if Path(path).name != path:
            raise InputError(f"{self.folder}: expected files in the folder itself, got {path}")
        if path not in self.opened:
            if not (self.folder / path).is_file():
                raise DamagedError(f"{self.folder}: expected the file {path} with values of {name}, got none")
            self.opened[path] = (self.folder / path).open("rb")
        file = self.opened[path]
        try:
            archive = Archive(file, info["offset"], info["length"])
        except zipfile.BadZipFile:
            said = f"{self.folder / path}: expected what torch.save writes for {name}, got something else"
            raise DamagedError(said) from None
        tensor = PickledTensor.of(archive.read())
        begin = None if tensor is None else archive.offset_of(tensor.storage)
        if tensor is None or begin is None or tensor.first or tensor.shape != shape or not tensor.is_contiguous:
            got = "none" if tensor is None else f"strides {tensor.strides} from {tensor.first}"
            raise InputError(
                f"{self.folder}: expected values of {name} one behind the other, got {got}; load it with torch and "
                "save it again"
            )
        return begin, tensor.is_fortran


def _sharding(path: Path) -> list[Path] | None:
    """The safetensors files of a folder, if they tell where in its tensor each part begins."""
    files = sorted(path.glob("*.safetensors"))
    try:
        told = bool(files) and SHARDING in read_header(files[0]).metadata
    except InputError:
        return None
    return files if told else None


def _of_safetensors(path: Path) -> Stored:
    """What the headers of the files say."""
    parts: dict[str, list[tuple[np.dtype[Any] | None, Box]]] = {}
    for file in _sharding(path) or ():
        header = read_header(file)
        told = json.loads(header.metadata.get(SHARDING, "{}"))
        for name, entry in header.entries.items():
            start = tuple(told[name]["saved_offsets"]) if name in told else (0,) * len(entry.shape)
            dtype = None if entry.dtype is None else _dtype(entry.dtype)
            box = Box(file, start, tuple(entry.shape), header.start + entry.begin)
            parts.setdefault(name, []).append((dtype, box))
    tensors = {}
    for name, held in parts.items():
        dtype = held[0][0]
        if dtype is not None:
            ends = [[first + size for first, size in zip(box.start, box.shape, strict=True)] for _, box in held]
            boxes = tuple(box for _, box in held if math.prod(box.shape))
            tensors[name] = Boxed(dtype, tuple(map(max, zip(*ends, strict=True))), boxes)
    return Stored(tensors, tuple(name for name in parts if name not in tensors))
