"""Every call of a store and of the disk fails in turn, once and for good: a fill is complete and right, or an error.

As SQLite's tests do it. What ends with an error is run again without one, and must then be complete.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from common import few
from zarr.storage import MemoryStore, WrapperStore

import bigin
from bigin.jobs import retries
from bigin.targets.safetensors.header import lay_out, pack_header

SHAPE = (12, 10)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("bigin.targets.files.BLOCK", 200)
    monkeypatch.setattr(retries, "PAUSE", 0.0)


# Stores


class Failing(WrapperStore):
    """A store on a network whose n-th call fails, or all from there on."""

    calls, fails_at, lasting, swallows = 0, 0, False, False

    def count(self) -> None:
        Failing.calls += 1
        if Failing.calls == Failing.fails_at or (Failing.lasting and Failing.calls > Failing.fails_at > 0):
            raise OSError(f"call {Failing.calls} fails on purpose")

    async def get(self, *arguments, **options):
        self.count()
        return await super().get(*arguments, **options)

    async def set(self, key, value, *arguments, **options):
        self.count()
        if Failing.swallows and not key.endswith(("zarr.json", "journal")):
            return  # a store that says yes and keeps nothing
        await super().set(key, value, *arguments, **options)

    async def exists(self, *arguments, **options):
        self.count()
        return await super().exists(*arguments, **options)

    async def delete(self, *arguments, **options):
        self.count()
        return await super().delete(*arguments, **options)

    async def getsize(self, *arguments, **options):
        self.count()
        return await super().getsize(*arguments, **options)

    async def list_prefix(self, prefix):
        self.count()
        async for key in super().list_prefix(prefix):
            yield key


def recipe() -> str:
    Path("recipe.toml").write_text('[[rule]]\nmatch = "*"\nmethod = "normal"\n')
    return "recipe.toml"


def like() -> Path:
    entries = lay_out((name, "float32", SHAPE) for name in ("a.weight", "b.weight"))
    end = max(entry.end for entry in entries.values())
    Path("like.safetensors").write_bytes(pack_header(entries, {}) + bytes(end))
    return Path("like.safetensors")


STORES: dict[str, Callable[[Any], bigin.Report]] = {
    "new array": lambda store: bigin.fill(store, "normal", shape=SHAPE),
    "group": lambda store: bigin.initialize(recipe(), store, like=like()),
}


@pytest.mark.parametrize("lasting", few(False, True), ids=["once", "for good"])
@pytest.mark.parametrize("kind", [*STORES, "chunks", "shards", "compressed"])
def test_every_call_of_a_store_fails_in_turn(kind, lasting):
    layouts = {
        "chunks": {"chunks": (4, 10), "compressors": None},
        "shards": {"chunks": (2, 10), "shards": (4, 10), "compressors": None},
        "compressed": {"chunks": (4, 10)},
    }
    fill = STORES.get(kind, lambda store: bigin.fill(store, "normal"))
    number = 0
    while True:
        number += 1
        inner = MemoryStore()
        if kind in layouts:
            zarr.create_array(inner, shape=SHAPE, dtype="float32", **layouts[kind])
        Failing.calls, Failing.fails_at, Failing.lasting = 0, number, lasting
        try:
            report = fill(Failing(inner))
        except (bigin.InputError, bigin.FillError):
            report = None
        reached = Failing.calls >= number
        Failing.fails_at = 0
        if report is not None:
            assert report.record["complete"] is True
        else:
            fill(Failing(inner))
        assert bigin.verify(inner).equal if kind != "group" else group_is_right(inner)
        if not reached:
            break
    assert number > 5


def group_is_right(store: MemoryStore) -> bool:
    group = zarr.open_group(store, mode="r")
    return all(bigin.verify(group[name]).equal for name in ("a.weight", "b.weight"))


@pytest.mark.parametrize("kind", ["new array", "group"])
def test_a_store_that_keeps_nothing_is_no_success(kind):
    Failing.calls, Failing.fails_at, Failing.swallows = 0, 0, True
    try:
        with pytest.raises(bigin.FillError, match="expected the values that were written"):
            STORES[kind](Failing(MemoryStore()))
    finally:
        Failing.swallows = False


# The disk

CALLS = [
    (os, name)
    for name in ("pwrite", "fsync", "fdatasync", "link", "rename", "replace", "mkdir", "posix_fallocate", "ftruncate")
] + [(Path, "open")]


@contextmanager
def failing_disk(number: int, lasting: bool):
    """The n-th call of the disk fails with EIO, or all from there on; yields how many there were."""
    calls = [0]

    def failing(original: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] == number or (lasting and calls[0] > number):
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return original(*arguments, **options)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in CALLS:
            patch.setattr(owner, name, failing(getattr(owner, name)))
        yield calls


FILES: dict[str, Callable[[], bigin.Report]] = {
    "npy": lambda: bigin.fill("w.npy", "normal", shape=SHAPE),
    "raw": lambda: bigin.fill("w.raw", "normal", shape=SHAPE, dtype="float32", raw=True),
    "zarr": lambda: bigin.fill("w.zarr", "normal", shape=SHAPE),
    "checkpoint": lambda: bigin.initialize("recipe.toml", "out", like="like.safetensors"),
    "group": lambda: bigin.initialize("recipe.toml", "out.zarr", like="like.safetensors"),
}
PATHS = {"npy": "w.npy", "raw": "w.raw", "zarr": "w.zarr", "checkpoint": "out", "group": "out.zarr"}


@pytest.mark.parametrize("lasting", few(False, True), ids=["once", "for good"])
@pytest.mark.parametrize("kind", FILES)
def test_every_call_of_the_disk_fails_in_turn(kind, lasting, tmp_path, monkeypatch):
    number = 0
    while True:
        number += 1
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        recipe(), like()
        with failing_disk(number, lasting) as calls:
            try:
                report = FILES[kind]()
            except (bigin.InputError, bigin.FillError):
                report = None
        if report is None:
            report = FILES[kind]()
        assert report.record["complete"] is True
        verified = bigin.verify(PATHS[kind], raw=kind == "raw")
        assert verified.equal
        assert verified.nbytes == np.prod(SHAPE) * 4 * (2 if kind in ("checkpoint", "group") else 1)
        assert not [path.name for path in folder.rglob("*") if path.name.endswith((".partial", ".journal"))]
        monkeypatch.chdir(tmp_path)
        shutil.rmtree(folder)
        if calls[0] < number:
            break
    assert number > 5
