"""What mkdocs asks while it builds the site: lists of public names and methods, and links to files outside docs/."""

from __future__ import annotations

import re
from typing import Any

FILES = "https://github.com/bigin-init/bigin/blob/main/"
NAMES = "<!-- public names -->"
METHODS = "<!-- methods -->"


def on_page_markdown(markdown: str, **context: Any) -> str:
    """Return a page with its links to the repository's files, and with an entry for each public name."""
    if NAMES in markdown:
        from bigin import _HOMES

        entries = [f"::: {home}.{name}" if home else f"::: bigin.{name}" for name, home in sorted(_HOMES.items())]
        markdown = markdown.replace(NAMES, "\n\n".join(entries))
    if METHODS in markdown:
        markdown = markdown.replace(METHODS, methods())
    return re.sub(r"\]\(\.\./(?=[A-Za-z.])", f"]({FILES}", markdown)


def methods() -> str:
    """The methods as a table."""
    from bigin.cli.methods import aliases, default_text
    from bigin.methods.table import METHODS as TABLE

    lines = ["| method | values | parameters | source |", "| --- | --- | --- | --- |"]
    for row in TABLE.values():
        names = ", ".join(f"`{name}`" for name in (row.name, *aliases(row)))
        parameters = ", ".join(f"`{key}={default_text(value)}`" for key, value in row.defaults.items())
        formula, source = (text.replace("|", "\\|") for text in (row.formula, row.source))
        lines.append(f"| {names} | {formula} | {parameters or 'none'} | {source} |")
    return "\n".join(lines)
