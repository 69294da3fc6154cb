"""A server between a client and a store: it passes requests on, and drops, delays, cuts off and throttles some."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit
from xml.sax.saxutils import escape

SLOW_DOWN = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
RELATED, OF_BODY = "multipart/related; boundary=proxy", ("content-type", "content-length")

# What is done to a request: pass it on; close without passing it on; close after that, unanswered; answer half of it;
# "503", "429" or "403": refuse it; a number: wait so many seconds first.
Action = str | float
PASS, DROP, UNANSWERED, CUT = "pass", "drop", "unanswered", "cut"


class Proxy:
    """A proxy that runs. `decide` says what is done to a request, by its method, its path and the count of requests."""

    def __init__(self, upstream: int, google: bool = False) -> None:
        self.upstream = upstream
        self.google = google
        self.decide: Callable[[str, str, int], Action] = lambda method, path, count: PASS
        self.requests: list[tuple[str, str, int]] = []  # method, path, status
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.server.daemon_threads = True
        self.port = int(self.server.server_address[1])


@contextmanager
def proxied(upstream: int, google: bool = False) -> Iterator[Proxy]:
    proxy = Proxy(upstream, google)
    thread = threading.Thread(target=proxy.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()
        thread.join()


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:  # the client has gone
                self.close_connection = True

        def body(self) -> bytes:
            if "chunked" in self.headers.get("Transfer-Encoding", ""):
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def pass_on(self) -> None:
            if self.headers.get("Expect") == "100-continue":
                self.send_response_only(100)
                self.end_headers()
            with proxy.lock:
                proxy.at_once += 1
                proxy.most_at_once = max(proxy.most_at_once, proxy.at_once)
                count = len(proxy.requests)
                proxy.requests.append((self.command, self.path, 0))
            try:
                proxy.requests[count] = (self.command, self.path, self.answer(count))
            finally:
                with proxy.lock:
                    proxy.at_once -= 1

        def answer(self, count: int) -> int:
            action = proxy.decide(self.command, self.path, count)
            body = self.body()
            if isinstance(action, float | int):
                time.sleep(action)
            if action in ("503", "429"):
                return self.send(int(action), {"Content-Type": "application/xml"}, SLOW_DOWN)
            if action == "403":
                return self.send(403, {"Content-Type": "application/xml"}, DENIED)
            if action == DROP:
                self.close_connection = True
                self.connection.close()
                return 0
            status, headers, data = self.upstream(body)
            if action == UNANSWERED:
                self.close_connection = True
                self.connection.close()
                return 0
            return self.send(status, headers, data, cut=action == CUT)

        def upstream(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            method, path, headers = self.command, self.path, dict(self.headers.items())
            headers.pop("Transfer-Encoding", None)
            if body or self.command in ("PUT", "POST"):  # Azure signs the length, and that of a GET is none
                headers["Content-Length"] = str(len(body))
            if proxy.google:
                headers = {name: value for name, value in headers.items() if name.lower() != "host"}
                method, path = _as_json(method, path, headers)
                if "uploadType=multipart" in path:
                    body = _as_related(path, body)
                    headers = {name: value for name, value in headers.items() if name.lower() not in OF_BODY}
                    headers |= {"Content-Type": RELATED, "Content-Length": str(len(body))}
            connection = http.client.HTTPConnection("127.0.0.1", proxy.upstream, timeout=60)
            try:
                connection.request(method, path, body, headers)
                answer = connection.getresponse()
                data = answer.read()
                held = {name: value for name, value in answer.getheaders() if name.lower() != "transfer-encoding"}
                if proxy.google and method == "POST" and answer.status == 200 and self.command == "PUT":
                    told = json.loads(data)
                    held |= {"ETag": f'"{told["etag"]}"', "x-goog-generation": str(told["generation"])}
                    data = b""
                if proxy.google and path.startswith("/storage/") and "list-type" in self.path and answer.status == 200:
                    held, data = {"Content-Type": "application/xml"}, _as_xml(json.loads(data))
                return answer.status, held, data
            finally:
                connection.close()

        def send(self, status: int, headers: dict[str, str], data: bytes, *, cut: bool = False) -> int:
            length = headers.get("Content-Length", "0") if self.command == "HEAD" else str(len(data))
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "connection", "content-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if cut else data)
            if cut:
                self.close_connection = True
                self.connection.close()
            return status

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = pass_on  # noqa: N815

    return Handler


def _as_xml(told: dict[str, Any]) -> bytes:
    """A list of objects as Google's XML interface gives it."""
    objects = "".join(
        f"<Contents><Key>{escape(item['name'])}</Key><LastModified>{item['updated']}</LastModified>"
        f'<ETag>"{escape(item["etag"])}"</ETag><Size>{item["size"]}</Size></Contents>'
        for item in told.get("items", ())
    )
    folders = "".join(
        f"<CommonPrefixes><Prefix>{escape(prefix)}</Prefix></CommonPrefixes>" for prefix in told.get("prefixes", ())
    )
    return f"<?xml version='1.0'?><ListBucketResult>{objects}{folders}</ListBucketResult>".encode()


def _as_json(method: str, path: str, headers: dict[str, str]) -> tuple[str, str]:
    """fake-gcs-server knows little of Google's XML interface, which obstore uses: the same by the JSON interface."""
    parts = urlsplit(path)
    if method == "GET" and "list-type=2" in parts.query:
        asked = dict(parse_qsl(parts.query))
        kept = {key: value for key, value in asked.items() if key in ("prefix", "delimiter")}
        return method, f"/storage/v1/b/{parts.path.strip('/')}/o?{urlencode(kept)}"
    if method in ("GET", "HEAD") and not parts.path.startswith("/storage/"):
        return method, quote(unquote(parts.path))
    if method not in ("PUT", "DELETE") or parts.path.startswith(("/storage/", "/upload/")) or parts.query:
        return method, path
    bucket, _, key = parts.path.lstrip("/").partition("/")
    if method == "DELETE":
        return method, f"/storage/v1/b/{bucket}/o/{quote(unquote(key), safe='')}"
    asked = next((value for name, value in headers.items() if name.lower() == "x-goog-if-generation-match"), None)
    kind = "media" if asked is None else f"multipart&ifGenerationMatch={asked}"  # of media it ignores the condition
    return "POST", f"/upload/storage/v1/b/{bucket}/o?name={quote(unquote(key), safe='')}&uploadType={kind}"


def _as_related(path: str, body: bytes) -> bytes:
    """An object's name and its bytes in one body."""
    name = json.dumps({"name": dict(parse_qsl(urlsplit(path).query))["name"]}).encode()
    return (
        b"--proxy\r\nContent-Type: application/json\r\n\r\n" + name
        + b"\r\n--proxy\r\nContent-Type: application/octet-stream\r\n\r\n" + body + b"\r\n--proxy--\r\n"
    )  # fmt: skip
