"""bigin verify."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from bigin.cli.options import beyond_base, given, method_options, running_options, sample_options, specification_options
from bigin.cli.printing import progress_bar, verdict
from bigin.core.text import parse_fraction, parse_shape


@click.command(no_args_is_help=True)
@click.argument("target")
@click.option("--method", "-m", help="What it should hold.  [default: what its record says]")
@specification_options
@sample_options
@click.option("--repair", is_flag=True, help="Fill those chunks again that differ.")
@running_options
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@method_options
def verify(
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
    repair: bool,
    threads: int | None,
    max_memory: str | None,
    quiet: bool,
    as_json: bool,
    **parameters: Any,
) -> None:
    """Compare what TARGET holds with what it should, bit for bit.

    Exit code 0 where all is equal (or was repaired), 1 where something differs.

    \b
    bigin verify table.zarr
    bigin verify table.zarr --sample 1%
    """
    from bigin.api import verifying as verification

    with progress_bar(target, quiet or as_json) as progress:
        found = verification.verify(
            target,
            method,
            seed=seed,
            name=name,
            shape=None if shape is None else parse_shape(shape),
            dtype=dtype,
            raw=raw,
            offset=offset,
            sample=parse_fraction(sample),
            sample_seed=sample_seed,
            repair=repair,
            threads=threads,
            max_memory=beyond_base(max_memory),
            progress=progress,
            **given(parameters),
        )
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
    elif not quiet:
        click.echo(verdict(found))
    if not found.equal and not found.repaired:
        sys.exit(1)
