"""bigin methods."""

from __future__ import annotations

import json
from typing import Any

import click

from bigin.cli.commands import Command
from bigin.cli.options import json_option
from bigin.cli.printing import print_entries
from bigin.methods.table import ALIASES, METHODS, REQUIRED, Method

HELP = "List the methods: formula, parameters with their defaults, source."
FOOTER = (
    "fan_in and fan_out are those of the global shape in torch's layout (out, in, receptive field...), unless in_axis "
    "and out_axis select other axes. gain is a number or a nonlinearity, such as relu or leaky_relu:0.2."
)


@click.command(cls=Command, help=HELP, short_help="List the methods.")
@json_option
def methods(as_json: bool) -> None:
    """List the methods."""
    if as_json:
        click.echo(json.dumps([as_dict(row) for row in METHODS.values()], indent=2))
        return
    entries = []
    for row in METHODS.values():
        names = [row.name, *aliases(row)]
        parameters = [f"{key}={default_text(value)}" for key, value in row.defaults.items()]
        entries.append((", ".join(names), (row.formula, f"parameters: {', '.join(parameters) or 'none'}", row.source)))
    print_entries(entries, FOOTER)


def aliases(row: Method) -> list[str]:
    """Return the other names of a method."""
    return [alias for alias, name in ALIASES.items() if name == row.name]


def as_dict(row: Method) -> dict[str, Any]:
    """Return a method as JSON; a parameter without a default is in `required`."""
    return {
        "name": row.name,
        "aliases": aliases(row),
        "formula": row.formula,
        "parameters": {key: value for key, value in row.defaults.items() if value != REQUIRED},
        "required": [key for key, value in row.defaults.items() if value == REQUIRED],
        "source": row.source,
    }


def default_text(value: Any) -> str:
    """Return a default as it would be typed."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return "(required)" if value == REQUIRED else str(value)
