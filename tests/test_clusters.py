"""The files of docs/clusters: each is run as it stands, but for sizes, /shared and the addresses of clusters."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import zarr
from common import BIGIN, ROOT

import bigin

PARTS = 5
SMALLER = {
    "/shared": ".",
    "10000000000,256": "5000,256",
    "10_000_000_000, 256": "5000, 256",
    "--parts 500": f"--parts {PARTS}",
    "parts=500": f"parts={PARTS}",
    "--dtype bfloat16": "--dtype bfloat16 --chunks 500,256",
    'dtype="bfloat16"': 'dtype="bfloat16", chunks=(500, 256)',
}


def files(page: str) -> dict[str, list[str]]:
    """The files of a page, by their names: fenced blocks with a title, in their order."""
    text = (ROOT / "docs" / "clusters" / f"{page}.md").read_text()
    found: dict[str, list[str]] = {}
    for name, block in re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```$', text, re.MULTILINE | re.DOTALL):
        found.setdefault(name, []).append(block)
    return found


def small(text: str) -> str:
    """A file with a table that takes no time."""
    for old, new in SMALLER.items():
        text = text.replace(old, new)
    return text


def call(*command: str, **environment: str) -> str:
    """What a command prints; `bigin` and `python` are those of the tests."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    python = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        command, env=os.environ | {"PATH": path, "PYTHONPATH": python} | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def script(name: str, text: str) -> str:
    """A file that is there, in small."""
    Path(name).write_text(small(text))
    return name


def check_filled() -> None:
    """The table is that of one process."""
    assert bigin.verify("table.zarr").equal
    assert zarr.open_array("table.zarr").shape == (5000, 256)
    assert not Path("table.zarr.bigin.parts").exists()


def work_as(command: list[str], variable: str) -> None:
    """What every task of an array would do, in this process' folder."""
    assert command[:2] == ["bigin", "work"]
    for number in (3, 0, 1, 4, 2, 2):
        call(*BIGIN, *map(small, command[1:]), **{variable: str(number)})


def test_every_page_has_files_and_a_place_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [path.stem for path in sorted((ROOT / "docs" / "clusters").glob("*.md"))]
    assert set(pages) >= {"slurm", "kubernetes", "aws-batch", "dask", "ray", "torchrun"}
    for page in pages:
        assert files(page)
        assert f"clusters/{page}.md" in navigation
        assert f"clusters/{page}.md" in (ROOT / "docs" / "scale.md").read_text()


def test_files_of_aws_batch():
    found = files("aws-batch")
    definition = json.loads(found["definition.json"][0])
    command = definition["containerProperties"]["command"][-1]
    assert command.endswith("exec bigin work /tmp/plan.json --threads 4")
    assert "size=500" in found["run.sh"][0]


@pytest.mark.slow
def test_commands_of_aws_batch():
    bigin.plan("table.zarr", "normal", shape=(5000, 256), chunks=(500, 256), parts=PARTS).write("plan.json")
    work_as(["bigin", "work", "plan.json", "--threads", "1"], "AWS_BATCH_JOB_ARRAY_INDEX")
    call(*BIGIN, "finish", "plan.json")
    check_filled()


@pytest.mark.slow
def test_files_of_kubernetes():
    yaml = pytest.importorskip("yaml", reason="yaml is not installed: pip install pyyaml")
    found = files("kubernetes")
    job = yaml.safe_load(found["fill.yaml"][0])
    assert (job["spec"]["completionMode"], job["spec"]["completions"]) == ("Indexed", 500)
    call("bash", "-c", small(found["plan.sh"][0]))
    work_as(job["spec"]["template"]["spec"]["containers"][0]["command"], "JOB_COMPLETION_INDEX")
    finish = json.loads(found["finish.json"][0])["spec"]["containers"][0]["command"]
    call(*BIGIN, *map(small, finish[1:]))
    check_filled()


@pytest.mark.slow
def test_files_of_slurm_without_slurm():
    """scripts/check-cluster runs them under Slurm. Here the scheduler's commands are left out."""
    found = files("slurm")
    submit = [line for line in small(found["submit.sh"][0]).split("\n") if "sbatch" not in line]
    call("bash", "-c", "\n".join(submit))
    task = script("fill.sbatch", found["fill.sbatch"][0])
    for number in (4, 0, 2, 1, 3, 3):
        call("bash", task, SLURM_ARRAY_TASK_ID=str(number), SLURM_ARRAY_TASK_MAX="4", SLURM_CPUS_PER_TASK="1")
    call(*BIGIN, "finish", "plan.json")
    check_filled()


@pytest.mark.slow
def test_files_of_dask():
    distributed = pytest.importorskip("distributed", reason="distributed is not installed: pip install distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50
    ) as cluster:
        assert "bytes" in call(
            sys.executable, script("fill.py", files("dask")["fill.py"][0]), cluster.scheduler_address
        )
    check_filled()


@pytest.mark.slow
def test_files_of_ray():
    pytest.importorskip("ray", reason="ray is not installed: pip install ray")
    assert "bytes" in call(sys.executable, script("fill.py", files("ray")["fill.py"][0]), RAY_ADDRESS="local")
    check_filled()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install torch")
def test_files_of_torchrun():
    found = files("torchrun")
    call("bash", script("fill.sh", found["fill.sh"][0]), RANKS="2")
    check_filled()
    bigin.plan("other.zarr", "normal", shape=(5000, 256), chunks=(500, 256), parts=PARTS).write("plan.json")
    train = script("train.py", found["train.py"][0])
    call("torchrun", "--standalone", "--nproc-per-node", "2", train)
    assert bigin.verify("other.zarr").equal
