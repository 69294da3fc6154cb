"""bigin table: one command, one call of bigin.EmbeddingTable."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import click

import bigin
from bigin.cli.commands import Command, Group
from bigin.cli.options import (
    IDS,
    PATH,
    RunOptions,
    SampleOptions,
    SpecOptions,
    dtype_option,
    filled_with,
    gathered,
    json_option,
    run_options,
    sample_options,
    sync_option,
)
from bigin.cli.plans import Planning, keep, planned
from bigin.cli.printing import pace, progress_bar, summary, verdict
from bigin.core.text import counted

TABLE_HELP = "Create, grow, read, reset and verify embedding tables."
CREATE_HELP = """Create the embedding table PATH with its initial values.

PATH is a new .npy file or a new zarr array. If the command is interrupted, rerun it to continue.

\b
bigin table create users.zarr \\
    --num-embeddings 200000000 --embedding-dim 64 \\
    --method normal --std 0.01 --dtype bfloat16 --padding-idx 0
"""
GROW_HELP = """Add rows to the table PATH until it has NUM_EMBEDDINGS rows.

The rows that are there keep their values, also trained ones. If the command is killed, the table stays valid; rerun
the command.

\b
bigin table grow users.zarr 250000000
bigin table grow users.zarr 250000000 --parts 500 -o plan.json    # then bigin work and finish
"""
ROWS_HELP = """Print the rows IDS of the table PATH, in the given order.

\b
bigin table rows users.zarr 5,7,10
"""
RESET_HELP = """Give the rows IDS of the table PATH their initial values again.

\b
bigin table reset users.zarr 5,7,10
"""
VERIFY_HELP = """Compare the table PATH with its initial values, bit for bit.

The exit code is 1 if rows have changed.

\b
bigin table verify users.zarr
"""


@click.group(cls=Group, help=TABLE_HELP, no_args_is_help=True)
def table() -> None:
    """Group of the table commands."""


@dataclass(frozen=True)
class TableOptions:
    """The options that say what table is created."""

    num_embeddings: int
    embedding_dim: int
    dtype: str | None
    padding_idx: int | None
    chunks: int | None
    shards: int | None

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of EmbeddingTable.create."""
        return vars(self) | {"dtype": self.dtype or "float32"}


table_options = gathered(
    "rows",
    TableOptions,
    click.option("--num-embeddings", type=int, required=True, help="Number of rows."),
    click.option("--embedding-dim", type=int, required=True, help="Elements in a row."),
    dtype_option,
    click.option("--padding-idx", type=int, help="Row that is zero; a negative one counts from the end."),
    click.option("--chunks", type=int, help="Rows in a chunk of a zarr array.  [default: 16 MiB of rows]"),
    click.option("--shards", type=int, help="Rows in a shard of a zarr array.  [default: no shards]"),
)


@table.command(cls=Command, no_args_is_help=True, help=CREATE_HELP)
@click.argument("path", type=PATH)
@table_options
@filled_with
@sync_option
@run_options
@json_option
def create(path: str, rows: TableOptions, spec: SpecOptions, sync: bool, run: RunOptions, as_json: bool) -> None:
    """Create a table."""
    assert spec.method is not None
    with progress_bar(path, run.quiet or as_json) as progress:
        created = bigin.EmbeddingTable.create(
            path,
            method=spec.method,
            **spec.arguments(),
            **rows.arguments(),
            **run.arguments(),
            sync=sync,
            progress=progress,
        )
    assert created.report is not None
    if as_json:
        click.echo(json.dumps(asdict(created.report), indent=2))
    elif not run.quiet:
        click.echo(summary(created.report))


@table.command(cls=Command, no_args_is_help=True, help=GROW_HELP)
@click.argument("path", type=PATH)
@click.argument("num_embeddings", type=int)
@sync_option
@planned
@run_options
@json_option
def grow(path: str, num_embeddings: int, sync: bool, planning: Planning, run: RunOptions, as_json: bool) -> None:
    """Grow a table."""
    if planning.parts is not None:
        keep(bigin.plan_grow(path, num_embeddings, parts=planning.parts), planning.output, run.quiet)
        return
    with progress_bar(path, run.quiet or as_json) as progress:
        grown = bigin.EmbeddingTable.open(path)
        before = len(grown)
        report = grown.grow(num_embeddings, **run.arguments(), sync=sync, progress=progress)
    if as_json:
        click.echo(json.dumps(asdict(report) | {"rows": [before, len(grown)]}, indent=2))
        return
    if run.quiet:
        return
    if not report.nbytes:
        click.echo(f"{report.target} already has {counted(before, 'row')}")
        return
    rows = f"from {before:,} to {counted(len(grown), 'row')}"
    click.echo(f"{report.target}: grown {rows}; {pace(report.nbytes, report.seconds)}")


@table.command(cls=Command, no_args_is_help=True, help=ROWS_HELP)
@click.argument("path", type=PATH)
@click.argument("ids", type=IDS)
@json_option
def rows(path: str, ids: list[int], as_json: bool) -> None:
    """Print rows of a table."""
    values = bigin.EmbeddingTable.open(path).rows(ids)
    if as_json:
        click.echo(json.dumps(values.tolist()))
        return
    for number, row in zip(ids, values, strict=True):
        # str() of a number has as many digits as tell it from its neighbours in the dtype.
        click.echo(f"{number}: {' '.join(map(str, row))}")


@table.command(cls=Command, no_args_is_help=True, help=RESET_HELP)
@click.argument("path", type=PATH)
@click.argument("ids", type=IDS)
@sync_option
@run_options
@json_option
def reset(path: str, ids: list[int], sync: bool, run: RunOptions, as_json: bool) -> None:
    """Reset rows of a table."""
    start = time.perf_counter()
    count = bigin.EmbeddingTable.open(path).reset(ids, **run.arguments(), sync=sync)
    seconds = time.perf_counter() - start
    if as_json:
        click.echo(json.dumps({"target": path, "rows": count, "seconds": seconds}, indent=2))
    elif not run.quiet:
        click.echo(f"{path}: {counted(count, 'row')} reset in {seconds:.2f} s")


@table.command(cls=Command, no_args_is_help=True, help=VERIFY_HELP)
@click.argument("path", type=PATH)
@sample_options
@run_options
@json_option
@click.pass_context
def verify(context: click.Context, path: str, sample: SampleOptions, run: RunOptions, as_json: bool) -> None:
    """Verify a table."""
    with progress_bar(path, run.quiet or as_json) as progress:
        result = bigin.EmbeddingTable.open(path).verify(**sample.arguments(), **run.arguments(), progress=progress)
    if as_json:
        click.echo(json.dumps(result.as_dict(), indent=2))
    elif not run.quiet:
        click.echo(verdict(result, "`bigin table reset` restores rows"))
    if not result.equal:
        context.exit(1)
