"""Damaged and hostile input: one line, at once, in little memory, and nothing is written outside the target."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import resource
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr
from common import LIMIT, examples
from hypothesis import given
from hypothesis import strategies as st
from kills import child, tree, wait

import bigin
import bigin.cli
from bigin.core.regions import Grid
from bigin.jobs.journal import done_regions
from bigin.spec.record import spec_of
from bigin.spec.tensor import TensorSpec
from bigin.targets.npy import npy_target
from bigin.targets.open import open_target
from bigin.targets.records import parse_record, read_sidecar, unpack_progress, write_journal

SHAPE = (12, 10)


class TooLongError(Exception):
    """Something hangs."""


@contextlib.contextmanager
def soon(seconds: int = 20) -> Iterator[None]:
    """Ends what takes so many seconds of CPU, which a busy machine does not change, or waits for what never comes."""

    def alarm(signum: int, frame: object) -> None:
        raise TooLongError

    before = [signal.signal(number, alarm) for number in (signal.SIGALRM, signal.SIGPROF)]
    signal.alarm(LIMIT)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)
        for number, handler in zip((signal.SIGALRM, signal.SIGPROF), before, strict=True):
            signal.signal(number, handler)


def refused(target: object, **options: object) -> str:
    """A fill that must be refused in one line, soon, with no byte changed; its message."""
    before = tree(Path.cwd())
    with soon(), pytest.raises(bigin.InputError) as told:
        bigin.fill(target, "normal", **options)
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 1000
    assert tree(Path.cwd()) == before
    return str(told.value)


# .npy


class Bomb:
    """Makes a file when it is unpickled."""

    def __reduce__(self):
        return (open, ("exploded", "w"))


def header(text: str, version: bytes = b"\x01\x00", length: int | None = None) -> bytes:
    data = text.encode("latin1")
    size = len(data) if length is None else length
    return b"\x93NUMPY" + version + size.to_bytes(2 if version[0] == 1 else 4, "little") + data


def described(descr: str = "'<f4'", order: str = "False", shape: str = "(3, 4)", more: str = "") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, {more}}}\n"


HEADERS = {
    "nothing": b"",
    "magic alone": b"\x93NUMPY",
    "a version from the future": b"\x93NUMPY\x09\x00\x10\x00" + b" " * 16,
    "cut off": header(described(), length=4000),
    "4 GiB of header": header(described(), b"\x02\x00", length=2**32 - 1),
    "code": header("__import__('os').system('touch exploded')\n"),
    "a call": header("{'descr': exec('open(\"exploded\", \"w\")'), 'fortran_order': False, 'shape': (3,)}\n"),
    "deep brackets": header("(" * 5000 + ")" * 5000),
    "objects": header(described("'|O'")) + pickle.dumps(Bomb()) * 12,
    "a structure": header(described("[('a', '<f4'), ('b', '<f8')]")) + bytes(1000),
    "a structure of objects": header(described("[('a', '|O')]")) + pickle.dumps(Bomb()) * 12,
    "text": header(described("'<U4'")) + bytes(1000),
    "no type": header(described("'<z9'")) + bytes(1000),
    "a type that is none": header(described("3")) + bytes(1000),
    "negative sizes": header(described(shape="(-3, -4)")) + bytes(1000),
    "one negative size": header(described(shape="(-3,)")) + bytes(1000),
    "huge sizes": header(described(shape=f"({2**62}, {2**62})")) + bytes(1000),
    "a huge size": header(described(shape=f"({10**30},)")) + bytes(1000),
    "sizes beside zero": header(described(shape=f"(0, {10**30})")) + bytes(1000),
    "floats as sizes": header(described(shape="(3.0, 4.0)")) + bytes(1000),
    "text as shape": header(described(shape="'34'")) + bytes(1000),
    "too short": header(described()) + bytes(47),
    "no shape": header("{'descr': '<f4', 'fortran_order': False}\n") + bytes(1000),
    "more keys": header(described(more="'x': 1")) + bytes(1000),
    "noise": bytes(range(256)),
}


@pytest.mark.parametrize("lie", HEADERS)
def test_a_npy_header_that_lies_is_refused_and_nothing_is_unpickled(lie):
    Path("a.npy").write_bytes(HEADERS[lie])
    assert refused("a.npy").startswith("a.npy: expected")
    with soon(), contextlib.nullcontext() if lie == "too short" else pytest.raises(bigin.InputError):
        assert not bigin.verify("a.npy", "normal").equal
    assert not Path("exploded").exists()


@examples(300)
@given(data=st.data())
def test_any_bytes_for_a_npy_file_are_read_or_refused(data):
    whole = header(described()) + bytes(48)
    content = bytearray(data.draw(st.binary(max_size=200) | st.just(whole)))
    for _ in range(data.draw(st.integers(0, 4)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    Path("a.npy").write_bytes(content)
    with soon(), contextlib.suppress(bigin.InputError), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = open_target("a.npy")
        assert target.nbytes <= len(content)


# zarr


def metadata(zarr_format: int = 3) -> tuple[Path, dict[str, object]]:
    """A new array's metadata, and where they lie."""
    zarr.create_array("a.zarr", shape=SHAPE, chunks=(3, 5), dtype="float32", zarr_format=zarr_format, overwrite=True)
    place = Path("a.zarr/zarr.json" if zarr_format == 3 else "a.zarr/.zarray")
    return place, json.loads(place.read_text())


