"""bigin fill."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

import bigin
from bigin.cli.commands import Command
from bigin.cli.options import (
    PATH,
    BlockOptions,
    DeviceOptions,
    LayoutOptions,
    RunOptions,
    SpecOptions,
    WriteOptions,
    block_options,
    device_options,
    filled_with,
    gathered,
    json_option,
    layout_options,
    run_options,
    write_options,
)
from bigin.cli.printing import progress_bar, summary
from bigin.core.text import counted, duration_text, rate_text, size_text

if TYPE_CHECKING:
    from bigin.jobs.preview import Preview

HELP = """Fill TARGET with the initial values of a method.

TARGET is a zarr array (a path, also inside a group, or a URL), a .npy file, one tensor of a safetensors file
(FILE#NAME) or, with --raw, a file of values without a header. A missing target is created with --shape and --dtype.

\b
bigin fill --method xavier_uniform store.zarr
bigin fill --method normal --std 0.02 table.zarr \\
    --shape 10000000,256 --dtype bfloat16
"""


@dataclass(frozen=True)
class FillCommandOptions:
    """The options of this command alone."""

    executor: str | None
    dry_run: bool
    as_json: bool


how_options = gathered(
    "how",
    FillCommandOptions,
    click.option(
        "--executor",
        help="Fill in other processes: processes:8, dask://HOST:PORT, or mpi under mpirun.  [default: none]",
    ),
    click.option("--dry-run", is_flag=True, help="Print what would be done and how long it would take; write nothing."),
    json_option,
)


@click.command(cls=Command, no_args_is_help=True, help=HELP, short_help="Fill an array with the values of a method.")
@click.argument("target", type=PATH)
@filled_with
@layout_options
@block_options
@write_options
@device_options
@how_options
@run_options
def fill(
    target: str,
    spec: SpecOptions,
    layout: LayoutOptions,
    blocks: BlockOptions,
    write: WriteOptions,
    device: DeviceOptions,
    how: FillCommandOptions,
    run: RunOptions,
) -> None:
    """Fill a target."""
    assert spec.method is not None
    what = {**spec.arguments(), **layout.arguments(), **blocks.arguments(), **run.arguments()}
    if how.dry_run:
        print_preview(bigin.preview(target, spec.method, overwrite=write.overwrite, **what), as_json=how.as_json)
        return
    with progress_bar(target, quiet=run.quiet or how.as_json) as progress:
        more = {**device.arguments(), **write.arguments(), "executor": how.executor, "progress": progress}
        report = bigin.fill(target, spec.method, **what, **more)
    if how.as_json:
        click.echo(json.dumps(report.as_dict(), indent=2))
    elif not run.quiet:
        click.echo(summary(report))


def print_preview(preview: Preview, *, as_json: bool) -> None:
    """Print what would be done."""
    if as_json:
        click.echo(json.dumps(preview.as_dict(), indent=2))
        return
    what = {"fill": "would be filled with", "continue": "would be continued: ", "nothing": "is already filled with"}
    click.echo(f"{preview.target}: {what[preview.action]} {preview.values}; nothing was changed")
    blocks = f" of {'x'.join(map(str, preview.shards or preview.chunks or ()))}" if preview.chunks else ""
    kind = "shard" if preview.shards else "chunk" if preview.chunks else "region"
    click.echo(f"values  {size_text(preview.nbytes)} in {counted(preview.regions, kind)}{blocks}")
    click.echo(f"parts   up to {preview.parts} on an executor; `bigin plan` cuts as many as there are {kind}s")
    click.echo(f"memory  {size_text(preview.memory)} of buffers for {counted(preview.threads, 'thread')}")
    if preview.rate is not None and preview.seconds is not None:
        first = ", and its preparation first" if preview.prepares else ""
        time = duration_text(preview.seconds)
        click.echo(f"time    about {time} at {rate_text(preview.rate)}, measured beside the target{first}")
