"""Whole checkpoints of safetensors, one file or many with an index, as one target.

A checkpoint is written under temporary names, which its files lose when all of them have reached the disk. Its record
lies in the files' own metadata.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bigin.core.disk import allow_open_files, replace_file, start_writeback, sync_folder
from bigin.core.errors import InputError, TargetError
from bigin.core.record import model_record
from bigin.targets.ledger import Ledger
from bigin.targets.model import ModelTarget
from bigin.targets.records import (
    Progress,
    Record,
    journal,
    read_journal,
    read_sidecar,
    remove_journal,
    sidecar,
    write_journal,
    write_sidecar,
)
from bigin.targets.safetensors.folder import Naming, checkpoint_files, index_files, index_of, tensor_files
from bigin.targets.safetensors.header import lay_out, pack_header, parse_header, read_header
from bigin.targets.safetensors.metadata import KEY, pack_records, unpack_records
from bigin.targets.safetensors.stored import StoredFile
from bigin.targets.safetensors.tensor import tensor_records


@dataclass(frozen=True)
class Plan:
    """A checkpoint to be written: the tensors (name -> dtype, shape) of every file, and the name of the index.

    All lie in one folder. Without an index, the checkpoint is one file.
    """

    folder: Path
    files: Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]]
    index: str | None = None


class CheckpointTarget(ModelTarget):
    """A checkpoint that is there, or one that is to be written."""

    def __init__(self, label: str, files: Iterable[StoredFile], index: Path | None, *, new: bool) -> None:
        self.files = list(files)
        self.index = index
        super().__init__(label, {name: target for file in self.files for name, target in file.tensors.items()})
        self.ledger = CheckpointLedger(self, new=new)

    def exists(self) -> bool:
        return all(file.path.exists() for file in self.files)

    def holds_data(self) -> bool:
        """Whether any of its files is there, or one that it would replace."""
        held = any(file.path.exists() for file in self.files) or (self.index is not None and self.index.exists())
        return held or bool(self.replaced())

    def replaced(self) -> list[Path]:
        """What is there of a checkpoint of the same naming in more or fewer files, which readers would still load.

        transformers prefers model.safetensors to an index, and an index to any other file.
        """
        first = self.files[0].path
        naming = Naming.of(self.index or first)
        if self.index is None and first.name != naming.single:
            return []
        index = first.with_name(naming.index)
        held = {first.with_name(naming.single), index}
        if index.exists():
            with suppress(InputError):  # one that is damaged
                held.update(index_files(index))
        ours = {self.index, *(file.path for file in self.files)}
        return sorted(path for path in held - ours if path.exists() and Naming.of(path) == naming)

    def whole(self) -> bool:
        return all(file.whole() for file in self.files)

    def start(self) -> None:
        """Opens the files that an earlier call or another process has begun."""
        allow_open_files(len(self.files), self.label)
        for file in self.files:
            file.reopen()

    def advance(self) -> None:
        """Starts to bring what is written to the disk."""
        if self.sync:
            for file in self.files:
                if file.file is not None:
                    start_writeback(file.file.fileno())

    def outline(self) -> dict[str, object]:
        """What another process needs to open a checkpoint that is being written, for JSON."""
        files = {
            file.path.name: {name: [entry.dtype, list(entry.shape)] for name, entry in file.entries.items()}
            for file in self.files
        }
        index = None if self.index is None else self.index.name
        return {"kind": "checkpoint", "folder": str(self.files[0].path.parent), "files": files, "index": index}

    def index_text(self) -> bytes:
        """The index: the file of every tensor."""
        files = {name: file.path.name for file in self.files for name in file.tensors}
        total = sum(target.nbytes for target in self.members.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(files.items()))}
        return json.dumps(index, indent=2, ensure_ascii=False).encode() + b"\n"

    def close(self) -> None:
        """Closes the files, and lets other writers in."""
        for file in self.files:
            file.close()
        super().close()


class CheckpointLedger(Ledger):
    """The ledger of a checkpoint. While it is written, the record and the progress lie beside its first file."""

    def __init__(self, target: CheckpointTarget, *, new: bool) -> None:
        super().__init__(target.label)
        self.target = target
        self.files = target.files
        self.new = new
        first = self.files[0].path
        named = first.name if target.index is None else Naming.of(target.index).single
        self._key = first.with_name(named + ".partial")

    def lock(self) -> None:
        """Of its first file, which is the last to lose its temporary name."""
        for file in self.files:
            if file.path.exists() and not os.access(file.path, os.W_OK):
                raise TargetError(f"{file.path}: expected a file that can be written, got a read-only one")
        path = self.files[0].written()
        if self._lock is None and path.exists():
            self._hold(path)

    def record(self) -> Record | None:
        """That of an incomplete fill, else what the files' metadata and sidecars say."""
        begun = read_sidecar(self._key)
        if begun is not None:
            return begun
        records: dict[str, Record] = {}
        for file in self.files:
            if file.path.exists():
                records |= unpack_records(read_header(file.path)) | tensor_records(file.path)
        complete = len(records) == len(self.target.members) and all(r.get("complete") is True for r in records.values())
        return model_record(records) | {"complete": complete} if records else None

    def begin(self, record: Record) -> None:
        """Makes all files under temporary names; with an error, none of them stays."""
        allow_open_files(len(self.files), self.label)
        self.forget()
        folder = self.files[0].path.parent
        made = not folder.exists()
        folder.mkdir(exist_ok=True)
        created = []
        try:
            for file in self.files:
                created.append(file)
                file.create()
                if file is self.files[0]:
                    self._hold(file.partial)
        except BaseException:
            for file in created:
                file.close()
                file.partial.unlink(missing_ok=True)
            if made:
                folder.rmdir()
            raise
        write_sidecar(self._key, record)

    def resume(self) -> None:
        """Opens the files. Where one was cut off, all is filled from the start, and the journal goes first."""
        if not self.target.whole():
            self.forget()
        self.target.start()

    def clean(self) -> None:
        """Removes what a checkpoint of other files has left."""
        self._remove(self.target.replaced())

    def checkpoint(self, progress: Progress) -> None:
        """fdatasync of all files, and only then the journal."""
        self._bring_to_disk(getattr(os, "fdatasync", os.fsync))
        write_journal(journal(self._key), progress | {"inodes": self._inodes()})

    def _bring_to_disk(self, sync: Callable[[int], None]) -> None:
        for file in self.files:
            file.bring_to_disk(sync if self.target.sync else None)

    def _inodes(self) -> list[int]:
        paths = [file.written() for file in self.files]
        return [path.stat().st_ino if path.exists() else 0 for path in paths]

    def progress(self) -> Progress | None:
        """The journal's; None where other files have replaced those that it speaks of."""
        kept = read_journal(journal(self._key))
        return kept if kept is not None and kept.pop("inodes", None) == self._inodes() else None

    def forget(self) -> None:
        remove_journal(journal(self._key))

    def finish(self, record: Record) -> None:
        """fsync of all files, then their names, then the index."""
        self._bring_to_disk(os.fsync)
        if not self.new:  # some regions were repaired
            self.forget()
            return
        for file in reversed(self.files):
            sidecar(file.path).unlink(missing_ok=True)  # of tensors that were filled in the file before
            if file.partial.exists():
                file.partial.rename(file.path)
        replaced = self.target.replaced()
        if self.target.index is not None:
            replace_file(self.target.index, self.target.index_text())
        self._remove(replaced)
        sync_folder(self.files[0].path.parent)
        sidecar(self._key).unlink(missing_ok=True)
        self.forget()
        for file in self.files:
            for target in file.tensors.values():
                target.move(file.path, target.file)

    def _remove(self, paths: list[Path]) -> None:
        if self.new:
            for path in paths:
                path.unlink(missing_ok=True)
                sidecar(path).unlink(missing_ok=True)


def existing_checkpoint(path: Path) -> CheckpointTarget:
    """The target of a checkpoint that is there."""
    files = []
    tensor_files(path)  # an index and its files must agree
    for part in checkpoint_files(path):
        header = read_header(part)
        with part.open("rb") as file:
            files.append(StoredFile(part, file.read(header.start), header.entries))
    return CheckpointTarget(str(path), files, index_of(path), new=False)


def new_checkpoint(label: str, plan: Plan, records: Mapping[str, Record]) -> CheckpointTarget:
    """The target of a checkpoint to be written, with the records of its tensors in its metadata."""
    files = []
    for name, tensors in plan.files.items():
        entries = lay_out((tensor, dtype, shape) for tensor, (dtype, shape) in sorted(tensors.items()))
        held = pack_records({tensor: records[tensor] for tensor in sorted(tensors)})
        header = pack_header(entries, {"format": "pt", KEY: held})
        parse_header(header[8:], max((entry.end for entry in entries.values()), default=0))  # nothing that we refuse
        files.append(StoredFile(plan.folder / name, header, entries))
    return CheckpointTarget(label, files, plan.folder / plan.index if plan.index else None, new=True)
