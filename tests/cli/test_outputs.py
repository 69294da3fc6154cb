"""Small files that commands write: refused before any work if they cannot be written, or would destroy others."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from common import command as run

import bigin


@pytest.fixture
def table() -> Path:
    bigin.EmbeddingTable.create("t.npy", 100, 4, "normal", seed=3)
    return Path("t.npy")


def files() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "command",
    [
        ("attest", "t.npy", "-o"),
        ("plan", "new.npy", "-m", "normal", "--shape", "1000,8", "--parts", "1", "-o"),
        ("verify", "t.npy", "--parts", "1", "-o"),
        ("show", "t.npy", "--parts", "1", "-o"),
        ("table", "grow", "t.npy", "200", "--parts", "1", "-o"),
        ("table", "verify", "t.npy", "--changed"),
    ],
    ids=lambda command: " ".join(command[:2]),
)
@pytest.mark.parametrize(
    ("output", "message"),
    [("t.npy", "another file"), ("none/x", "expected an existing folder"), (".", "got a folder")],
)
def test_an_output_that_cannot_be_is_refused_before_any_work(command, output, message, table):
    before = files()
    done = run(*command, output)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr
    assert files() == before


def test_other_documents_are_not_replaced_and_earlier_ones_are(table):
    for text in ('{"a": 1}', "[1]", "text", '{"format"'):
        Path("held.json").write_text(text)
        for command in (("attest", "t.npy", "-o"), ("verify", "t.npy", "--parts", "1", "-o")):
            done = run(*command, "held.json")
            assert done.returncode == 2, done.stdout
            assert "expected a new file or an earlier" in done.stderr
    Path("held.json").write_text("")
    for command in (("attest", "t.npy", "-o"), ("verify", "t.npy", "--parts", "1", "-o"), ("attest", "t.npy", "-o")):
        assert run(*command, "held.json").returncode == 0
    assert json.loads(Path("held.json").read_text())["format"] == "bigin attestation 1"
    done = run("work", "held.json", "--part", 0)
    assert "expected a plan that `bigin plan` has written, got another file" in done.stderr
    with pytest.raises(bigin.ExistsError, match="earlier plan"):
        bigin.plan("new.npy", "normal", shape=(1000, 8), parts=1).write("t.npy")


def test_ranges_of_ids_take_no_memory_before_they_are_refused(table):
    np.save("rows.npy", np.zeros((2, 4), np.float32))
    for ids in ("0:99999999999999", "0:999999999999999999999999", "5,9999999999999999999999:3"):
        done = run("table", "update", "t.npy", ids, "rows.npy")
        assert done.returncode == 2
        assert "expected at most 268435456 ids below 2^63" in done.stderr
    done = run("table", "update", "t.npy", "9" * 30, "rows.npy")
    assert "expected ids below 2^63, got 999" in done.stderr
    assert run("table", "update", "t.npy", "5:7", "rows.npy").returncode == 0
    assert not bigin.EmbeddingTable.open("t.npy")[5:7].any()


def test_shards_of_whole_chunks():
    done = run("fill", "x.zarr", "-m", "normal", "--shape", "30", "--shards", "10", "--chunks", "4")
    assert (done.returncode, Path("x.zarr").exists()) == (2, False)
    assert "expected shards of whole chunks, got shards of (10,) and chunks of (4,)" in done.stderr
