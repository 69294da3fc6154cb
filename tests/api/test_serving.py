"""A virtual store over HTTP, read by the readers that people have."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import zarr
from common import BIGIN, LIMIT, narrow, run, stopped

import bigin
from bigin.targets.zarr.computed import STEP
from bigin.targets.zarr.http import CONNECTIONS, byte_range

bigin.register_dtypes()
ARRAYS = {
    name: bigin.virtual(shape, method, dtype=dtype, name=name, seed=7)
    for name, shape, method, dtype in (
        ("layers.0.w", (100, 60), "normal", "float32"),
        ("layers.0.b", (100,), "uniform", "float64"),
        ("layers.1.w", (100, 60), "normal", "bfloat16"),
        ("layers.1.h", (50, 60), "normal", narrow("float16")),
        ("layers.1.f", (50, 64), "normal", narrow("float8_e4m3fn")),
        ("scalar", (), "normal", "float32"),
        ("empty", (0, 3), "normal", "float32"),
    )
}


@pytest.fixture(scope="module")
def server() -> Iterator[bigin.Server]:
    shards = {"layers.0.w": (64, 60), "layers.1.w": (32, 20)}
    with bigin.serve(ARRAYS, port=0, chunks=dict.fromkeys(shards, (16, 20)), shards=shards) as made:
        yield made


def ask(server: bigin.Server, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    connection.request(method, path, headers={key.replace("_", "-"): value for key, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, {key.lower(): value for key, value in answer.getheaders()}, body


def test_answers(server: bigin.Server) -> None:
    store = server.computed
    for key in store.every():
        size = store.size(key)
        expected = bytes(store.read(key, 0, size))
        status, headers, body = ask(server, f"/{key}")
        assert (status, body, headers["content-length"]) == (200, expected, str(size))
        assert headers["access-control-allow-origin"] == "*"
        assert headers["accept-ranges"] == "bytes"
        status, also, body = ask(server, f"/{key}", "HEAD", Range="bytes=0-3")
        assert (status, body) == (200, b"")
        assert {**also, "date": ""} == {**headers, "date": ""}


def test_ranges(server: bigin.Server) -> None:
    path = "/layers/0/w/c/1/0"
    whole = ask(server, path)[2]
    size = len(whole)
    for text, start, stop in (
        ("bytes=0-0", 0, 1),
        ("bytes=5-100", 5, 101),
        ("bytes=100-", 100, size),
        ("bytes=-196", size - 196, size),
        (f"bytes=-{size + 9}", 0, size),
        (f"bytes=7-{size + 9}", 7, size),
    ):
        status, headers, body = ask(server, path, Range=text)
        assert (status, body) == (206, whole[start:stop]), text
        assert headers["content-range"] == f"bytes {start}-{stop - 1}/{size}"
        assert headers["content-length"] == str(stop - start)
    for text in (f"bytes={size}-", "bytes=-0"):
        status, headers, body = ask(server, path, Range=text)
        assert (status, headers["content-range"]) == (416, f"bytes */{size}")
    for text in ("bytes=9-2", "bytes=0-1,4-5", "lines=1-2", "bytes=-", "bytes=\u0661-"):
        assert byte_range(text, size) is None
    assert ask(server, path, Range="bytes=0-1,4-5")[0::2] == (200, whole)
    etag = ask(server, path, "HEAD")[1]["etag"]
    assert ask(server, path, Range="bytes=0-3", If_Range=etag)[0] == 206
    assert ask(server, path, Range="bytes=0-3", If_Range='"other"')[0] == 200


def test_tags_change_with_the_values(server: bigin.Server) -> None:
    etag = ask(server, "/zarr.json")[1]["etag"]
    status, headers, body = ask(server, "/zarr.json", If_None_Match=f'"x", {etag}')
    assert (status, body, headers["etag"]) == (304, b"", etag)
    with bigin.serve(ARRAYS["layers.0.w"], port=0) as other:
        assert ask(other, "/zarr.json", If_None_Match=etag)[0] == 200


def test_what_is_not_there(server: bigin.Server) -> None:
    for path, hint in (
        ("/", "; its metadata are at zarr.json"),
        ("/layers/0/", "; its metadata are at layers/0/zarr.json"),
        ("/layers/0/w", "; its metadata are at layers/0/w/zarr.json"),
        ("/layers/0/w/c/9/9", ""),
        ("/.zgroup", ""),
        ("/../../etc/passwd", ""),
        ("/%00", ""),
    ):
        status, headers, body = ask(server, path)
        assert status == 404
        assert body.startswith(b"bigin: expected a key of this zarr store, got ")
        assert body.decode().rstrip("\n").endswith(hint or "'"), body
        assert body.count(b"\n") == 1
        assert headers["access-control-allow-origin"] == "*"
    for method in ("PUT", "POST", "DELETE", "PATCH"):
        status, headers, body = ask(server, "/zarr.json", method)
        assert (status, headers["allow"], body.count(b"\n")) == (405, "GET, HEAD, OPTIONS", 1)
    assert ask(server, "/zarr.json", "BREW")[0] == 501
    status, headers, body = ask(server, "/layers/0/w/c/0/0", "OPTIONS", Origin="https://example.org")
    assert (status, headers["access-control-allow-headers"]) == (204, "*")


def test_one_connection_answers_many_requests(server: bigin.Server) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    sockets = set()
    for path in ("/zarr.json", "/nothing", "/layers/0/b/c/0", "/zarr.json"):
        for method in ("GET", "HEAD", "OPTIONS"):
            connection.request(method, path)
            sockets.add(connection.sock)
            connection.getresponse().read()
    assert len(sockets) == 1
    connection.close()


def test_requests_that_are_no_http(server: bigin.Server) -> None:
    at = urlsplit(server.url)
    for sent in (b"hello\r\n\r\n", b"GET /" + b"x" * 70000 + b" HTTP/1.1\r\n\r\n", b"GET /zarr.json HTTP/9.9\r\n\r\n"):
        with socket.create_connection((at.hostname, at.port), timeout=60) as plain:
            plain.sendall(sent)
            answer = b"".join(iter(lambda plain=plain: plain.recv(65536), b""))
        assert b"bigin: " in answer
        assert b"<html" not in answer.lower()
    assert ask(server, "/zarr.json")[0] == 200


def test_many_connections_and_readers_that_go(server: bigin.Server) -> None:
    at = urlsplit(server.url)
    with bigin.serve(bigin.virtual((1 << 30, 4), "uniform"), port=0, chunks=(1 << 30, 4), max_memory="64MiB") as large:
        to = urlsplit(large.url)
        for _ in range(20):  # each asks for 16 GiB and reads a little of it
            with socket.create_connection((to.hostname, to.port), timeout=60) as plain:
                plain.sendall(b"GET /c/0/0 HTTP/1.1\r\n\r\n")
                assert plain.recv(100).startswith(b"HTTP/1.1 200")
        assert ask(large, "/c/0/0", Range="bytes=-4096")[0] == 206
    idle = [socket.create_connection((at.hostname, at.port), timeout=60) for _ in range(CONNECTIONS // 2)]
    with ThreadPoolExecutor(2 * CONNECTIONS) as pool:
        found = list(pool.map(lambda _: ask(server, "/layers/0/b/c/0")[2], range(4 * CONNECTIONS)))
    assert set(found) == {ARRAYS["layers.0.b"][...].tobytes()}
    for each in idle:
        each.close()


def check_group(group: Any) -> None:
    for name, w in ARRAYS.items():
        array = group[name.replace(".", "/")]
        assert (array.dtype, array.shape) == (w.dtype, w.shape)
        assert np.asarray(array[...]).tobytes() == np.asarray(w).tobytes()
    assert group["layers/0/w"][33:35, 7].tolist() == ARRAYS["layers.0.w"][33:35, 7].tolist()


def test_zarr_reads_it_by_fsspec(server: bigin.Server) -> None:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: pip install 'bigin[test]'")
    group = zarr.open_group(server.url, mode="r")
    assert group.metadata.consolidated_metadata is not None
    check_group(group)


def test_tensorstore_reads_it(server: bigin.Server) -> None:
    ts = pytest.importorskip("tensorstore", reason="tensorstore is not installed: pip install 'bigin[test-zarr]'")
    for name, w in ARRAYS.items():
        at = f"{server.url}/{name.replace('.', '/')}/"
        array = ts.open({"driver": "zarr3", "kvstore": {"driver": "http", "base_url": at}}).result()
        assert array.read().result().tobytes() == np.asarray(w).tobytes()
        assert array.domain.labels == tuple(f"{name}_{axis}" for axis in range(w.ndim))
    at = f"{server.url}/layers/0/w/"
    array = ts.open({"driver": "zarr3", "kvstore": {"driver": "http", "base_url": at}}).result()
    assert array[33:35, 7].read().result().tolist() == ARRAYS["layers.0.w"][33:35, 7].tolist()


ZARRITA = """
import * as zarr from "zarrita";
const group = await zarr.open.v3(new zarr.FetchStore(process.argv[2]), { kind: "group" });
const found = {};
for (const path of process.argv.slice(3)) {
  const array = await zarr.open.v3(group.resolve(path), { kind: "array" });
  const got = await zarr.get(array, null);
  if (!array.shape.length) { found[path] = got; continue; } // a scalar is a number
  found[path] = [got.shape, Buffer.from(got.data.buffer, got.data.byteOffset, got.data.byteLength).toString("hex")];
}
console.log(JSON.stringify(found));
"""


def zarrita() -> Path:
    """The folder of node's packages that has zarrita; skips the test without."""
    beside = Path(sys.prefix)
    if shutil.which("node") is None or not (beside / "node_modules" / "zarrita").exists():
        pytest.skip("zarrita is not installed: npm install --prefix .venv zarrita")
    return beside