def grid(*chunks: object) -> dict[str, object]:
    return {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunks)}}}


def key_encoding(separator: object, name: str = "default") -> dict[str, object]:
    return {"chunk_key_encoding": {"name": name, "configuration": {"separator": separator}}}


METADATA = {
    "negative chunks": (3, grid(-3, 5)),
    "no chunks": (3, grid(0, 5)),
    "too few chunks": (3, grid(3)),
    "chunks that are no numbers": (3, grid("3", None)),
    "chunks of 2^80": (3, grid(2**80, 5)),
    "a chunk of 4 EiB": (3, {"shape": [2**60, 1]} | grid(2**60, 1)),
    "a negative shape": (3, {"shape": [-12, 10]}),
    "a shape of 2^124": (3, {"shape": [2**62, 2**62]}),
    "a shape of 10^100": (3, {"shape": [10**100, 1]}),
    "a shape of floats": (3, {"shape": [1.5, 2]}),
    "no shape": (3, {"shape": None}),
    "an unknown codec": (3, {"codecs": [{"name": "evil", "configuration": {}}]}),
    "no codecs": (3, {"codecs": []}),
    "codecs in a wrong order": (3, {"codecs": [{"name": "zstd", "configuration": {}}, {"name": "bytes"}]}),
    "shards of nothing": (
        3,
        {"codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [0, 0], "codecs": []}}]},
    ),
    "an unknown type": (3, {"data_type": "evil"}),
    "text": (3, {"data_type": "string", "fill_value": ""}),
    "an unknown grid": (3, {"chunk_grid": {"name": "spiral", "configuration": {}}}),
    "keys that climb": (3, key_encoding("/../../")),
    "keys that are absolute": (3, key_encoding("/etc/", "v2")),
    "a node that is none": (3, {"node_type": "evil"}),
    "a format that is none": (3, {"zarr_format": 9}),
    "negative chunks, format 2": (2, {"chunks": [-3, 5]}),
    "no chunks, format 2": (2, {"chunks": [0, 5]}),
    "a shape of 2^124, format 2": (2, {"shape": [2**62, 2**62]}),
    "an unknown compressor": (2, {"compressor": {"id": "evil"}}),
    "pickled objects": (2, {"dtype": "|O", "filters": [{"id": "pickle", "protocol": 5}]}),
    "keys that climb, format 2": (2, {"dimension_separator": "/../../"}),
    "an unknown order": (2, {"order": "Z"}),
}


@pytest.mark.parametrize("lie", METADATA)
def test_absurd_zarr_metadata_are_refused(lie):
    zarr_format, changes = METADATA[lie]
    place, found = metadata(zarr_format)
    place.write_text(json.dumps(found | changes))
    assert "a.zarr" in refused("a.zarr")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5) | st.just("float32"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places_of(value: object, above: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Every place in a JSON value."""
    found = [above] if above else []
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            found += places_of(inner, (*above, key))
    return found


@examples(150)
@given(data=st.data())
def test_any_zarr_metadata_are_used_or_refused(data):
    place, found = metadata(data.draw(st.sampled_from([2, 3])))
    path = data.draw(st.sampled_from(places_of(found)))
    inner = found
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = data.draw(json_values)
    place.write_text(json.dumps(found))
    outside = tree(Path.cwd()).keys() - tree(Path("a.zarr")).keys()
    with soon(), warnings.catch_warnings(), contextlib.suppress(bigin.InputError, bigin.FillError):
        warnings.simplefilter("ignore")
        target = open_target(Path("a.zarr"))
        if target.nbytes < 10**6 and len(target.grid()) < 1000:
            bigin.fill("a.zarr", "normal", overwrite=True, max_memory="100MB")
            assert bigin.verify("a.zarr").equal
    assert {name for name in tree(Path.cwd()) if not name.startswith("a.zarr/")} <= outside


# Records and journals

RECORD = TensorSpec.parse("normal", {}, 0, "", SHAPE, np.dtype("float32")).record()


@examples(300)
@given(data=st.data())
def test_any_record_describes_a_fill_or_is_refused(data):
    record = json.loads(json.dumps(RECORD | {"region": [[0, 12, 1], [0, 10, 1]], "complete": True}))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places_of(record)))
        inner = record
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = data.draw(json_values)
        if not places_of(record):
            break
    with soon(), contextlib.suppress(bigin.InputError):
        assert spec_of(record).shape is not None
    Path("a.npy.bigin.json").write_text(json.dumps(record))
    np.save("a.npy", np.ones(SHAPE, np.float32))
    with soon(), contextlib.suppress(bigin.InputError):
        assert bigin.verify("a.npy").differences
    with soon(), contextlib.suppress(bigin.InputError, bigin.FillError):
        bigin.fill("a.npy", "uniform", seed=1)
    Path("a.npy.bigin.json").unlink()


@given(json_values)
def test_any_json_is_a_record_or_none(value):
    data = json.dumps(value).encode()
    assert parse_record(data) == (value if isinstance(value, dict) else None) or value != value or "NaN" in str(data)
    with contextlib.suppress(bigin.InputError):
        spec_of(value if isinstance(value, dict) else {})


@examples(200)
@given(st.binary(max_size=80) | json_values)
def test_any_journal_says_how_far_or_nothing(content):
    bigin.fill("a.npy", "normal", shape=SHAPE, overwrite=True)
    place = Path("a.npy.bigin.journal")
    if isinstance(content, bytes):
        place.write_bytes(content)
        assert unpack_progress(content) is None
    else:
        write_journal(place, content)
    target = npy_target(Path("a.npy"), None, None)
    assert done_regions(target, Grid(SHAPE, (1, 10)), "x") == 0
    place.unlink()


HUGE = {
    "a huge file": lambda path: path.touch() or os.truncate(path, 1 << 40),
    "a pipe": os.mkfifo,
    "a folder": os.mkdir,
}


@pytest.mark.parametrize("what", HUGE)
def test_what_is_no_small_file_is_no_record(what):
    np.save("a.npy", np.zeros(SHAPE, np.float32))
    HUGE[what](Path("a.npy.bigin.json"))
    with soon():
        assert read_sidecar(Path("a.npy")) is None
        with pytest.raises(bigin.InputError, match="got none; give --method"):
            bigin.verify("a.npy")


@pytest.mark.parametrize("what", HUGE)
@pytest.mark.parametrize("key", ["zarr.json", ".zarray", ".zattrs"])
def test_what_is_no_small_file_is_no_metadata(what, key):
    Path("a.zarr").mkdir()
    HUGE[what](Path("a.zarr") / key)
    with (
        soon(),
        pytest.raises(bigin.InputError, match="expected a file of zarr metadata, got something else, or a file that"),
    ):
        bigin.fill("a.zarr", "normal", shape=SHAPE)


# Names and places

NAMES = {
    "": "expected the path or the URL of a target",
    "a\0b": "expected the path or the URL of a target",
    "a\0b.npy": "expected the path or the URL of a target",
    "x" * 5000: "got one with: File name too long",
    "file.txt/a.zarr": "got one with: Not a directory",
    "loop/a.npy": "got one with: Too many levels of symbolic links",
    "dangling.npy": "got a dangling link",
    "pipe": "got a pipe, a socket or a device",
    "pipe.npy": "got a pipe, a socket or a device",
    "/dev/null": "got a pipe, a socket or a device",
    "/dev/zero": "got a pipe, a socket or a device",
    "empty": "got another file; for values without a header give",
    "empty.npy": "header cannot be read",
    "folder.npy/": "got a folder that holds something else",
    ".": "got a folder that holds something else",
    "..": "expected",
    "group.zarr/out/w": "got a link that leads out of it",
    "group.zarr/../group.zarr/out/w": "got a link that leads out of it",
    "array.zarr/w": "expected a path outside of arrays, got one in",
}


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        *((False, name) for name in NAMES),
        # A raw file may be empty, and lie anywhere.
        *((True, name) for name in NAMES if not name.startswith("empty") and ".zarr" not in name),
    ],
    ids=lambda part: repr(part)[:30],
)
def test_names_that_lead_nowhere_or_out_are_refused(name, raw):
    outside = Path("outside")
    outside.mkdir()
    Path("inside").mkdir()
    os.chdir("inside")
    Path("file.txt").write_text("text")
    Path("empty").touch()
    Path("empty.npy").touch()
    Path("folder.npy").mkdir()
    Path("folder.npy/file").touch()
    os.symlink("loop", "loop")
    os.symlink("nothing.npy", "dangling.npy")
    os.mkfifo("pipe")
    os.mkfifo("pipe.npy")
    zarr.open_group("group.zarr", mode="a")
    zarr.create_array("array.zarr", shape=SHAPE, dtype="float32")
    os.symlink("../../outside", "group.zarr/out")
    options = {"raw": True, "dtype": "float32"} if raw else {}
    assert raw or NAMES[name] in refused(name, shape=SHAPE, **options)
    with soon(), pytest.raises(bigin.InputError):
        bigin.fill(name, "normal", shape=SHAPE, **options)
    with soon(), pytest.raises(bigin.InputError):
        bigin.verify(name, "normal", shape=SHAPE, **options)
    assert not list(Path("../outside").iterdir())


@pytest.mark.parametrize("layout", ["plain", "compressed"])
def test_a_link_in_an_array_leads_no_chunk_out_of_it(layout):
    Path("outside").mkdir()
    Path("outside/file").write_text("precious")
    compressors = None if layout == "plain" else "auto"
    zarr.create_array("a.zarr", shape=SHAPE, chunks=(3, 5), dtype="float32", compressors=compressors)
    os.makedirs("a.zarr/c/0")
    os.symlink("../../../outside/file", "a.zarr/c/0/0")  # a chunk, which is replaced and not followed
    bigin.fill("a.zarr", "normal", overwrite=True)
    assert Path("outside/file").read_text() == "precious"
    assert bigin.verify("a.zarr").equal
    os.rename("a.zarr/c", "moved")
    os.symlink("../outside", "a.zarr/c")
    with pytest.raises(bigin.FillError, match="got a link that leads out of it; remove the link"):
        bigin.fill("a.zarr", "ones", overwrite=True)
    assert sorted(path.name for path in Path("outside").iterdir()) == ["file"]


def test_temporary_names_are_no_way_out():
    Path("precious").write_text("precious")
    for name in ("a.npy.partial", "a.npy.bigin.json.partial", "a.npy.bigin.journal.partial"):
        os.symlink("precious", name)
    with pytest.raises(bigin.InputError, match=r"a.npy.partial: cannot be opened for writing"):
        bigin.fill("a.npy", "normal", shape=SHAPE)
    Path("a.npy.partial").unlink()
    bigin.fill("a.npy", "normal", shape=SHAPE)
    assert bigin.verify("a.npy").equal
    assert Path("precious").read_text() == "precious"
    os.mkfifo("b.npy.partial")
    with soon(), pytest.raises(bigin.InputError, match=r"b.npy.partial: cannot be opened for writing"):
        bigin.fill("b.npy", "normal", shape=SHAPE)


@pytest.mark.parametrize("compressors", [None, "auto"])
def test_a_chunk_that_is_a_pipe_is_found_and_not_waited_for(compressors):
    zarr.create_array("a.zarr", shape=SHAPE, chunks=(3, 10), dtype="float32", compressors=compressors)
    bigin.fill("a.zarr", "normal")
    Path("a.zarr/c/1/0").unlink()
    os.mkfifo("a.zarr/c/1/0")
    with soon():
        (difference,) = bigin.verify("a.zarr").differences
    assert "it is no file" in difference.reason
    with soon():
        bigin.verify("a.zarr", repair=True)
        assert bigin.verify("a.zarr").equal


def test_hostile_input_takes_little_memory():
    """A process with 400 MiB more address space than it has now meets everything above that is said to be huge."""

    def meet() -> None:
        held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (held + (400 << 20),) * 2)
        for lie in HEADERS.values():
            Path("a.npy").write_bytes(lie)
            with pytest.raises(bigin.InputError):
                bigin.fill("a.npy", "normal")
        for zarr_format, changes in METADATA.values():
            place, found = metadata(zarr_format)
            place.write_text(json.dumps(found | changes))
            with pytest.raises(bigin.InputError):
                bigin.fill("a.zarr", "normal")
        np.save("b.npy", np.zeros(SHAPE, np.float32))
        HUGE["a huge file"](Path("b.npy.bigin.json"))
        HUGE["a huge file"](Path("b.npy.bigin.journal"))
        bigin.fill("b.npy", "normal")

    sys.stderr.flush()
    assert wait(child(meet)) == 0
