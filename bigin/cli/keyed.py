"""bigin table keys and bigin table dump: one command, one call of bigin.KeyedTable."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import click

import bigin
from bigin.cli.commands import Command
from bigin.cli.options import (
    PATH,
    RunOptions,
    SpecOptions,
    dtype_option,
    filled_with,
    gathered,
    json_option,
    run_options,
)
from bigin.cli.printing import pace, progress_bar
from bigin.core.errors import InputError
from bigin.core.paths import expand
from bigin.core.text import counted

LINES = 1 << 16  # keys of a text file that are read together

KEYS_HELP = """Print the initial rows of KEYS in a table whose rows are named by 64-bit keys.

KEYS are integers such as 5,0xDEADBEEF, @FILE for a text file with a key on each line, or - for standard input. With
--text they are strings, which are hashed to keys. Nothing is stored; `bigin table dump` writes rows to files.

\b
bigin table keys 5,0xDEADBEEF --embedding-dim 4 --method normal --name users
bigin table keys user:1234 --text \\
    --embedding-dim 4 --method normal --name users
"""
DUMP_HELP = """Write the initial rows of KEYS into FOLDER: files of keys and of values for each rank.

KEYS is a .npy file of integers, a file of int64, @FILE for a text file with a key on each line, or - for standard
input. It may be larger than memory. The row of a key is in the files of rank key % WORLD_SIZE. `bigin verify FOLDER`
verifies them.

\b
bigin table dump keys.npy dump/ --world-size 8 \\
    --embedding-dim 64 --method normal --std 0.01 --name users
"""


@dataclass(frozen=True)
class KeyedOptions:
    """The options that say how the rows look and how keys are read."""

    embedding_dim: int
    dtype: str | None
    text: bool

    def table(self, spec: SpecOptions, threads: int | None) -> bigin.KeyedTable:
        """The table."""
        assert spec.method is not None
        arguments = spec.arguments() | {"name": spec.name or "", "dtype": self.dtype or "float32", "threads": threads}
        return bigin.KeyedTable(self.embedding_dim, spec.method, **arguments)


keyed_options = gathered(
    "rows",
    KeyedOptions,
    click.option("--embedding-dim", type=int, required=True, help="Number of columns."),
    dtype_option,
    click.option("--text", is_flag=True, help="The keys are strings, which are hashed."),
)


@dataclass(frozen=True)
class DumpOptions:
    """The options of a dump alone."""

    world_size: int
    scores: str | None
    overwrite: bool

    def arguments(self) -> dict[str, Any]:
        """What KeyedTable.dump takes."""
        number = self.scores is not None and self.scores.lstrip("-").isdecimal()
        return {**vars(self), "scores": int(self.scores) if number and self.scores else self.scores}


dump_options = gathered(
    "how",
    DumpOptions,
    click.option("--world-size", type=int, default=1, show_default=True, help="Number of ranks."),
    click.option(
        "--scores", help="What decides which rows are evicted first: an integer for all, or a file of integers."
    ),
    click.option("--overwrite", is_flag=True, help="Replace a dump of the table."),
)


@click.command("keys", cls=Command, no_args_is_help=True, help=KEYS_HELP)
@click.argument("keys", metavar="KEYS")
@keyed_options
@filled_with
@json_option
def keys_command(keys: str, rows: KeyedOptions, spec: SpecOptions, as_json: bool) -> None:
    """Print rows by key."""
    table = rows.table(spec, None)
    parts = lines_of(keys, text=rows.text) if keys == "-" or keys.startswith("@") else [words(keys, text=rows.text)]
    named = list(itertools.chain.from_iterable(parts))
    values = table[named]
    if as_json:
        click.echo(json.dumps(values.tolist()))
        return
    for key, row in zip(named, values, strict=True):
        click.echo(f"{key}: {' '.join(map(str, row))}")


@click.command("dump", cls=Command, no_args_is_help=True, help=DUMP_HELP)
@click.argument("keys", metavar="KEYS", type=PATH)
@click.argument("folder", type=PATH)
@dump_options
@keyed_options
@filled_with
@run_options
@json_option
def dump_command(
    keys: str,
    folder: str,
    how: DumpOptions,
    rows: KeyedOptions,
    spec: SpecOptions,
    run: RunOptions,
    as_json: bool,
) -> None:
    """Write rows by key."""
    table = rows.table(spec, run.arguments()["threads"])
    source: Any = lines_of(keys, text=rows.text) if keys == "-" or keys.startswith("@") else keys
    with progress_bar(folder, quiet=run.quiet or as_json) as progress:
        report = table.dump(source, folder, **how.arguments(), progress=progress)
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
    elif not run.quiet:
        made = f"{counted(sum(report.record['rows']), 'row')} of {spec.name or 'a table'}"
        click.echo(f"{folder}: {made} for {counted(how.world_size, 'rank')}; {pace(report.nbytes, report.seconds)}")


def words(keys: str, *, text: bool) -> list[Any]:
    """The keys of an argument."""
    return parsed([word.strip() for word in keys.split(",")], "KEYS", text=text)


def parsed(lines: Iterable[str], where: str, *, text: bool) -> list[Any]:
    """Keys from their texts; raises InputError."""
    if text:
        return list(lines)
    out = []
    for line in lines:
        try:
            out.append(int(line, 0))
        except ValueError:
            raise InputError(
                f"{where}: expected integers as keys, got {line!r:.100}; --text takes texts as keys"
            ) from None
    return out


def lines_of(keys: str, *, text: bool) -> Iterator[list[Any]]:
    """The keys on the lines of @FILE or of standard input, some at a time."""
    if keys == "-":
        yield from batches(sys.stdin, "standard input", text=text)
        return
    path = Path(expand(keys[1:]))
    try:
        with path.open(encoding="utf-8") as file:
            yield from batches(file, str(path), text=text)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: expected a text file of keys, got: {reason}") from None


def batches(file: TextIO, where: str, *, text: bool) -> Iterator[list[Any]]:
    """The keys on the lines of a file; empty lines are no keys."""
    lines = (line for line in map(str.strip, file) if line)
    while part := list(itertools.islice(lines, LINES)):
        yield parsed(part, where, text=text)
