"""What all commands and groups of commands have beyond click's."""

from __future__ import annotations

from typing import Any

import click

from bigin.core.text import similar


def log_to_stderr(context: click.Context, option: click.Parameter, count: int) -> None:
    """Has what bigin does logged on standard error: once the steps, twice those of the libraries below, too."""
    if not count:
        return
    import logging

    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("bigin").setLevel(logging.INFO)
    if count > 1:
        logging.getLogger().setLevel(logging.INFO)


class Command(click.Command):
    """A command that can log, and whose help lists the parameters of the methods in a section of their own."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        said = "Log each step on standard error; -vv: also the messages of libraries."
        verbose = click.Option(["-v", "--verbose"], count=True, expose_value=False, is_eager=True, help=said)
        verbose.callback = log_to_stderr
        self.params.append(verbose)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options."""
        options: list[tuple[str, str]] = []
        parameters: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                (parameters if isinstance(parameter, ParameterOption) else options).append(record)
        with formatter.section("Options"):
            formatter.write_dl(options)
        if parameters:
            with formatter.section("Parameters of the methods"):
                formatter.write_dl(parameters)


class ParameterOption(click.Option):
    """An option that is a parameter of methods."""


class Group(click.Group):
    """A group that suggests the command whose name is nearly the one that was given."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Select the command that the arguments name."""
        if args[0] not in self.commands and not args[0].startswith("-"):
            raise click.UsageError(f"no such command {args[0]!r}{similar(args[0], self.commands)}", ctx)
        return super().resolve_command(ctx, args)
