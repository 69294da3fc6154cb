"""Hooks of mkdocs: lists of public names, methods and commands, and links to files outside docs/."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILES = "https://github.com/bigin-init/bigin/blob/main/"
NAMES = "<!-- public names -->"
FILE = re.compile(r"<!-- file (\w+\.md) -->")
ROOM = re.compile(r"<!-- public names of (\w+) -->")
METHODS = "<!-- methods -->"
PICTURE = re.compile(r"!\[([^]]*)\]\(([\w./-]+)\.png\)")
DOCS = Path(__file__).parent.parent / "docs"


def on_config(config: Any) -> None:
    """Mark the examples in the help of commands as code."""
    from bigin.cli import cli

    for command in commands_of(cli):
        command.help = with_code(command.help or "")


def commands_of(group: Any) -> Iterator[Any]:
    """Yield the commands of a group, and those of the groups in it."""
    for command in group.commands.values():
        yield command
        if hasattr(command, "commands"):
            yield from commands_of(command)


def with_code(text: str) -> str:
    """Return a help text in which the paragraphs that click does not wrap are blocks of code."""
    parts = [part.strip("\n") for part in text.split("\n\n")]
    mark = "\b\n"
    return "\n\n".join(f"```\n{part.removeprefix(mark)}\n```" if part.startswith(mark) else part for part in parts)


def on_page_markdown(markdown: str, **context: Any) -> str:
    """Return a page with its links to the repository's files, and with an entry for each public name."""
    if NAMES in markdown:
        from bigin import _HOMES

        entries = [entry(f"{home or 'bigin'}.{name}", "bigin") for name, home in sorted(_HOMES.items())]
        markdown = markdown.replace(NAMES, "\n\n".join(entries))
    markdown = PICTURE.sub(in_both_styles, markdown)
    markdown = FILE.sub(lambda found: of_the_repository(found[1]), markdown)
    markdown = ROOM.sub(
        lambda found: "\n\n".join(entry(name, f"bigin.{found[1]}") for name in names_of(found[1])), markdown
    )
    if METHODS in markdown:
        markdown = markdown.replace(METHODS, methods())
    return re.sub(r"\]\(\.\./(?=[A-Za-z.])", f"]({FILES}", markdown)


def on_post_page(output: str, **context: Any) -> str:
    """Return a page that asks GitHub for nothing: the theme would show the repository's stars beside its name."""
    return output.replace(' data-md-component="source"', "")


def on_post_template(output: str, **context: Any) -> str:
    """Return a page without a source, such as 404.html, in the same way."""
    return on_post_page(output)


def entry(home: str, room: str) -> str:
    """Return the lines that mkdocstrings replaces: what is defined at `home`, under its public name."""
    name = home.rpartition(".")[2]
    return f"::: {home}\n    options:\n      heading: {room}.{name}\n      toc_label: {name}"


def in_both_styles(found: re.Match[str]) -> str:
    """Return a picture as it is, or where there is one for dark pages both, of which the theme shows one."""
    text, path = found.groups()
    if not (DOCS / f"{Path(path).name}-dark.png").exists():
        return found[0]
    return f"![{text}]({path}.png#only-light)\n![{text}]({path}-dark.png#only-dark)"


def of_the_repository(name: str) -> str:
    """Return the text of a page at the top of the repository, with its links as they are below docs/."""
    text = (Path(__file__).parent.parent / name).read_text()
    return text.replace("](docs/", "](").replace("](SECURITY.md)", "](../SECURITY.md)")


def names_of(room: str) -> list[str]:
    """Return where the public names of a room are defined, as its source tells: its package may be missing."""
    tree = ast.parse((Path(__file__).parent.parent / "bigin" / room / "__init__.py").read_text())
    homes = {
        alias.name: f"{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(f"bigin.{room}.")
        for alias in node.names
    }
    return [homes[name] for name in sorted(homes)]


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
