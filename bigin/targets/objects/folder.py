"""The files of a checkpoint in a store: what a URL names, listed once, and headers read by ranges."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bigin.core.errors import InputError, NotFoundError
from bigin.targets.objects.store import Store
from bigin.targets.safetensors.folder import LARGEST_INDEX, SUFFIX, check_agreement, is_index, parse_index
from bigin.targets.safetensors.header import LARGEST, Header, parse_header

FIRST = 64 << 10  # bytes of a file that are read at first: most headers are shorter
AT_ONCE = 16  # requests


@dataclass(frozen=True)
class Folder:
    """A checkpoint in a store: the folder's key, its files with their sizes in bytes, the name of its index."""

    store: Store
    key: str
    files: Mapping[str, int]
    index: str | None
    whole: bool  # whether the folder was named, and not a file in it

    def key_of(self, name: str) -> str:
        """The key of a file."""
        return f"{self.key}/{name}" if self.key else name

    @property
    def label(self) -> str:
        """The URL of the folder, or of what was named in it."""
        named = "" if self.whole else self.index or next(iter(self.files))
        return self.store.label(self.key_of(named)).rstrip("/")


def held_names(store: Store, key: str) -> dict[str, int]:
    """The files of checkpoints directly in a folder, with their sizes."""
    prefix = f"{key}/" if key else ""
    named = {stat.key.removeprefix(prefix): stat.size for stat in store.list(prefix)}
    return {
        name: size
        for name, size in named.items()
        if "/" not in name and (name.endswith(SUFFIX) or is_index(Path(name)))
    }


def checkpoint_folder(store: Store, key: str) -> Folder | None:
    """The checkpoint that a key names: a file, an index or a folder; None where there is none."""
    above, _, name = key.rpartition("/")
    if name.endswith(SUFFIX) or is_index(Path(name)):
        stat = store.head(key)
        if stat is None:
            return None
        if not is_index(Path(name)):
            return Folder(store, above, {name: stat.size}, None, whole=False)
        return _indexed(store, above, name, stat.size, whole=False)
    if store.head(f"{key}/zarr.json" if key else "zarr.json") is not None:
        return None
    names = held_names(store, key)
    indexes = sorted(name for name in names if is_index(Path(name)))
    if len(indexes) > 1:
        raise InputError(
            f"{store.label(key)}: expected one checkpoint, got the indexes {', '.join(indexes)}; name one of them"
        )
    if indexes:
        return _indexed(store, key, indexes[0], names[indexes[0]], whole=True)
    files = dict(sorted(names.items()))
    return Folder(store, key, files, None, whole=True) if files else None


def _indexed(store: Store, key: str, index: str, size: int, *, whole: bool) -> Folder:
    at = f"{key}/{index}" if key else index
    if size > LARGEST_INDEX:
        raise InputError(f"{store.label(at)}: expected an index of at most {LARGEST_INDEX} bytes, got a larger one")
    files = sorted(set(parse_index(store.get(at) or b"", store.label(at)).values()))
    sizes = held_names(store, key)
    for file in files:
        if file not in sizes:
            raise NotFoundError(f"{store.label(at)}: expected the file {file} that it names, got nothing")
    return Folder(store, key, {file: sizes[file] for file in files}, index, whole=whole)


def read_headers(folder: Folder) -> dict[str, Header]:
    """The header of every file; raises InputError where the index and the files do not agree."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        read = pool.map(lambda name: read_header(folder.store, folder.key_of(name), folder.files[name]), folder.files)
        headers = dict(zip(folder.files, read, strict=True))
    told, at = None, ""
    if folder.index is not None:
        at = folder.store.label(folder.key_of(folder.index))
        told = parse_index(folder.store.get(folder.key_of(folder.index)) or b"", at)
    check_agreement(headers, told, folder.label, at)
    return headers


def read_header(store: Store, key: str, size: int) -> Header:
    """The header of a safetensors file, by one request or two; raises InputError where it is none."""
    label = store.label(key)
    data = bytes(store.get_range(key, 0, min(FIRST, size))) if size >= 8 else b""
    length = int.from_bytes(data[:8], "little")
    if size < 8 or length > min(LARGEST, size - 8):
        raise InputError(
            f"{label}: expected a safetensors file with a header of at most {max(0, min(LARGEST, size - 8))} bytes, "
            f"got one of {length}; the file is truncated, or not a safetensors file"
        )
    if 8 + length > len(data):
        data += bytes(store.get_range(key, len(data), 8 + length - len(data)))
    try:
        return parse_header(data[8 : 8 + length], size - 8 - length)
    except InputError as error:
        raise InputError(f"{label}: expected a safetensors file, got one whose header is wrong: {error}") from None


def header_bytes(store: Store, key: str, header: Header) -> bytes:
    """The first bytes of a file, up to where the data begins."""
    return bytes(store.get_range(key, 0, header.start))
