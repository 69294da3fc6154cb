"""Object stores: one suite over real servers, each of which the tests start."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from common import run
from servers import BUCKET, SERVERS, Server, missing

import bigin
from bigin.targets.objects import layout
from bigin.targets.objects.open import store_at

KINDS = ("moto", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("rclone", "azurite", "gcs")))
ROWS, COLUMNS = 2000, 1000  # 8 MB: two parts of 5 MiB
pytestmark = pytest.mark.filterwarnings("ignore::bigin.core.errors.LockWarning")


@pytest.fixture(scope="module", params=KINDS)
def server(request):
    if request.param == "moto":
        yield request.getfixturevalue("moto")
        return
    if reason := missing(request.param):
        pytest.skip(reason)
    with SERVERS[request.param]() as held:
        yield held


@pytest.fixture
def place(server, monkeypatch, tmp_path):
    """The server, in the environment; and what URLs begin with, for each test another."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(layout, "PART", 5 << 20)
    return Place(server, tmp_path.name)


class Place:
    def __init__(self, server: Server, folder: str) -> None:
        self.server = server
        self.folder = folder

    def url(self, key: str) -> str:
        return self.server.url(f"{self.folder}/{key}")

    def held(self) -> list[str]:
        store, _ = store_at(self.url(""))
        return sorted(stat.key.removeprefix(f"{self.folder}/") for stat in store.list(f"{self.folder}/"))

    def get(self, key: str) -> bytes:
        store, at = store_at(self.url(key))
        data = store.get(at)
        assert data is not None
        return data

    def delete(self, key: str) -> None:
        store, at = store_at(self.url(key))
        store.delete(at)


def made(method: str = "normal", shape: tuple[int, ...] = (ROWS, COLUMNS), **options) -> np.ndarray:
    values = np.empty(shape, np.float32)
    bigin.fill(values, method, **options)
    return values


def test_a_npy_file_appears_whole_and_is_what_a_local_one_is(place):
    url = place.url("w.npy")
    report = bigin.fill(url, "normal", shape=(ROWS, COLUMNS), seed=3)
    assert report.nbytes == 4 * ROWS * COLUMNS
    bigin.fill("w.npy", "normal", shape=(ROWS, COLUMNS), seed=3)
    assert place.get("w.npy") == Path("w.npy").read_bytes()
    assert place.held() == ["w.npy", "w.npy.bigin.json"]
    assert bigin.verify(url).equal
    assert bigin.show(url).looks_right
    assert bigin.fill(url, "normal", shape=(ROWS, COLUMNS), seed=3).nbytes == 0
    with pytest.raises(bigin.ExistsError, match="is filled with normal, seed 3"):
        bigin.fill(url, "normal", shape=(ROWS, COLUMNS), seed=4)
    bigin.fill(url, "normal", shape=(ROWS, COLUMNS), seed=4, overwrite=True)
    assert np.array_equal(np.load(io.BytesIO(place.get("w.npy"))), made(seed=4, name="w"))


def test_a_zarr_array_is_the_same_as_a_local_one(place):
    url = place.url("t.zarr")
    bigin.fill(url, "uniform", shape=(100, 50), chunks=(30, 20))
    bigin.fill("t.zarr", "uniform", shape=(100, 50), chunks=(30, 20))
    held = {str(path.relative_to("t.zarr")): path for path in Path("t.zarr").rglob("*") if path.is_file()}
    assert place.held() == sorted(f"t.zarr/{key}" for key in held)
    assert all(place.get(f"t.zarr/{key}") == path.read_bytes() for key, path in held.items())
    assert bigin.verify(url).equal
    place.delete("t.zarr/c/1/1")
    assert [d.where for d in bigin.verify(url).differences] == ["chunk c/1/1"]
    assert bigin.verify(url, repair=True).repaired
    assert bigin.verify(url).equal


