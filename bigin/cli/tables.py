"""bigin table: one command, one call of bigin.EmbeddingTable."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import bigin
from bigin.cli.commands import Command, Group
from bigin.cli.layout import print_text
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
from bigin.core.outputs import check_output
from bigin.core.text import agree, counted

if TYPE_CHECKING:
    from bigin.jobs.changes import RowSet

TABLE_HELP = "Create, grow, read, write, reset and verify embedding tables."
CREATE_HELP = """Create the embedding table PATH with its initial values.

PATH is a new .npy file or a new zarr array. If the command is interrupted, rerun it to continue.

\b
bigin table create users.zarr \\
    --num-embeddings 200000000 --embedding-dim 64 \\
    --method normal --std 0.01 --dtype bfloat16 --padding-idx 0
"""
GROW_HELP = """Add rows to the table PATH until it has NUM_EMBEDDINGS rows.

Existing rows keep their values, trained or not. If the command is killed, the table stays valid; rerun the command.

\b
bigin table grow users.zarr 250000000
bigin table grow users.zarr 250000000 --parts 500 -o plan.json
"""
IDS_HELP = """IDS are 5,7,10 or 5:9 (without 9), @FILE for a text or .npy file of ids, or - for standard input."""
ROWS_HELP = f"""Print the rows IDS of the table PATH, in the given order, or write them to a file.

{IDS_HELP}

\b
bigin table rows users.zarr 5,7,10
bigin table rows users.zarr @ids.txt -o rows.npy
"""
UPDATE_HELP = f"""Write rows, such as trained ones, into the table PATH.

{IDS_HELP} ROWS is a .npy file with a row for each id. If the command is killed, the table stays valid; rerun the
command.

\b
bigin table update users.zarr @ids.txt rows.npy
"""
RESET_HELP = f"""Reset the rows IDS of the table PATH to their initial values.

{IDS_HELP}

\b
bigin table reset users.zarr 5,7,10
bigin table reset users.zarr @cold.txt
"""
VERIFY_HELP = """Compare the table PATH with its initial values, bit for bit, and print the rows that differ.

The exit code is 1 if rows have changed, and 0 otherwise.

\b
bigin table verify users.zarr
bigin table verify users.zarr --changed changed.npy
"""
STATS_HELP = """Count the trained rows of the table PATH: those that differ from their initial values.

\b
bigin table stats users.zarr
bigin table stats users.zarr --sample 1%
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
    click.option("--embedding-dim", type=int, required=True, help="Number of columns."),
    dtype_option,
    click.option("--padding-idx", type=int, help="Row of zeros; a negative number counts from the end."),
    click.option("--chunks", type=int, help="Rows per chunk of a zarr array.  [default: 16 MiB of rows]"),
    click.option("--shards", type=int, help="Rows per shard of a zarr array.  [default: no shards]"),
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
    with progress_bar(path, quiet=run.quiet or as_json) as progress:
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
        plan = bigin.plan_grow(path, num_embeddings, parts=planning.parts)
        keep(plan, planning.output, quiet=run.quiet, as_json=as_json)
        return
    with progress_bar(path, quiet=run.quiet or as_json) as progress:
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


LINES = 10_000  # rows that are read at once to be printed


@table.command(cls=Command, no_args_is_help=True, help=ROWS_HELP)
@click.argument("path", type=PATH)
@click.argument("ids", type=IDS)
@click.option("--output", "-o", type=PATH, help="New .npy or .csv file to write the rows to.")
@json_option
def rows(path: str, ids: Any, output: str | None, as_json: bool) -> None:
    """Print rows of a table."""
    opened = bigin.EmbeddingTable.open(path)
    if output is not None:
        count = opened.export(output, ids)
        said = {"target": path, "rows": count, "output": output}
        click.echo(json.dumps(said, indent=2) if as_json else f"{output}: {counted(count, 'row')} of {path}")
        return
    if as_json:
        click.echo(json.dumps(opened.rows(ids).tolist()))
        return
    for first in range(0, len(ids), LINES):
        part = ids[first : first + LINES]
        for number, row in zip(part, opened.rows(part), strict=True):
            # str() of a number has as many digits as tell it from its neighbours in the dtype.
            click.echo(f"{number}: {' '.join(map(str, row))}")