def test_zarrita_reads_it(server: bigin.Server, tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(zarrita() / "node_modules")
    (tmp_path / "read.mjs").write_text(ZARRITA)
    arrays = {
        name.replace(".", "/"): w for name, w in ARRAYS.items() if w.dtype.name in ("float32", "float64") and w.size
    }
    done = subprocess.run(
        ["node", "read.mjs", server.url, *arrays], cwd=tmp_path, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for path, w in arrays.items():
        assert found[path] == ([list(w.shape), np.asarray(w).tobytes().hex()] if w.shape else float(w[()])), path


MODULES = {  # what a page's import map names, where no bundler does
    "zarrita": "zarrita/dist/src/index.js",
    "@zarrita/storage/fetch": "@zarrita/storage/dist/src/fetch.js",
}


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    """The address of a page of another site, which imports zarrita as an ES module."""
    modules = zarrita() / "node_modules"
    (tmp_path / "node_modules").symlink_to(modules)
    imports = {name: f"./node_modules/{path}" for name, path in MODULES.items()}
    text = Path(__file__).with_name("zarrita.html").read_text()
    (tmp_path / "index.html").write_text(text.replace("IMPORTS", json.dumps({"imports": imports})))
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{site.server_address[1]}/"
        site.shutdown()


def in_chromium(page: str, server: bigin.Server, wanted: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What zarrita reads in a browser; needs Chromium and playwright-core, and skips the test without."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("chromium is not installed")
    monkeypatch.setenv("NODE_PATH", f"{sys.prefix}/node_modules{os.pathsep}{os.environ.get('NODE_PATH', '')}")
    if subprocess.run(["node", "-e", "require('playwright-core')"], capture_output=True).returncode:
        pytest.skip("playwright-core is not installed: npm install --prefix .venv playwright-core")
    command = ["node", Path(__file__).with_name("zarrita.js"), chromium, page, server.url, json.dumps(wanted)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_zarrita_reads_it_in_a_browser(server: bigin.Server, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted: list[Any] = [["layers/0/w", [10, 15], [70, 45]], ["layers/0/b", [90], [100]]]
    made = in_chromium(page, server, wanted, monkeypatch)
    for path, start, stop in wanted:
        w, found = ARRAYS[path.replace("/", ".")], made["found"][path]
        slices = tuple(map(slice, start, stop))
        chunk = w[:16, :20] if w.ndim == 2 else w[...]
        for what, values in (("whole", w[...]), ("chunk", chunk), ("slice", w[slices])):
            assert found[what] == [list(values.shape), values.ravel().tolist()], (path, what)
    assert made["range"][0] == 206  # after a preflight, as browsers ask before such a range
    assert re.fullmatch(r"bytes \d+-\d+/\d+", made["range"][1])
    assert made["range"][2] == 9
    assert made["absent"] == [404, "bigin: expected a key of this zarr store, got 'no'\n"]
    assert [error for error in made["errors"] if "404" not in error] == []


@pytest.mark.slow
def test_a_page_of_another_site_reads_only_where_it_may(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    w = bigin.virtual((4, 3), "normal", name="w")
    for origin, reads in ((page.rstrip("/"), True), ("https://example.org", False), (None, False)):
        with bigin.serve({"w": w}, port=0, origin=origin) as made:
            done = in_chromium(page, made, [["w", [0, 0], [2, 2]]], monkeypatch)
        assert ("found" in done) == reads, (origin, done)


def test_origins() -> None:
    w = bigin.virtual((4, 3), "normal", name="w")
    for origin in ("https://example.org", None):
        with bigin.serve(w, port=0, origin=origin) as made:
            status, headers, _ = ask(made, "/zarr.json")
            assert (status, headers.get("access-control-allow-origin")) == (200, origin)
    with pytest.raises(bigin.InputError, match=r"expected an origin such as https://example\.org"):
        bigin.serve(w, port=0, origin="example.org\r\nX: y")


def test_a_large_response_is_made_as_it_is_sent() -> None:
    w = bigin.virtual((1 << 20, 32), "uniform", name="w")
    with bigin.serve(w, port=0, chunks="128MiB", max_memory="32MiB", threads=1) as server:
        assert server.computed.size("c/0/0") == 32 * STEP
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
        connection.request("GET", "/c/0/0")
        answer = connection.getresponse()
        for start in range(0, 1 << 20, 1 << 16):
            assert answer.read(1 << 23) == w[start : start + (1 << 16)].tobytes()
        connection.close()


def test_wrong_input_of_a_server() -> None:
    w = bigin.virtual((10, 10), "normal")
    with bigin.serve(w, port=0) as server:
        port = urlsplit(server.url).port
        with pytest.raises(
            bigin.InputError, match=f"free port to listen on, got 127.0.0.1:{port}: Address already in use"
        ):
            bigin.serve(w, port=port)
    for port in (-1, 1 << 16, "80", True):
        with pytest.raises(bigin.InputError, match="expected a port from 0 to 65535"):
            bigin.serve(w, port=port)
    with pytest.raises(bigin.InputError, match="expected an address"):
        bigin.serve(w, host="no such host", port=0)
    server.close()  # again


@contextmanager
def serving(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [*BIGIN, "serve", *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    hangs = threading.Timer(LIMIT, process.kill)
    hangs.start()
    try:
        yield process, process.stdout.readline()
    finally:
        hangs.cancel()
        process.kill()
        process.stdout.close()
        process.stderr.close()
        process.wait()


def fetched(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('[[rule]]\nmatch = "*"\nmethod = "normal"\n')
    zarr.create_group(tmp_path / "like.zarr").create_array("a/b", shape=(30, 20), dtype="bfloat16")
    expected = bigin.virtual((30, 20), "normal", seed=3, dtype="bfloat16", name="a.b")[...].tobytes()
    with serving(tmp_path / "recipe.toml", "--like", tmp_path / "like.zarr", "--seed", 3, "--port", 0) as (
        process,
        line,
    ):
        match = re.fullmatch(r"serving 1 tensor, 1.2 KiB, at (http://127.0.0.1:\d+) \(Ctrl-C ends it\)\n", line)
        assert match, line
        assert fetched(f"{match[1]}/a/b/c/0/0") == expected
        run("serve", "--method", "normal", "--shape", "3", "--port", urlsplit(match[1]).port, code=2)
        _, errors = stopped(process, signal.SIGINT)
        assert (process.returncode, errors) == (130, "bigin: interrupted\n")
    with serving("--method", "normal", "--shape", "30,20", "--chunks", "10,20", "--port", 0, "-q") as (process, line):
        assert re.fullmatch(r"http://127.0.0.1:\d+\n", line)
        assert fetched(f"{line.strip()}/c/2/0") == bigin.virtual((30, 20), "normal")[20:].tobytes()


@pytest.mark.slow
def test_wrong_use_of_the_command() -> None:
    for arguments, said in (
        (("torch",), "expected like= (--like)"),
        (("--method", "normal"), "expected --shape beside --method"),
        (("gpt2", "--method", "normal"), "expected RECIPE with --like, or --method with --shape"),
        (("gpt2", "--std", "3"), "only beside --method"),
        (("--method", "normal", "--shape", "3", "--like", "x"), "only beside RECIPE"),
        (("--method", "normal", "--shape", "3", "--port", "99999"), "expected a port from 0 to 65535, got 99999"),
        (
            ("--method", "normal", "--shape", "3", "--chunks", "1,2"),
            "expected a chunk with a size above 0 for each axis",
        ),
    ):
        assert said in run("serve", *arguments, code=2).stderr


@pytest.mark.slow
def test_memory_is_bounded_whatever_is_asked_for() -> None:
    def peak(process: subprocess.Popen[str]) -> int:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))

    options = (
        "--method",
        "uniform",
        "--shape",
        "1000000,1000",
        "--chunks",
        "4GB",
        "--max-memory",
        "64MiB",
        "--port",
        0,
    )
    with serving(*options, "-q") as (process, line):
        url = line.strip()
        fetch = urllib.request.Request(f"{url}/c/0/0", headers={"Range": "bytes=0-99"})
        with urllib.request.urlopen(fetch, timeout=60) as answer:
            assert len(answer.read()) == 100
        before = peak(process)

        def ask_for_much(_: int) -> int:
            with urllib.request.urlopen(f"{url}/c/0/0", timeout=60) as answer:
                return sum(len(answer.read(1 << 20)) for _ in range(24))

        with ThreadPoolExecutor(16) as pool:
            assert set(pool.map(ask_for_much, range(32))) == {24 << 20}
        assert peak(process) - before < 64 << 20