def test_a_chunk_that_the_store_has_lost_is_found_outside_of_the_sample(place):
    url = place.url("t.zarr")
    bigin.fill(url, "uniform", shape=(100, 50), chunks=(10, 50))
    place.delete("t.zarr/c/3/0")
    assert any(d.where == "chunk c/3/0" for d in bigin.verify(url, sample=0.1, sample_seed=1).differences)


@pytest.mark.slow
def test_raw_values_and_their_record(place):
    url = place.url("w.bin")
    bigin.fill(url, "normal", shape=(ROWS, COLUMNS), dtype="bfloat16", raw=True)
    bigin.fill("w.bin", "normal", shape=(ROWS, COLUMNS), dtype="bfloat16", raw=True)
    assert place.get("w.bin") == Path("w.bin").read_bytes()
    assert bigin.verify(url).equal


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (7,), (3, 1_000_000), (2, 3, 500_001)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", ">f4"])
def test_arrays_of_all_shapes_and_dtypes(place, shape, dtype):
    url = place.url(f"{len(shape)}.npy")
    bigin.fill(url, "uniform", shape=shape, dtype=dtype)
    bigin.fill(f"{len(shape)}.npy", "uniform", shape=shape, dtype=dtype)
    assert place.get(f"{len(shape)}.npy") == Path(f"{len(shape)}.npy").read_bytes()
    assert bigin.verify(url).equal


TENSORS = {
    **{f"h.{i}.w": ("float32", (300, 400)) for i in range(24)},
    **{f"b.{i}": ("bfloat16", (7,)) for i in range(20)},
    "none": ("float32", (0, 3)),
}


@pytest.fixture
def like():
    """A checkpoint of two files with an index, of zeros."""
    from bigin.targets.safetensors.header import lay_out, pack_header

    Path("like").mkdir()
    names = sorted(TENSORS)
    files = {"model-00001-of-00002.safetensors": names[:30], "model-00002-of-00002.safetensors": names[30:]}
    for file, held in files.items():
        entries = lay_out((name, *TENSORS[name]) for name in held)
        end = max(entry.end for entry in entries.values())
        Path("like", file).write_bytes(pack_header(entries, {}) + bytes(end))
    index = {"metadata": {}, "weight_map": {name: file for file, held in files.items() for name in held}}
    Path("like/model.safetensors.index.json").write_text(json.dumps(index))
    Path("recipe.toml").write_text('[[rule]]\nmatch = "*"\nmethod = "normal"\nstd = 0.02\n')
    return "like"


def test_a_sharded_checkpoint_with_its_index(place, like):
    safetensors = pytest.importorskip(
        "safetensors.numpy", reason="safetensors is not installed: pip install safetensors"
    )
    url = place.url("out/")
    bigin.initialize("recipe.toml", url, like=like)
    bigin.initialize("recipe.toml", "out", like=like)
    names = sorted(path.name for path in Path("out").iterdir())
    assert place.held() == [f"out/{name}" for name in names]
    assert all(place.get(f"out/{name}") == Path("out", name).read_bytes() for name in names)
    read = safetensors.load(place.get("out/model-00002-of-00002.safetensors"))  # its numpy knows no bfloat16
    assert np.array_equal(read["h.9.w"], made(shape=(300, 400), std=0.02, name="h.9.w"))
    assert bigin.verify(url).equal
    assert bigin.show(f"{place.url('out')}#h.0.w").looks_right
    assert bigin.initialize("recipe.toml", url, like=url).nbytes == 0  # --like of a URL reads the headers
    with pytest.raises(bigin.ExistsError, match="is filled with a recipe"):
        bigin.initialize("recipe.toml", url, like=url, seed=1)
    bigin.initialize("recipe.toml", url, like=like, seed=1, overwrite=True, max_shard_size="1GB")
    assert place.held() == ["out/model.safetensors"]


