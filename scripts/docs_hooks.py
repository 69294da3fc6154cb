"""What mkdocs asks while it builds the site: the list of public names, and links to files outside docs/."""

from __future__ import annotations

import re
from typing import Any

FILES = "https://github.com/bigin-init/bigin/blob/main/"
NAMES = "<!-- public names -->"


def on_page_markdown(markdown: str, **context: Any) -> str:
    """Return a page with its links to the repository's files, and with an entry for each public name."""
    if NAMES in markdown:
        from bigin import _HOMES

        entries = [f"::: {home}.{name}" if home else f"::: bigin.{name}" for name, home in sorted(_HOMES.items())]
        markdown = markdown.replace(NAMES, "\n\n".join(entries))
    return re.sub(r"\]\(\.\./(?=[A-Za-z.])", f"]({FILES}", markdown)
