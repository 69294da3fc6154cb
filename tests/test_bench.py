"""The benchmark cannot rot: every case runs, tiny, and is checked."""

import json
import os
import subprocess
import sys

import pytest
from common import ROOT


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "bench", "--quick", *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_every_case_runs_and_is_checked(tmp_path):
    ran = bench("--json", "out.json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert {"cpu", "cores", "memory", "system", "versions", "date"} <= found["machine"].keys()
    assert {"python", "numpy", "numba", "zarr"} <= found["machine"]["versions"].keys()
    assert found["options"]["quick"]
    assert len(found["cases"]) >= 14
    for case in found["cases"]:
        assert {"name", "size", "peer", "goal", "validated", "verdict"} <= case.keys()
        if case["verdict"].startswith("skipped: "):
            assert case["peer"].startswith(("torch", "dask", "numpy matmul"))
            assert "No module named" in case["verdict"]
            continue
        assert case["validated"]
        assert case["verdict"] in ("met", "missed")
        for key in ("ours_gb_per_s", "peer_gb_per_s", "ratio"):
            spread = case[key]
            assert 0 < spread["min"] <= spread["median"] <= spread["max"]
            assert len(spread["samples"]) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_markdown_of_one_case():
    ran = bench("--only", "numpy random", "--markdown")
    assert ran.returncode == 0, ran.stderr
    header, line, row = ran.stdout.splitlines()[-3:]
    assert header.startswith("| case |")
    assert set(line) <= set("| -")
    assert row.count("|") == header.count("|")


def test_unknown_case():
    ran = bench("--only", "nothing like this")
    assert ran.returncode == 2
    assert "no case holds" in ran.stderr


def test_wrong_output_fails(tmp_path):
    """The checks do notice: a reference that disagrees makes the run fail."""
    code = (
        "import sys, numpy as np; from bench import check\n"
        "check.expected_values = lambda m, p, s, d, i: np.zeros(len(i), d)\n"
        "sys.argv = ['bench', '--quick', '--only', 'numpy random']; import runpy; runpy.run_module('bench')"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert ran.returncode == 1, ran.stderr
    assert "WRONG" in ran.stdout
