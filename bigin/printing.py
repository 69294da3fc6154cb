"""Tables for people: as wide as the terminal, or 160 columns where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

WIDTH = 160


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], footer: str = "") -> None:
    """Prints rows of cells, which are text and no markup, and a line behind them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(show_lines=True, title=title)
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
