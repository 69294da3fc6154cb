"""What notebooks show of a result: a small table in the page's own colors, which may be light or dark."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

CELL = "padding:0.15em 0.8em 0.15em 0;text-align:left;vertical-align:top;background:none;border:0"
FAINT = f"{CELL};opacity:0.7;font-weight:normal;white-space:nowrap"
NUMBER = CELL.replace("text-align:left", "text-align:right")
SHOWN = 12  # rows of a long list


def card(title: str, facts: Mapping[str, Any], below: str = "") -> str:
    """Return facts under a title as HTML; those that are None or empty are left out. `below` is HTML already."""
    rows = "".join(
        f'<tr style="background:none"><th style="{FAINT}">{escape(name)}</th>'
        f'<td style="{CELL};overflow-wrap:anywhere">{escape(str(value))}</td></tr>'
        for name, value in facts.items()
        if value is not None and value != ""
    )
    head = f'<div style="font-weight:bold;overflow-wrap:anywhere">{escape(title)}</div>'
    body = f'<table style="margin:0.2em 0;border-collapse:collapse"><tbody>{rows}</tbody></table>'
    return f'<div style="border-left:3px solid #4c8bf5;padding-left:0.8em">{head}{body}{below}</div>'


def listing(columns: Sequence[str], rows: Iterable[Sequence[str]], *, words: bool = False) -> str:
    """Return rows of cells as HTML, the first column left and the others right; of many rows both ends.

    words: the cells are words and not numbers, so all columns are left.
    """
    rows = list(rows)
    if len(rows) > SHOWN:
        half = SHOWN // 2
        left_out = [f"... {len(rows) - 2 * half} more", *[""] * (len(columns) - 1)]
        rows = [*rows[:half], left_out, *rows[-half:]]

    def line(cells: Sequence[str], tag: str, more: str) -> str:
        styles = [CELL, *[CELL if words else NUMBER] * (len(cells) - 1)]
        inner = "".join(
            f'<{tag} style="{style}{more}">{escape(cell)}</{tag}>' for cell, style in zip(cells, styles, strict=True)
        )
        return f'<tr style="background:none">{inner}</tr>'

    head = line(columns, "th", ";opacity:0.7;font-weight:normal")
    body = "".join(line(row, "td", "") for row in rows)
    return f'<table style="margin:0.2em 0;border-collapse:collapse"><thead>{head}</thead><tbody>{body}</tbody></table>'
