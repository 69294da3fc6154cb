"""What a user names is what is opened or made: URLs of files, links, zip files, byte orders, and endings."""

from __future__ import annotations

import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from common import bits, run
from zarr.storage import ZipStore

import bigin
from bigin.targets import files
from bigin.targets.lock import Lock
from bigin.targets.open import open_target
from bigin.targets.paths import local_path, split_names
from bigin.targets.safetensors.header import lay_out, pack_header

SHAPE = (30, 7)


def expected(**options: object) -> np.ndarray:
    values = np.zeros(SHAPE, np.float32)
    bigin.fill(values, "normal", name="w", **options)
    return values


# File URLs (fsspec#1168)


@pytest.mark.parametrize("host", ["", "localhost"])
def test_a_file_url_is_a_path_of_this_machine(host):
    folder = Path("with a space%")
    folder.mkdir()
    url = f"file://{host}{Path.cwd()}/with%20a%20space%25/w.npy"
    assert bigin.fill(url, "normal", shape=SHAPE).record["name"] == "w"
    assert np.load(folder / "w.npy").tolist() == expected().tolist()
    assert bigin.verify(url).equal
    bigin.fill(url.replace("w.npy", "w.zarr"), "normal", shape=SHAPE)
    assert zarr.open_array(folder / "w.zarr")[...].tolist() == expected().tolist()
    assert isinstance(bigin.create(url.replace("w.npy", "v.npy"), shape=SHAPE), np.memmap)
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["with a space%"]


def test_the_file_url_of_another_machine_is_refused():
    with pytest.raises(bigin.InputError, match=r"expected the URL of a file on this machine, .* got host 'server'"):
        bigin.fill("file://server/share/w.npy", "normal", shape=SHAPE)
    assert not [*Path.cwd().iterdir()]


@pytest.mark.parametrize("url", ["memory://b/w.npy", "memory://b/x.safetensors"])
def test_a_url_elsewhere_of_a_file_that_is_not_written_there_is_refused(url):
    with pytest.raises(bigin.InputError, match="expected a path on this machine for a"):
        bigin.fill(url, "normal", shape=SHAPE)


# The sign # (universal_pathlib#164)


def tensors(path: Path, *names: str) -> None:
    entries = lay_out([(name, "float32", SHAPE) for name in names])
    path.write_bytes(pack_header(entries, {}) + bytes(max(entry.end for entry in entries.values())))


def test_a_path_may_have_the_sign_that_parts_it_from_a_name():
    Path("run#1").mkdir()
    tensors(Path("run#1/x.safetensors"), "w", "a#b")
    bigin.fill("run#1/x.safetensors#w", "normal")
    bigin.fill("run#1/x.safetensors#a#b", "normal")
    assert bigin.verify("run#1/x.safetensors#w").equal
    bigin.fill("run#1/w.npy", "normal", shape=SHAPE)
    tensors(Path("x.safetensors"), "w", "y.safetensors#w")
    tensors(Path("x.safetensors#y.safetensors"), "v", "w")
    assert open_target("x.safetensors#y.safetensors#v").path.name == "x.safetensors#y.safetensors"
    assert open_target("x.safetensors#w").path.name == "x.safetensors"
    escaped = f"file://{Path.cwd()}/x.safetensors%23y.safetensors#w"
    assert open_target(escaped).path.name == "x.safetensors#y.safetensors"
    with pytest.raises(bigin.InputError, match="expected one tensor, got a checkpoint"):
        bigin.fill("x.safetensors#y.safetensors", "normal")
    with pytest.raises(bigin.NotFoundError, match=r"none.safetensors: expected a safetensors checkpoint, got nothing"):
        bigin.fill("none.safetensors#w", "normal")


def test_what_the_sign_may_mean():
    assert list(split_names("a#b#c")) == [(Path("a"), "b#c"), (Path("a#b"), "c")]
    assert list(split_names("a")) == [(Path("a"), None)]
    assert list(split_names("file:///a%23b#c%23d")) == [(Path("/a#b"), "c#d")]
    Path("a#b").touch()
    assert next(split_names("a#b")) == (Path("a#b"), None)
    assert local_path("s3://a/b") is None
    assert local_path(3) is None


# Endings that say something else (xarray#10827)


