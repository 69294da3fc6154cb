"""bigin show."""

from __future__ import annotations

import json
from dataclasses import dataclass

import click

import bigin
from bigin.cli.checking import number
from bigin.cli.commands import Command
from bigin.cli.layout import print_table
from bigin.cli.options import (
    PATH,
    LayoutOptions,
    OutputOptions,
    RunOptions,
    SampleOptions,
    SpecOptions,
    compared_with,
    gathered,
    layout_options,
    output_options,
    run_options,
    sample_options,
)
from bigin.cli.plans import Planning, keep, planning_options
from bigin.cli.printing import progress_bar

HELP = """Describe TARGET: its layout, its provenance record, and the statistics of its values with the expected ones.

The exit code is 0 if the values look as expected or nothing is known about them, and 1 otherwise. Statistics detect
another method, other parameters and trained values. They do not detect another seed or a few wrong values; use `bigin
verify` for those.

\b
bigin show table.zarr
bigin show checkpoint/                            # a line for every tensor
bigin show table.zarr --sample 1% --plot table.png
bigin show table.zarr --parts 500 -o plan.json
bigin show weights.npy --method normal --std 0.02
"""


@dataclass(frozen=True)
class ShowOptions(Planning):
    """The options of this command alone."""

    statistics: bool


show_options = gathered(
    "how",
    ShowOptions,
    click.option(
        "--no-statistics",
        "statistics",
        flag_value=False,
        default=True,
        help="Do not read the values; show layout and record only.",
    ),
    *planning_options,
)


@click.command(
    cls=Command, no_args_is_help=True, help=HELP, short_help="Describe an array and the statistics of its values."
)
@click.argument("target", type=PATH)
@compared_with
@layout_options
@sample_options
@show_options
@output_options
@run_options
@click.pass_context
def show(
    context: click.Context,
    target: str,
    spec: SpecOptions,
    layout: LayoutOptions,
    sample: SampleOptions,
    how: ShowOptions,
    output: OutputOptions,
    run: RunOptions,
) -> None:
    """Show a target."""
    from bigin.api.checking import is_model
    from bigin.inspect import plot, terminal

    if how.parts is not None:
        if output.plot is not None or not how.statistics:
            raise click.UsageError("expected --parts without --plot and --no-statistics, as `bigin finish` shows them")
        given = {**spec.arguments(), **layout.arguments(), **sample.arguments()}
        keep(
            bigin.plan_show(target, spec.method, parts=how.parts, **given),
            how.output,
            quiet=run.quiet,
            as_json=output.as_json,
        )
        return

    if output.plot is not None:
        plot.check_plot(output.plot)
    if spec.method is None and not layout.raw and is_model(target):
        if not how.statistics:
            raise click.UsageError("expected a single tensor for --no-statistics, got a model; name a tensor")
        show_model(context, target, sample, output, run)
        return
    with progress_bar(target, quiet=run.quiet or output.as_json) as progress:
        overview = bigin.show(
            target,
            spec.method,
            **spec.arguments(),
            **layout.arguments(),
            **sample.arguments(),
            **run.arguments(),
            statistics=how.statistics,
            progress=progress,
        )
    if output.plot is not None:
        plot.plot(overview, output.plot)
    if output.as_json:
        click.echo(json.dumps(overview.as_dict(), indent=2, allow_nan=False))
    elif not run.quiet:
        terminal.print_overview(overview)
    if overview.looks_right is False:
        context.exit(1)


def show_model(
    context: click.Context, target: str, sample: SampleOptions, output: OutputOptions, run: RunOptions
) -> None:
    """Print a line for every tensor of a model."""
    from bigin.inspect.plot import plot_model

    with progress_bar(target, quiet=run.quiet or output.as_json) as progress:
        bounds = {"threads": run.threads, "max_memory": run.max_memory}
        result = bigin.show_model(target, **sample.arguments(), **bounds, progress=progress)  # type: ignore[arg-type]
    if output.plot is not None:
        plot_model(result, output.plot)
    if output.as_json:
        click.echo(json.dumps(result.as_dict(), indent=2, allow_nan=False))
    elif not run.quiet:
        cells = [
            (
                each.tensor,
                f"{'x'.join(map(str, each.shape)) or 'scalar'} {each.dtype}",
                number(each.mean),
                number(each.std),
                number(each.expected_std),
                each.wanted,
                "; ".join(finding.text for finding in each.findings) or ("ok" if each.wanted else ""),
            )
            for each in result.tensors
        ]
        columns = ("tensor", "shape", "mean", "std", "expected std", "method", "verdict")
        print_table(result.target, columns, cells, wrapped="verdict")
    if not result.right:
        context.exit(1)
