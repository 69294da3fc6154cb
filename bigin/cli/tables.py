"""bigin table: one command, one call of bigin.EmbeddingTable."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from bigin.cli.options import (
    beyond_base,
    given,
    method_option,
    method_options,
    running_options,
    sample_options,
    stream_options,
    sync_option,
)
from bigin.cli.printing import pace, progress_bar, summary, verdict
from bigin.core.text import parse_fraction

if TYPE_CHECKING:
    import numpy as np


class Ids(click.ParamType):  # type: ignore[type-arg]
    """Row numbers: 5,7,10."""

    name = "ids"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[int]:
        """The numbers of a text."""
        try:
            return [int(number) for number in value.split(",")] if isinstance(value, str) else list(value)
        except ValueError:
            self.fail(f"{value!r} is no list of ids such as 5,7,10", param, ctx)


IDS = Ids()


@click.group()
def table() -> None:
    """Embedding tables: made, grown, read by ids, reset, verified."""


@table.command(no_args_is_help=True)
@click.argument("path")
@click.option("--num-embeddings", type=int, required=True, help="Rows.")
@click.option("--embedding-dim", type=int, required=True, help="Elements in a row.")
@method_option
@stream_options
@click.option("--dtype", default="float32", show_default=True, help="float32, bfloat16, ...")
@click.option("--padding-idx", type=int, help="The row that is zeros; negative ones count from the end.")
@click.option("--chunks", type=int, help="Rows in a chunk of a zarr array.  [default: 16 MiB]")
@click.option("--shards", type=int, help="Rows in a shard.  [default: no shards]")
@sync_option
@running_options
@method_options
def create(
    path: str,
    num_embeddings: int,
    embedding_dim: int,
    method: str,
    seed: int,
    name: str | None,
    dtype: str,
    padding_idx: int | None,
    chunks: int | None,
    shards: int | None,
    threads: int | None,
    max_memory: str | None,
    no_sync: bool,
    quiet: bool,
    **parameters: Any,
) -> None:
    """Make the table PATH with its initial values.

    PATH is where a .npy file or a zarr array is made. What was stopped goes on when the same command is given again.

    \b
    bigin table create users.zarr --num-embeddings 200000000 --embedding-dim 64 \\
        --method normal --std 0.01 --dtype bfloat16 --padding-idx 0 --seed 3
    """
    from bigin.api.tables import EmbeddingTable

    with progress_bar(path, quiet) as progress:
        made = EmbeddingTable.create(
            path,
            num_embeddings,
            embedding_dim,
            method,
            dtype=dtype,
            padding_idx=padding_idx,
            seed=seed,
            name=name,
            chunks=chunks,
            shards=shards,
            threads=threads,
            max_memory=beyond_base(max_memory),
            sync=not no_sync,
            progress=progress,
            **given(parameters),
        )
    assert made.report is not None
    if not quiet:
        click.echo(summary(made.report))


@table.command(no_args_is_help=True)
@click.argument("path")
@click.argument("num_embeddings", type=int)
@sync_option
@running_options
def grow(
    path: str, num_embeddings: int, threads: int | None, max_memory: str | None, no_sync: bool, quiet: bool
) -> None:
    """Add rows to the table PATH until it has NUM_EMBEDDINGS.

    Other rows stay as they are. Killed at any moment, it leaves a valid table, and can be run again.

    \b
    bigin table grow users.zarr 250000000
    """
    from bigin.api.tables import EmbeddingTable

    with progress_bar(path, quiet) as progress:
        grown = EmbeddingTable.open(path)
        before = len(grown)
        report = grown.grow(
            num_embeddings,
            threads=threads,
            max_memory=beyond_base(max_memory),
            sync=not no_sync,
            progress=progress,
        )
    if quiet:
        return
    if not report.nbytes:
        click.echo(f"{report.target} has {before} rows already")
    else:
        click.echo(f"{report.target}: grown from {before} to {len(grown)} rows; {pace(report.nbytes, report.seconds)}")


@table.command(no_args_is_help=True)
@click.argument("path")
@click.argument("ids", type=IDS)
@click.option("--json", "as_json", is_flag=True, help="As a list of lists.")
def rows(path: str, ids: list[int], as_json: bool) -> None:
    """Print the rows IDS of the table PATH, in the order asked.

    \b
    bigin table rows users.zarr 5,7,10
    """
    from bigin.api.tables import EmbeddingTable

    values = EmbeddingTable.open(path).rows(ids)
    if as_json:
        click.echo(json.dumps(values.tolist()))
        return
    for number, row in zip(ids, values, strict=True):
        click.echo(f"{number}: {row_text(row)}")


def row_text(row: np.ndarray[Any, Any]) -> str:
    """A row's values, with as many digits as tell them apart from the dtype's other numbers."""
    return " ".join(map(str, row))


@table.command(no_args_is_help=True)
@click.argument("path")
@click.argument("ids", type=IDS)
@sync_option
@running_options
def reset(path: str, ids: list[int], threads: int | None, max_memory: str | None, no_sync: bool, quiet: bool) -> None:
    """Bring the rows IDS of the table PATH back to their initial values.

    \b
    bigin table reset users.zarr 5,7,10
    """
    from bigin.api.tables import EmbeddingTable

    start = time.perf_counter()
    done = EmbeddingTable.open(path).reset(ids, threads=threads, max_memory=beyond_base(max_memory), sync=not no_sync)
    if not quiet:
        click.echo(f"{path}: {done} row{'s' if done != 1 else ''} reset in {time.perf_counter() - start:.2f} s")


@table.command(no_args_is_help=True)
@click.argument("path")
@sample_options
@running_options
def verify(path: str, sample: str, sample_seed: int, threads: int | None, max_memory: str | None, quiet: bool) -> None:
    """Compare the table PATH with its initial values, bit for bit. Exit code 1 where rows were changed.

    \b
    bigin table verify users.zarr
    """
    from bigin.api.tables import EmbeddingTable

    with progress_bar(path, quiet) as progress:
        found = EmbeddingTable.open(path).verify(
            sample=parse_fraction(sample),
            sample_seed=sample_seed,
            threads=threads,
            max_memory=beyond_base(max_memory),
            progress=progress,
        )
    if not quiet:
        click.echo(verdict(found, "bigin table reset brings rows back"))
    if not found.equal:
        sys.exit(1)
