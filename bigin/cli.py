"""The command line: one command, one call of bigin.api."""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import click

from bigin import __version__
from bigin.cli_model import init, recipes
from bigin.cli_show import show
from bigin.cli_signal import signal as signal_command
from bigin.cli_table import table
from bigin.errors import FillError, InputError, Terminated
from bigin.methods.table import ALIASES, METHODS, REQUIRED
from bigin.options import (
    beyond_base,
    device_options,
    given,
    method_option,
    method_options,
    running_options,
    sample_options,
    specification_options,
    sync_option,
)
from bigin.printing import print_table, progress_bar, summary, verdict
from bigin.text import parse_fraction, parse_shape

LONGEST = 300  # characters of an unexpected error's text


class Interruption(Exception):  # noqa: N818
    """A KeyboardInterrupt, which click would print an empty line for."""


class Commands(click.Group):
    """Commands that may be interrupted."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise Interruption from stop


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="bigin")
def cli() -> None:
    """Write the initial values of weights that do not fit in memory.

    A value depends on the seed, the tensor's name, the method, the global shape and the index, and on nothing else:
    not on the chunks, the threads, the machine or the order of the work.
    """


for command in (init, recipes, show, signal_command, table):
    cli.add_command(command)


@cli.command(no_args_is_help=True)
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
    from bigin import api

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


@cli.command(no_args_is_help=True)
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
    from bigin import verification

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


@cli.command()
def methods() -> None:
    """List the methods: formula, parameters with defaults, source."""
    rows = []
    for row in METHODS.values():
        names = [row.name, *(alias for alias, name in ALIASES.items() if name == row.name)]
        given = [f"{key}={default_text(value)}" for key, value in row.defaults.items()]
        rows.append(("\n".join(names), row.formula, ", ".join(given) or "none", row.source))
    print_table(
        "bigin fill --method ...",
        ("method", "values", "parameters and defaults", "source"),
        rows,
        "fan_in, fan_out: of the global shape, in torch's layout (out, in, receptive field...) unless in_axis and "
        "out_axis say otherwise. gain: a number or a nonlinearity, such as relu or leaky_relu:0.2.",
    )


def default_text(value: Any) -> str:
    """A default as it would be typed."""
    if value is None:
        return "none"
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    return "(required)" if value == REQUIRED else str(value)


def main() -> None:
    """Runs a command. Exit codes: 0 done, 1 not finished or a difference found, 2 bad input, 130 interrupted."""
    signal.signal(signal.SIGTERM, terminate)
    try:
        cli(standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except InputError as error:
        fail(str(error), 2)
    except FillError as error:
        fail(str(error), 1)
    except (click.Abort, KeyboardInterrupt, Interruption) as stop:
        cause = stop.__cause__ or stop
        start = "\n" if sys.stderr.isatty() else ""  # behind the terminal's ^C
        click.echo(f"{start}bigin: {str(cause) or 'interrupted'}", err=True)
        sys.stdout.flush()
        os._exit(1 if isinstance(cause, Terminated) else 130)  # sys.exit would wait for what is still being written
    except BrokenPipeError:
        os._exit(1)  # the reader went away; there is nobody to tell
    except OSError as error:
        fail(f"{error.filename or 'the target'}: {error.strerror or error}", 1)
    except MemoryError:
        fail("out of memory; give a smaller --max-memory", 1)
    except Exception as error:
        if os.environ.get("BIGIN_TRACEBACK"):
            raise
        text = " ".join(str(error).split())[:LONGEST]
        fail(
            f"unexpected {type(error).__name__}: {text}; BIGIN_TRACEBACK=1 shows where, for a report of this defect", 1
        )


def terminate(signum: int, frame: Any) -> None:
    """SIGTERM ends a fill as Ctrl-C does: in order."""
    raise Terminated


def fail(message: str, code: int) -> None:
    """One line to the standard error, and the end."""
    click.echo(f"bigin: {message}", err=True)
    sys.exit(code)
