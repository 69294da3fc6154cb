"""The memory that is available, where control groups limit it: on a hierarchy of our own."""

from __future__ import annotations

from pathlib import Path

import pytest

from bigin.core import memory
from bigin.core.limits import Limits

GIB = 1 << 30
V2 = ("memory.max", "memory.current")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes")


@pytest.fixture
def groups(monkeypatch):
    """Makes control groups, from path to (limit, usage), with this process in one of them."""
    monkeypatch.setattr(memory, "CGROUPS", Path("cgroup"))
    monkeypatch.setattr(memory, "OURS", Path("ours"))
    monkeypatch.setattr(memory, "_system", lambda: 100 * GIB)

    def make(ours: str, names: tuple[str, str], **limits: tuple[object, int]) -> None:
        Path("ours").write_text(ours)
        for path, values in limits.items():
            folder = Path("cgroup") / path.replace("__", "/")
            folder.mkdir(parents=True, exist_ok=True)
            for name, value in zip(names, values, strict=True):
                (folder / name).write_text(f"{value}\n")

    return make


def test_the_tightest_of_nested_groups_counts(groups):
    """As Slurm and systemd nest them; the root has no limit."""
    limits = {"slurm": ("max", 50 * GIB), "slurm__job": (8 * GIB, 2 * GIB), "slurm__job__step": ("max", GIB)}
    groups("0::/slurm/job/step\n", V2, **limits)
    assert memory.available() == 6 * GIB
    assert Limits().memory == 6 * GIB // 4


def test_the_own_group_may_be_the_tightest(groups):
    groups("0::/a/b\n", V2, a=(8 * GIB, GIB), a__b=(3 * GIB, GIB))
    assert memory.available() == 2 * GIB


def test_version_1_has_a_hierarchy_for_memory(groups):
    ours = "12:cpu,cpuacct:/other\n5:memory:/slurm/uid_1/job_2\n0::/x\n"
    groups(ours, V1, memory__slurm=(1 << 62, GIB), memory__slurm__uid_1=(5 * GIB, GIB), other=(GIB, 0))
    assert memory.available() == 4 * GIB


def test_a_path_outside_of_what_a_container_sees(groups):
    """The mount's root is then the container's own group."""
    groups("0::/../../docker/abc\n", V2, **{".": (4 * GIB, GIB)})
    assert memory.available() == 3 * GIB


def test_a_group_that_is_used_up_leaves_nothing(groups):
    groups("0::/a\n", V2, a=(GIB, 2 * GIB))
    assert memory.available() == 0


def test_without_groups_it_is_what_the_system_has(groups):
    assert memory.available() == 100 * GIB
    groups("0::/\n", V2, **{".": ("max", GIB)})
    assert memory.available() == 100 * GIB
