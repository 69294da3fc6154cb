"""safetensors: one tensor of a file, filled in place; and whole checkpoints, one file or many with an index.

A checkpoint is written under temporary names, which its files lose when all of them have reached the disk: header
first, the space reserved, values by pwrite in any order. Its record lies in the files' own metadata.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from bigin.core import dtypes
from bigin.core.errors import FillError, InputError, TargetError
from bigin.targets.disk import allow_open_files, partial, replace_file, reserve, start_writeback, sync_folder
from bigin.targets.file_ledger import FileLedger
from bigin.targets.files import FileTarget
from bigin.targets.ledger import Ledger
from bigin.targets.model import ModelTarget, model_record
from bigin.targets.records import (
    Progress,
    Record,
    journal,
    parse_record,
    read_journal,
    read_sidecar,
    remove_journal,
    sidecar,
    write_journal,
    write_sidecar,
)
from bigin.targets.safetensors.header import Entry, Header, lay_out, pack_header, parse_header, read_header

KEY = "bigin"  # of the metadata, which holds the record
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
SUFFIX = ".safetensors"
LARGEST_INDEX = 1 << 28  # bytes


# One tensor of a file


class TensorTarget(FileTarget):
    """A tensor of a file that is there, filled in place."""

    def __init__(self, path: Path, name: str, entry: Entry, start: int) -> None:
        super().__init__(path, entry.shape, stored_dtype(path, name, entry), start + entry.begin)
        self.label = f"{path}#{name}"
        self.name = name
        self.ledger = TensorLedger(self)

    def layout(self) -> dict[str, Any]:
        return super().layout() | {"format": "safetensors"}


class TensorLedger(FileLedger):
    """The ledger of one tensor: its record is kept in the file's sidecar, under its name."""

    def record(self) -> Record | None:
        """The sidecar's, else what the file's metadata says."""
        path, name = self.target.path, self.target.name
        return tensor_records(path).get(name) or unpack_records(read_header(path)).get(name)

    def _keep(self, record: Record) -> None:
        path = self.target.path
        write_sidecar(path, {"tensors": tensor_records(path) | {self.target.name: record}})

    def _remove_partials(self) -> None:
        """Not the file's own: that is a checkpoint which is to replace it."""
        partial(sidecar(self.target.path)).unlink(missing_ok=True)


def tensor_records(path: Path) -> dict[str, Record]:
    """The records of the tensors that were filled in place."""
    held = (read_sidecar(path) or {}).get("tensors")
    return {name: record for name, record in held.items() if isinstance(record, dict)} if isinstance(held, dict) else {}


def stored_dtype(path: Path, name: str, entry: Entry) -> Any:
    """The dtype of a tensor in a file; InputError for one that bigin does not fill."""
    if entry.dtype is None:
        raise InputError(f"{path}#{name}: expected a dtype among {', '.join(dtypes.DTYPES)}, got {entry.code}")
    return dtypes.parse_dtype(entry.dtype)


def tensor_target(path: Path, name: str) -> TensorTarget:
    """The target of a tensor in a file, or in the file of a checkpoint that holds it."""
    places = tensor_files(path)
    if name not in places:
        import difflib

        near = difflib.get_close_matches(name, places, n=1)
        hint = f"; did you mean {near[0]}?" if near else f", such as {next(iter(places))}" if places else ""
        raise InputError(f"{path}: expected the name of a tensor behind #, got {name!r}{hint}")
    file = places[name]
    header = read_header(file)
    return TensorTarget(file, name, header.entries[name], header.start)


# Where checkpoints lie


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
        found = index_files(index) if index.is_file() else sorted(path.glob(f"*{SUFFIX}"))
    else:
        found = index_files(path) if path.name.endswith(".json") else [path]
    if not found:
        raise InputError(f"{path}: expected safetensors files, found none")
    return found


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
    places = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise InputError(f"{index}: expected an index with a weight_map of names and files, got one without")
    for file in set(places.values()):
        if Path(file).name != file or file in ("", ".", "..") or "\0" in file:
            raise InputError(f"{index}: expected files in its own folder, got {file!r}")
    return places