@pytest.mark.slow
def test_what_lies_beside_the_weights_goes_with_them(place, like):
    Path(like, "config.json").write_text('{"dtype": "float32"}')
    bigin.initialize("recipe.toml", place.url("out/"), like=like)
    assert json.loads(place.get("out/config.json")) == {"dtype": "float32"}
    bigin.initialize("recipe.toml", place.url("two"), like=place.url("out"), dtype="bfloat16")
    assert json.loads(place.get("two/config.json")) == {"dtype": "bfloat16"}
    bigin.initialize("recipe.toml", "here", like=place.url("two"))
    assert json.loads(Path("here/config.json").read_text()) == {"dtype": "bfloat16"}
    Path(like, "config.json").write_text("{}")
    with pytest.raises(bigin.ExistsError, match=r"out/config\.json: expected no file or the same one"):
        bigin.initialize("recipe.toml", place.url("out/"), like=like)


@pytest.mark.slow
def test_headers_alone_are_read_of_a_model_that_another_is_like(place, like):
    from proxy import proxied

    bigin.initialize("recipe.toml", place.url("out/"), like=like)
    with proxied(place.server.port) as proxy:
        environment = place.server.through(proxy.port)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            rows = bigin.outline("recipe.toml", place.url("out/"))
        assert len(rows) == len(TENSORS)
        files = [path for method, path, _ in proxy.requests if method == "GET" and path.endswith(".safetensors")]
        assert len(files) <= 4


@pytest.mark.slow
def test_a_group_of_zarr_arrays(place, like):
    bigin.initialize("recipe.toml", place.url("m.zarr"), like=like)
    bigin.initialize("recipe.toml", "m.zarr", like=like)
    held = sorted(str(path.relative_to("m.zarr")) for path in Path("m.zarr").rglob("*") if path.is_file())
    assert place.held() == sorted(f"m.zarr/{key}" for key in held)
    assert bigin.verify(place.url("m.zarr")).equal
    assert bigin.verify(place.url("m.zarr/h.0.w")).equal


@pytest.mark.slow
def test_other_libraries_read_the_same_values(place):
    tensorstore = pytest.importorskip("tensorstore", reason="tensorstore is not installed: pip install tensorstore")
    if place.server.kind not in ("moto", "rclone"):
        pytest.skip("tensorstore reads S3 here")
    bigin.fill(place.url("t.zarr"), "normal", shape=(100, 50), chunks=(30, 20))
    endpoint = place.server.environment["AWS_ENDPOINT_URL"]
    store = {"driver": "s3", "bucket": BUCKET, "path": f"{place.folder}/t.zarr/", "endpoint": endpoint}
    read = tensorstore.open({"driver": "zarr3", "kvstore": store | {"aws_region": "us-east-1"}}).result()
    assert np.array_equal(read.read().result(), made(shape=(100, 50), name="t"))


def test_a_fill_that_was_interrupted_goes_on_with_the_parts_that_are_there(place, monkeypatch):
    from bigin.targets.objects import target

    url = place.url("w.npy")
    sent = counting(place, monkeypatch)

    class Stop(KeyboardInterrupt):
        pass

    def stop(self, *arguments):
        if sent:
            raise Stop
        yield from block(self, *arguments)

    block = target.ObjectTarget.block
    with monkeypatch.context() as patch:
        patch.setattr(target.ObjectTarget, "block", stop)
        with pytest.raises(KeyboardInterrupt):
            bigin.fill(url, "normal", shape=(ROWS, COLUMNS), threads=1, requests=1)
    assert "w.npy" not in place.held()  # it appears whole or not at all
    first = list(sent)
    assert len(first) == 1
    end = time.monotonic() + 60
    while "w.npy.bigin.lock" in place.held() and time.monotonic() < end:  # released once all workers have ended
        time.sleep(0.1)
    with pytest.raises(bigin.ExistsError, match="half filled"):
        bigin.fill(url, "uniform", shape=(ROWS, COLUMNS))
    report = bigin.fill(url, "normal", shape=(ROWS, COLUMNS))
    assert sorted(sent) == [1, 2]  # none is written twice
    assert 0 < report.nbytes < 4 * ROWS * COLUMNS
    assert np.array_equal(np.load(io.BytesIO(place.get("w.npy"))), made(name="w"))
    assert place.held() == ["w.npy", "w.npy.bigin.json"]


