"""Whole checkpoints of safetensors in a store, as one target."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import ExistsError, InputError
from bigin.core.packed import PACKED
from bigin.core.record import model_record
from bigin.core.regions import Region
from bigin.targets.model import ModelTarget
from bigin.targets.objects.connect import part_size
from bigin.targets.objects.folder import Folder, header_bytes, held_names, read_header, read_headers
from bigin.targets.objects.layout import ObjectLayout, ObjectTensor, part_for
from bigin.targets.objects.ledger import STATE, ObjectLedger
from bigin.targets.objects.store import Store
from bigin.targets.objects.target import ArrayTarget, ObjectTarget
from bigin.targets.records import Record, parse_record
from bigin.targets.safetensors.folder import SUFFIX, Naming, is_index
from bigin.targets.safetensors.header import Entry, Header, lay_out, pack_header, parse_header
from bigin.targets.safetensors.metadata import KEY, pack_records, unpack_records
from bigin.targets.target import Array

Files = Mapping[str, Mapping[str, tuple[str, tuple[int, ...]]]]  # file -> name -> dtype, shape


class ObjectCheckpoint(ObjectTarget, ModelTarget):
    """The tensors of all files. `index` is the name of the index, `new` whether it is to be written."""

    def __init__(
        self, store: Store, label: str, folder: str, layouts: list[ObjectLayout], index: str | None, *, new: bool
    ) -> None:
        members = {
            tensor.name: ArrayTarget(store, f"{label}#{tensor.name}", _alone(layout, tensor), "safetensors")
            for layout in layouts
            for tensor in layout.tensors
        }
        ModelTarget.__init__(self, label, members)
        ObjectTarget.__init__(self, store, label, layouts)
        self.folder = folder
        self.index = index
        self.new = new

    def key_of(self, name: str) -> str:
        """The key of a file in its folder."""
        return f"{self.folder}/{name}" if self.folder else name

    def _of(self, tensor: ObjectTensor, region: Region) -> Region:
        return ((tensor.number, tensor.number + 1), *region)

    def _shaped(self, values: Array) -> Array:
        return values[None]

    def read(self, region: Region) -> Array:
        return list(self.members.values())[region[0][0]].read(region[1:])[None]

    def index_text(self) -> bytes:
        """The index: the file of every tensor."""
        files = {tensor.name: layout.key.rpartition("/")[2] for layout in self.layouts for tensor in layout.tensors}
        index = {"metadata": {"total_size": self.nbytes}, "weight_map": dict(sorted(files.items()))}
        return json.dumps(index, indent=2, ensure_ascii=False).encode() + b"\n"

    def replaced(self) -> list[str]:
        """The keys of a checkpoint of the same naming in more or fewer files, which readers would still load."""
        first = self.layouts[0].key.rpartition("/")[2]
        naming = Naming.of(Path(self.index or first))
        if self.index is None and first != naming.single:
            return []
        ours = {self.index, *(layout.key.rpartition("/")[2] for layout in self.layouts)}
        held = held_names(self.store, self.folder)
        return sorted(self.key_of(name) for name in held if name not in ours and Naming.of(Path(name)) == naming)

    def holds_data(self) -> bool:
        return super().holds_data() or (self.new and bool(self.replaced()))

    def outline(self) -> dict[str, object]:
        """What another process needs to open a checkpoint that is being written, for JSON."""
        files = {
            layout.key.rpartition("/")[2]: {
                tensor.name: [tensor.dtype.name, list(tensor.shape)] for tensor in layout.tensors
            }
            for layout in self.layouts
        }
        return {"kind": "objects", "folder": self.folder, "files": files, "index": self.index}


def _alone(layout: ObjectLayout, tensor: ObjectTensor) -> ObjectLayout:
    """A file as one tensor of it sees it."""
    return ObjectLayout(layout.key, b"", (tensor,), tensor.end, layout.part)


class ObjectCheckpointLedger(ObjectLedger):
    """The ledger of a checkpoint: once it is whole, its record lies in the files' own metadata."""

    target: ObjectCheckpoint

    def finished(self) -> Record | None:
        records: dict[str, Record] = {}
        target = self.target
        for layout, stat in zip(target.layouts, self._side_by_side(self.store.head, self._keys()), strict=True):
            if stat is None:
                continue
            header = (
                read_header(self.store, layout.key, stat.size)
                if target.new
                else parse_header(layout.header[8:], layout.size - len(layout.header))
            )
            records |= unpack_records(header)
        complete = len(records) == len(target.members) and all(r.get("complete") is True for r in records.values())
        return model_record(records) | {"complete": complete} if records else None

    def keep_finished(self, record: Record) -> None:
        """The files have it; the index appears when all of them are there."""
        target = self.target
        replaced = target.replaced() if target.new else []
        if target.index is not None:
            self.store.put(target.key_of(target.index), target.index_text())
        for key in replaced:
            self.store.delete(key)


def state_key(folder: str, files: Iterable[str], index: str | None) -> str:
    """What the keys of the ledger's own begin with: the name that the checkpoint would have as one file."""
    first = next(iter(files))
    name = first if index is None else Naming.of(Path(index)).single
    return f"{folder}/{name}" if folder else name


