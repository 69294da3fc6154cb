"""bigin verify."""

from __future__ import annotations

import json
from dataclasses import dataclass

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
    gathered,
    json_option,
    layout_options,
    run_options,
    sample_options,
)
from bigin.cli.plans import Planning, keep, planned
from bigin.cli.printing import progress_bar, verdict

HELP = """Compute the values of TARGET again and compare them with the stored ones, bit for bit.

The exit code is 0 if everything is equal or was repaired, and 1 if something differs.

\b
bigin verify table.zarr
bigin verify table.zarr --sample 1%
bigin verify table.zarr --parts 500 -o plan.json    # then bigin work and finish
"""


@dataclass(frozen=True)
class VerifyOptions:
    """The options of this command alone."""

    repair: bool
    as_json: bool


verify_options = gathered(
    "how",
    VerifyOptions,
    click.option("--repair", is_flag=True, help="Fill the chunks that differ again."),
    json_option,
)


@click.command(
    cls=Command, no_args_is_help=True, help=HELP, short_help="Compare stored values with computed ones, bit for bit."
)
@click.argument("target", type=PATH)
@compared_with
@layout_options
@sample_options
@verify_options
@planned
@run_options
@click.pass_context
def verify(
    context: click.Context,
    target: str,
    spec: SpecOptions,
    layout: LayoutOptions,
    sample: SampleOptions,
    how: VerifyOptions,
    planning: Planning,
    run: RunOptions,
) -> None:
    """Verify a target."""
    if planning.parts is not None:
        if how.repair:
            raise click.UsageError(
                "expected --parts without --repair; what differs is repaired by `bigin verify --repair`"
            )
        given = {**spec.arguments(), **layout.arguments(), **sample.arguments()}
        keep(bigin.plan_verify(target, spec.method, parts=planning.parts, **given), planning.output, run.quiet)
        return
    with progress_bar(target, run.quiet or how.as_json) as progress:
        result = bigin.verify(
            target,
            spec.method,
            **spec.arguments(),
            **layout.arguments(),
            **sample.arguments(),
            **run.arguments(),
            repair=how.repair,
            progress=progress,
        )
    if how.as_json:
        click.echo(json.dumps(result.as_dict(), indent=2))
    elif not run.quiet:
        click.echo(verdict(result))
    if not result.equal and not result.repaired:
        context.exit(1)
