"""bigin verify."""

from __future__ import annotations

import json

import click

import bigin
from bigin.cli.commands import Command
from bigin.cli.options import (
    PATH,
    LayoutOptions,
    RunOptions,
    SampleOptions,
    SpecOptions,
    compared_with,
    json_option,
    layout_options,
    run_options,
    sample_options,
)
from bigin.cli.printing import progress_bar, verdict

HELP = """Compute the values of TARGET again and compare them with the stored ones, bit for bit.

The exit code is 0 if everything is equal or was repaired, and 1 if something differs.

\b
bigin verify table.zarr
bigin verify table.zarr --sample 1%
"""


@click.command(
    cls=Command, no_args_is_help=True, help=HELP, short_help="Compare stored values with computed ones, bit for bit."
)
@click.argument("target", type=PATH)
@compared_with
@layout_options
@sample_options
@click.option("--repair", is_flag=True, help="Fill the chunks that differ again.")
@run_options
@json_option
@click.pass_context
def verify(
    context: click.Context,
    target: str,
    spec: SpecOptions,
    layout: LayoutOptions,
    sample: SampleOptions,
    repair: bool,
    run: RunOptions,
    as_json: bool,
) -> None:
    """Verify a target."""
    with progress_bar(target, run.quiet or as_json) as progress:
        result = bigin.verify(
            target,
            spec.method,
            **spec.arguments(),
            **layout.arguments(),
            **sample.arguments(),
            **run.arguments(),
            repair=repair,
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps(result.as_dict(), indent=2))
    elif not run.quiet:
        click.echo(verdict(result))
    if not result.equal and not result.repaired:
        context.exit(1)
