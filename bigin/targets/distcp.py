"""Checkpoints of torch.distributed.checkpoint: files of tensors with bytes around each, and .metadata, as one target.

What stands around a tensor and in .metadata is torch's (bigin.torch.storing has torch write it), and is only bytes
here. `.metadata` is what makes a folder a checkpoint: it is written when all files have reached the disk. The record,
and which tensor lies where, is in `.metadata.bigin.json`, which no reader of torch looks at.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bigin.core import dtypes
from bigin.core.disk import sync_folder, write_all
from bigin.core.errors import DamagedError, InputError, RecordError
from bigin.core.regions import Shape
from bigin.targets.records import Record, read_sidecar, sidecar, write_sidecar
from bigin.targets.safetensors.checkpoint import CheckpointLedger, CheckpointTarget
from bigin.targets.safetensors.stored import StoredFile, StoredTensor

METADATA = ".metadata"
SUFFIX = ".distcp"
FILES = "files"  # of the record's file: which tensor lies where


@dataclass(frozen=True)
class Piece:
    """Rows of a tensor in a file, whose values begin at an offset."""

    tensor: str
    dtype: str
    shape: Shape
    offset: int


@dataclass(frozen=True)
class Framed:
    """A file to be written: the tensors in it, and what else, as (offset, bytes)."""

    name: str
    pieces: Sequence[Piece]
    frames: Sequence[tuple[int, bytes]]
    size: int


class FramedFile(StoredFile):
    """A file with given bytes between its tensors."""

    def __init__(self, folder: Path, framed: Framed) -> None:
        first = framed.frames[0][1] if framed.frames else b""
        super().__init__(folder / framed.name, first, {})
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
    """A checkpoint that is there, or one that is to be written with this .metadata."""

    def __init__(self, label: str, folder: Path, files: Iterable[Framed], metadata: bytes | None) -> None:
        super().__init__(
            label, [FramedFile(folder, file) for file in files], folder / METADATA, new=metadata is not None
        )
        self.metadata = metadata
        self.ledger = DistcpLedger(self, new=metadata is not None)

    def replaced(self) -> list[Path]:
        """The files of an earlier checkpoint."""
        ours = {file.path for file in self.files}
        return sorted(path for path in self.files[0].path.parent.glob(f"*{SUFFIX}") if path not in ours)

    def index_text(self) -> bytes:
        """What .metadata holds."""
        assert self.metadata is not None
        return self.metadata

    def outline(self) -> dict[str, object]:
        return {file.path.name: file.outline() for file in self.files if isinstance(file, FramedFile)}


class DistcpLedger(CheckpointLedger):
    """The ledger of such a checkpoint. Its record stays in a file of its own, incomplete or not."""

    def __init__(self, target: DistcpTarget, *, new: bool) -> None:
        super().__init__(target, new=new)
        assert target.index is not None
        self._key = target.index

    def record(self) -> Record | None:
        record = read_sidecar(self._key)
        if record is not None:
            record.pop(FILES, None)
            if not self._key.exists():
                record["complete"] = False
        return record

    def _keep(self, record: Record) -> None:
        write_sidecar(self._key, record | {FILES: self.target.outline()})

    def _give_names(self) -> None:
        self._key.unlink(missing_ok=True)  # of an earlier checkpoint: it would speak of these files
        sync_folder(self._key.parent)
        super()._give_names()
        sync_folder(self._key.parent)

    def _complete(self, record: Record) -> None:
        self._keep(record)


def is_distcp(path: Path) -> bool:
    """Whether a folder is such a checkpoint that bigin has written, or has begun."""
    return path.is_dir() and sidecar(path / METADATA).is_file()


def existing_distcp(path: Path) -> DistcpTarget:
    """The target of a checkpoint that bigin has written."""
    held = (read_sidecar(path / METADATA) or {}).get(FILES)
    try:
        files = [
            Framed(name, [Piece(t, d, tuple(s), o) for t, d, s, o in told["pieces"]], (), told["size"])
            for name, told in dict(held).items()  # type: ignore[arg-type]
        ]
    except (TypeError, KeyError, ValueError):
        raise RecordError(
            f"{sidecar(path / METADATA)}: expected a record of which tensor lies where, got none"
        ) from None
    return DistcpTarget(str(path), path, files, None)


def new_distcp(folder: Path, files: Sequence[Framed], metadata: bytes) -> DistcpTarget:
    """The target of a checkpoint to be written."""
    if not folder.absolute().parent.is_dir():
        raise InputError(f"{folder}: expected an existing folder {folder.parent}; make it first")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: expected a folder, got a file")
    return DistcpTarget(str(folder), folder, files, metadata)
