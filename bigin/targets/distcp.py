"""Checkpoints of torch.distributed.checkpoint: files of tensors with bytes around each, and .metadata, as one target.

What stands around a tensor and in .metadata is torch's (bigin.torch.storing has torch write it), and is only bytes
here. `.metadata` is what makes a folder a checkpoint: it is written when all files have reached the disk. The record,
and which tensor lies where, is in `.metadata.bigin.json`, which no reader of torch looks at. Files of safetensors whose
tensors lie in several of them have no .metadata, as their headers say all; the record is beside the first one.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigin.core import dtypes
from bigin.core.disk import sync_folder, write_all
from bigin.core.errors import DamagedError, InputError, RecordError
from bigin.core.names import dotted
from bigin.core.regions import Shape
from bigin.targets.boxes import Box, Boxed
from bigin.targets.files import FileTarget
from bigin.targets.model import ModelTarget
from bigin.targets.pieces import PiecedTensor
from bigin.targets.records import Record, read_sidecar, sidecar, write_sidecar
from bigin.targets.safetensors.checkpoint import CheckpointLedger, CheckpointTarget
from bigin.targets.safetensors.stored import StoredFile, StoredTensor
from bigin.targets.saved import is_saved, read_saved
from bigin.targets.sharded import METADATA, is_written_by_torch, read_sharded
from bigin.targets.target import Target

SUFFIX = ".distcp"
SHARD_FILES = "shard-*.safetensors"  # those of torch's HuggingFaceStorageWriter
FILES = "files"  # of the record's file: which tensor lies where


@dataclass(frozen=True)
class RowsInFile:
    """Rows of a tensor in a file, whose values begin at an offset."""

    tensor: str
    dtype: str
    shape: Shape
    offset: int


@dataclass(frozen=True)
class Framed:
    """A file to be written: the tensors in it, and what else, as (offset, bytes)."""

    name: str
    pieces: Sequence[RowsInFile]
    frames: Sequence[tuple[int, bytes]]
    size: int


class FramedFile(StoredFile):
    """A file with given bytes between its tensors."""

    def __init__(self, folder: Path, framed: Framed) -> None:
        first = framed.frames[0][1] if framed.frames else b""
        super().__init__(folder / framed.name, first, {}, {})
        self.frames = framed.frames
        self.size = framed.size
        self.pieces = framed.pieces
        for piece in framed.pieces:
            stored = StoredTensor(self.path, piece.shape, dtypes.parse_dtype(piece.dtype), piece.offset)
            stored.label = f"{self.path}#{piece.tensor}"
            self.tensors[piece.tensor] = stored

    def create(self) -> None:
        super().create()
        assert self.file is not None
        for offset, data in self.frames:
            write_all(self.file.fileno(), memoryview(data), offset)
        os.fsync(self.file.fileno())

    def reopen(self) -> None:
        super().reopen()
        assert self.file is not None
        for offset, data in self.frames:
            if os.pread(self.file.fileno(), len(data), offset) != data:
                raise DamagedError(
                    f"{self.written()}: was begun with other tensors or sizes of files; give --overwrite "
                    "(overwrite=True) to start over"
                )

    def outline(self) -> dict[str, Any]:
        """Its tensors, for JSON."""
        pieces = [[piece.tensor, piece.dtype, list(piece.shape), piece.offset] for piece in self.pieces]
        return {"size": self.size, "pieces": pieces}


class DistcpTarget(CheckpointTarget):
    """A checkpoint that is there, or one that is to be written: with this .metadata, or without one."""

    def __init__(self, folder: Path, files: Iterable[Framed], metadata: bytes | None, *, new: bool) -> None:
        framed = [FramedFile(folder, file) for file in files]
        index = folder / METADATA if framed[0].path.suffix == SUFFIX else None
        super().__init__(str(folder), framed, index, new=new)
        self.metadata = metadata
        self.ledger = DistcpLedger(self, new=new)

    def replaced(self) -> list[Path]:
        """The files of an earlier checkpoint."""
        ours = {file.path for file in self.files}
        pattern = SHARD_FILES if self.index is None else f"*{SUFFIX}"
        return sorted(path for path in self.files[0].path.parent.glob(pattern) if path not in ours)

    def index_text(self) -> bytes:
        """What .metadata holds."""
        assert self.metadata is not None
        return self.metadata

    def placed(self) -> dict[str, object]:
        """Which tensor lies where, for JSON."""
        return {file.path.name: file.outline() for file in self.files if isinstance(file, FramedFile)}

    def outline(self) -> dict[str, object]:
        metadata = None if self.metadata is None else base64.b64encode(self.metadata).decode()
        folder = str(self.files[0].path.parent)
        return {"kind": "distcp", "folder": folder, "files": self.placed(), "metadata": metadata}


class DistcpLedger(CheckpointLedger):
    """The ledger of such a checkpoint. Its record stays in a file of its own, incomplete or not."""

    target: DistcpTarget

    def __init__(self, target: DistcpTarget, *, new: bool) -> None:
        super().__init__(target, new=new)
        self._key = target.index or self.files[0].path

    def record(self) -> Record | None:
        record = read_sidecar(self._key)
        if record is not None:
            record.pop(FILES, None)
            if not self._key.exists():
                record["complete"] = False
        return record

    def _keep(self, record: Record) -> None:
        write_sidecar(self._key, record | {FILES: self.target.placed()})

    def _give_names(self) -> None:
        """Removes an earlier checkpoint first: its .metadata would speak of these files."""
        folder = self._key.parent
        new = [file for file in self.files if file.partial.exists()]
        earlier = [file.path for file in new] if self.target.index is None else [self._key]
        for path in (*earlier, *self.target.replaced()):
            path.unlink(missing_ok=True)
        sync_folder(folder)
        for file in reversed(new):
            file.partial.rename(file.path)
        sync_folder(folder)

    def _complete(self, record: Record) -> None:
        self._keep(record)


def record_file(folder: Path) -> Path | None:
    """The file beside which the record of a checkpoint lies that bigin has written, or has begun."""
    if sidecar(folder / METADATA).is_file():
        return folder / METADATA
    held = sorted(folder.glob("shard-00001-*.safetensors.bigin.json"))
    return held[0].with_name(held[0].name.removesuffix(".bigin.json")) if held else None


def is_distcp(path: Path) -> bool:
    """Whether a folder is such a checkpoint, by bigin or torch, finished or begun; or a file of torch.save."""
    if is_saved(path):
        return True
    return path.is_dir() and (record_file(path) is not None or is_written_by_torch(path))


def existing_distcp(path: Path) -> ModelTarget:
    """The target of a checkpoint that is there. What torch has written has no record, and is only read."""
    beside = None if is_saved(path) else record_file(path)
    if beside is None:
        return written_by_torch(path)
    held = (read_sidecar(beside) or {}).get(FILES)
    try:
        files = files_of(dict(held))  # type: ignore[arg-type]
    except (TypeError, KeyError, ValueError):
        raise RecordError(f"{sidecar(beside)}: expected a record of which tensor lies where, got none") from None
    return DistcpTarget(path, files, None, new=False)


def written_by_torch(path: Path) -> ModelTarget:
    """The tensors of a checkpoint that torch has written, each in the parts that its ranks had; or of a file."""
    held = read_saved(path) if is_saved(path) else read_sharded(path)
    if not held.tensors:
        raise InputError(f"{path}: expected a checkpoint with tensors, got one without")
    left = f" ({len(held.others)} of other kinds left out)" if held.others else ""
    return ModelTarget(f"{path}{left}", {name: boxed_tensor(path, name, each) for name, each in held.tensors.items()})


def boxed_tensor(folder: Path, name: str, tensor: Boxed) -> Target:
    """The target of a tensor whose parts lie in files."""
    boxes = tensor.boxes or (Box(folder / METADATA, (0,) * len(tensor.shape), tensor.shape, 0),)
    parts = [FileTarget(box.path, box.shape, tensor.dtype, box.offset, fortran=box.fortran) for box in boxes]
    whole = parts[0] if len(parts) == 1 else PiecedTensor(name, parts, [b.start for b in boxes], tensor.shape)
    whole.label, whole.name, whole.name_from = f"{folder}#{name}", dotted(name), "hierarchy"
    return whole


def begun_distcp(outline: Mapping[str, Any]) -> DistcpTarget:
    """The target of a checkpoint whose files another process has made, from what it says of it."""
    metadata = None if outline["metadata"] is None else base64.b64decode(outline["metadata"])
    return DistcpTarget(Path(outline["folder"]), files_of(outline["files"]), metadata, new=True)


def files_of(placed: Mapping[str, Any]) -> list[Framed]:
    """Files that are there, from which tensor lies where in them."""
    return [
        Framed(name, [RowsInFile(t, d, tuple(s), o) for t, d, s, o in told["pieces"]], (), told["size"])
        for name, told in placed.items()
    ]


def new_distcp(folder: Path, files: Sequence[Framed], metadata: bytes | None) -> DistcpTarget:
    """The target of a checkpoint to be written."""
    if not folder.absolute().parent.is_dir():
        raise InputError(f"{folder}: expected an existing folder {folder.parent}; create it first")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder, got a file")
    return DistcpTarget(folder, files, metadata, new=True)
