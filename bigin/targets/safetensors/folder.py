"""The files that hold a checkpoint's tensors: one safetensors file, or those of a folder, which an index names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bigin.core.errors import InputError, NotFoundError
from bigin.targets.safetensors.documents import parse_document, read_document
from bigin.targets.safetensors.header import Header, read_header

SUFFIX = ".safetensors"
STEM = "model"  # of the names in a new checkpoint that is not made like another one
SHARD = re.compile(r"(?P<stem>.+)-\d{5}-of-\d{5}(?P<variant>\.[^.]+)?\.safetensors")
LARGEST_INDEX = 1 << 28  # bytes


@dataclass(frozen=True)
class Naming:
    """How the files of a checkpoint are named: model.safetensors; or model-00001-of-00002.safetensors and an index.

    A variant, such as fp16, is a part of the stem in the names of the files, and of the ending in that of the index.
    """

    stem: str = STEM
    variant: str = ""

    @classmethod
    def of(cls, path: Path) -> Naming:
        """The naming of an index or of a file of a checkpoint."""
        if is_index(path):
            stem, _, rest = path.name.partition(f"{SUFFIX}.index")
            return cls(stem, rest.removesuffix(".json").removeprefix("."))
        if (match := SHARD.fullmatch(path.name)) is not None:
            stem, _, variant = match["stem"].partition(".")
            return cls(stem, variant or (match["variant"] or "").removeprefix("."))
        stem, _, variant = path.name.removesuffix(SUFFIX).partition(".")
        return cls(stem, variant)

    @property
    def _dotted(self) -> str:
        return f".{self.variant}" if self.variant else ""

    @property
    def single(self) -> str:
        """The name of a checkpoint's only file."""
        return f"{self.stem}{self._dotted}{SUFFIX}"

    @property
    def index(self) -> str:
        """The name of the index."""
        return f"{self.stem}{SUFFIX}.index{self._dotted}.json"

    def shard(self, number: int, count: int) -> str:
        """The name of a file among several, from 1 on."""
        return f"{self.stem}{self._dotted}-{number:05d}-of-{count:05d}{SUFFIX}"


def is_index(path: Path) -> bool:
    """Whether a path is named as an index is."""
    return f"{SUFFIX}.index" in path.name and path.name.endswith(".json")


def is_checkpoint(path: Path) -> bool:
    """Whether a path is a safetensors file, an index of some, or a folder with either."""
    if path.is_dir():
        if any((path / key).exists() for key in ("zarr.json", ".zarray", ".zgroup")):
            return False  # which may hold a million chunks to look through
        return any(path.glob(f"*{SUFFIX}")) or any(path.glob(f"*{SUFFIX}.index*.json"))
    return path.name.endswith(SUFFIX) or is_index(path)


def index_of(path: Path) -> Path | None:
    """The index of a checkpoint; None for one without.

    Raises InputError where a folder has several: those of variants, such as fp16.
    """
    if not path.is_dir():
        return path if is_index(path) else None
    indexes = sorted(path.glob(f"*{SUFFIX}.index*.json"))
    if len(indexes) > 1:
        names = ", ".join(index.name for index in indexes)
        raise InputError(f"{path}: expected one checkpoint, got the indexes {names}; name one of them")
    return indexes[0] if indexes else None


def checkpoint_files(path: Path) -> list[Path]:
    """The files of a checkpoint: those that its index names; every safetensors file of a folder without one."""
    index = index_of(path)
    alone = sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path]
    files = alone if index is None else index_files(index)
    if not files:
        raise NotFoundError(f"{path}: expected safetensors files, got none")
    return files


def index_files(index: Path) -> list[Path]:
    """The files that an index names, in order."""
    return sorted({index.parent / file for file in read_index(index).values()})


def read_index(index: Path) -> dict[str, str]:
    """The file of every tensor, as an index says."""
    return read_document(index, "an index", LARGEST_INDEX, parse_index)


def parse_index(text: bytes, label: str) -> dict[str, str]:
    """The file of every tensor, from the text of an index."""
    held = parse_document(text, "an index", label).get("weight_map")
    if not isinstance(held, dict) or not all(isinstance(file, str) for file in held.values()):
        raise InputError(f"{label}: expected an index with a weight_map of names and files, got one without")
    for file in set(held.values()):
        if Path(file).name != file or file in ("", ".", "..") or "\0" in file:
            raise InputError(f"{label}: expected files in its own folder, got {file!r}")
    return held


def tensor_files(path: Path) -> dict[str, Path]:
    """The file of every tensor of a checkpoint; raises InputError where an index and its files do not agree."""
    return {name: file for file, header in checked_headers(path).items() for name in header.entries}


def checked_headers(path: Path) -> dict[Path, Header]:
    """The files of a checkpoint with their headers; raises InputError where an index and its files do not agree."""
    headers = {file: read_header(file) for file in checkpoint_files(path)}
    index = index_of(path)
    told = None if index is None else read_index(index)
    check_agreement({file.name: header for file, header in headers.items()}, told, str(path), str(index))
    return headers


def check_agreement(headers: Mapping[str, Header], told: Mapping[str, str] | None, label: str, index: str) -> None:
    """Raises InputError where files of one folder hold a tensor twice, or others than their index tells."""
    files: dict[str, str] = {}
    for file, header in headers.items():
        for name in header.entries:
            if name in files:
                raise InputError(
                    f"{label}: expected every tensor once, got {name} in {files[name]} and {file}; name one file or an "
                    "index"
                )
            files[name] = file
    if told is None:
        return
    for name in sorted(set(told) | set(files)):
        if told.get(name) != files.get(name):
            raise InputError(
                f"{index}: expected {name} in {told.get(name, 'no file')}, got it in {files.get(name, 'no file')}"
            )
