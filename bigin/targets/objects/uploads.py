"""Objects that are written in parts, in any order and by many processes, and that appear whole or not at all."""

from __future__ import annotations

import base64
import json
import re
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from bigin.core.errors import StoreError
from bigin.core.handlers import let_through
from bigin.targets.objects.connect import CONNECT, Connection, GcsConnection, S3Connection, timeout_of
from bigin.targets.objects.errors import CODE, MESSAGE, GoneError, answered

if TYPE_CHECKING:
    from bigin.targets.objects.store import CloudStore

SIGNED = 3600.0  # seconds that a signed URL is good for
COMPOSED = 32  # objects that Google joins in a request
BLOCK = re.compile(r"<Name>([^<]+)</Name><Size>(\d+)</Size>")


@dataclass(frozen=True)
class Uploaded:
    """A part that the store has: its bytes, and what names it when the object is completed."""

    size: int
    tag: str


class Uploads(ABC):
    """Parts are numbered from 1 on. A part that is sent twice replaces itself."""

    most = 9_000  # parts of an object
    least = 5 << 20  # bytes of a part but the last

    @abstractmethod
    def begin(self, key: str) -> str:
        """Begins an upload; returns its name."""

    @abstractmethod
    def part(self, key: str, upload: str, number: int, data: memoryview) -> None:
        """Sends a part. Raises GoneError where the store does not have the upload."""

    @abstractmethod
    def parts(self, key: str, upload: str) -> dict[int, Uploaded] | None:
        """The parts that the store has; None where it does not have the upload."""

    @abstractmethod
    def complete(self, key: str, upload: str, parts: Mapping[int, Uploaded]) -> None:
        """Makes the object of the parts. Raises GoneError where the store does not have the upload."""

    @abstractmethod
    def abort(self, key: str, upload: str) -> None:
        """Gives up an upload, and its parts; or nothing."""

    def range(self, key: str, start: int, stop: int) -> bytes:
        """Some bytes of an object, or all of them, where obstore does not take the server's answer."""
        raise StoreError("the server does not answer requests of ranges", passes=False)


