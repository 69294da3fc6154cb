"""bigin fill."""

from __future__ import annotations

from typing import Any

import click

from bigin.cli.options import (
    beyond_base,
    device_options,
    given,
    method_option,
    method_options,
    running_options,
    specification_options,
    sync_option,
)
from bigin.cli.printing import progress_bar, summary
from bigin.core.text import parse_shape


@click.command(no_args_is_help=True)
@click.argument("target")
@method_option
@specification_options
@click.option("--overwrite", is_flag=True, help="Fill a target that holds other data.")
@sync_option
@device_options
@running_options
@method_options
def fill(
    target: str,
    method: str,
    seed: int,
    name: str | None,
    shape: str | None,
    dtype: str | None,
    raw: bool,
    offset: int,
    overwrite: bool,
    threads: int | None,
    max_memory: str | None,
    no_sync: bool,
    device: str,
    max_device_memory: str | None,
    quiet: bool,
    **parameters: Any,
) -> None:
    """Fill TARGET with a method's initial values.

    TARGET is a zarr array (a path, also inside a group, or a URL), a .npy file or, with --raw, a file of values. One
    that is missing is made, if --shape says how large.

    \b
    bigin fill --method xavier_uniform store.zarr
    bigin fill --method normal --std 0.02 table.zarr --shape 10000000,256 --dtype bfloat16
    """
    from bigin.api import filling as api

    with progress_bar(target, quiet) as progress:
        report = api.fill(
            target,
            method,
            seed=seed,
            name=name,
            shape=None if shape is None else parse_shape(shape),
            dtype=dtype,
            raw=raw,
            offset=offset,
            overwrite=overwrite,
            threads=threads,
            max_memory=beyond_base(max_memory),
            sync=not no_sync,
            device=device,
            max_device_memory=max_device_memory,
            progress=progress,
            **given(parameters),
        )
    if not quiet:
        click.echo(summary(report))