@table.command(cls=Command, no_args_is_help=True, help=UPDATE_HELP)
@click.argument("path", type=PATH)
@click.argument("ids", type=IDS)
@click.argument("values", metavar="ROWS", type=PATH)
@sync_option
@run_options
@json_option
def update(path: str, ids: Any, values: str, sync: bool, run: RunOptions, as_json: bool) -> None:
    """Update rows of a table."""
    opened = bigin.EmbeddingTable.open(path)
    start = time.perf_counter()
    count = opened.update(ids, mapped_rows(values, opened.dtype), **run.arguments(), sync=sync)
    tell(path, count, "written", time.perf_counter() - start, quiet=run.quiet, as_json=as_json)


def mapped_rows(path: str, dtype: Any) -> Any:
    """Return the rows that a .npy file holds; opaque bytes of the table's width are of its dtype."""
    import numpy as np

    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise bigin.InputError(f"{path}: expected a .npy file of rows, got none that can be read: {reason}") from None
    opaque = values.dtype.kind == "V" and values.dtype.itemsize == dtype.itemsize
    return values.view(dtype) if opaque else values


def tell(path: str, count: int, what: str, seconds: float, *, quiet: bool, as_json: bool) -> None:
    """Print how many rows were changed."""
    if as_json:
        click.echo(json.dumps({"target": path, "rows": count, "seconds": seconds}, indent=2))
    elif not quiet:
        click.echo(f"{path}: {counted(count, 'row')} {what} in {seconds:.2f} s")


@table.command(cls=Command, no_args_is_help=True, help=RESET_HELP)
@click.argument("path", type=PATH)
@click.argument("ids", type=IDS)
@sync_option
@run_options
@json_option
def reset(path: str, ids: Any, sync: bool, run: RunOptions, as_json: bool) -> None:
    """Reset rows of a table."""
    start = time.perf_counter()
    count = bigin.EmbeddingTable.open(path).reset(ids, **run.arguments(), sync=sync)
    tell(path, count, "reset", time.perf_counter() - start, quiet=run.quiet, as_json=as_json)


@table.command(cls=Command, no_args_is_help=True, help=VERIFY_HELP)
@click.argument("path", type=PATH)
@click.option("--changed", type=PATH, help="File to write the numbers of the rows that differ to: .npy or text.")
@sample_options
@run_options
@json_option
@click.pass_context
def verify(
    context: click.Context,
    path: str,
    changed: str | None,
    sample: SampleOptions,
    run: RunOptions,
    as_json: bool,
) -> None:
    """Verify a table."""
    if changed is not None:
        check_changed(changed, path)
    with progress_bar(path, quiet=run.quiet or as_json) as progress:
        result = bigin.EmbeddingTable.open(path).verify(**sample.arguments(), **run.arguments(), progress=progress)
    if changed is not None:
        keep_ids(changed, result.changed)
    if as_json:
        click.echo(json.dumps(result.as_dict(), indent=2))
    elif not run.quiet:
        if not result.equal:
            differ = agree(count := len(result.changed), "differs", "differ")
            print_text(f"{counted(count, 'row')} of {result.rows:,} {differ}: {result.changed.text()}")
        click.echo(verdict(result, "`bigin table reset` restores rows"))
    if not result.equal:
        context.exit(1)


def check_changed(changed: str, path: str) -> None:
    """Raise InputError for a file that cannot be written, or that is the table itself."""
    file = check_output(changed, "rows that differ")
    if file.exists() and Path(path).exists() and file.samefile(path):
        raise bigin.InputError(f"{changed}: expected another file than the table for the rows that differ")


def keep_ids(path: str, rows: RowSet) -> None:
    """Write row numbers to a file, which is replaced."""
    import numpy as np

    if path.endswith(".npy"):
        np.save(path, rows.ids())
        return
    with Path(path).open("w", encoding="utf-8") as file:
        for start, stop in rows.stretches():
            file.write(f"{start}\n" if stop == start + 1 else f"{start}:{stop}\n")


@table.command(cls=Command, no_args_is_help=True, help=STATS_HELP)
@click.argument("path", type=PATH)
@sample_options
@run_options
@json_option
def stats(path: str, sample: SampleOptions, run: RunOptions, as_json: bool) -> None:
    """Count trained rows."""
    with progress_bar(path, quiet=run.quiet or as_json) as progress:
        result = bigin.EmbeddingTable.open(path).stats(**sample.arguments(), **run.arguments(), progress=progress)
    click.echo(json.dumps(result.as_dict(), indent=2) if as_json else str(result))
