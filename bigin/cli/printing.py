"""What commands print: lists, a progress bar and closing lines."""

from __future__ import annotations

import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import click

from bigin.cli.layout import in_notebook, strong, text_width, wrapped_text
from bigin.core.compiling import LONG, clock
from bigin.core.text import agree, counted, duration_text, rate_text, size_text

if TYPE_CHECKING:
    from bigin.jobs.compare import Verification
    from bigin.jobs.report import Report

WIDEST = 100  # columns that text is wrapped to
SHOWN = 20  # differences that are printed
LISTED = 5  # names in a line about many


def print_entries(entries: Iterable[tuple[str, Sequence[str]]], footer: str = "") -> None:
    """Print names, each with some lines about it, wrapped to the terminal's width, or to 80 columns in a pipe."""
    width = min(WIDEST, text_width())
    for name, lines in entries:
        click.echo(strong("\n".join(textwrap.wrap(name, width))))
        for line in lines:
            click.echo(_wrap(line, width, 4))
    if footer:
        click.echo()
        click.echo(_wrap(footer, width))


def _wrap(text: str, width: int, indent: int = 0) -> str:
    return textwrap.fill(
        text, width, initial_indent=" " * indent, subsequent_indent=" " * 2 * indent, break_on_hyphens=False
    )


LINE = 30.0  # seconds between two lines of progress where there is no terminal


class Lines:
    """Progress for a job's log: a line now and then, and none of what is done before the first is due."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.start = self.last = time.monotonic()
        self.first: int | None = None  # bytes that were there at the first call

    def __call__(self, done: int, total: int) -> None:
        """Print a line, if one is due."""
        now = time.monotonic()
        if self.first is None:
            self.first = done
        if now - self.last < LINE or not total:
            return
        self.last = now
        rate = (done - self.first) / (now - self.start)
        left = f", {duration_text((total - done) / rate)} left" if rate else ""
        size = f" of {size_text(total)}, {rate_text(rate)}" if total > SMALL else ""
        click.echo(f"{self.label}: {100 * done // total}%{size}{left}", err=True)


SMALL = 1 << 20  # below this a total is a number of steps, not of bytes


@contextmanager
def progress_bar(label: str, *, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show a live bar on a terminal, and that compiling takes long; elsewhere a line every half minute."""
    if quiet:
        yield None
        return
    if not sys.stderr.isatty() or in_notebook():
        yield Lines(label)
        return
    clock.tell = _tell_compiling
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _tell_compiling() -> None:
    """Say why nothing happens yet, from the clock's thread."""
    with suppress(OSError, ValueError):  # of a stream that is closed
        click.echo("bigin: compiling kernels, which are kept for later runs ...", err=True)


def summary(report: Report) -> str:
    """Return the closing line of a fill: what was filled, how much, how fast."""
    record = report.record
    shape = "x".join(map(str, record["shape"])) or "scalar"
    name = f", name {record['name']}" if record["name"] else ""
    return outcome(report, f"{shape} {record['dtype']}", f"filled with {record['method']}, seed {record['seed']}{name}")


def outcome(report: Report, what: str, values: str) -> str:
    """Return the closing line of a fill, given what was filled, and with what."""
    if report.stored and not report.nbytes:
        return f"{report.target}: {what} already {values}; --overwrite fills it again"
    stored = f", {size_text(report.stored)} already stored" if report.stored else ""
    retries = f", {counted(report.retries, 'retried operation')}" if report.retries else ""
    device = "" if report.device == "cpu" else f"; computed on {report.device}"
    compiling = f", after {report.compiling:.1f} s of compiling kernels" if report.compiling >= LONG else ""
    speed = pace(report.nbytes, report.seconds)
    return f"{report.target}: {what} {values}; {speed}{compiling}{stored}{retries}{device}"


def verdict(result: Verification, remedy: str = "--repair fills it again") -> str:
    """Return what a verification says: a text for each region that differs, and a line for all."""
    lines: list[str] = []
    for told in (result.tensors, [str(difference) for difference in result.differences]):
        lines += map(wrapped_text, told[:SHOWN])
        if len(told) > SHOWN:
            lines.append(f"... and {len(told) - SHOWN} more")
    if result.skipped:
        skipped = f"{counted(len(result.skipped), 'tensor')} skipped by the recipe: {listed(result.skipped)}"
        lines.append(wrapped_text(skipped))
    which = "all" if result.regions == result.total else f"{result.regions} of {result.total}"
    count = len(result.differences)
    differ = f"{counted(count, 'region')} {agree(count, 'differs', 'differ')}"
    if result.equal:
        outcome = "equal"
    elif result.by:
        tensors = counted(len(result.tensors), "tensor")
        outcome = " and ".join([differ] * bool(count) + [f"{tensors} not as expected"] * bool(result.tensors))
    else:
        outcome = f"{differ}; " + ("repaired" if result.repaired else remedy)
    speed = pace(result.nbytes, result.seconds)
    lines.append(f"{result.target}: {which} regions compared with {result.wanted}: {outcome}; {speed}")
    return "\n".join(lines)


def listed(names: Sequence[str]) -> str:
    """Return the first of some names."""
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")


def pace(nbytes: int, seconds: float) -> str:
    """Return how much was done, and how fast."""
    return f"{size_text(nbytes)} in {seconds:.2f} s, {rate_text(nbytes / max(seconds, 1e-9))}"