@pytest.mark.parametrize("ending", [".h5", ".pt", ".bin", ".NPY", ".npz", ".onnx"])
def test_an_ending_of_another_format_is_refused(ending):
    for make in (bigin.fill, lambda path, method, shape: bigin.create(path, shape=shape)):
        with pytest.raises(bigin.InputError, match=f"got {ending}"):
            make(f"w{ending}", "normal", shape=SHAPE)
    assert not [*Path.cwd().iterdir()]
    bigin.fill(f"m.zarr/layer{ending}", "normal", shape=SHAPE)  # a name in a group says nothing of a format
    np.save("there.npy", np.zeros(SHAPE, np.float32))
    Path("there.npy").rename(f"there{ending}")
    bigin.fill(f"there{ending}", "normal")


def test_a_raw_file_is_named_as_the_remedy():
    with pytest.raises(bigin.InputError, match="add --raw"):
        bigin.fill("w.bin", "normal", shape=SHAPE)


# Zip files (xarray#10827)


def in_zip(path: str, **options: object) -> None:
    with ZipStore(path, mode="w") as store:
        zarr.create_array(store, shape=SHAPE, dtype="float32", **options)


@pytest.mark.parametrize("kind", ["new", "zarr's", "zarr's, compressed", "zarr's, format 2"])
def test_a_zip_file_is_made_and_filled_and_verified(kind):
    if kind != "new":
        compressors = "auto" if "compressed" in kind else None
        in_zip("w.zip", chunks=(8, 7), compressors=compressors, zarr_format=2 if "2" in kind else 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of names that are there twice
        report = bigin.fill("w.zip", "normal", seed=3, **({"shape": SHAPE} if kind == "new" else {}))
    assert report.nbytes == 840
    assert report.record["name"] == "w"
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["w.zip"]
    names = zipfile.ZipFile("w.zip").namelist()
    assert len(names) == len(set(names))
    values = zarr.open_array(ZipStore("w.zip", mode="r"))[...]
    np.testing.assert_array_equal(bits(values), bits(expected(seed=3)))
    assert bigin.verify("w.zip").equal
    assert bigin.fill("w.zip", "normal", seed=3).stored == 840
    with pytest.raises(bigin.InputError, match="is filled with"):
        bigin.fill("w.zip", "normal", seed=4)
    bigin.fill("w.zip", "normal", seed=4, overwrite=True)
    np.testing.assert_array_equal(bits(zarr.open_array(ZipStore("w.zip", mode="r"))[...]), bits(expected(seed=4)))


def test_a_zip_file_stays_as_it_was_until_the_new_one_is_whole(monkeypatch):
    bigin.fill("w.zip", "normal", shape=SHAPE)
    before = Path("w.zip").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(ZipStore, "_set", lambda self, key, value: (_ for _ in ()).throw(ArithmeticError("on purpose")))
        with pytest.raises(bigin.FillError, match="on purpose"):
            bigin.fill("w.zip", "normal", seed=1, overwrite=True)
    assert Path("w.zip").read_bytes() == before
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["w.zip"]
    with Lock(Path("w.zip"), "w.zip"), pytest.raises(bigin.LockedError):
        bigin.fill("w.zip", "normal", seed=1, overwrite=True)


def test_what_a_zip_file_cannot_do_is_refused():
    bigin.fill("w.zip", "normal", shape=(3, 4))
    data = bytearray(Path("w.zip").read_bytes())
    at = data.index(np.asarray(zarr.open_array(ZipStore("w.zip", mode="r"))[...]).tobytes())
    data[at] ^= 1
    Path("w.zip").write_bytes(data)
    assert not bigin.verify("w.zip").equal
    with pytest.raises(bigin.InputError, match=r"got a zip file; fill it with --overwrite"):
        bigin.verify("w.zip", repair=True)
    with pytest.raises(bigin.InputError, match="as a zip file is made by a fill"):
        bigin.create("v.zip", shape=SHAPE)


# Byte orders (niworkflows#1061)


@pytest.mark.parametrize("dtype", [">f4", np.dtype(">f4"), "<f4"])
@pytest.mark.parametrize("path", ["w.npy", "w.raw", "w.zarr", "created.npy", "created.zarr", "created2.zarr"])
def test_the_byte_order_of_a_dtype_is_honoured(path, dtype):
    options = {"raw": True} if path == "w.raw" else {}
    if path.startswith("created"):
        created = bigin.create(path, shape=SHAPE, dtype=dtype, **({"zarr_format": 2} if "2" in path else {}))
        assert created.dtype.newbyteorder("=") == np.float32
    bigin.fill(path, "normal", shape=SHAPE, dtype=dtype, name="w", **options)
    big = np.dtype(dtype).str == ">f4"
    if path.endswith(".npy"):
        assert np.load(path).dtype == np.dtype(dtype)
        values = np.load(path)
    elif path == "w.raw":
        values = np.fromfile(path, dtype).reshape(SHAPE)
    else:
        array = zarr.open_array(path)
        values = array[...]
        stored = b"".join(p.read_bytes() for p in Path(path).rglob("*") if p.is_file() and p.name[0] not in "z.")
        assert stored == expected().astype(dtype).tobytes()
    np.testing.assert_array_equal(values, expected())
    assert bigin.verify(path, **options).equal
    assert bigin.fill(path, "normal", shape=SHAPE, dtype=dtype, name="w", **options).stored == 840
    if not options:
        assert bigin.fill(path, "normal", shape=SHAPE, dtype="float32", name="w").stored == 840
        if not big:
            with pytest.raises(bigin.InputError, match="expected dtype >f4, got an existing target of dtype"):
                bigin.fill(path, "normal", shape=SHAPE, dtype=">f4", name="w")


# Links


def test_a_linked_file_has_its_record_beside_itself():
    Path("there").mkdir()
    bigin.fill("there/w.npy", "normal", shape=SHAPE)
    Path("link.npy").symlink_to("there/w.npy")
    assert bigin.verify("link.npy").equal
    bigin.fill("link.npy", "normal", seed=1, name="w", overwrite=True)
    assert np.load("there/w.npy").tolist() == expected(seed=1).tolist()
    assert Path("link.npy").is_symlink()
    assert sorted(str(path) for path in Path().rglob("*")) == [
        "link.npy",
        "there",
        "there/w.npy",
        "there/w.npy.bigin.json",
    ]


def test_a_file_in_a_cache_of_contents_is_not_changed_through_a_link():
    for folder in ("hub/blobs", "hub/snapshots/main"):
        Path(folder).mkdir(parents=True)
    tensors(Path("hub/blobs/0123abcd"), "w")
    np.save("hub/blobs/array.npy", np.zeros(SHAPE, np.float32))
    Path("hub/blobs/array.npy").rename("hub/blobs/4567cdef")
    Path("hub/snapshots/main/model.safetensors").symlink_to("../../blobs/0123abcd")
    Path("hub/snapshots/main/w.npy").symlink_to("../../blobs/4567cdef")
    before = [Path(f"hub/blobs/{name}").read_bytes() for name in ("0123abcd", "4567cdef")]
    for target in ("hub/snapshots/main/model.safetensors#w", "hub/snapshots/main#w", "hub/snapshots/main/w.npy"):
        with pytest.raises(bigin.TargetError, match="which a cache shares by its contents"):
            bigin.fill(target, "normal", overwrite=True)
    assert [Path(f"hub/blobs/{name}").read_bytes() for name in ("0123abcd", "4567cdef")] == before
    assert len([*Path("hub/blobs").iterdir()]) == 2
    bigin.fill("hub/blobs/4567cdef", "normal")  # whoever names the file itself means it


# Several processes


def test_a_new_file_whose_name_is_given_by_another_process_at_this_moment(monkeypatch):
    """The other one has made it, and given it its name, between the opening and the lock of the temporary file."""

    def rename(path: Path, label: str) -> Lock:
        os.rename(path, "w.npy")
        return Lock(path, label)

    monkeypatch.setattr(files, "Lock", rename)
    with pytest.raises(bigin.ExistsError, match="got a file that another process has just made; rerun the command"):
        bigin.fill("w.npy", "normal", shape=SHAPE)


# Files that are open


def test_a_small_checkpoint_needs_few_open_files():
    tensors(Path("x.safetensors"), "w")
    Path("recipe.toml").write_text('[[rule]]\nmatch = "*"\nmethod = "normal"\n')
    limited = "ulimit -n 64; exec python -m bigin init recipe.toml out.safetensors --like x.safetensors --quiet"
    import subprocess
    import sys

    command = limited.replace("exec python", f"exec {sys.executable}")
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    run("verify", "out.safetensors")
