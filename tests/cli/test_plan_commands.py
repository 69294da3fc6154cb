"""bigin plan, work, status and finish, and what bigin fill says beforehand, as a user gives them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from common import run

from bigin.cli import printing

TABLE = ("--method", "normal", "--shape", "700,1000", "--chunks", "64,1000")


@pytest.mark.slow
def test_a_job_array():
    run("plan", "w.zarr", *TABLE, "--parts", 4, "-o", "p.json")
    assert "1 of 4" not in run("status", "p.json", code=1).stdout
    for number in (3, 0):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_ARRAY_TASK_ID", str(number))
            patch.setenv("SLURM_ARRAY_TASK_MAX", "3")
            assert f"part {number}: " in run("work", "p.json").stdout
    assert "parts 1-2 are not done" in run("finish", "p.json", code=1).stderr
    assert "missing: 1-2" in run("status", "p.json", code=1).stdout
    assert run("work", "p.json", "--part", "2-3", "--one-based", "--threads", 1).stdout.count("part ") == 2
    assert json.loads(run("status", "p.json", "--json").stdout)["complete"] is True
    assert json.loads(run("finish", "p.json", "--json").stdout)["nbytes"] == 2_800_000
    assert "already filled" in run("finish", "p.json").stdout
    assert "expected parts from 0 to 3" in run("work", "p.json", "--part", 4, code=2).stderr
    run("verify", "w.zarr", "--parts", 2, "-o", "v.json")
    run("work", "v.json", "--part", "0-1")
    assert "equal" in run("finish", "v.json").stdout


def test_where_there_is_no_terminal_a_line_of_progress_comes_each_half_minute(monkeypatch, capsys):
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr(printing, "time", clock)
    now = 0.0
    with printing.progress_bar("w.zarr, part 3", quiet=False) as progress:
        for second in range(0, 100, 7):
            now = float(second)
            progress(second << 30, 100 << 30)
    assert capsys.readouterr().err.splitlines() == [
        "w.zarr, part 3: 35% of 100.0 GiB, 1.07 GB/s, 65 s left",
        "w.zarr, part 3: 70% of 100.0 GiB, 1.07 GB/s, 30 s left",
    ]
    now = 0.0
    with printing.progress_bar("w", quiet=False) as progress:
        for now in (0.0, 29.0, 31.0):
            progress(int(now), 1000)  # a number of steps
    assert capsys.readouterr().err == "w: 3%, 16 min left\n"
    with printing.progress_bar("w", quiet=True) as progress:
        assert progress is None


def test_a_dry_run_changes_nothing():
    said = run("fill", "w.zarr", *TABLE, "--dry-run").stdout
    assert "2.7 MiB in 11 chunks of 64x1000" in said
    assert "measured beside the target" in said
    assert json.loads(run("fill", "w.npy", *TABLE[:4], "--dry-run", "--json").stdout)["action"] == "fill"
    assert not list(Path().iterdir())
    assert json.loads(run("fill", "w.zarr", *TABLE, "--json").stdout)["record"]["complete"] is True


@pytest.mark.slow
def test_statistics_and_a_grow_in_parts():
    table = ("--num-embeddings", 1000, "--embedding-dim", 64, "--method", "normal", "--chunks", 100)
    run("table", "create", "t.zarr", *table)
    assert "2 parts of" in run("table", "grow", "t.zarr", 3000, "--parts", 2, "-o", "g.json").stdout
    told = json.loads(run("table", "grow", "t.zarr", 3000, "--parts", 2, "-o", "g.json", "--json").stdout)
    assert (told["plan"], told["parts"]) == ("g.json", 2)
    assert "missing: 0-1" in run("status", "g.json", code=1).stdout
    run("work", "g.json", "--part", "0-1", "-q")
    assert "filled with normal" in run("finish", "g.json").stdout
    assert "equal" in run("table", "verify", "t.zarr").stdout
    run("show", "t.zarr", "--parts", 3, "-o", "s.json")
    run("work", "s.json", "--part", "0-2", "-q")
    assert json.loads(run("finish", "s.json", "--json").stdout)["statistics"]["count"] == 192_000
    assert "mean" in run("finish", "s.json").stdout
    assert "without --plot" in run("show", "t.zarr", "--parts", 3, "--plot", "a.png", code=2).stderr
