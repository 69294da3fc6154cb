"""The options that commands share, each defined once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from bigin.core.errors import InputError
from bigin.core.text import parse_size, size_text
from bigin.methods.table import METHODS, PARAMETERS


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


stream_options = options(
    click.option("--seed", default=0, show_default=True, help="From 0 to 2^64 - 1."),
    click.option("--name", help="The tensor's name, whose stream it draws.  [default: its path in a zarr hierarchy]"),
)
specification_options = options(
    stream_options,
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
device_options = options(
    click.option(
        "--device",
        default="cpu",
        show_default=True,
        help="Where values are made: cpu, cuda, cuda:1, auto (faster).",
    ),
    click.option("--max-device-memory", help="Bound on what is taken of it: 2GiB.  [default: what is free]"),
)
sample_options = options(
    click.option("--sample", default="100%", show_default=True, help="Read only so many of the chunks: 1%."),
    click.option("--sample-seed", default=0, show_default=True, help="Which ones."),
)
method_option = click.option("--method", "-m", required=True, help="What to fill with; `bigin methods` lists all.")
sync_option = click.option("--no-sync", is_flag=True, help="Do not wait until the data is on the disk.")


def given(parameters: dict[str, Any]) -> dict[str, Any]:
    """The options for parameters that were given."""
    return {key: value for key, value in parameters.items() if value is not None}


def beyond_base(max_memory: str | None) -> int | None:
    """What a bound on the whole process leaves for a fill, with the libraries loaded; None where none was given."""
    if max_memory is None:
        return None
    size = parse_size(max_memory)
    import numba  # noqa: F401
    import zarr  # noqa: F401

    from bigin.core.memory import resident

    base = resident() + (100 << 20)  # and what compiling a kernel takes
    if size <= base:
        raise InputError(f"expected --max-memory above {size_text(base)}, which Python and its libraries take")
    return size - base