class S3Uploads(Uploads):
    """Multipart uploads of S3, by botocore: obstore keeps the names of its uploads to itself."""

    def __init__(self, connection: S3Connection) -> None:
        self.client = connection.client
        self.bucket = connection.url.bucket

    def _call(self, operation: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return getattr(self.client, operation)(Bucket=self.bucket, **arguments)
        except ClientError as error:
            let_through(error)
            told = error.response.get("Error", {})
            status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            raise answered(status, str(told.get("Code", "")), str(told.get("Message", ""))) from None
        except (BotoCoreError, OSError) as error:
            let_through(error)
            raise StoreError(" ".join(str(error).split()), passes=True) from None

    def range(self, key: str, start: int, stop: int) -> bytes:
        answer = self._call("get_object", Key=key, Range=f"bytes={start}-{stop - 1}")
        with answer["Body"] as body:
            return bytes(body.read())

    def begin(self, key: str) -> str:
        return str(self._call("create_multipart_upload", Key=key)["UploadId"])

    def part(self, key: str, upload: str, number: int, data: memoryview) -> None:
        self._call("upload_part", Key=key, UploadId=upload, PartNumber=number, Body=bytes(data))

    def parts(self, key: str, upload: str) -> dict[int, Uploaded] | None:
        held: dict[int, Uploaded] = {}
        after = 0
        while True:
            try:
                answer = self._call("list_parts", Key=key, UploadId=upload, PartNumberMarker=after)
            except (GoneError, FileNotFoundError):
                return None
            for part in answer.get("Parts", ()):
                held[int(part["PartNumber"])] = Uploaded(int(part["Size"]), str(part["ETag"]))
            following = int(answer.get("NextPartNumberMarker") or 0)
            if not answer.get("IsTruncated") or following <= after:
                return held
            after = following

    def complete(self, key: str, upload: str, parts: Mapping[int, Uploaded]) -> None:
        told = [{"PartNumber": number, "ETag": parts[number].tag} for number in sorted(parts)]
        self._call("complete_multipart_upload", Key=key, UploadId=upload, MultipartUpload={"Parts": told})

    def abort(self, key: str, upload: str) -> None:
        with suppress(GoneError, FileNotFoundError):
            self._call("abort_multipart_upload", Key=key, UploadId=upload)


class _Http:
    """Requests of our own, where obstore has none."""

    def __init__(self, connection: Connection) -> None:
        import urllib3

        timeout = urllib3.Timeout(connect=CONNECT, read=timeout_of(connection.options))
        self._pool = urllib3.PoolManager(timeout=timeout, retries=False, maxsize=64)

    def request(self, method: str, url: str, body: Any = None, headers: Mapping[str, str] | None = None) -> bytes:
        import urllib3

        try:
            answer = self._pool.request(method, url, body=body, headers=dict(headers or {}))
        except urllib3.exceptions.HTTPError as error:
            let_through(error)
            raise StoreError(" ".join(str(error).split()), passes=True) from None
        data = bytes(answer.data)
        if answer.status >= 300:
            text = data.decode(errors="replace")
            code, message = CODE.search(text), MESSAGE.search(text)
            said = " ".join((message[1] if message else text).split())[:200]
            raise answered(answer.status, code[1] if code else "", said)
        return data


class GcsUploads(Uploads):
    """Google joins objects, 32 at once: the parts are objects, and so are the joints but the last."""

    least = 1

    def __init__(self, connection: GcsConnection, store: CloudStore) -> None:
        self.connection = connection
        self.store = store
        self.http = _Http(connection)

    def begin(self, key: str) -> str:
        return uuid.uuid4().hex

    def _folder(self, key: str, upload: str) -> str:
        return f"{key}.bigin-parts/{upload}/"

    def part(self, key: str, upload: str, number: int, data: memoryview) -> None:
        self.store.put(f"{self._folder(key, upload)}{number:08d}", data)

    def parts(self, key: str, upload: str) -> dict[int, Uploaded] | None:
        folder = self._folder(key, upload)
        held = {stat.key.rpartition("/")[2]: stat for stat in self.store.list(folder)}
        return {int(name): Uploaded(stat.size, stat.key) for name, stat in held.items() if name.isdigit()} or None

    def complete(self, key: str, upload: str, parts: Mapping[int, Uploaded]) -> None:
        names = [parts[number].tag for number in sorted(parts)]
        level = 0
        while len(names) > COMPOSED:
            groups = [names[i : i + COMPOSED] for i in range(0, len(names), COMPOSED)]
            joints = [f"{self._folder(key, upload)}joint-{level}-{i:08d}" for i in range(len(groups))]
            for joint, group in zip(joints, groups, strict=True):
                self._join(joint, group)
            names, level = joints, level + 1
        self._join(key, names)
        self.abort(key, upload)

    def _join(self, key: str, names: list[str]) -> None:
        url = f"{self.connection.endpoint}/storage/v1/b/{self.connection.url.bucket}/o/{quote(key, safe='')}/compose"
        kind = {"contentType": "application/octet-stream"}
        body = json.dumps({"sourceObjects": [{"name": name} for name in names], "destination": kind})
        token = {} if self.connection.anonymous else {"Authorization": f"Bearer {self.connection.token()['token']}"}
        self.http.request("POST", url, body, {"Content-Type": "application/json", **token})

    def abort(self, key: str, upload: str) -> None:
        for stat in list(self.store.list(self._folder(key, upload))):
            self.store.delete(stat.key)


class AzureUploads(Uploads):
    """Blocks of a blob, which Azure forgets a week after they were sent unless the blob is made of them."""

    most = 49_000
    least = 1

    def __init__(self, connection: Connection, store: CloudStore) -> None:
        self.connection = connection
        self.store = store
        self.http = _Http(connection)

    def begin(self, key: str) -> str:
        return uuid.uuid4().hex[:16]

    def _block(self, upload: str, number: int) -> str:
        return base64.b64encode(f"{upload}{number:08d}".encode()).decode()

    def _url(self, method: str, key: str, query: str) -> str:
        return f"{self.store.sign(method, key, SIGNED)}&{query}"

    def part(self, key: str, upload: str, number: int, data: memoryview) -> None:
        block = quote(self._block(upload, number), safe="")
        self.http.request("PUT", self._url("PUT", key, f"comp=block&blockid={block}"), data)

    def parts(self, key: str, upload: str) -> dict[int, Uploaded] | None:
        url = self._url("GET", key, "comp=blocklist&blocklisttype=uncommitted")
        try:
            text = self.http.request("GET", url).decode()
        except FileNotFoundError:
            return None
        held = {}
        for block, size in BLOCK.findall(text):
            name = base64.b64decode(block).decode(errors="replace")
            if name.startswith(upload) and name[len(upload) :].isdigit():
                held[int(name[len(upload) :])] = Uploaded(int(size), block)
        return held or None

    def complete(self, key: str, upload: str, parts: Mapping[int, Uploaded]) -> None:
        blocks = "".join(f"<Latest>{parts[number].tag}</Latest>" for number in sorted(parts))
        text = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{blocks}</BlockList>'
        self.http.request("PUT", self._url("PUT", key, "comp=blocklist"), text.encode())

    def abort(self, key: str, upload: str) -> None:
        """Azure has no request for it."""


def uploads_for(connection: Connection, store: CloudStore) -> Uploads:
    """The uploads that a provider has."""
    if isinstance(connection, S3Connection):
        return S3Uploads(connection)
    if isinstance(connection, GcsConnection):
        return GcsUploads(connection, store)
    return AzureUploads(connection, store)
