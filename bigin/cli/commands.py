"""What all commands and groups of commands have beyond click's."""

from __future__ import annotations

import click

from bigin.core.text import similar


class Command(click.Command):
    """A command whose help lists the parameters of the methods in a section of their own."""

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
