"""The command line: each command is one call of bigin's Python functions."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import warnings
from typing import Any, NoReturn

import click

from bigin import __version__
from bigin.cli import settings
from bigin.cli.attesting import attest
from bigin.cli.checking import check
from bigin.cli.commands import Group
from bigin.cli.doctor import doctor
from bigin.cli.filling import fill
from bigin.cli.keyed import dump_command, keys_command
from bigin.cli.methods import methods
from bigin.cli.models import init, recipe, recipes
from bigin.cli.plans import finish, plan, status, work
from bigin.cli.serving import serve
from bigin.cli.showing import show
from bigin.cli.signals import signal as signal_command
from bigin.cli.streams import OutputError, guarded
from bigin.cli.surgery import grow_vocab
from bigin.cli.tables import table
from bigin.cli.verifying import verify
from bigin.core.errors import FillError, InputError, TargetError, Terminated

LONGEST = 300  # characters of an unexpected error's text
REPORT = "please report this defect with the traceback that BIGIN_TRACEBACK=1 prints"
LISTS = ("doctor", "methods", "recipes")  # commands that compute nothing
HELP = """Write the initial values of weights that do not fit in memory.

A value depends on the seed, the tensor's name, the method, the global shape and the index, and on nothing else: not
on the chunks, the threads, the machine or the order of the work.
"""


class Interruption(Exception):  # noqa: N818
    """A KeyboardInterrupt, which click would print an empty line for."""


class Commands(Group):
    """Commands that may be interrupted."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            raise Interruption from stop


@click.group(
    cls=Commands,
    help=HELP,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 100,
        "auto_envvar_prefix": settings.PREFIX,
    },
)
@click.version_option(__version__, prog_name="bigin")
@click.pass_context
def cli(context: click.Context) -> None:
    """Group of all commands."""
    disabled = os.environ.get("NUMBA_DISABLE_JIT", "0")
    if disabled not in ("", "0") and context.invoked_subcommand not in LISTS:
        raise InputError(f"expected numba's compiler, got NUMBA_DISABLE_JIT={disabled} in the environment; unset it")
    context.default_map = settings.defaults(cli)


for command in (
    attest,
    check,
    doctor,
    fill,
    finish,
    grow_vocab,
    init,
    methods,
    plan,
    recipe,
    recipes,
    serve,
    show,
    signal_command,
    status,
    table,
    verify,
    work,
):
    cli.add_command(command)
table.add_command(keys_command)
table.add_command(dump_command)


def run() -> None:
    """Run a command as the whole of a process.

    A command that has failed has said why. Nothing that libraries print while Python shuts down, such as the tracebacks
    of their background threads, may follow, so the process ends at once. So it does after obstore was used, whose
    threads can crash a process that shuts down (they take Python's lock to drop what they hold), unless MPI is to be
    told of the end, which happens in the shutdown.
    """
    code = 0
    try:
        main()
    except SystemExit as done:
        code = int(done.code or 0)
    if not code and ("obstore" not in sys.modules or "mpi4py.MPI" in sys.modules):
        return
    if not code:
        atexit._run_exitfuncs()
    for stream in filter(None, (sys.stdout, sys.stderr)):  # None where it is closed
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


def main() -> None:
    """Run a command. Exit codes: 0 done, 1 not finished or a difference, 2 bad input, 130 interrupted."""
    if signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:  # not where the shell has it ignored
        signal.signal(signal.SIGTERM, terminate)
    with guarded(), warnings.catch_warnings():
        warnings.showwarning = tell_warning
        try:
            code = cli(standalone_mode=False)  # not None where the command called Context.exit
            sys.stdout.flush()
        except (click.Abort, KeyboardInterrupt, Interruption) as stop:
            leave(stop)
        except BaseException as error:
            code = tell(error)
    if code:
        sys.exit(code)


def tell(error: BaseException) -> int:
    """Print an error in one line, and return the exit code for it."""
    match error:
        case click.ClickException():
            error.show()
            return error.exit_code
        case BrokenPipeError():  # whoever read the output has gone; there is nobody to tell
            return 1
        case FillError() | TargetError():
            message, code = str(error), 1
        case InputError():
            message, code = str(error), 2
        case OutputError():
            message, code = str(error), 1
        case OSError():
            message, code = f"{error.filename or 'the target'}: {error.strerror or error}", 1
        case MemoryError():
            message, code = "out of memory; rerun the command with a smaller --max-memory", 1
        case Exception() if not os.environ.get("BIGIN_TRACEBACK"):
            text = " ".join(str(error).split())[:LONGEST]
            message, code = f"unexpected {type(error).__name__}: {text}; {REPORT}", 1
        case _:
            raise error
    click.echo(f"bigin: {message}", err=True)
    return code


def leave(stop: BaseException) -> NoReturn:
    """End the process after an interruption. sys.exit would wait for what is still being written."""
    cause = stop.__cause__ or stop
    start = "\n" if sys.stderr.isatty() else ""  # after the terminal's ^C
    click.echo(f"{start}bigin: {str(cause) or 'interrupted'}", err=True)
    with contextlib.suppress(OSError, OutputError):
        sys.stdout.flush()
    os._exit(1 if isinstance(cause, Terminated) else 130)


def tell_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Print a warning in one line."""
    click.echo(f"bigin: warning: {message}", err=True)


def terminate(signum: int, frame: Any) -> None:
    """End a fill in order at SIGTERM, as at Ctrl-C."""
    raise Terminated
