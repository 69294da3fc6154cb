"""What commands print: tables, lists, a progress bar and closing lines."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import click

from bigin.core.compiling import LONG, clock
from bigin.core.text import counted, duration_text, size_text

if TYPE_CHECKING:
    from bigin.jobs.compare import Verification
    from bigin.jobs.report import Report

NARROWEST, WIDEST = 40, 100  # columns that text is wrapped to
LEAST = 40  # columns of a table's wrapped column
SHOWN = 20  # differences that are printed
LISTED = 5  # names in a line about many


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, wrapped: str = "", footer: str = ""
) -> None:
    """Print rows of cells, on the width of the terminal, or in a pipe on COLUMNS or 80 columns.

    In a pipe only the column `wrapped` is wrapped: names and numbers stay whole, so that they can be searched for, and
    the table is wider where they need it. No cell is read as rich's markup, as names may hold brackets.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, cells = Console(color_system=None if in_notebook() else "auto"), [list(map(Text, row)) for row in rows]
    table = Table(title=Text(title, "italic"))
    if console.is_terminal:
        for column in columns:
            table.add_column(Text(column), overflow="fold")
    else:
        widths = [max(cell.cell_len for cell in column) for column in zip(map(Text, columns), *cells, strict=True)]
        borders = 3 * len(columns) + 1
        if wrapped:
            at = columns.index(wrapped)
            widths[at] = max(min(LEAST, widths[at]), widths[at] - max(0, sum(widths) + borders - console.width))
        console = Console(width=max(console.width, sum(widths) + borders))
        if Text(title).cell_len <= sum(widths) + borders and not (in_notebook() or console.options.ascii_only):
            click.echo(piped_table(title, columns, cells, widths, console))
            if footer:
                click.echo(footer)
            return
        for column, width in zip(columns, widths, strict=True):
            table.add_column(Text(column), overflow="fold", width=width)
    for row in cells:
        table.add_row(*row)
    console.print(table)
    if footer:
        click.echo(footer)


def piped_table(title: str, columns: Sequence[str], cells: Sequence[Any], widths: Sequence[int], console: Any) -> str:
    """The lines that rich prints of a table, in a tenth of its time: a model has thousands of tensors."""
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    def rule(left: str, stroke: str, between: str, right: str) -> str:
        return left + between.join(stroke * (width + 2) for width in widths) + right

    def row(texts: Sequence[Any], bar: str) -> Iterator[str]:
        wrapped = [
            [text.plain]
            if text.cell_len <= width and "\n" not in text.plain
            else [line.plain.rstrip() for line in text.wrap(console, width, overflow="fold")]
            for text, width in zip(texts, widths, strict=True)
        ]
        for parts in zip_longest(*wrapped, fillvalue=""):
            padded = (set_cell_size(part, width) for part, width in zip(parts, widths, strict=True))
            yield f"{bar} " + f" {bar} ".join(padded) + f" {bar}"

    top = rule("┏", "━", "┳", "┓")
    lines = [top, *row([Text(column) for column in columns], "┃"), rule("┡", "━", "╇", "┩")]
    for texts in cells:
        lines += row(texts, "│")
    left = (len(top) - cell_len(title)) // 2
    head = " " * left + title + " " * (len(top) - cell_len(title) - left)
    return "\n".join([head, *lines, rule("└", "─", "┴", "┘")])


def print_entries(entries: Iterable[tuple[str, Sequence[str]]], footer: str = "") -> None:
    """Print names, each with some lines about it, wrapped to the terminal's width, or to 80 columns in a pipe."""
    width = max(NARROWEST, min(WIDEST, shutil.get_terminal_size().columns))
    for name, lines in entries:
        click.secho("\n".join(textwrap.wrap(name, width)), bold=True)
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
        size = f" of {size_text(total)}, {rate / 1e9:.2f} GB/s" if total > SMALL else ""
        click.echo(f"{self.label}: {100 * done // total}%{size}{left}", err=True)


SMALL = 1 << 20  # below this a total is a number of steps, not of bytes


def in_notebook() -> bool:
    """Return whether the command was given in a notebook, whose pseudo-terminal keeps every control code as text."""
    return "JPY_PARENT_PID" in os.environ  # jupyter_client sets it for the processes of a kernel


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
    """Return what a verification says: a line for each region that differs, and a line for all."""
    lines = []
    for told in (result.tensors, [str(difference) for difference in result.differences]):
        lines += told[:SHOWN]
        if len(told) > SHOWN:
            lines.append(f"... and {len(told) - SHOWN} more")
    if result.skipped:
        lines.append(f"{counted(len(result.skipped), 'tensor')} skipped by the recipe: {listed(result.skipped)}")
    which = "all" if result.regions == result.total else f"{result.regions} of {result.total}"
    count = len(result.differences)
    if result.equal:
        outcome = "equal"
    elif result.by:
        differ = f"{counted(count, 'region')} {'differs' if count == 1 else 'differ'}"
        tensors = counted(len(result.tensors), "tensor")
        outcome = " and ".join([differ] * bool(count) + [f"{tensors} not as expected"] * bool(result.tensors))
    else:
        which_differ = "1 region differs" if count == 1 else f"{count} regions differ"
        outcome = f"{which_differ}; " + ("repaired" if result.repaired else remedy)
    speed = pace(result.nbytes, result.seconds)
    lines.append(f"{result.target}: {which} regions compared with {result.wanted}: {outcome}; {speed}")
    return "\n".join(lines)


def listed(names: Sequence[str]) -> str:
    """Return the first of some names."""
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")


def pace(nbytes: int, seconds: float) -> str:
    """Return how much was done, and how fast."""
    return f"{size_text(nbytes)} in {seconds:.2f} s, {nbytes / max(seconds, 1e-9) / 1e9:.2f} GB/s"