def new_objects(
    store: Store, label: str, folder: str, files: Files, index: str | None, records: Mapping[str, Record]
) -> ObjectCheckpoint:
    """The target of a checkpoint to be written, with the records of its tensors in its metadata."""
    numbers = {name: number for number, name in enumerate(sorted(name for held in files.values() for name in held))}
    key = state_key(folder, files, index)
    state = parse_record(store.get(key + STATE) or b"") or {}
    layouts = []
    for file, tensors in files.items():
        entries = lay_out((tensor, dtype, tuple(shape)) for tensor, (dtype, shape) in sorted(tensors.items()))
        header = pack_header(
            entries, {"format": "pt", KEY: pack_records({tensor: records[tensor] for tensor in sorted(tensors)})}
        )
        at = f"{folder}/{file}" if folder else file
        layouts.append(_layout(store, label, at, header, entries, numbers, state.get("parts", {}).get(at)))
    target = ObjectCheckpoint(store, label, folder, layouts, index, new=True)
    target.ledger = ObjectCheckpointLedger(target, key)
    return target


def existing_objects(folder: Folder) -> ObjectCheckpoint:
    """The target of a checkpoint that is there."""
    headers = read_headers(folder)
    names = sorted(name for header in headers.values() for name in header.entries)
    numbers = {name: number for number, name in enumerate(names)}
    layouts = []
    for file, header in headers.items():
        key = folder.key_of(file)
        data = header_bytes(folder.store, key, header)
        layouts.append(_layout(folder.store, folder.label, key, data, header.entries, numbers, None))
    target = ObjectCheckpoint(folder.store, folder.label, folder.key, layouts, folder.index, new=False)
    key = state_key(folder.key, folder.files, folder.index)
    target.ledger = ObjectCheckpointLedger(target, key)
    return target


def _layout(
    store: Store,
    label: str,
    key: str,
    header: bytes,
    entries: Mapping[str, Entry],
    numbers: Mapping[str, int],
    part: int | None,
) -> ObjectLayout:
    ordered = sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end))
    tensors = [
        ObjectTensor(numbers[name], name, _dtype(label, name, entry), entry.stored[1], len(header) + entry.begin)
        for name, entry in ordered
    ]
    size = len(header) + max((entry.end for entry in entries.values()), default=0)
    return ObjectLayout(key, header, tensors, size, part or parted(store, size))


def _dtype(label: str, name: str, entry: Entry) -> np.dtype[Any]:
    if entry.dtype is None:
        raise InputError(f"{label}#{name}: expected a dtype among {', '.join(dtypes.DTYPES)}, got {entry.code}")
    return dtypes.parse_dtype(entry.stored[0])


def parted(store: Store, size: int) -> int:
    """The bytes of a part of a new object."""
    uploads = store.uploads
    return part_for(size, uploads.most if uploads else size + 1, uploads.least if uploads else 1, part_size())


def check_alone(store: Store, label: str, folder: str, files: Files, index: str | None) -> None:
    """Refuses a folder with a checkpoint of other names: readers would take the one for the other."""
    ours = {*files, index}
    kinds = {Naming.of(Path(file)) for file in files}
    for name in sorted(held_names(store, folder)):
        other = Naming.of(Path(name))
        if name not in ours and other not in kinds and other.variant in {kind.variant for kind in kinds}:
            raise ExistsError(
                f"{label}: expected a folder without another checkpoint, got {name} where {next(iter(files))} is to "
                "go; choose another folder or remove that checkpoint"
            )


def tensor_of(folder: Folder, name: str) -> ArrayTarget:
    """One tensor of a checkpoint that is there, to be read."""
    whole = existing_objects(folder)
    if name not in whole.members:
        import difflib

        near = difflib.get_close_matches(name, whole.members, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"{folder.label}: expected the name of a tensor behind #, got {name!r}{hint}")
    target = whole.members[name]
    assert isinstance(target, ArrayTarget)
    target.name, target.name_from = name, "hierarchy"
    header = next(layout for layout in whole.layouts if layout.key == target.layouts[0].key)
    told = parse_header(header.header[8:], header.size - len(header.header))
    if told.entries[name].dtype in PACKED:
        raise InputError(
            f"{folder.label}#{name}: expected a dtype among {', '.join(dtypes.DTYPES)}, got {told.entries[name].dtype}"
            "; verify the whole checkpoint"
        )
    target.ledger = ObjectTensorLedger(target, told)
    return target


class ObjectTensorLedger(ObjectLedger):
    """The ledger of one tensor of a checkpoint that is there: it is read only, as objects are replaced whole."""

    def __init__(self, target: ArrayTarget, header: Header) -> None:
        super().__init__(target, target.layouts[0].key)
        self.header = header

    def record(self) -> Record | None:
        return unpack_records(self.header).get(self.target.name)

    def lock(self) -> None:
        raise InputError(
            f"{self.label}: expected a whole object, got one tensor of it, which cannot be changed in place; write the "
            "checkpoint again by `bigin init`, or fill a .npy file or a zarr array"
        )


def is_checkpoint_name(key: str) -> bool:
    """Whether a key is named as a file or an index of a checkpoint is."""
    return key.endswith(SUFFIX) or is_index(Path(key))
