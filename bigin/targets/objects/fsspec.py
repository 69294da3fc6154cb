"""Stores that fsspec knows and obstore does not: hf://, http://, memory:// and others. They are only read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from bigin.core import storage
from bigin.core.errors import InputError, StoreError
from bigin.core.handlers import let_through
from bigin.targets.objects.store import Stat, Store

READ_ONLY = "expected a store that can be written in parts (s3://, gs://, az://), got one that is only read"


class FsspecStore(Store):
    """What lies at a URL and below it. Keys are fsspec's own paths."""

    def __init__(self, url: str) -> None:
        scheme = url.partition("://")[0]
        self.url = f"{scheme}://"
        try:
            import fsspec

            self.fs: Any = fsspec.filesystem(scheme, **storage.given())
        except ImportError as error:
            missing = "fsspec" if "fsspec" in str(error) and "pip" not in str(error) else ""
            reason = f"the package {missing}, which is not installed" if missing else " ".join(str(error).split())
            raise InputError(f"{url}: expected {reason}") from None
        except (ValueError, TypeError) as error:
            raise InputError(f"{url}: {' '.join(str(error).split())}") from None
        self.key = str(self.fs._strip_protocol(url)).rstrip("/")
        self._full = scheme in ("http", "https")  # whose paths are URLs

    def label(self, key: str) -> str:
        return key if self._full else f"{self.url}{key}"

    def head(self, key: str) -> Stat | None:
        try:
            told = self.fs.info(key)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except Exception as error:
            let_through(error)
            raise _told(error) from None
        if told.get("type") != "file" or told.get("size") is None:
            return None
        return Stat(key, int(told["size"]), str(told.get("ETag") or told.get("etag") or ""), _time(told))

    def list(self, prefix: str) -> Iterator[Stat]:
        try:
            held = self.fs.ls(prefix.rstrip("/"), detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return
        except Exception as error:
            let_through(error)
            raise _told(error) from None
        for told in held:
            if told.get("type") == "file":
                name = str(told["name"])
                inside = name if self._full else name.lstrip("/") if not prefix.startswith("/") else name
                yield Stat(inside, int(told.get("size") or 0), "", None)

    def get(self, key: str) -> bytes | None:
        try:
            return bytes(self.fs.cat_file(key))
        except (FileNotFoundError, IsADirectoryError):
            return None
        except Exception as error:
            let_through(error)
            raise _told(error) from None

    def get_range(self, key: str, start: int, size: int) -> Any:
        try:
            data = self.fs.cat_file(key, start=start, end=start + size)
        except FileNotFoundError:
            raise
        except Exception as error:
            let_through(error)
            raise _told(error) from None
        if len(data) != size:
            raise ValueError(f"it has {start + len(data)} bytes where {start + size} were expected")
        return data

    def put(self, key: str, data: Any) -> None:
        raise InputError(f"{self.label(key)}: {READ_ONLY}")

    def create(self, key: str, data: bytes) -> bool:
        raise InputError(f"{self.label(key)}: {READ_ONLY}")

    def update(self, key: str, data: bytes, held: Stat) -> bool:
        raise InputError(f"{self.label(key)}: {READ_ONLY}")

    def delete(self, key: str) -> None:
        raise InputError(f"{self.label(key)}: {READ_ONLY}")


def _time(told: dict[str, Any]) -> datetime | None:
    when = told.get("LastModified") or told.get("last_modified")
    return when if isinstance(when, datetime) else None


def _told(error: Exception) -> Exception:
    """The error as those of all stores are."""
    if isinstance(error, PermissionError | InputError):
        return error
    return StoreError(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}", passes=True)
