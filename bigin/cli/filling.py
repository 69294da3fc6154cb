"""bigin fill."""

from __future__ import annotations

import click

import bigin
from bigin.cli.commands import Command
from bigin.cli.options import (
    PATH,
    DeviceOptions,
    LayoutOptions,
    RunOptions,
    SpecOptions,
    device_options,
    filled_with,
    layout_options,
    run_options,
    sync_option,
)
from bigin.cli.printing import progress_bar, summary

HELP = """Fill TARGET with the initial values of a method.

TARGET is a zarr array (a path, also inside a group, or a URL), a .npy file, one tensor of a safetensors file
(FILE#NAME) or, with --raw, a file of values without a header. A missing target is created with --shape and --dtype.

\b
bigin fill --method xavier_uniform store.zarr
bigin fill --method normal --std 0.02 table.zarr \\
    --shape 10000000,256 --dtype bfloat16
"""


@click.command(cls=Command, no_args_is_help=True, help=HELP, short_help="Fill an array with the values of a method.")
@click.argument("target", type=PATH)
@filled_with
@layout_options
@click.option("--overwrite", is_flag=True, help="Fill a target that holds other data.")
@sync_option
@device_options
@run_options
def fill(
    target: str,
    spec: SpecOptions,
    layout: LayoutOptions,
    overwrite: bool,
    sync: bool,
    device: DeviceOptions,
    run: RunOptions,
) -> None:
    """Fill a target."""
    assert spec.method is not None
    with progress_bar(target, run.quiet) as progress:
        report = bigin.fill(
            target,
            spec.method,
            **spec.arguments(),
            **layout.arguments(),
            **device.arguments(),
            **run.arguments(),
            overwrite=overwrite,
            sync=sync,
            progress=progress,
        )
    if not run.quiet:
        click.echo(summary(report))
