"""What the environment does: its errors stay what they are, and its settings change nothing."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import zarr
from common import bits
from zarr.storage import MemoryStore, WrapperStore

import bigin
from bigin.core.handlers import let_through
from bigin.jobs import run as running


class Deadline(Exception):  # noqa: N818
    """The caller's own."""


class Handler:
    def __call__(self, signum: int, frame: object) -> None:
        raise Deadline


def handler(signum: int, frame: object) -> None:
    raise Deadline


class Remote(WrapperStore):
    """A store on a network."""


TARGETS = {
    "npy": lambda: "a.npy",
    "zarr": lambda: "a.zarr",
    "remote": lambda: Remote(MemoryStore()),
    "memory": lambda: np.zeros((640, 50), np.float32),
}


@pytest.mark.parametrize("handles", [handler, Handler()], ids=["function", "object"])
@pytest.mark.parametrize("kind", TARGETS)
def test_an_exception_of_a_signal_handler_stays_what_it_is(kind, handles, monkeypatch):
    """At any moment: while the target is opened and made, and while the workers are at work."""
    target, store = TARGETS[kind](), running.store
    bigin.fill(np.zeros(4, np.float32), "normal")  # compiled
    shape = None if kind == "memory" else (640, 50)

    def slow(*arguments: object) -> int:
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
        time.sleep(0.01)
        return store(*arguments)

    monkeypatch.setattr("bigin.targets.files.BLOCK", 800)
    monkeypatch.setattr("bigin.targets.memory.BLOCK", 800)
    monkeypatch.setattr(running, "store", slow)
    before = signal.signal(signal.SIGUSR1, handles)
    try:
        with pytest.raises(Deadline):
            bigin.fill(target, "normal", shape=shape)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_it_is_not_tried_again(monkeypatch):
    """Nor are errors of a network that come from elsewhere taken for a handler's."""
    from bigin.jobs.retries import Retries

    monkeypatch.setattr("bigin.jobs.retries.PAUSE", 0.0)
    retries, calls = Retries(remote=True), []

    def work() -> None:
        calls.append(1)
        signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with pytest.raises(Deadline):
            retries.attempt(work)
        assert len(calls) == 1
        let_through(OSError("not a handler's"))
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.slow
def test_numpys_floating_point_errors_do_not_reach_a_fill():
    """np.seterr(all="raise"): a record is not told to make no sense, and the values are the same."""

    def everything(prefix: str) -> list[np.ndarray]:
        made = []
        for dtype in ("float16", "bfloat16", "float8_e4m3fn", "float64"):
            bigin.fill(f"{prefix}{dtype}.npy", "normal", shape=(50, 40), dtype=dtype, name="w")
            assert bigin.verify(f"{prefix}{dtype}.npy").equal
            assert bigin.show(f"{prefix}{dtype}.npy").looks_right
            made.append(np.load(f"{prefix}{dtype}.npy").view(np.uint8))
        for method in ("trunc_normal", "orthogonal", "kaiming_normal"):
            bigin.fill(f"{prefix}{method}.zarr", method, shape=(50, 40), name="w")
            assert bigin.verify(f"{prefix}{method}.zarr").equal
            made.append(zarr.open_array(f"{prefix}{method}.zarr")[:])
        table = bigin.EmbeddingTable.create(f"{prefix}t.npy", 100, 8, "normal", std=1e-3, name="w")
        table.grow(200)
        table.reset([1])
        made.append(table.rows(np.arange(200)))
        group = zarr.open_group(f"{prefix}g.zarr", mode="w")
        for name in ("a.weight", "b.weight"):
            group.create_array(name, shape=(20, 20), dtype="float32")
        Path("r.toml").write_text('[[rule]]\nmatch = "*"\nmethod = "xavier_uniform"\n')
        bigin.initialize("r.toml", f"{prefix}g.zarr")
        assert bigin.signal("r.toml", f"{prefix}g.zarr").layers
        made.append(bigin.virtual((9, 9), "normal", name="w")[3:5])
        return made

    expected = everything("a")
    with np.errstate(all="raise"):
        values = everything("b")
    for one, other in zip(values, expected, strict=True):
        assert (bits(one) == bits(other)).all()
