"""bigin methods."""

from __future__ import annotations

from typing import Any

import click

from bigin.cli.printing import print_entries
from bigin.methods.table import ALIASES, METHODS, REQUIRED

HELP = "List the methods: formula, parameters with their defaults, source."
FOOTER = (
    "fan_in and fan_out are those of the global shape in torch's layout (out, in, receptive field...), unless in_axis "
    "and out_axis select other axes. gain is a number or a nonlinearity, such as relu or leaky_relu:0.2."
)


@click.command(help=HELP, short_help="List the methods.")
def methods() -> None:
    """List the methods."""
    entries = []
    for row in METHODS.values():
        names = [row.name, *(alias for alias, name in ALIASES.items() if name == row.name)]
        parameters = [f"{key}={default_text(value)}" for key, value in row.defaults.items()]
        entries.append((", ".join(names), (row.formula, f"parameters: {', '.join(parameters) or 'none'}", row.source)))
    print_entries(entries, FOOTER)


def default_text(value: Any) -> str:
    """Return a default as it would be typed."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return "(required)" if value == REQUIRED else str(value)
