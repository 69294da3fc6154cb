"""The worked examples, run as a user runs them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import reference
from common import LIMIT, ROOT

EXAMPLES = ROOT / "examples"


def lines_of(example: str) -> list[str]:
    """What an example prints, run from an empty folder."""
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT / "out" / "torchrec")]))
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": paths}
    environment["PYTHONUNBUFFERED"] = "1"  # print then writes a line in two: two processes that print at once are told
    done = subprocess.run(
        [sys.executable, EXAMPLES / example], capture_output=True, text=True, timeout=LIMIT, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def test_lenet5_by_rules():
    pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    *parameters, logits = lines_of("lenet5.py")
    assert logits == "logits (8, 10)"
    shapes = {
        "c1": (6, 1, 5, 5),
        "c3": (16, 6, 5, 5),
        "c5": (120, 16, 5, 5),
        "f6": (84, 120),
        "output": (10, 84),
    }
    expected = []
    for layer, shape in shapes.items():
        method = "xavier_uniform" if len(shape) == 4 else "xavier_normal"
        (first,) = reference.elements(method, {"gain": 5 / 3}, shape, "float32", 42, f"{layer}.weight", [0])
        expected.append([f"{layer}.weight", "x".join(map(str, shape)), method, f"{float(first):+.6f}"])
        expected.append([f"{layer}.bias", str(shape[0]), "zeros", "+0.000000"])
    assert [line.split() for line in parameters] == expected


@pytest.mark.slow
def test_two_processes_hold_the_bits_of_one():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    if not torch.distributed.is_available():
        pytest.skip("this torch has no torch.distributed")
    lines = lines_of("dtensor.py")
    assert [line.split()[:3] for line in lines] == [
        [method, placement, part]
        for method in ("normal", "xavier_uniform", "orthogonal")
        for placement, part in (("S(0)", "500x301"), ("S(1)", "1000x151"), ("R", "1000x301"))
    ]
    assert all(line.endswith(": the same bits") for line in lines)


@pytest.mark.slow
def test_flat_parameters():
    pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    assert lines_of("flat_parameters.py") == [
        f"{ranks} ranks of {size} elements: the same values"
        for ranks, size in ((1, 42370), (2, 21185), (3, 14124), (8, 5297))
    ]


@pytest.mark.slow
def test_a_table_larger_than_its_memory(tmp_path):
    assert lines_of("embedding_table.py") == [
        "made  1,500,000 rows, 183.1 MiB within 64MiB",
        "grown to 2,000,000 rows, 244.1 MiB within 64MiB",
        "the process stayed within it",
        "the old rows are what they were",
        "the last row is what it is alone",
        "rows brought back: 2",
        "every row is right",
    ]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_managed_collisions_of_torchrec():
    """Rows of evicted ids, in two processes: those of another rank's part have numbers of their own."""
    apart = (ROOT / "out" / "torchrec" / "torchrec").exists()
    if not apart and importlib.util.find_spec("torchrec") is None:
        pytest.skip("torchrec is not installed: docs/torchrec.md says how")
    assert lines_of("torchrec_collisions.py") == [
        "rank 0 of 2: rows 0 to 7 are what the law says",
        "rank 1 of 2: rows 8 to 15 are what the law says",
        "rank 0 of 2: trained; the rows of evicted ids are what the law says again",
        "rank 1 of 2: trained; the rows of evicted ids are what the law says again",
    ]


@pytest.mark.slow
def test_tables_of_torchrec():
    pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    apart = (ROOT / "out" / "torchrec" / "torchrec").exists()
    if not apart and importlib.util.find_spec("torchrec") is None:
        pytest.skip("torchrec is not installed: docs/torchrec.md says how")
    *shards, last = lines_of("torchrec_tables.py")
    assert sorted(shards) == sorted(
        [f"rank {rank} of {ranks}: {part} is what the table holds" for rank, ranks, part in (
            (0, 2, "users[0:1000, 0:16]"), (1, 2, "users[1000:2000, 0:16]"),
            (0, 2, "movies[0:500, 0:4]"), (1, 2, "movies[0:500, 4:8]"),
            (0, 1, "users[0:2000, 0:16]"), (0, 1, "movies[0:500, 0:8]"),
        )] + ["users: 20% of rows trained", "movies: 22% of rows trained"]
    )  # fmt: skip
    assert last == "users: 200 cold rows reset; 10% of rows trained"
