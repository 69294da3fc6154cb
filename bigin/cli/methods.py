"""bigin methods."""

from __future__ import annotations

from typing import Any

import click

from bigin.cli.printing import print_table
from bigin.methods.table import ALIASES, METHODS, REQUIRED


@click.command()
def methods() -> None:
    """List the methods: formula, parameters with defaults, source."""
    rows = []
    for row in METHODS.values():
        names = [row.name, *(alias for alias, name in ALIASES.items() if name == row.name)]
        given = [f"{key}={default_text(value)}" for key, value in row.defaults.items()]
        rows.append(("\n".join(names), row.formula, ", ".join(given) or "none", row.source))
    print_table(
        "bigin fill --method ...",
        ("method", "values", "parameters and defaults", "source"),
        rows,
        "fan_in, fan_out: of the global shape, in torch's layout (out, in, receptive field...) unless in_axis and "
        "out_axis say otherwise. gain: a number or a nonlinearity, such as relu or leaky_relu:0.2.",
    )


def default_text(value: Any) -> str:
    """A default as it would be typed."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return "(required)" if value == REQUIRED else str(value)
