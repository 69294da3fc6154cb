"""Tables of rows, on the width of a terminal or in a pipe."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import click

NARROWEST = 40  # columns that text is wrapped to
LEAST = 30  # columns of a table's wrapped column
INDENT = 2  # columns before the lines of a row below its name
GAP = 2  # columns between two cells without a rule
STROKES = str.maketrans("┏━┳┓┃┡╇┩│└─┴┘", "+-++|+++|+-++")


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, wrapped: str = "", footer: str = ""
) -> None:
    """Print rows of cells on the width of the terminal, or in a pipe on COLUMNS or 80 columns.

    If a row is too wide for one line, its first cell gets a line, and the other cells follow on as many lines as they
    need. Cells stay whole, so that names and numbers can be searched for: only the column `wrapped`, the title, the
    footer, and a cell that is wider than a line are wrapped. No cell is read as markup, as names may hold brackets.
    """
    width = text_width()
    cells = [tuple(_plain(cell) for cell in row) for row in rows]
    head, body = table_lines(title, columns, cells, width, wrapped)
    for line in head:
        click.echo(strong(line))
    for line in body:
        click.echo(line)
    if footer:
        print_text(footer)


def print_text(text: str) -> None:
    """Print a text that belongs to a table, wrapped to its width."""
    click.echo(wrapped_text(text))


def wrapped_text(text: str) -> str:
    """Return a text whose lines take the width of the terminal, or in a pipe COLUMNS or 80 columns."""
    first, *more = _wrap(text, text_width(), INDENT)
    return "\n".join([first, *(" " * INDENT + line for line in more)])


def in_notebook() -> bool:
    """Return whether the command was given in a notebook, whose pseudo-terminal keeps every control code as text."""
    return "JPY_PARENT_PID" in os.environ  # jupyter_client sets it for the processes of a kernel


def strong(text: str) -> str:
    """Return a text in bold, which click prints as it is where there is no terminal."""
    return text if in_notebook() else click.style(text, bold=True)


def text_width() -> int:
    """Return the columns of the terminal, or in a pipe COLUMNS or 80."""
    return max(NARROWEST, shutil.get_terminal_size().columns)


def table_lines(
    title: str, columns: Sequence[str], cells: Sequence[Sequence[str]], width: int, wrapped: str = ""
) -> tuple[list[str], list[str]]:
    """Return the lines of a table's head, and those of its rows."""
    from rich.cells import cell_len

    widths = [
        max(cell_len(line) for cell in column for line in cell.split("\n"))
        for column in zip(columns, *cells, strict=True)
    ]
    at = columns.index(wrapped) if wrapped else None
    boxed = list(widths)
    if at is not None:
        boxed[at] = max(min(LEAST, widths[at]), widths[at] - max(0, sum(widths) + 3 * len(widths) + 1 - width))
    if sum(boxed) + 3 * len(boxed) + 1 <= width:
        head, body = _box(title, columns, cells, boxed)
    else:
        head, body = _flow(title, columns, cells, flow(widths, width, at))
    if not (getattr(sys.stdout, "encoding", None) or "utf-8").lower().startswith("utf"):
        return [line.translate(STROKES) for line in head], [line.translate(STROKES) for line in body]
    return head, body


def _box(
    title: str, columns: Sequence[str], cells: Sequence[Sequence[str]], widths: Sequence[int]
) -> tuple[list[str], list[str]]:
    """A table whose rows take one line, with rules between the columns."""
    from rich.cells import cell_len, set_cell_size

    def rule(left: str, stroke: str, between: str, right: str) -> str:
        return left + between.join(stroke * (width + 2) for width in widths) + right

    def row(texts: Sequence[str], bar: str) -> Iterator[str]:
        for parts in zip_longest(*map(_wrap, texts, widths), fillvalue=""):
            padded = (set_cell_size(part, width) for part, width in zip(parts, widths, strict=True))
            yield f"{bar} " + f" {bar} ".join(padded) + f" {bar}"

    top = rule("┏", "━", "┳", "┓")
    titles = _wrap(title, len(top))
    centered = [(" " * ((len(top) - cell_len(line)) // 2) + line).rstrip() for line in titles]
    body = [line for texts in cells for line in row(texts, "│")]
    return [*centered, top, *row(columns, "┃"), rule("┡", "━", "╇", "┩")], [*body, rule("└", "─", "┴", "┘")]


@dataclass(frozen=True)
class Flow:
    """The lines of a row: the columns of each, and the width of every column."""

    width: int
    lines: tuple[tuple[int, ...], ...]
    widths: tuple[int, ...]


def flow(natural: Sequence[int], width: int, wrapped: int | None) -> Flow:
    """Return rows whose first cell has a line, and whose others are on as few lines as they fit on, in their order."""
    lines, widths, room = [[0]], [min(natural[0], width)], width - INDENT
    left = 0
    for at, wanted in enumerate(natural[1:], start=1):
        least = min(wanted, LEAST) if at == wrapped else wanted
        if len(lines) > 1 and GAP + least <= left:
            left -= GAP
            lines[-1].append(at)
        else:
            left = room
            lines.append([at])
        widths.append(min(wanted, left))
        left -= widths[-1]
    return Flow(width, tuple(map(tuple, lines)), tuple(widths))


def _flow(
    title: str, columns: Sequence[str], cells: Sequence[Sequence[str]], made: Flow
) -> tuple[list[str], list[str]]:
    """A table whose rows take several lines, of which the first begins at the margin."""
    from rich.cells import set_cell_size

    def row(texts: Sequence[str]) -> Iterator[str]:
        first, *more = _wrap(texts[0], made.width, 2 * INDENT)
        yield first
        for part in more:
            yield " " * 2 * INDENT + part
        for line in made.lines[1:]:
            wrapped = [_wrap(texts[at], made.widths[at]) for at in line]
            for parts in zip_longest(*wrapped, fillvalue=""):
                padded = (set_cell_size(part, made.widths[at]) for part, at in zip(parts, line, strict=True))
                yield (" " * INDENT + (" " * GAP).join(padded)).rstrip()

    longest = max(INDENT + sum(made.widths[at] + GAP for at in line) - GAP for line in made.lines)
    length = min(made.width, max(longest, made.widths[0]))
    body = [line for texts in cells for line in row(texts) if line]
    return [*_wrap(title, made.width), "━" * length, *row(columns), "━" * length], [*body, "─" * length]


def _plain(text: str) -> str:
    """A text without control codes."""
    from rich.text import Text

    return Text(text).plain


def _wrap(text: str, width: int, indent: int = 0) -> list[str]:
    """The lines of a text, broken between words, or within a word that is longer than a line.

    indent: columns by which the caller moves all lines but the first, if there are more.
    """
    from rich.cells import cell_len

    if cell_len(text) <= width and "\n" not in text:
        return [text]
    width -= indent
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            if line and cell_len(line) + 1 + cell_len(word) <= width:
                line += f" {word}"
                continue
            lines += [line] * bool(line)
            *whole, line = _pieces(word, width)
            lines += whole
        lines.append(line)
    return lines


def _pieces(word: str, width: int) -> Iterator[str]:
    """A word in pieces that fit, broken after a dot, a slash or an underscore where that leaves half a line."""
    from rich.cells import cell_len

    while cell_len(word) > width:
        end = width
        while end > 1 and cell_len(word[:end]) > width:
            end -= 1
        at = max(word.rfind(mark, 0, end) for mark in "./_") + 1
        end = at if at > end // 2 else end
        yield word[:end]
        word = word[end:]
    yield word