def counting(place: Place, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the parts that are sent from now on."""
    store, _ = store_at(place.url("x"))
    sent: list[int] = []
    kind = type(store.uploads)
    part = kind.part

    def count(self, key, upload, number, data):
        part(self, key, upload, number, data)
        sent.append(number)

    monkeypatch.setattr(kind, "part", count)
    return sent


KILLED = """
import sys, bigin
from bigin.targets.objects import layout
layout.PART = 5 << 20
print("begun", flush=True)
if sys.argv[1] == "checkpoint":
    bigin.initialize("recipe.toml", sys.argv[2], like="like.safetensors", max_shard_size="12MB", threads=2)
else:
    bigin.fill(sys.argv[2], "normal", shape=(8000, 1000), threads=2, **eval(sys.argv[3]))
"""
KILLS = {"npy": ("w.npy", {}), "zarr": ("w.zarr", {"chunks": (250, 1000)}), "checkpoint": ("out", {})}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KILLS)
def test_fills_that_are_killed_at_any_moment_end_with_the_same_bytes(place, kind, tmp_path):
    from safetensors.numpy import save_file

    save_file({f"t{i}": np.zeros((2000, 1000), np.float32) for i in range(4)}, "like.safetensors")
    Path("recipe.toml").write_text('[[rule]]\nmatch = "*"\nmethod = "normal"\n')
    name, layout_of = KILLS[kind]

    def fill(url: str) -> None:
        if kind == "checkpoint":
            bigin.initialize("recipe.toml", url, like="like.safetensors", max_shard_size="12MB")
        else:
            bigin.fill(url, "normal", shape=(8000, 1000), **layout_of)

    fill(name)
    here = tmp_path / name
    expected = {f"/{path.relative_to(here)}": path.read_bytes() for path in here.rglob("*") if path.is_file()}
    killed = 0
    for turn in range(3):
        url = place.url(f"{turn}/{name}")
        for delay in (0.3 + 0.2 * turn, 0.4 + 0.3 * turn):
            command = [sys.executable, "-c", KILLED, kind, url, repr(layout_of)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(delay)
            killed += process.poll() is None
            process.kill()
            process.wait()
            process.stdout.close()
            keys = place.held()
            if kind == "npy" and f"{turn}/w.npy" in keys:  # it appears whole
                assert place.get(f"{turn}/w.npy") == here.read_bytes()
            if f"{turn}/out/model.safetensors.index.json" in keys:
                assert len([key for key in keys if key.endswith(".safetensors")]) >= 3
        fill(url)
        keys = [key.removeprefix(f"{turn}/{name}") for key in place.held() if key.startswith(f"{turn}/")]
        if kind == "npy":
            assert keys == ["", ".bigin.json"]
            assert place.get(f"{turn}/{name}") == here.read_bytes()
        else:
            assert keys == sorted(expected)
            store, at = store_at(url)
            for key in keys:
                if not key.endswith("zarr.json"):
                    assert store.get(at + key) == expected[key]
    assert killed


@pytest.mark.slow
def test_parts_are_sent_by_other_processes(place):
    url = place.url("w.npy")
    with bigin.storage_options(part_size="5MiB"):
        run("fill", url, "-m", "normal", "--shape", f"{ROWS},{COLUMNS}", "--executor", "processes:2",
            "--storage-option", "part_size=5MiB")  # fmt: skip
        plan = bigin.plan(place.url("v.npy"), "normal", shape=(ROWS, COLUMNS), parts=2)
        for part in range(2):
            plan.work(part)
        plan.finish()
    for name in ("w", "v"):
        assert np.array_equal(np.load(io.BytesIO(place.get(f"{name}.npy"))), made(name=name))


@pytest.mark.slow
def test_a_checkpoint_is_written_by_a_plan(place, like):
    plan = bigin.plan_initialize("recipe.toml", place.url("out/"), like=like, parts=2)
    for part in range(plan.parts):
        plan.work(part)
    assert place.held()[-1] != "out/model.safetensors.index.json"  # it appears when all is there
    plan.finish()
    bigin.initialize("recipe.toml", "out", like=like)
    for path in Path("out").iterdir():
        assert place.get(f"out/{path.name}") == path.read_bytes()
    assert len(place.held()) == 3


@pytest.mark.slow
def test_a_table_grows(place):
    url = place.url("users.zarr")
    options = ("--method", "normal", "--std", "0.02", "--chunks", "300")
    run("table", "create", url, "--num-embeddings", "1000", "--embedding-dim", "16", *options)
    run("table", "grow", url, 2500)
    assert bigin.verify(url).equal
    assert json.loads(run("show", url, "--json").stdout)["shape"] == [2500, 16]


def test_a_model_of_another_store_is_read_by_ranges(like):
    """fsspec's: memory:// stands for hf:// and http://."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install fsspec")
    fs = fsspec.filesystem("memory")
    for path in Path(like).iterdir():
        fs.pipe_file(f"/objects/{path.name}", path.read_bytes())
    rows = bigin.outline("recipe.toml", "memory://objects/model.safetensors.index.json")
    assert [row.tensor for row in rows] == sorted(TENSORS)
    bigin.initialize("recipe.toml", "out", like="memory://objects/model.safetensors.index.json")
    assert len(list(Path("out").iterdir())) == 3
    np.save("w.npy", np.zeros((3, 4), np.float32))
    fs.pipe_file("/objects/w.npy", Path("w.npy").read_bytes())
    assert bigin.verify("memory://objects/w.npy", "zeros").equal
    fs.rm("/objects", recursive=True)


def test_without_obstore_one_line_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "obstore").mkdir()
    (tmp_path / "obstore" / "__init__.py").write_text("raise ModuleNotFoundError('no', name='obstore')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    for url in ("s3://bucket/w.npy", "s3://bucket/w.zarr"):
        error = run("fill", url, "-m", "normal", "--shape", "4", code=2).stderr
        assert (
            error == f"bigin: {url}: expected the package obstore, which is not installed: pip install 'bigin[cloud]'\n"
        )


def test_mistakes_are_told_in_one_line(place, monkeypatch):
    nowhere = place.url("x.npy").replace(f"://{BUCKET}/", "://nowhere-else/")
    for url in (nowhere, nowhere.replace(".npy", ".zarr")):
        error = run("fill", url, "-m", "normal", "--shape", "4", code=2).stderr
        assert "expected an existing bucket" in error
        assert error.count("\n") == 1
    error = run("fill", place.url("x.npy"), "-m", "normal", "--shape", "4", "--storage-option", "colour=red", code=2)
    assert "expected a storage option among" in error.stderr
    for name in place.server.environment:
        if "KEY" in name or "ACCOUNT" in name:
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", os.getcwd())
    if place.server.kind in ("moto", "rclone", "azurite"):
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        error = run("fill", place.url("x.npy"), "-m", "normal", "--shape", "4", code=2).stderr
        assert "in the environment" in error
        assert error.count("\n") == 1


@pytest.mark.slow
def test_doctor_measures_a_store_and_leaves_nothing(place):
    facts = json.loads(run("doctor", place.url("some/folder"), "--json").stdout)["store"]
    assert facts["reason"] is None
    assert facts["write_speed"] > 0
    assert facts["create_only"] is place.server.creates
    assert place.held() == []
    printed = " ".join(run("doctor", place.url("")).stdout.split())
    assert "can be listed, read and written; takes" in printed
    nowhere = place.url("").replace(f"://{BUCKET}/", "://nowhere-else/")
    assert "cannot be used: " in run("doctor", nowhere).stdout