def tensor_files(path: Path) -> dict[str, Path]:
    """The file of every tensor of a checkpoint; raises InputError where an index and its files do not agree."""
    places: dict[str, Path] = {}
    for file in checkpoint_files(path):
        for name in read_header(file).entries:
            if name in places:
                raise InputError(
                    f"{path}: expected every tensor once, got {name} in {places[name].name} and {file.name}"
                )
            places[name] = file
    index = path / INDEX if path.is_dir() else path
    if index.name.endswith(".json") and index.is_file():
        told = {name: index.parent / file for name, file in read_index(index).items()}
        for name in sorted(set(told) | set(places)):
            if told.get(name) != places.get(name):
                where = places[name].name if name in places else "no file"
                raise InputError(
                    f"{index}: expected {name} in {told.get(name, Path('no file')).name}, got it in {where}"
                )
    return places


# Records in the metadata


def pack_records(records: Mapping[str, Record]) -> str:
    """Records of tensors as text: each way to fill once, and which tensor takes which. Shapes are in the header."""
    fills: list[Record] = []
    numbers: dict[str, int] = {}
    tensors: dict[str, int] = {}
    for name, record in records.items():
        fill = {key: value for key, value in record.items() if key not in ("shape", "dtype")}
        if fill.get("name") == name:
            del fill["name"]
        number = numbers.setdefault(json.dumps(fill, sort_keys=True), len(fills))
        if number == len(fills):
            fills.append(fill)
        tensors[name] = number
    return json.dumps({"fills": fills, "tensors": tensors}, separators=(",", ":"))


def unpack_records(header: Header) -> dict[str, Record]:
    """The records of a file's tensors, as its metadata has them; none where it says nothing that can be understood."""
    held = parse_record(header.metadata.get(KEY, "").encode()) or {}
    fills, tensors = held.get("fills"), held.get("tensors")
    if not isinstance(fills, list) or not isinstance(tensors, dict):
        return {}
    records: dict[str, Record] = {}
    for name, number in tensors.items():
        entry = header.entries.get(name)
        if entry is None or type(number) is not int or not 0 <= number < len(fills):
            continue
        if isinstance(fills[number], dict):
            told = {"shape": list(entry.shape), "dtype": entry.dtype, "complete": True}
            records[name] = ({} if "split" in fills[number] else {"name": name}) | fills[number] | told
    return records


# Whole checkpoints


@dataclass(frozen=True)
class Plan:
    """A checkpoint to be written: the tensors (name -> dtype, shape) of every file, which are in one folder."""

    folder: Path
    files: Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]]

    @property
    def index(self) -> Path | None:
        """Where its index is to lie; None for a single file."""
        return self.folder / INDEX if len(self.files) > 1 else None


class StoredTensor(FileTarget):
    """A tensor of a file that a checkpoint writes. The checkpoint opens the file, and says how large it was left."""

    def move(self, path: Path, file: BinaryIO | None) -> None:
        """Where the file lies now."""
        self.path, self.file = path, file


class StoredFile:
    """A file of a checkpoint: where it lies, under which name it is written, and its tensors."""

    def __init__(self, path: Path, header: bytes, entries: Mapping[str, Entry]) -> None:
        self.path = path
        self.partial = partial(path)
        self.header = header
        self.size = len(header) + max((entry.end for entry in entries.values()), default=0)
        self.file: BinaryIO | None = None
        self.tensors: dict[str, StoredTensor] = {}
        for name, entry in entries.items():
            target = StoredTensor(path, entry.shape, stored_dtype(path, name, entry), len(header) + entry.begin)
            target.label = f"{path}#{name}"
            self.tensors[name] = target

    def create(self) -> None:
        """Makes it under its temporary name, with its header and its space."""
        self._open(self.partial, os.O_CREAT)
        assert self.file is not None
        self.file.truncate(0)
        self.file.write(self.header)
        self.file.flush()
        reserve(self.file.fileno(), self.size, self.partial, TargetError)

    def reopen(self) -> None:
        """Opens what an earlier fill has left, under either name."""
        path = self.written()
        if not path.exists():
            raise FillError(f"{self.partial}: is gone; give --overwrite (overwrite=True) to begin anew")
        self._open(path, 0)
        assert self.file is not None
        if os.pread(self.file.fileno(), len(self.header), 0) != self.header:
            raise FillError(f"{path}: was replaced by another file; give --overwrite (overwrite=True) to begin anew")
        reserve(self.file.fileno(), self.size, path, FillError)

    def _open(self, path: Path, flags: int) -> None:
        self.file = os.fdopen(os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o666), "r+b")
        for target in self.tensors.values():
            target.move(path, self.file)

    def whole(self) -> bool:
        """Whether it has its size."""
        path = self.written()
        return path.exists() and path.stat().st_size >= self.size

    def written(self) -> Path:
        """Where it is now: under its temporary name while that is there."""
        return self.partial if self.partial.exists() else self.path

    def bring_to_disk(self, sync: Callable[[int], None] | None) -> None:
        """Has `sync` write the data; raises FillError where another file has replaced this one, or it was cut off."""
        assert self.file is not None
        if sync is not None:
            sync(self.file.fileno())
        status = os.fstat(self.file.fileno())
        path = self.written()
        if not path.exists() or not os.path.samestat(path.stat(), status):
            raise FillError(f"{path}: was removed or replaced while it was filled; fill it again")
        if status.st_size < self.size:
            raise FillError(f"{path}: was cut off while it was filled; the same fill again repairs it")

    def close(self) -> None:
        """Closes it."""
        if self.file is not None:
            self.file.close()
            self.file = None
            for target in self.tensors.values():
                target.move(target.path, None)


