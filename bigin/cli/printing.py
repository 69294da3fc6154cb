"""What commands show: tables, a bar while they work, a line at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bigin.core.text import size_text

if TYPE_CHECKING:
    from bigin.api.filling import Report
    from bigin.api.verifying import Verification

WIDTH = 160  # of a table, where there is no terminal
SHOWN = 20  # differences that are printed


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], footer: str = "", lines: bool = True
) -> None:
    """Prints rows of cells, which are text and no markup, with lines between them, and a line behind them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=lines, title=title)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    console.print(table)
    if footer:
        console.print(footer, markup=False, soft_wrap=not console.is_terminal)


@contextmanager
def progress_bar(label: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A live bar on a terminal; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def summary(report: Report) -> str:
    """One line: what was filled, how much, how fast."""
    record = report.record
    shape = "x".join(map(str, record["shape"])) or "scalar"
    name = f", name {record['name']}" if record["name"] else ""
    return outcome(report, f"{shape} {record['dtype']}", f"filled with {record['method']}, seed {record['seed']}{name}")


def outcome(report: Report, what: str, values: str) -> str:
    """The end of a fill, in one line: of what, with what, how much, how fast."""
    if report.found and not report.nbytes:
        return f"{report.target}: {what} already {values}; --overwrite fills anew"
    found = f", {size_text(report.found)} were there" if report.found else ""
    retries = f", {report.retries} retries" if report.retries else ""
    device = "" if report.device == "cpu" else f"; made on {report.device}"
    return f"{report.target}: {what} {values}; {pace(report.nbytes, report.seconds)}{found}{retries}{device}"


def verdict(found: Verification, remedy: str = "--repair mends that") -> str:
    """What a verification found: a line for each region that differs, and one for all."""
    lines = [str(difference) for difference in found.differences[:SHOWN]]
    if len(found.differences) > SHOWN:
        lines.append(f"... and {len(found.differences) - SHOWN} more")
    which = "all" if found.regions == found.total else f"{found.regions} of {found.total}"
    count = len(found.differences)
    if found.equal:
        outcome = "equal"
    else:
        which_differ = "1 region differs" if count == 1 else f"{count} regions differ"
        outcome = f"{which_differ}; " + ("repaired" if found.repaired else remedy)
    lines.append(
        f"{found.target}: {which} regions compared with {found.wanted}: {outcome}; {pace(found.nbytes, found.seconds)}"
    )
    return "\n".join(lines)


def pace(nbytes: int, seconds: float) -> str:
    """How much, and how fast."""
    return f"{size_text(nbytes)} in {seconds:.2f} s, {nbytes / max(seconds, 1e-9) / 1e9:.2f} GB/s"
