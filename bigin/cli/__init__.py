"""The command line: one command, one call of bigin.api.filling."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import click

from bigin import __version__
from bigin.cli.filling import fill
from bigin.cli.methods import methods
from bigin.cli.models import init, recipes
from bigin.cli.showing import show
from bigin.cli.signals import signal as signal_command
from bigin.cli.tables import table
from bigin.cli.verifying import verify
from bigin.core.errors import FillError, InputError, TargetError, Terminated

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


for command in (fill, init, methods, recipes, show, signal_command, table, verify):
    cli.add_command(command)


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
    except (FillError, TargetError) as error:
        fail(str(error), 1)
    except InputError as error:
        fail(str(error), 2)
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
