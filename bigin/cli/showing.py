"""bigin show: one command, one call of bigin.show."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from bigin.cli.options import beyond_base, given, method_options, running_options, sample_options, specification_options
from bigin.cli.printing import progress_bar
from bigin.core.text import parse_fraction, parse_shape


@click.command(no_args_is_help=True)
@click.argument("target")
@click.option("--method", "-m", help="What it should look like.  [default: what its record says]")
@specification_options
@sample_options
@click.option("--no-statistics", is_flag=True, help="Do not read the values.")
@click.option("--plot", help="Draw histogram and promised density into this file: out.png.")
@running_options
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@method_options
def show(
    target: str,
    method: str | None,
    seed: int,
    name: str | None,
    shape: str | None,
    dtype: str | None,
    raw: bool,
    offset: int,
    sample: str,
    sample_seed: int,
    no_statistics: bool,
    plot: str | None,
    threads: int | None,
    max_memory: str | None,
    quiet: bool,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Tell what TARGET is: shape, layout, size, record, progress, and its values' statistics beside what is promised.

    Exit code 0 where the values look as promised, or nothing is promised, 1 where they do not. Statistics see other
    methods, parameters and trained values, but neither another seed nor a few wrong values: `bigin verify` does.

    \b
    bigin show table.zarr
    bigin show table.zarr --sample 1% --plot table.png
    bigin show weights.npy --method normal --std 0.02
    """
    from bigin.inspect import overview, terminal
    from bigin.inspect import plot as picture

    if plot is not None:
        picture.check_plot(plot)
    with progress_bar(target, quiet or as_json) as progress:
        found = overview.show(
            target,
            method,
            seed=seed,
            name=name,
            shape=None if shape is None else parse_shape(shape),
            dtype=dtype,
            raw=raw,
            offset=offset,
            statistics=not no_statistics,
            sample=parse_fraction(sample),
            sample_seed=sample_seed,
            threads=threads,
            max_memory=beyond_base(max_memory),
            progress=progress,
            **given(parameters),
        )
    if plot is not None:
        picture.plot(found, plot)
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2, allow_nan=False))
    elif not quiet:
        terminal.print_overview(found)
    if found.looks_right is False:
        sys.exit(1)
