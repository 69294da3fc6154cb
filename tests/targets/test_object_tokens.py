"""Tokens of google-auth, which obstore and requests of our own are signed with."""

from __future__ import annotations

from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

pytest.importorskip("google.auth", reason="google-auth is not installed: pip install 'bigin[cloud]'")

from bigin.targets.objects.connect import GoogleToken


class Answer(BaseHTTPRequestHandler):
    """A server of tokens."""

    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"a-token")

    def log_message(self, *arguments):
        pass


class Credentials:
    """Like those of google-auth, whose token has expired: `refresh` asks for one by the transport that it is given."""

    valid, token, expiry = False, None, None

    def __init__(self, url: str) -> None:
        self.url = url

    def refresh(self, request) -> None:
        answer = request(url=self.url, method="GET")
        self.token, self.expiry, self.valid = answer.data.decode(), datetime(2030, 1, 1), True


def test_an_expired_token_is_renewed_over_the_network():
    server = HTTPServer(("127.0.0.1", 0), Answer)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        token = GoogleToken(Credentials(f"http://127.0.0.1:{server.server_port}/"))()
    finally:
        server.shutdown()
        server.server_close()
    assert token["token"] == "a-token"
    assert token["expires_at"].isoformat() == "2030-01-01T00:00:00+00:00"
