"""The benchmark cannot rot: every case runs, tiny, and is checked."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from common import LIMIT, ROOT

from bench import against, clusters, configurations, growth
from bench.cases import CASES
from bench.measure import Spread, burst
from bench.report import Result, print_results


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
    assert {"cpu", "instructions", "cores", "memory", "system", "versions", "date"} <= found["machine"].keys()
    assert {"python", "numpy", "numba", "zarr"} <= found["machine"]["versions"].keys()
    assert found["options"]["quick"]
    assert len(found["cases"]) >= 14
    for case in found["cases"]:
        assert {"name", "size", "peer", "goal", "validated", "verdict"} <= case.keys()
        if case["verdict"].startswith("skipped: "):
            peers = (
                "torch",
                "dask",
                "numpy matmul",
                "jax",
                "mkl_random",
                "randomgen",
                "dgen-py",
                "Random123",
                "safetensors",
            )
            assert case["peer"].startswith(peers)
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


@pytest.mark.slow
def test_unknown_case():
    ran = bench("--only", "nothing like this")
    assert ran.returncode == 2
    assert "no case holds" in ran.stderr


@pytest.mark.slow
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


def run_of(machine: str, ours: list[float], ratio: list[float], peer: str = "torch") -> dict:
    """A run of one case, as --json keeps it."""
    spreads = {key: Spread(samples).as_dict() for key, samples in (("ours_gb_per_s", ours), ("ratio", ratio))}
    case = {"name": "a case", "size": "in memory", "peer": peer, "validated": True, **spreads}
    return {"machine": {"cpu": machine, "instructions": "avx2", "cores": 2}, "cases": [case]}


def test_a_case_is_slower_by_more_than_the_noise_of_both_runs():
    before = run_of("a", [5.0, 5.2, 5.1], [2.0, 2.1, 2.2])
    lines, count = against.slower(run_of("a", [4.0, 4.9], [1.8, 1.9]), before)
    assert count == 1
    assert lines == ["slower: a case, torch: 4.45, was 5.1; ratio 1.85x, was 2.10x"]
    assert against.slower(run_of("a", [4.0, 5.05], [1.8, 1.9]), before) == ([], 1)
    assert against.slower(run_of("a", [4.0, 4.9], [1.8, 2.05]), before) == ([], 1), "the machine was busy"
    own = run_of("a", [5.0], [1.0], peer="bigin without")
    assert len(against.slower(run_of("a", [4.0], [1.0], peer="bigin without"), own)[0]) == 1


def test_samples_of_a_second_measurement_count_too():
    """A case that looks slower is measured again: one sample as fast as before clears it."""
    case = next(case for case in CASES if case.name.startswith("float32 uniform, one core"))
    first, second = (Result(case, 1, (Spread([a]), Spread([1.0]), Spread([a]))) for a in (4.0, 5.1))
    before = run_of("a", [5.0, 5.2], [5.0, 5.2], peer=case.peer_name)
    before["cases"][0] |= {"name": case.name, "size": first.as_dict()["size"]}
    slow = {"cases": [first.as_dict()]}
    assert len(against.slower(slow, before)[0]) == 1
    assert against.slower({"cases": [first.joined(second).as_dict()]}, before) == ([], 1)
    assert len(against.slower({"cases": [first.joined(first).as_dict()]}, before)[0]) == 1


@pytest.mark.slow
def test_figures_of_another_machine_are_refused(tmp_path):
    (tmp_path / "old.json").write_text(json.dumps(run_of("another CPU", [5.0], [2.0])))
    ran = bench("--only", "numpy random", "--against", "old.json")
    assert ran.returncode == 2
    assert "got those of cpu another CPU" in ran.stderr.replace("\n", " ")


@pytest.mark.slow
def test_a_run_is_compared_with_an_earlier_one(tmp_path):
    assert bench("--only", "numpy random", "--json", "old.json").returncode == 0
    old = json.loads((tmp_path / "old.json").read_text())
    for case in old["cases"]:
        case["ours_gb_per_s"]["min"], case["ratio"]["min"] = 1e9, 1e9
    (tmp_path / "fast.json").write_text(json.dumps(old))
    ran = bench("--only", "numpy random", "--against", "fast.json")
    assert ran.returncode == 1, ran.stderr
    assert ran.stdout.splitlines()[-1].startswith("slower: float32 uniform, one core, numpy random(out=): ")


@pytest.mark.slow
def test_growth_compares_like_with_like(tmp_path):
    npy, by_size, by_chunks = growth.layouts(16 << 30, 10_000, 64 << 10)
    assert [one.nbytes >> 30 for one in npy] == [one.nbytes >> 30 for one in by_size] == [1, 4, 16]
    assert [one.rows // one.chunks[0] for one in by_chunks] == [100, 1000, 10_000]
    small = growth.Layout("small", "w.zarr", 64, (4, growth.COLUMNS))
    assert {one.nbytes // one.count for one in by_chunks} == {64 << 10}
    found = growth.measured(small, tmp_path, sync=False)
    assert found.wall > 0
    assert found.cpu > 0
    assert found.peak >= found.before > 1 << 20
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ways_from_a_configuration_are_measured(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 'bigin[test-models]'")
    seconds, cpu, peak, nbytes = configurations.measured("bigin.torch.Configuration", 0, tmp_path)
    assert seconds > 0
    assert 0 < cpu < 120
    assert peak > 1 << 27
    assert nbytes > 2 * 2 * 32000 * 2048
    assert not list(tmp_path.iterdir())


def test_the_model_of_a_cluster():
    even = clusters.Cluster(10, 100, 100e9, 1e6, 1e9, spread=0.0, lost=0.0, start=2.0, overhead=0.5)
    assert clusters.simulate(even).seconds == pytest.approx(2 + 10 * (1 + 0.5))
    assert clusters.simulate(replace(even, bandwidth=2e9)).seconds == pytest.approx(50, rel=0.2)
    assert clusters.simulate(replace(even, requests=1000)).seconds == pytest.approx(100, rel=0.2)  # 1 MB each
    slow = clusters.simulate(replace(even, slow=1))
    assert 17 < slow.seconds < 30
    lossy = clusters.simulate(replace(even, lost=600.0, pause=1.0))  # each worker once in 6 s
    assert lossy.again > 5
    assert lossy.seconds > 17
    np.testing.assert_allclose(clusters.shared(np.array([10.0, 1.0, 2.0]), 6.0), [3.0, 1.0, 2.0])
    np.testing.assert_allclose(clusters.shared(np.array([10.0, 1.0, 2.0]), 60.0), [10.0, 1.0, 2.0])


@pytest.mark.slow
def test_the_model_of_a_cluster_beside_a_real_plan(tmp_path):
    small = replace(clusters.SMALL, workers=4, parts=12, nbytes=12e6)
    clusters.measured(replace(small, nbytes=1), tmp_path)  # compiles
    said = clusters.simulate(replace(small, overhead=0.0)).seconds
    assert said <= clusters.measured(small, tmp_path) < 3 * said + 10  # a busy machine is late, never early


@pytest.mark.slow
def test_readers_of_computed_and_stored_arrays():
    pytest.importorskip("tensorstore", reason="tensorstore is not installed: pip install 'bigin[test-zarr]'")
    command = [sys.executable, "-m", "bench.readers", "--size", "4MiB", "--chunk", "1MiB", "--repeats", "1"]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [*command, "--folder", "."],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("GB/s") == 1
    assert "tensorstore, bigin serve" in done.stdout


@pytest.mark.slow
def test_shards_beside_those_of_jax(tmp_path):
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not installed: pip install 'bigin[test-jax]'")
    ran = subprocess.run(
        [sys.executable, "-m", "bench.sharded", "--quick", "--only", "glorot_uniform"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    header, _, *rows = ran.stdout.splitlines()[1:]
    assert header.startswith("| values | way |")
    assert len(rows) == 3
    for row in rows:
        assert all(float(cell) >= 0 for cell in row.split("|")[3:7]), row


def test_the_table_takes_the_width_and_has_three_digits(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    slow = Result(CASES[0], 1 << 30, (Spread([0.0000912, 0.0000898]), Spread([16.51]), Spread([0.0544])))
    print_results([slow, Result(CASES[1], 1 << 30, skipped="No module named 'dask'")])
    printed = capsys.readouterr().out
    assert "0.0000905 (0.0000898 - 0.0000912)" in printed
    assert "16.5 (16.5 - 16.5)" in printed
    assert "0.0544x" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_burst_makes_something_on_a_busy_machine():
    assert burst(lambda i: i + 1, -1.0) == 36
