"""A computed hierarchy over HTTP: a thread for each connection, of which there is a bounded number.

A response is made and sent in pieces, so that a connection holds no more than one of them, whatever it asks for.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from bigin.core.errors import InputError
from bigin.targets.zarr.computed import Computed
from bigin.targets.zarr.layouts import DOCUMENT

log = logging.getLogger(__name__)

CONNECTIONS = 64  # at most: a reader of chunks opens some ten of them
PATIENCE = 30.0  # seconds until a connection is closed whose client neither asks nor reads
WAITING = 5.0  # seconds that a new connection waits for one to end before it is told to come later
METHODS = "GET, HEAD, OPTIONS"
READABLE = "Accept-Ranges, Content-Length, Content-Range, ETag"  # by a page of another site


class Server:
    """Serves a computed hierarchy over HTTP until it is closed; `bigin.serve` makes one.

    Attributes:
        url: of the root of the hierarchy.

    Example:
        >>> w = bigin.virtual((1000, 8), "normal", name="w")
        >>> with bigin.serve({"w": w}, port=0) as server:
        ...     server.url.startswith("http://127.0.0.1:")
        True
    """

    def __init__(self, computed: Computed, host: str, port: int, memory: int, origin: str | None) -> None:
        self.computed = computed
        connections = max(1, min(CONNECTIONS, memory // computed.largest_step()))
        try:
            self._http = _Http((host, port), computed, connections, origin)
        except (OSError, OverflowError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(
                f"expected an address and a free port to listen on, got {host}:{port}: {reason}; choose others, "
                "such as 127.0.0.1 and port 0, which takes any that is free"
            ) from None
        at = f"[{host}]" if ":" in host else host
        self.url = f"http://{at}:{self._http.server_address[1]}"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bigin-serve", daemon=True)
        self._thread.start()

    def _repr_html_(self) -> str:
        return self.computed.as_html(self.url)

    def _run(self) -> None:
        try:
            self._http.serve_forever(poll_interval=0.1)
        finally:
            self._ended.set()

    def wait(self) -> None:
        """Returns when the server is closed by another thread; an interruption closes it."""
        try:
            self._ended.wait()
        finally:
            self.close()

    def close(self) -> None:
        """Takes no more requests. Those that are being answered are cut off when the process ends."""
        self._http.shutdown()
        self._http.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Http(ThreadingHTTPServer):
    """The listening socket. A connection waits until one of so many has ended."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], computed: Computed, connections: int, origin: str | None) -> None:
        self.computed = computed
        self.origin = origin
        self._free = threading.BoundedSemaphore(connections)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Without the look-up of the host's name, which may take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(timeout=WAITING):
            with contextlib.suppress(OSError):
                request.sendall(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n")
                request.sendall(b"Connection: close\r\n\r\n")
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.warning("a request of %s failed", client_address[0], exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "bigin"
    sys_version = ""
    timeout = PATIENCE
    disable_nagle_algorithm = True  # else the body waits for the headers to be acknowledged: 40 ms
    server: _Http

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_GET  # noqa: N815

    def do_OPTIONS(self) -> None:
        """What a browser asks before it sends a range of another site's page."""
        self.send_response(HTTPStatus.NO_CONTENT)
        self._common({"Access-Control-Allow-Methods": METHODS, "Access-Control-Allow-Headers": "*"})

    def _refuse(self) -> None:
        self.close_connection = True  # a body may follow, which nobody reads
        self._say(HTTPStatus.METHOD_NOT_ALLOWED, f"expected one of {METHODS}, got {self.command}", {"Allow": METHODS})

    do_POST = do_PUT = do_DELETE = do_PATCH = _refuse  # noqa: N815

    def _answer(self) -> None:
        key = unquote(urlsplit(self.path).path).removeprefix("/")
        computed = self.server.computed
        size = computed.size(key)
        if size is None:
            inside = computed.document("/".join(filter(None, [key.rstrip("/"), DOCUMENT]))) is not None
            hint = f"; its metadata are at {key.rstrip('/')}/{DOCUMENT}".replace(" /", " ") if inside else ""
            self._say(HTTPStatus.NOT_FOUND, f"expected a key of this zarr store, got {key!r}{hint}")
            return
        etag = f'"{computed.fingerprint}"'
        if etag in self.headers.get("If-None-Match", "") or self.headers.get("If-None-Match") == "*":
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self._common({"ETag": etag})
            return
        wanted = None
        if self.command == "GET" and self.headers.get("If-Range", etag) == etag:
            wanted = byte_range(self.headers.get("Range"), size)
        if wanted == ():
            said = f"expected a range of {size} bytes, got {self.headers['Range']}"
            self._say(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, said, {"Content-Range": f"bytes */{size}"})
            return
        start, stop = wanted or (0, size)
        headers = {"Content-Type": "application/json" if key.endswith(DOCUMENT) else "application/octet-stream"}
        headers |= {"Content-Length": str(stop - start), "Accept-Ranges": "bytes", "ETag": etag}
        headers |= {"Cache-Control": "no-cache"} | (
            {"Content-Range": f"bytes {start}-{stop - 1}/{size}"} if wanted else {}
        )
        pieces = self._pieces(key, start, stop) if self.command == "GET" else iter(())
        try:
            first = [next(pieces, b"")]
        except Exception as error:
            log.exception("%s", key)
            self._say(HTTPStatus.INTERNAL_SERVER_ERROR, " ".join(f"{type(error).__name__}: {error}".split())[:300])
            return
        self.send_response(HTTPStatus.PARTIAL_CONTENT if wanted else HTTPStatus.OK)
        self._common(headers)
        self._send(first, pieces)

    def _pieces(self, key: str, start: int, stop: int) -> Iterator[Any]:
        """The bytes, made one piece after the other as they are sent."""
        step = self.server.computed.step(key)
        for at in range(start, stop, step):
            yield self.server.computed.read(key, at, min(at + step, stop))

    def _send(self, first: list[Any], pieces: Iterator[Any]) -> None:
        """Sends what is in a list, which is emptied, and then pieces: each is freed before the next one is made."""
        try:
            self.wfile.write(first.pop())
            for piece in pieces:
                self.wfile.write(piece)
                del piece
        except OSError:  # who asked has gone, or reads no more
            self.close_connection = True

    def _say(self, status: HTTPStatus, text: str, headers: dict[str, str] | None = None) -> None:
        """An error, in one line."""
        data = f"bigin: {text}\n".encode()
        self.send_response(status)
        self._common({"Content-Type": "text/plain; charset=utf-8", "Content-Length": str(len(data)), **(headers or {})})
        if self.command != "HEAD":
            self._send([data], iter(()))

    def _common(self, headers: dict[str, str]) -> None:
        for name, value in headers.items():
            self.send_header(name, value)
        if self.server.origin is not None:
            self.send_header("Access-Control-Allow-Origin", self.server.origin)
            self.send_header("Access-Control-Expose-Headers", READABLE)
        self.end_headers()

    def send_error(self, code: Any, message: Any = None, explain: Any = None) -> None:
        """What the library refuses, such as a request line that is no HTTP: in one line, too."""
        self.close_connection = True
        self.command = getattr(self, "command", None) or "GET"
        self._say(HTTPStatus(code), message or HTTPStatus(code).phrase, {"Connection": "close"})

    def log_message(self, format: str, *arguments: Any) -> None:
        log.info(f"%s {format}", self.address_string(), *arguments)


def byte_range(header: str | None, size: int) -> tuple[int, int] | tuple[()] | None:
    """(start, stop) of a Range header (RFC 9110, 14.2); () where no byte is in it; None where it is to be ignored.

    Several ranges at once are ignored, as the RFC allows: the whole is sent.
    """
    match = re.fullmatch(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)", (header or "").strip(), re.ASCII)
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        count = min(int(last), size)
        return (size - count, size) if count else ()
    if last and int(last) < int(first):
        return None
    return (int(first), min(int(last) + 1, size) if last else size) if int(first) < size else ()
