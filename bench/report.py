"""What a run found, for a terminal, for the README and as JSON."""

from __future__ import annotations

import datetime
import math
import os
import platform
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.cases import Case
from bench.measure import Spread
from bench.setting import cores
from bigin.cli.layout import print_table
from bigin.core.text import size_text
from bigin.rng.instructions import instruction_set

PACKAGES = ("numpy", "numba", "zarr", "torch", "dask", "jax", "mkl_random", "randomgen", "dgen-py")
COLUMNS = ("case", "size", "bigin GB/s", "ratio", "aim", "verdict", "peer", "peer GB/s")
README = ("case", "instructions", "bigin", "peer", "its values from an index", "ratio (lowest - highest)", "aim")


@dataclass(frozen=True)
class Result:
    """A case that was measured, skipped (with the reason) or found wrong (with what is)."""

    case: Case
    size: int
    spreads: tuple[Spread, Spread, Spread] | None = None
    skipped: str | None = None
    wrong: str | None = None

    @property
    def verdict(self) -> str:
        if self.skipped:
            return f"skipped: {self.skipped}"
        if self.spreads is None:
            return f"WRONG: {self.wrong}"
        return "met" if self.spreads[2].median >= self.case.goal else "missed"

    def joined(self, other: Result) -> Result:
        """The samples of both."""
        if self.spreads is None or other.spreads is None:
            return self if self.wrong else other
        pairs = zip(self.spreads, other.spreads, strict=True)
        ours, peer, ratio = (Spread(one.samples + two.samples) for one, two in pairs)
        return replace(self, spreads=(ours, peer, ratio))

    def cells(self) -> tuple[str, ...]:
        """The row of the table, and of the lines of progress."""
        ours, peer, ratio = self.spreads or (None, None, None)
        size = self.case.memory or size_text(self.size)
        goal = f"{self.case.goal:g}x"
        return (
            self.case.name,
            size,
            number(ours),
            number(ratio, "x"),
            goal,
            self.verdict,
            self.case.peer_name,
            number(peer),
        )

    def as_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "name": self.case.name,
            "size": self.case.memory or self.size,
            "peer": self.case.peer_name,
            "goal": self.case.goal,
            "by_index": self.case.by_index,
            "validated": self.spreads is not None,
            "verdict": self.verdict,
        }
        if self.spreads is not None:
            keys = ("ours_gb_per_s", "peer_gb_per_s", "ratio")
            found |= {key: spread.as_dict() for key, spread in zip(keys, self.spreads, strict=True)}
        return found


def number(spread: Spread | None, unit: str = "") -> str:
    """The median in three digits, with the lowest and the highest sample in as many places."""
    if spread is None:
        return "-"
    low, high = min(spread.samples), max(spread.samples)
    digits = max(0, 2 - math.floor(math.log10(spread.median))) if spread.median > 0 else 0
    return f"{spread.median:,.{digits}f}{unit} ({low:,.{digits}f} - {high:,.{digits}f})"


def print_results(results: list[Result]) -> None:
    """Print the table."""
    print_table("median (lowest - highest) of alternating runs", COLUMNS, [result.cells() for result in results])


def markdown(results: list[Result], machine: dict[str, Any]) -> str:
    """For the README."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [f"{machine['cpu']}, {machine['cores']} cores, {machine['memory']}; {versions}; {machine['date']}.", ""]
    lines += [f"| {' | '.join(README)} |", "|" + " --- |" * len(README)]
    return "\n".join([*lines, *(f"| {' | '.join(row(result, machine['instructions']))} |" for result in results)])


def row(result: Result, instructions: str) -> tuple[str, ...]:
    """A result in the README's columns: speeds as medians, the ratio with its extremes, bold where the aim is met."""
    case = result.case
    name = f"{case.name} ({case.memory or size_text(result.size)})"
    if result.spreads is None:
        return name, instructions, "-", case.peer_name, case.by_index or "-", result.verdict, f"{case.goal:g}x"
    ours, peer, ratio = result.spreads
    unit = "" if "GFLOP" in name else " GB/s"
    shown = f"{ratio.median:.2f}x"
    return (
        name,
        instructions,
        f"{ours.median:.3g}{unit}",
        f"{case.peer_name}: {peer.median:.3g}{unit}",
        case.by_index or "-",
        f"{f'**{shown}**' if result.verdict == 'met' else shown} ({min(ratio.samples):.3g} - {max(ratio.samples):.3g})",
        f"{case.goal:g}x",
    )


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cpu": cpu(),
        "instructions": instruction_set(),
        "cores": cores(),
        "memory": size_text(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def cpu() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
