"""bigin grow-vocab."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

import bigin
from bigin.cli.commands import Command
from bigin.cli.options import (
    PATH,
    RunOptions,
    WriteOptions,
    gathered,
    json_option,
    parameter_options,
    run_options,
    write_options,
)
from bigin.cli.printing import outcome, progress_bar
from bigin.core.text import counted

HELP = """Write a copy of CHECKPOINT to OUT, with more rows in its token embeddings.

The input embeddings, the output embeddings and the output biases grow together. config.json gets the new vocab_size.
Everything else is copied bit for bit. The checkpoint may be larger than memory.

\b
bigin grow-vocab llama/ out/ --rows 128512
bigin grow-vocab llama/ out/ --rows 128300 --multiple 64 --new mean+covariance
bigin grow-vocab gpt2/ out/ --rows 50304 --new normal --std 0.02
"""


@dataclass(frozen=True)
class VocabularyOptions:
    """The options that say which rows are new, and what they are."""

    rows: int | None
    multiple: int
    new: str
    tied: str
    tensors: tuple[str, ...]
    seed: int
    max_shard_size: str | None

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of bigin.grow_vocabulary."""
        tied = {"yes": True, "no": False}.get(self.tied, self.tied)
        return vars(self) | {"tied": tied, "tensors": self.tensors or None}


vocabulary_options = gathered(
    "growth",
    VocabularyOptions,
    click.option("--rows", type=int, help="New number of rows of the embeddings.  [default: the next --multiple]"),
    click.option("--multiple", type=int, default=1, show_default=True, help="Round the rows up to a multiple of this."),
    click.option(
        "--new",
        default="mean",
        show_default=True,
        help="Values of new rows: mean, mean+covariance, row:17 for copies of a row, or a method.",
    ),
    click.option(
        "--tied",
        type=click.Choice(["auto", "yes", "no"]),
        default="auto",
        show_default=True,
        help="Whether input and output embeddings are one tensor; auto: as in config.json.",
    ),
    click.option(
        "--tensor",
        "tensors",
        multiple=True,
        help="Name of a tensor to grow. May be repeated.  [default: found by name and number of rows]",
    ),
    click.option("--seed", default=0, show_default=True, help="Seed, from 0 to 2^64 - 1."),
    click.option("--max-shard-size", help="Bytes in one file: 5GB.  [default: the files of CHECKPOINT]"),
)


@click.command(
    "grow-vocab", cls=Command, no_args_is_help=True, help=HELP, short_help="Add rows to a checkpoint's embeddings."
)
@click.argument("checkpoint", type=PATH)
@click.argument("out", type=PATH)
@vocabulary_options
@parameter_options
@write_options
@run_options
@json_option
def grow_vocab(
    checkpoint: str,
    out: str,
    growth: VocabularyOptions,
    parameters: Mapping[str, Any],
    write: WriteOptions,
    run: RunOptions,
    as_json: bool,
) -> None:
    """Grow the vocabulary of a checkpoint."""
    limits = run.arguments()
    if limits.pop("requests") is not None:
        raise click.UsageError("expected no --requests, as the checkpoint is read from this machine")
    with progress_bar(out, quiet=run.quiet or as_json) as progress:
        report = bigin.grow_vocabulary(
            checkpoint, out, **growth.arguments(), **write.arguments(), **limits, **parameters, progress=progress
        )
    if as_json:
        click.echo(json.dumps(report.as_dict(), indent=2))
        return
    if run.quiet:
        return
    tensors = report.record["tensors"]
    for name, record in tensors.items():
        if "grown" in record:
            axis, first = record["grown"].get("axis", 0), record["grown"]["new_from"]
            last, words = record["shape"][axis] - 1, ("rows", "columns")[axis]
            click.echo(f"{name}: {words} {first} to {last} are new: {growth.new}")
    click.echo(outcome(report, counted(len(tensors), "tensor"), f"made of {checkpoint}"))
