"""The command line: one command, one call of bigin.api."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from bigin import __version__
from bigin.errors import FillError, InputError, Terminated
from bigin.methods.table import ALIASES, METHODS, PARAMETERS, REQUIRED
from bigin.printing import print_table
from bigin.text import parse_fraction, parse_shape, parse_size, size_text

if TYPE_CHECKING:
    from bigin.api import Report
    from bigin.verification import Verification

SHOWN = 20  # differences that are printed


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="bigin")
def cli() -> None:
    """Write the initial values of weights that do not fit in memory.

    A value depends on the seed, the tensor's name, the method, the global shape and the index, and on nothing else:
    not on the chunks, the threads, the machine or the order of the work.
    """


def method_options(command: Callable[..., None]) -> Callable[..., None]:
    """An option for every parameter of every method."""
    for parameter in reversed(PARAMETERS.values()):
        takes = [m.name for m in METHODS.values() if parameter.name in m.defaults]
        command = click.option(
            f"--{parameter.name.replace('_', '-')}",
            parameter.name,
            type={"number": float, "integer": int, "value": NUMBER, "axes": AXES}.get(parameter.kind, str),
            help=f"{parameter.help}  [{', '.join(takes)}]",
        )(command)
    return command


class Number(click.ParamType):  # type: ignore[type-arg]
    """An integer, kept whole, or a float."""

    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | float:
        """The number of a text."""
        try:
            return int(value)
        except ValueError:
            number: float = click.FLOAT.convert(value, param, ctx)
            return number


class Axes(click.ParamType):  # type: ignore[type-arg]
    """Axes as a list of integers: 1 or -2,-1."""

    name = "axes"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[int]:
        """The axes of a text."""
        try:
            return [int(axis) for axis in value.split(",")] if isinstance(value, str) else list(value)
        except ValueError:
            self.fail(f"{value!r} is no list of axes such as 1 or -2,-1", param, ctx)


NUMBER, AXES = Number(), Axes()


def options(*given: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Several options as one decorator: each is defined once, for all commands that take it."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(given):
            command = option(command)
        return command

    return decorate


specification_options = options(
    click.option("--seed", default=0, show_default=True, help="From 0 to 2^64 - 1."),
    click.option("--name", help="The tensor's name, whose stream it draws.  [default: its path in a zarr hierarchy]"),
    click.option("--shape", help="The shape of a target that is missing, or raw: 1000,256."),
    click.option("--dtype", help="Its dtype: float32, bfloat16, ...  [default: float32]"),
    click.option("--raw", is_flag=True, help="The target is a file of values without a header."),
    click.option("--offset", default=0, help="Where they begin in it, in bytes."),
)
running_options = options(
    click.option("--threads", type=int, help="[default: the cores that the process may use]"),
    click.option("--max-memory", help="Bound on the whole process: 2GiB.  [default: a quarter of what is free]"),
    click.option("--quiet", "-q", is_flag=True, help="Print nothing but errors."),
)


@cli.command(no_args_is_help=True)
@click.argument("target")
@click.option("--method", "-m", required=True, help="What to fill with; `bigin methods` lists all.")
@specification_options
@click.option("--overwrite", is_flag=True, help="Fill a target that holds other data.")
@click.option("--no-sync", is_flag=True, help="Do not wait until the data is on the disk.")
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
            max_memory=None if max_memory is None else beyond_base(parse_size(max_memory)),
            sync=not no_sync,
            progress=progress,
            **{key: value for key, value in parameters.items() if value is not None},
        )
    if not quiet:
        click.echo(summary(report))


def beyond_base(max_memory: int) -> int:
    """What a bound on the whole process leaves for a fill, with the libraries loaded."""
    import numba  # noqa: F401
    import zarr  # noqa: F401

    from bigin.filling.memory import resident

    base = resident() + (100 << 20)  # and what compiling a kernel takes
    if max_memory <= base:
        raise InputError(f"expected --max-memory above {size_text(base)}, which Python and its libraries take")
    return max_memory - base


@cli.command(no_args_is_help=True)
@click.argument("target")
@click.option("--method", "-m", help="What it should hold.  [default: what its record says]")
@specification_options
@click.option("--sample", default="100%", show_default=True, help="Compare only so many of the chunks: 1%.")
@click.option("--sample-seed", default=0, show_default=True, help="Which ones.")
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
            max_memory=None if max_memory is None else beyond_base(parse_size(max_memory)),
            progress=progress,
            **{key: value for key, value in parameters.items() if value is not None},
        )
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
    elif not quiet:
        click.echo(verdict(found))
    if not found.equal and not found.repaired:
        sys.exit(1)


def verdict(found: Verification) -> str:
    """What a verification found: a line for each region that differs, and one for all."""
    lines = [str(difference) for difference in found.differences[:SHOWN]]
    if len(found.differences) > SHOWN:
        lines.append(f"... and {len(found.differences) - SHOWN} more")
    which = "all" if found.regions == found.total else f"{found.regions} of {found.total}"
    count = len(found.differences)
    if found.equal:
        outcome = "equal"
    else:
        which_differ = "1 region differs" if count == 1 else f"{count} regions differ"
        outcome = f"{which_differ}; " + ("repaired" if found.repaired else "--repair mends that")
    speed = found.nbytes / max(found.seconds, 1e-9) / 1e9
    lines.append(
        f"{found.target}: {which} regions compared with {found.wanted}: {outcome}; "
        f"{size_text(found.nbytes)} in {found.seconds:.2f} s, {speed:.2f} GB/s"
    )
    return "\n".join(lines)


@contextmanager
def progress_bar(label: str, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A live bar on a terminal; nothing elsewhere."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def summary(report: Report) -> str:
    """One line: what was filled, how much, how fast."""
    record = report.record
    shape = "x".join(map(str, record["shape"])) or "scalar"
    name = f", name {record['name']}" if record["name"] else ""
    what = f"{report.target}: {shape} {record['dtype']}"
    values = f"filled with {record['method']}, seed {record['seed']}{name}"
    if report.found and not report.nbytes:
        return f"{what} is already {values}; --overwrite fills it anew"
    speed = report.nbytes / max(report.seconds, 1e-9) / 1e9
    found = f", {size_text(report.found)} were there" if report.found else ""
    retries = f", {report.retries} retries" if report.retries else ""
    return f"{what} {values}; {size_text(report.nbytes)} in {report.seconds:.2f} s, {speed:.2f} GB/s{found}{retries}"


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


@cli.command()
@click.argument("name", required=False)
def recipes(name: str | None) -> None:
    """List the recipes that ship, or print one, to be saved and changed: bigin recipes gpt2 > my.toml"""
    from bigin.recipes.presets import find_recipe, outlines
    from bigin.recipes.read import read_text

    if name is not None:
        click.echo(read_text(find_recipe(name)), nl=False)
        return
    rows = [(outline.name, outline.description, outline.variables, outline.source) for outline in outlines()]
    print_table(
        "bigin init RECIPE ...",
        ("recipe", "values", "variables (--var)", "source"),
        rows,
        "bigin recipes NAME prints one.",
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
    except (click.Abort, KeyboardInterrupt) as stop:
        cause = stop.__cause__ or stop  # click raises Abort for every KeyboardInterrupt
        fail(str(cause) or "interrupted", 1 if isinstance(cause, Terminated) else 130)
    except BrokenPipeError:
        os._exit(1)  # the reader went away; there is nobody to tell
    except OSError as error:
        fail(f"{error.filename or 'the target'}: {error.strerror or error}", 1)
    except MemoryError:
        fail("out of memory; give a smaller --max-memory", 1)


def terminate(signum: int, frame: Any) -> None:
    """SIGTERM ends a fill as Ctrl-C does: in order."""
    raise Terminated


def fail(message: str, code: int) -> None:
    """One line to the standard error, and the end."""
    click.echo(f"bigin: {message}", err=True)
    sys.exit(code)
