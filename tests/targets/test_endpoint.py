"""A URL that leads nowhere is told at once, in one line: with the real obstore, and no server."""

from __future__ import annotations

import socket
import subprocess
import sys
import time

import pytest
from common import LIMIT, few, run

import bigin
from bigin.targets.zarr import endpoint

CODE = """
import bigin
try:
    bigin.fill("s3://bucket/a.zarr", "normal", shape=4)
except bigin.TargetError as error:
    print(error)
"""


@pytest.fixture
def closed(monkeypatch):
    """An S3 endpoint where nobody listens."""
    pytest.importorskip("obstore", reason="obstore is not installed: pip install 'bigin[cloud]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    return url


COMMANDS = [
    ("fill", "s3://bucket/a.zarr", "-m", "normal", "--shape", "4"),
    ("verify", "s3://bucket/a.zarr"),
    ("show", "s3://bucket/a.zarr"),
    ("init", "torch", "s3://bucket/a.zarr"),
    ("table", "rows", "s3://bucket/a.zarr", "1"),
]


@pytest.mark.parametrize("command", few(*COMMANDS), ids=lambda command: command[0])
def test_an_end_point_where_nobody_listens_is_told_in_one_line(command, closed):
    errors = run(*command, code=1).stderr
    assert errors.startswith(
        f"bigin: s3://bucket/a.zarr: expected an endpoint that answers, got Connection refused from {closed}"
    )
    assert errors.count("\n") == 1


def test_python_shuts_down_without_tracebacks_of_what_was_left(closed):
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=LIMIT)
    assert done.stdout.startswith("s3://bucket/a.zarr: expected an endpoint that answers")
    assert done.stderr == ""


def test_a_host_that_is_not_known_is_told_without_waiting(monkeypatch):
    def unknown(*arguments):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "create_connection", unknown)
    monkeypatch.setattr(time, "sleep", lambda seconds: pytest.fail("it waits for a host that is not known"))
    with pytest.raises(bigin.TargetError, match=r"Name or service not known from http://nowhere\.invalid"):
        bigin.fill("http://nowhere.invalid/a.zarr", "normal", shape=4)


def test_what_cannot_be_told_is_left_to_the_store(monkeypatch):
    def slow(*arguments):
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", slow)
    endpoint.check_endpoint("http://127.0.0.1:1/a.zarr")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setattr(socket, "create_connection", lambda *arguments: pytest.fail("it goes past the proxy"))
    endpoint.check_endpoint("http://127.0.0.1:1/a.zarr")
    endpoint.check_endpoint("memory://a.zarr")
