"""What targets need of a store on a network, whatever it speaks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from bigin.core.errors import InputError, StoreError
from bigin.core.handlers import let_through
from bigin.targets.objects.connect import Connection, connect
from bigin.targets.objects.errors import translated
from bigin.targets.objects.urls import Url

if TYPE_CHECKING:
    from bigin.targets.objects.uploads import Uploads

WITHOUT_206 = "non-partial response"  # what obstore says of a server without an answer 206; rclone's S3 is one
FEW = 1 << 20  # bytes of a small request
SINGLE = 1 << 30  # bytes that go into one request; larger chunks are cut by obstore


@dataclass(frozen=True)
class Stat:
    """What a store says of an object. `tag` changes with its contents."""

    key: str
    size: int
    tag: str
    modified: datetime | None
    version: str = ""


class Store(ABC):
    """Objects by their keys. Errors are FileNotFoundError, PermissionError, and StoreError for all others."""

    url: str  # of what lies under the empty key, without a slash at the end
    uploads: Uploads | None = None

    def label(self, key: str) -> str:
        """The URL of an object."""
        return f"{self.url}/{key}"

    @abstractmethod
    def head(self, key: str) -> Stat | None:
        """What is known of an object; None where there is none."""

    @abstractmethod
    def list(self, prefix: str) -> Iterator[Stat]:
        """The objects whose keys begin with a prefix, which ends in a slash or is empty."""

    @abstractmethod
    def get(self, key: str) -> bytes | None:
        """A small object; None where there is none."""

    @abstractmethod
    def get_range(self, key: str, start: int, size: int) -> Any:
        """Some bytes of an object, as a buffer."""

    @abstractmethod
    def put(self, key: str, data: Any) -> None:
        """Replaces an object, whole or not at all."""

    @abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Makes an object where there is none; whether it did."""

    @abstractmethod
    def update(self, key: str, data: bytes, held: Stat) -> bool:
        """Replaces an object where it is still the one that is told; whether it did."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Removes an object, or nothing."""


@contextmanager
def asking() -> Iterator[None]:
    """Whatever obstore raises is one of the errors of a Store."""
    try:
        yield
    except Exception as error:
        let_through(error)
        raise translated(error) from None


class CloudStore(Store):
    """A bucket by obstore. Small requests are tried again by obstore, large ones by whoever makes them."""

    def __init__(self, url: Url) -> None:
        self.connection: Connection = connect(url)
        self.url = url.root
        self._small = self.connection.store()
        self._large = self.connection.store(often=False)
        from bigin.targets.objects.uploads import uploads_for

        self.uploads = uploads_for(self.connection, self)

    def head(self, key: str) -> Stat | None:
        import obstore

        try:
            with asking():
                return _stat(obstore.head(self._small, key))
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[Stat]:
        import obstore

        with asking():
            for batch in obstore.list(self._small, prefix or None):
                yield from map(_stat, batch)

    def get(self, key: str) -> bytes | None:
        import obstore

        try:
            with asking():
                return bytes(obstore.get(self._small, key).bytes())
        except FileNotFoundError:
            return None

    def get_range(self, key: str, start: int, size: int) -> Any:
        import obstore

        try:
            with asking():
                data: Any = obstore.get_range(
                    self._small if size <= FEW else self._large, key, start=start, length=size
                )
        except StoreError as error:
            if WITHOUT_206 not in str(error):
                raise
            data = self._range_without_206(key, start, size)
        if len(data) != size:
            raise ValueError(f"it has {start + len(data)} bytes where {start + size} were expected")
        return data

    def _range_without_206(self, key: str, start: int, size: int) -> Any:
        """The same of a server that answers with the range, or with all, and says 200 where HTTP has 206."""
        uploads = self.uploads
        assert uploads is not None
        data = uploads.range(key, start, start + size)
        return data if len(data) == size else data[start : start + size]

    def get_sized(self, key: str, size: int) -> tuple[int | None, Any]:
        """The size of an object, None where there is none; and its bytes, where it has so many."""
        import obstore

        try:
            with asking():
                answer = obstore.get(self._large, key)
                held = int(answer.meta["size"])
                return held, answer.bytes() if held == size else None
        except FileNotFoundError:
            return None, None

    def put(self, key: str, data: Any) -> None:
        import obstore

        with asking():
            obstore.put(self._large, key, data, use_multipart=len(data) > SINGLE, chunk_size=SINGLE // 16)

    def create(self, key: str, data: bytes) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            with asking_but(AlreadyExistsError, PreconditionError):
                obstore.put(self._small, key, data, mode="create")
        except (AlreadyExistsError, PreconditionError):
            return False
        return True

    def update(self, key: str, data: bytes, held: Stat) -> bool:
        import obstore
        from obstore.exceptions import PreconditionError

        mode: Any = {name: value for name, value in (("e_tag", held.tag), ("version", held.version)) if value}
        try:
            with asking_but(PreconditionError, FileNotFoundError):
                obstore.put(self._small, key, data, mode=mode)
        except (PreconditionError, FileNotFoundError):
            return False
        return True

    def delete(self, key: str) -> None:
        import obstore

        try:
            with asking():
                obstore.delete(self._small, key)
        except FileNotFoundError:
            pass

    def sign(self, method: Any, key: str, seconds: float) -> str:
        """The URL by which anyone may make one kind of request for some time."""
        import obstore

        with asking():
            return str(obstore.sign(self._small, method, key, timedelta(seconds=seconds)))

    def below(self, prefix: str, *, often: bool = True) -> Any:
        """obstore's own store of what lies below a prefix."""
        return self.connection.store(prefix, often=often)

    def check(self) -> None:
        """Raises InputError where the bucket is missing, or may not be listed or read."""
        url = self.connection.url
        below = f"{url.key}/.bigin/" if url.key else ".bigin/"
        right = "list"
        try:
            next(self.list(below), None)
            right = "read"
            self.head(f"{below}none")
        except PermissionError as error:
            raise InputError(
                f"{url}: expected permission to {right} {self.url}, got: {error.strerror}; check the credentials"
            ) from None
        except (FileNotFoundError, StoreError) as error:
            if isinstance(error, StoreError) and error.passes:
                raise
            raise InputError(f"{url}: expected an existing bucket, got: {error}; create it first") from None


@contextmanager
def asking_but(*expected: type[Exception]) -> Iterator[None]:
    """The same, where some errors are answers."""
    try:
        yield
    except expected:
        raise
    except Exception as error:
        let_through(error)
        raise translated(error) from None


def _stat(meta: Any) -> Stat:
    return Stat(
        meta["path"], meta["size"], meta.get("e_tag") or "", meta.get("last_modified"), meta.get("version") or ""
    )
