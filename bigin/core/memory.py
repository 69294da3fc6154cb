"""How much memory is available, and how many cores this process may use."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
OURS = Path("/proc/self/cgroup")  # the groups that this process is in


def available() -> int:
    """Bytes that can be taken without swapping: the system's, or what the tightest control group leaves."""
    return max(0, min([_system(), *_groups()]))


def _system() -> int:
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _groups() -> Iterator[int]:
    """What each control group around this process leaves: Slurm, systemd and containers nest them.

    Version 2 has one hierarchy, version 1 one of its own for memory. Inside a container the path that the kernel tells
    may lie outside of what is mounted; the mount's root is then the container's own group.
    """
    try:
        lines = OURS.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, limit, usage = CGROUPS, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, limit, usage = CGROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):  # no limit ("max"), or no such group here
                yield int((folder / limit).read_text()) - int((folder / usage).read_text())
            if folder == root:
                break


def threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