class CheckpointTarget(ModelTarget):
    """A checkpoint: what is there, or what is to be written in its place."""

    def __init__(self, label: str, files: Iterable[StoredFile], index: Path | None, *, new: bool) -> None:
        self.files = list(files)
        self.index = index
        super().__init__(label, {name: target for file in self.files for name, target in file.tensors.items()})
        self.ledger = CheckpointLedger(self, new=new)

    def exists(self) -> bool:
        return all(file.path.exists() for file in self.files)

    def holds_data(self) -> bool:
        """Whether any of its files is there."""
        return any(file.path.exists() for file in self.files) or (self.index is not None and self.index.exists())

    def whole(self) -> bool:
        return all(file.whole() for file in self.files)

    def advance(self) -> None:
        """Starts to bring what is written to the disk."""
        if self.sync:
            for file in self.files:
                if file.file is not None:
                    start_writeback(file.file.fileno())

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
        self._key = first.with_name((SINGLE if target.index is not None else first.name) + ".partial")

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
        return model_record(records, complete)

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
        """Opens the files. Where one was cut off, all is filled anew: its journal goes before it has its size again."""
        if not self.target.whole():
            self.forget()
        allow_open_files(len(self.files), self.label)
        for file in self.files:
            file.reopen()

    def clean(self) -> None:
        """Nothing that is left is of this fill: what it leaves is gone before it is complete."""

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
        self._replace_index()
        sync_folder(self.files[0].path.parent)
        sidecar(self._key).unlink(missing_ok=True)
        self.forget()
        for file in self.files:
            for target in file.tensors.values():
                target.move(file.path, target.file)

    def _replace_index(self) -> None:
        """A checkpoint of one file has none: an older one's would lead readers astray."""
        first, index = self.files[0].path, self.target.index
        if index is not None:
            replace_file(index, self.target.index_text())
        elif first.name == SINGLE:
            first.with_name(INDEX).unlink(missing_ok=True)


def existing_checkpoint(path: Path) -> CheckpointTarget:
    """The target of a checkpoint that is there."""
    files = []
    tensor_files(path)  # an index and its files must agree
    for place in checkpoint_files(path):
        header = read_header(place)
        with place.open("rb") as file:
            files.append(StoredFile(place, file.read(header.start), header.entries))
    index = path / INDEX if path.is_dir() else path
    return CheckpointTarget(
        str(path), files, index if index.name.endswith(".json") and index.exists() else None, new=False
    )


def new_checkpoint(label: str, plan: Plan, records: Mapping[str, Record]) -> CheckpointTarget:
    """The target of a checkpoint to be written, with the records of its tensors in its metadata."""
    files = []
    for name, tensors in plan.files.items():
        entries = lay_out((tensor, dtype, shape) for tensor, (dtype, shape) in sorted(tensors.items()))
        held = pack_records({tensor: records[tensor] for tensor in sorted(tensors)})
        header = pack_header(entries, {"format": "pt", KEY: held})
        parse_header(header[8:], max((entry.end for entry in entries.values()), default=0))  # nothing that we refuse
        files.append(StoredFile(plan.folder / name, header, entries))
    return CheckpointTarget(label, files, plan.index, new=True)
