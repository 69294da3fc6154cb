"""How much memory there is, and how much this process has."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from bigin.core.text import parse_size


def available() -> int:
    """Bytes that can be taken without swapping: the system's, or what the control group leaves."""
    limits = [_system()]
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # no limit ("max"), or no such control group
        limits.append(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(0, min(limits))


def limit(max_memory: int | str | None) -> int:
    """Bytes that a caller may take: what was asked for, or a quarter of what is available."""
    return available() // 4 if max_memory is None else parse_size(max_memory)


def _system() -> int:
    try:
        with open("/proc/meminfo") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def resident() -> int:
    """Bytes of memory that this process has now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def threads() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
