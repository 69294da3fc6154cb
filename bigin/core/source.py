"""Where a tensor lies that others are made of: in a file, in an object of a store or in an array; and its digest."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.disk import read_all
from bigin.core.errors import InputError, SourceError
from bigin.core.regions import Region, Shape, segments
from bigin.core.text import parse_shape

WHOLE = 64 << 20  # bytes of a file that is digested whole
HEADER = 1 << 20  # bytes at the start of a larger one
SAMPLES, SAMPLE = 1024, 4096  # and so many stretches of so many bytes


ARRAYS = "arrays"  # the form of a source whose values are read as those of an array: of a zarr group
READERS = {  # the rooms that read stores and zarr lie further down
    "": "bigin.core.source:FileReader",
    "object": "bigin.targets.objects.sources:ObjectReader",
    ARRAYS: "bigin.targets.zarr.sources:ArrayReader",
}

Array = np.ndarray[Any, np.dtype[Any]]


class Reader(ABC):
    """Reads the values of sources of one form.

    region_bytes: the smallest region worth reading at once. worker_memory: bytes that it takes while it reads one.
    """

    region_bytes = 0
    worker_memory = 0

    def __init__(self, source: Source) -> None:
        self.source = source

    @abstractmethod
    def read(self, region: Region, out: Array) -> None:
        """Fill a contiguous array of the source's dtype with a region of its values."""

    @abstractmethod
    def digest(self) -> str:
        """The digest of what holds the values; raises SourceError where nothing does."""


class FileReader(Reader):
    """A file on this machine."""

    def read(self, region: Region, out: Array) -> None:
        source = self.source
        fd = os.open(source.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for start, data in stretches_of(source, region, out):
                read_all(fd, data, start)
        finally:
            os.close(fd)

    def digest(self) -> str:
        return digest_of(self.source.file)


def stretches_of(source: Source, region: Region, out: Array) -> Iterator[tuple[int, memoryview]]:
    """The bytes of a region in a file or object: where each run begins, and the part of an array that it fills."""
    data, at = memoryview(out.reshape(-1).view(np.uint8).data), 0  # type: ignore[arg-type]
    for start, count in segments(source.shape, region):
        yield source.offset + start * out.itemsize, data[at : at + count * out.itemsize]
        at += count * out.itemsize


@dataclass(frozen=True)
class Source:
    """A tensor that is there. In a file, or in an object with a URL, its values begin at byte `offset`.

    form: ARRAYS for an array of a zarr group at `file`. digest: of the file, the object or the array. fresh: whether
    the digest has just been made, and what would take long need not be read again.
    """

    file: str
    tensor: str
    offset: int
    shape: Shape
    dtype: np.dtype[Any]
    digest: str = field(default="", compare=False)
    form: str = ""
    fresh: bool = field(default=False, compare=False, repr=False)

    @property
    def is_object(self) -> bool:
        """Whether it lies in an object of a store."""
        return not self.form and is_remote(self.file)

    def reader(self) -> Reader:
        """What reads the values."""
        module, _, name = READERS["object" if self.is_object else self.form].partition(":")
        made: Reader = getattr(import_module(module), name)(self)
        return made

    def digested(self) -> Source:
        """The same with the digest of this moment."""
        return replace(self, digest=self.reader().digest(), fresh=bool(self.form) or self.is_object)

    def check(self) -> None:
        """Raises SourceError where the file is gone, or is another one."""
        if self.fresh:
            return
        found = self.reader().digest()
        if found != self.digest:
            raise SourceError(
                f"{self.file}: expected the {'array' if self.form else 'file'} of which {self.tensor} was copied "
                f"(digest {self.digest}), got another one (digest {found}); give the folder of the old one: --from "
                "(source=)"
            )

    def record(self) -> dict[str, Any]:
        """As a record tells it."""
        return {
            "file": self.file,
            "tensor": self.tensor,
            "offset": self.offset,
            "shape": list(self.shape),
            "dtype": dtypes.name_of(self.dtype),
            "digest": self.digest,
        } | ({"form": self.form} if self.form else {})

    @classmethod
    def from_record(cls, told: Any) -> Source:
        """What a record tells; raises InputError where it tells no tensor of a file."""
        try:
            return cls(
                str(told["file"]),
                str(told["tensor"]),
                int(told["offset"]),
                parse_shape(told["shape"]),
                dtypes.parse_dtype(told["dtype"]),
                str(told["digest"]),
                form_of(told.get("form", "")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"expected a record of a copied tensor, got {error!r:.100}") from None


def form_of(told: Any) -> str:
    """The form of a source that a record tells; raises InputError for one that there is not."""
    if told not in ("", ARRAYS):
        raise InputError(f"expected a form of a source, got {told!r:.100}")
    return str(told)


def is_remote(file: str) -> bool:
    """Whether a source is named by a URL; paths are absolute."""
    return "://" in file and not file.startswith("/")


def digest_of(file: str) -> str:
    """A digest of a file: of all its bytes, or of its size, its start and 1024 pages of it where it is large.

    Raises SourceError where there is no such file.
    """
    try:
        status = os.stat(file)
        return _digest(file, status.st_size, status.st_mtime_ns, status.st_ino)
    except OSError as error:
        raise gone(file, error.strerror) from None


def gone(file: str, reason: object) -> SourceError:
    """What is said where the source of a copy cannot be read."""
    return SourceError(
        f"{file}: expected the file of which tensors were copied, got none that can be read ({reason}); "
        "give the folder where it is now: --from (source=)"
    )


@lru_cache(maxsize=4096)
def _digest(file: str, size: int, changed: int, inode: int) -> str:
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)

    def read(start: int, count: int) -> bytearray:
        data = bytearray(count)
        read_all(fd, memoryview(data), start)
        return data

    try:
        return digested(size, (read(*stretch) for stretch in stretches(size)))
    finally:
        os.close(fd)


def stretches(size: int) -> list[tuple[int, int]]:
    """The bytes of a file of some size that its digest is of, as (start, count)."""
    if size <= WHOLE:
        return [(start, min(HEADER, size - start)) for start in range(0, size, HEADER)]
    last = size - SAMPLE
    return [(0, HEADER), *((last * i // (SAMPLES - 1), SAMPLE) for i in range(SAMPLES))]


def digested(size: int, parts: Iterable[Any]) -> str:
    """The digest of a file of some size, of the bytes that `stretches` names."""
    digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=16, person=b"bigin-source")
    for data in parts:
        digest.update(data)
    return digest.hexdigest()


def moved(record: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """A record whose copied tensors are of the files of these names in another folder, or of another group."""

    def of(told: Any) -> Any:
        if isinstance(told, list):
            return [of(each) for each in told]
        if not isinstance(told, dict):
            return told
        inner = {key: of(value) for key, value in told.items()}
        if isinstance(inner.get("file"), str) and "digest" in inner:
            name = "" if inner.get("form") else f"/{os.path.basename(inner['file'])}"
            inner["file"] = folder.rstrip("/") + name
        return inner

    return {key: of(value) for key, value in record.items()}
