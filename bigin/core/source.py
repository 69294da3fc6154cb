"""Where a tensor lies in a file that others are made of, and a digest of that file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.disk import read_all
from bigin.core.errors import InputError, SourceError
from bigin.core.regions import Shape
from bigin.core.text import parse_shape

WHOLE = 64 << 20  # bytes of a file that is digested whole
HEADER = 1 << 20  # bytes at the start of a larger one
SAMPLES, SAMPLE = 1024, 4096  # and so many stretches of so many bytes


@dataclass(frozen=True)
class Source:
    """A tensor in a file: its values begin at byte `offset`. digest: that of the file."""

    file: str
    tensor: str
    offset: int
    shape: Shape
    dtype: np.dtype[Any]
    digest: str = field(default="", compare=False)

    def digested(self) -> Source:
        """The same with the digest that the file has now."""
        return replace(self, digest=digest_of(self.file))

    def check(self) -> None:
        """Raises SourceError where the file is gone, or is another one."""
        found = digest_of(self.file)
        if found != self.digest:
            raise SourceError(
                f"{self.file}: expected the file of which {self.tensor} was copied (digest {self.digest}), got another "
                f"one (digest {found}); give the folder of the old one: --from (source=)"
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
        }

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
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"expected a record of a copied tensor, got {error!r:.100}") from None


def digest_of(file: str) -> str:
    """A digest of a file: of all its bytes, or of its size, its start and 1024 pages of it where it is large.

    Raises SourceError where there is no such file.
    """
    try:
        status = os.stat(file)
        return _digest(file, status.st_size, status.st_mtime_ns, status.st_ino)
    except OSError as error:
        raise SourceError(
            f"{file}: expected the file of which tensors were copied, got none that can be read ({error.strerror}); "
            "give the folder where it is now: --from (source=)"
        ) from None


@lru_cache(maxsize=4096)
def _digest(file: str, size: int, changed: int, inode: int) -> str:
    digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=16, person=b"bigin-source")
    if size <= WHOLE:
        stretches = [(start, min(HEADER, size - start)) for start in range(0, size, HEADER)]
    else:
        last = size - SAMPLE
        stretches = [(0, HEADER), *((last * i // (SAMPLES - 1), SAMPLE) for i in range(SAMPLES))]
    fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for start, count in stretches:
            data = bytearray(count)
            read_all(fd, memoryview(data), start)
            digest.update(data)
    finally:
        os.close(fd)
    return digest.hexdigest()


def moved(record: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """A record whose copied tensors are of the files of these names in another folder."""

    def of(told: Any) -> Any:
        if isinstance(told, list):
            return [of(each) for each in told]
        if not isinstance(told, dict):
            return told
        inner = {key: of(value) for key, value in told.items()}
        if isinstance(inner.get("file"), str) and "digest" in inner:
            inner["file"] = os.path.join(folder, os.path.basename(inner["file"]))
        return inner

    return {key: of(value) for key, value in record.items()}
