"""One tensor of a safetensors file, filled in place."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any

from bigin.core import dtypes
from bigin.core.disk import partial
from bigin.core.errors import InputError, NotFoundError
from bigin.core.packed import PACKED
from bigin.targets.file_ledger import FileLedger
from bigin.targets.files import FileTarget
from bigin.targets.records import Record, read_sidecar, sidecar, write_sidecar
from bigin.targets.safetensors.folder import tensor_files
from bigin.targets.safetensors.header import Entry, read_header
from bigin.targets.safetensors.metadata import unpack_records


class TensorTarget(FileTarget):
    """A tensor of a file that is there, filled in place."""

    def __init__(self, path: Path, name: str, entry: Entry, start: int) -> None:
        super().__init__(path, entry.stored[1], stored_dtype(path, name, entry), start + entry.begin)
        self.label = f"{path}#{name}"
        self.name, self.name_from = name, "hierarchy"
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


def stored_dtype(path: Path | str, name: str, entry: Entry) -> Any:
    """The dtype of the array that a tensor's bytes are; InputError for one that bigin does not fill."""
    if entry.dtype is None:
        raise InputError(f"{path}#{name}: expected a dtype among {', '.join(dtypes.DTYPES)}, got {entry.code}")
    return dtypes.parse_dtype(entry.stored[0])


def tensor_target(path: Path, name: str) -> TensorTarget:
    """The target of a tensor in a file, or in the file of a checkpoint that holds it."""
    files = tensor_files(path)
    if name not in files:
        near = difflib.get_close_matches(name, files, n=1)
        such = f", such as {next(iter(files))}" if files and not near else ""
        hint = f"; did you mean {near[0]}?" if near else ""
        raise NotFoundError(f"{path}: expected the name of a tensor behind #{such}, got {name!r}{hint}")
    file = files[name]
    header = read_header(file)
    if header.entries[name].dtype in PACKED:
        raise InputError(
            f"{path}#{name}: expected a dtype among {', '.join(dtypes.DTYPES)}, got {header.entries[name].dtype}; fill "
            "it with its whole checkpoint, by bigin init"
        )
    return TensorTarget(file, name, header.entries[name], header.start)
