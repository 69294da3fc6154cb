"""DeepSpeed's ZeRO-3: every rank fills its partitions, which together are what one process makes."""

from __future__ import annotations

import importlib.util
import os

import pytest
from common import ROOT, run_ranks

pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")

APART = ROOT / "out" / "deepspeed"  # where .ci/run installs it


@pytest.mark.slow
def test_partitions_hold_what_one_process_makes(tmp_path, monkeypatch):
    if importlib.util.find_spec("deepspeed") is None and not (APART / "deepspeed").exists():
        pytest.skip("deepspeed is not installed: pip install --no-deps --target out/deepspeed deepspeed ... (.ci/run)")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(APART)]))
    for lines in run_ranks("ranks_zero.py", 2, tmp_path / "meeting"):
        assert [line for line in lines if line in CASES] == CASES


CASES = ["rules", "recorded", "replaced", "refused", "trained"]
