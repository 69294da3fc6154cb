"""Whole checkpoints of safetensors, one file or many with an index, as one target.

A checkpoint is written under temporary names, which its files lose when all of them have reached the disk. Its record
lies in the files' own metadata.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bigin.core.collector import paused
from bigin.core.disk import allow_open_files, open_file, read_all, replace_file, start_writeback, sync_folder, write_all
from bigin.core.errors import InputError, TargetError
from bigin.core.record import model_record
from bigin.core.regions import Grid, Region
from bigin.targets.ledger import Ledger
from bigin.targets.model import ModelGrid, ModelTarget
from bigin.targets.pieces import PiecedTensor
from bigin.targets.records import (
    JournalEntry,
    Record,
    journal,
    read_journal,
    read_sidecar,
    remove_journal,
    sidecar,
    write_journal,
    write_sidecar,
)
from bigin.targets.safetensors.folder import Naming, checked_headers, index_files, index_of
from bigin.targets.safetensors.header import lay_out, pack_header
from bigin.targets.safetensors.metadata import KEY, pack_records, unpack_records
from bigin.targets.safetensors.stored import StoredFile, StoredTensor
from bigin.targets.safetensors.tensor import tensor_records
from bigin.targets.target import BATCH, MANY, Array, Parts, Scratch

ALIGNED = 16  # bytes: that many elements of every dtype lie evenly in a buffer


@dataclass(frozen=True)
class CheckpointFiles:
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
        tensors = joined(self.files)
        super().__init__(label, tensors)
        self._stored = [tensors[name] for name in self.members]
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

    def batches(self, grid: Grid) -> Sequence[range]:
        """Small tensors that follow each other, by their names, in one file."""
        assert isinstance(grid, ModelGrid)
        if len(grid) < MANY:
            return ()
        file_of = {id(tensor): file for file in self.files for tensor in file.tensors.values()}
        batches, size, last = Batched(), 0, None
        for start, stop, tensor in zip((0, *grid.ends), grid.ends, self._stored, strict=False):
            if start == stop:
                continue
            file, nbytes, even = file_of.get(id(tensor)), tensor.nbytes, tensor.is_even()
            if stop - start == 1 and even and file is last and size + nbytes <= BATCH:
                batches.extend(stop)
            else:
                batches.append(start, stop)
                size = 0
            size, last = size + nbytes + 2 * ALIGNED, file if even and stop - start == 1 else None
        return batches if len(batches) < len(grid) else ()

    def batch(self, regions: Sequence[Region], scratch: Scratch) -> Parts:
        """A buffer for all of them, from which they go to the file."""
        tensors = self._numbered(regions)
        stretches = stretches_of(tensors.values())
        yield from together(tensors, stretches, scratch)
        last = next(reversed(tensors.values()))
        last.check_size(max(offset + size for offset, _, size in stretches))
        for offset, at, size in stretches:
            assert last.file is not None
            write_all(last.file.fileno(), scratch.bytes(at + size)[at:].data, offset)

    def stored_batch(self, regions: Sequence[Region], scratch: Scratch) -> Iterator[tuple[Region, Array]]:
        """The same buffer, read from the file."""
        tensors = self._numbered(regions)
        stretches = stretches_of(tensors.values())
        made = list(together(tensors, stretches, scratch))
        with open_file(next(iter(tensors.values())).path) as file:
            for offset, at, size in stretches:
                read_all(file.fileno(), scratch.bytes(at + size)[at:].data, offset)
        yield from made

    def _numbered(self, regions: Sequence[Region]) -> dict[int, StoredTensor]:
        """The tensors of a batch by their numbers. Empty ones between them have no region; those in pieces no batch."""
        first, last = regions[0][0][0], regions[-1][0][0]
        between = enumerate(self._stored[first : last + 1], first)
        return {number: tensor for number, tensor in between if isinstance(tensor, StoredTensor) and tensor.nbytes}

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


def joined(files: Iterable[StoredFile]) -> dict[str, StoredTensor | PiecedTensor]:
    """The tensors of all files, of which some lie in several of them."""
    held: dict[str, list[StoredTensor]] = {}
    for file in files:
        for name, tensor in file.tensors.items():
            held.setdefault(name, []).append(tensor)
    return {name: pieces[0] if len(pieces) == 1 else PiecedTensor(name, pieces) for name, pieces in held.items()}


class Batched(Sequence[range]):
    """Stretches of numbers: those of small tensors, and every region of a large one alone. Memory goes by tensors."""

    def __init__(self) -> None:
        self._starts: list[int] = []  # of tensors, or of several small ones
        self._ends: list[int] = []  # the count of stretches up to there
        self._stop = 0

    def append(self, start: int, stop: int) -> None:
        """Adds numbers that are alone, each."""
        self._starts.append(start)
        self._ends.append((self._ends[-1] if self._ends else 0) + stop - start)
        self._stop = stop

    def extend(self, stop: int) -> None:
        """Adds a number to the last stretch."""
        self._stop = stop

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> range:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        held = bisect_right(self._ends, index)
        before = self._ends[held - 1] if held else 0
        start = self._starts[held] + index - before
        if self._ends[held] - before > 1:
            return range(start, start + 1)
        return range(start, self._starts[held + 1] if held + 1 < len(self._starts) else self._stop)


def stretches_of(tensors: Iterable[StoredTensor]) -> list[tuple[int, int, int]]:
    """The stretches of a file that tensors take: (where in the file, where in a buffer, how many bytes)."""
    stretches: list[tuple[int, int, int]] = []
    for tensor in tensors:
        offset, size = tensor.offset, tensor.nbytes
        last, at, held = stretches[-1] if stretches else (-1, 0, 0)
        if last + held == offset:
            stretches[-1] = (last, at, held + size)
        else:
            stretches.append((offset, at + held + -(at + held) % ALIGNED + offset % ALIGNED, size))
    return stretches


def together(
    tensors: Mapping[int, StoredTensor], stretches: Sequence[tuple[int, int, int]], scratch: Scratch
) -> Iterator[tuple[Region, Array]]:
    """What is made at once, in a buffer: a tensor, or the bytes of several ones.

    Several tensors are the region ((first, stop),) of the model, and lie one after the other. They have one dtype, so
    that each is aligned wherever the bytes are put.
    """
    _, at, size = stretches[-1]
    buffer = scratch.bytes(at + size)
    left = iter(stretches)
    offset, at, size = next(left)
    first = stop = start = end = 0
    for number, tensor in tensors.items():
        follows = offset <= tensor.offset < offset + size
        if not follows:
            offset, at, size = next(left)
        place = at + tensor.offset - offset
        if stop and not (follows and tensor.dtype is tensors[first].dtype):
            yield one_or_several(tensors, (first, stop), buffer[start:end])
            stop = 0
        if not stop:
            first, start = number, place
        stop, end = number + 1, place + tensor.nbytes
    yield one_or_several(tensors, (first, stop), buffer[start:end])


def one_or_several(tensors: Mapping[int, StoredTensor], numbers: tuple[int, int], data: Array) -> tuple[Region, Array]:
    """The region of tensors of these numbers, and its array; see `together`."""
    first, stop = numbers
    if stop - first > 1:
        return (numbers,), data
    tensor = tensors[first]
    return (numbers, *((0, size) for size in tensor.shape)), data.view(tensor.dtype).reshape(1, *tensor.shape)


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

    @paused()
    def record(self) -> Record | None:
        """That of an incomplete fill, else what the files' metadata and sidecars say."""
        begun = read_sidecar(self._key)
        if begun is not None:
            return begun
        records: dict[str, Record] = {}
        for file in self.files:
            if file.path.exists():
                records |= unpack_records(file.read()) | tensor_records(file.path)
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
        self._keep(record)

    def _keep(self, record: Record) -> None:
        write_sidecar(self._key, record)

    def resume(self) -> None:
        """Opens the files. Where one was cut off, all is filled from the start, and the journal goes first."""
        if not self.target.whole():
            self.forget()
        self.target.start()

    def clean(self) -> None:
        """Removes what a checkpoint of other files has left."""
        self._remove(self.target.replaced())

    def checkpoint(self, progress: JournalEntry) -> None:
        """fdatasync of all files, and only then the journal."""
        self._bring_to_disk(getattr(os, "fdatasync", os.fsync))
        write_journal(journal(self._key), progress | {"inodes": self._inodes()})

    def _bring_to_disk(self, sync: Callable[[int], None]) -> None:
        for file in self.files:
            file.bring_to_disk(sync if self.target.sync else None)

    def _inodes(self) -> list[int]:
        paths = [file.written() for file in self.files]
        return [path.stat().st_ino if path.exists() else 0 for path in paths]

    def progress(self) -> JournalEntry | None:
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
        self._give_names()
        replaced = self.target.replaced()
        if self.target.index is not None:
            replace_file(self.target.index, self.target.index_text())
        self._remove(replaced)
        sync_folder(self.files[0].path.parent)
        self._complete(record)
        self.forget()
        for file in self.files:
            for target in file.tensors.values():
                target.move(file.path, target.file)

    def _give_names(self) -> None:
        """Has the files lose their temporary names, the first one last."""
        for file in reversed(self.files):
            sidecar(file.path).unlink(missing_ok=True)  # of tensors that were filled in the file before
            if file.partial.exists():
                file.partial.rename(file.path)

    def _complete(self, record: Record) -> None:
        """The record lies in the files' own metadata by now."""
        sidecar(self._key).unlink(missing_ok=True)

    def _remove(self, paths: list[Path]) -> None:
        if self.new:
            for path in paths:
                path.unlink(missing_ok=True)
                sidecar(path).unlink(missing_ok=True)


@paused()
def existing_checkpoint(path: Path) -> CheckpointTarget:
    """The target of a checkpoint that is there."""
    files = []
    for part, header in checked_headers(path).items():
        with part.open("rb") as file:
            files.append(StoredFile(part, file.read(header.start), header.entries, header.metadata))
    return CheckpointTarget(str(path), files, index_of(path), new=False)


@paused()
def new_checkpoint(label: str, plan: CheckpointFiles, records: Mapping[str, Record]) -> CheckpointTarget:
    """The target of a checkpoint to be written, with the records of its tensors in its metadata."""
    files = []
    for name, tensors in plan.files.items():
        entries = lay_out((tensor, dtype, shape) for tensor, (dtype, shape) in sorted(tensors.items()))
        metadata = {"format": "pt", KEY: pack_records({tensor: records[tensor] for tensor in sorted(tensors)})}
        files.append(StoredFile(plan.folder / name, pack_header(entries, metadata), entries, metadata))
    return CheckpointTarget(label, files, plan.folder / plan.index if plan.index else None, new=True)
