"""Checkpoints that torch.distributed.checkpoint has written, read without torch: where the values of each tensor lie.

`.metadata` and what torch.save writes around a tensor are pickles. Nothing that they name is run here: what is torch's
becomes a `Named`, and all else is refused.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import DamagedError, InputError, TargetError
from bigin.core.regions import Shape, dense
from bigin.targets.safetensors.header import read_header

METADATA = ".metadata"
SHARDING = "DCP_SHARDING_INFO"  # in safetensors files whose tensors lie in several of them
REBUILT = ("_rebuild_tensor_v2", "_rebuild_tensor_v3")
LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip archive: the bytes of the name and of what follows it


@dataclass(frozen=True)
class Box:
    """A part of a tensor in a file: where it begins in the tensor, its shape, and the byte at which its values begin.

    fortran: whether the values lie there in the other order of axes.
    """

    path: Path
    start: Shape
    shape: Shape
    offset: int
    fortran: bool = False


@dataclass(frozen=True)
class Boxed:
    """A tensor, and its parts."""

    dtype: np.dtype[Any]
    shape: Shape
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Stored:
    """What a checkpoint holds: tensors by name, and the names of what bigin has no dtype for or is no tensor."""

    tensors: Mapping[str, Boxed]
    others: tuple[str, ...]


def is_written_by_torch(path: Path) -> bool:
    """Whether a folder is a checkpoint of torch's FileSystemWriter, or of its HuggingFaceStorageWriter in parts."""
    if not path.is_dir():
        return False
    return (path / METADATA).is_file() or _sharding(path) is not None


def read_stored(path: Path) -> Stored:
    """Where the values of each tensor of a checkpoint lie; raises InputError where that cannot be said."""
    try:
        found = _of_metadata(path) if (path / METADATA).is_file() else _of_safetensors(path)
    except (pickle.UnpicklingError, EOFError, AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
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


class Named:
    """What a pickle names of torch, with what it is made of."""

    name = ""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = {}

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __getitem__(self, key: str) -> Any:
        return self.state[key]


class Dictionary(dict[Any, Any]):
    """An OrderedDict, which may have attributes as that of a state dict has."""


class Reading(pickle.Unpickler):
    """An unpickler that makes plain objects alone."""

    def find_class(self, module: str, name: str) -> Any:
        """Stand for what torch has; raises UnpicklingError for all else."""
        if (module, name) == ("torch", "Size"):
            return tuple
        if (module, name) == ("collections", "OrderedDict"):
            return Dictionary
        if module.partition(".")[0] == "torch" or module.partition(".")[0] == "pathlib":
            return type("Named", (Named,), {"name": name})
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        """A storage, as it is named."""
        return pid


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
                    boxes.append(Box(path / info["relative_path"], start, shape, offset, fortran))
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
            archive = zipfile.ZipFile(_Stretch(file, info["offset"], info["length"]))
        except zipfile.BadZipFile:
            said = f"{self.folder / path}: expected what torch.save writes for {name}, got something else"
            raise DamagedError(said) from None
        (root,) = {entry.partition("/")[0] for entry in archive.namelist()}
        storage, first, size, strides, _ = rebuilt(Reading(io.BytesIO(archive.read(f"{root}/data.pkl"))).load())
        entry = archive.getinfo(f"{root}/data/{storage[2]}")
        fortran = strides != dense(size) and strides[::-1] == dense(size[::-1])
        if first or size != shape or entry.compress_type or not (fortran or strides == dense(size)):
            raise InputError(
                f"{self.folder}: expected values of {name} one behind the other, got strides {strides} from {first}; "
                "load it with torch and save it again"
            )
        return values_begin(file, info["offset"], entry), fortran


def values_begin(file: BinaryIO, start: int, entry: zipfile.ZipInfo) -> int:
    """The byte at which the contents of an entry begin, of an archive that begins at some byte of a file."""
    file.seek(start + entry.header_offset)
    lengths = LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))
    return start + entry.header_offset + LOCAL_HEADER.size + int(sum(lengths))


def rebuilt(held: Any) -> tuple[Any, int, Shape, Shape, tuple[Any, ...]]:
    """The storage, the offset, the shape, the strides and what else is told of a saved tensor, a parameter or not."""
    while isinstance(held, Named) and held.name not in REBUILT and held.arguments:
        held = held.arguments[0]
    if not isinstance(held, Named) or held.name not in REBUILT:
        raise pickle.UnpicklingError("expected a tensor, got something else")
    storage, first, size, strides = held.arguments[:4]
    return storage, first, tuple(size), tuple(strides), held.arguments[4:]


class _Stretch(io.RawIOBase):
    """A stretch of a file as a file of its own."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        self.file, self.start, self.length, self.at = file, start, length, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.at

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = max(0, offset + (0, self.at, self.length)[whence])
        return self.at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self.length - self.at)
        self.file.seek(self.start + self.at)
        data = self.file.read(left if size < 0 else min(size, left))
        self.at += len(data)
        return data


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
