"""Standard streams that are closed, full or of another encoding, and names that mean something elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from common import BIGIN, few, run

import bigin

FILL = ["fill", "--method", "normal", "w.npy", "--shape", "10,20"]
COMMANDS = {  # a command that works, with what it prints, and one that is refused
    "fill": (FILL, "10x20 float32 filled with normal", 0),
    "show": (["show", "held.npy"], "looks like ones()", 0),
    "methods": (["methods"], "xavier_uniform", 0),
    "help": (["fill", "--help"], "--sparsity", 0),
    "usage": (["fill", "--nonsense"], "", 2),
    "refusal": (["show", "none.npy"], "", 2),
}


def shell(redirection: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command whose standard streams a shell has redirected."""
    command = ["sh", "-c", f'exec "$@" {redirection}', "sh", *BIGIN, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=120, env=os.environ | environment
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("redirection", few("<&- >&- 2>&-", "<&-", "2>&-", "2>/dev/full"))
def test_a_stream_that_is_closed_or_full_changes_neither_result_nor_exit_code(redirection, command):
    bigin.fill("held.npy", "ones", shape=(3, 4))
    before = Path("held.npy").read_bytes()
    arguments, printed, code = COMMANDS[command]
    done = shell(redirection, *arguments)
    assert done.returncode == code, done.stderr
    assert printed in done.stdout or ">&-" in redirection.replace("2>&-", "")
    assert "Traceback" not in done.stderr
    assert Path("held.npy").read_bytes() == before
    if command == "fill":
        assert bigin.verify("w.npy").equal


@pytest.mark.parametrize("command", ["fill", "show", "methods", "help"])
def test_a_full_standard_output_is_told_as_its_own_error(command):
    bigin.fill("held.npy", "ones", shape=(3, 4))
    done = shell(">/dev/full", *COMMANDS[command][0])
    assert done.returncode == 1
    assert done.stderr == "bigin: the standard output: No space left on device\n"


@pytest.mark.parametrize("encoding", few("latin-1", "ascii"))
def test_characters_that_the_standard_output_lacks_are_replaced(encoding):
    bigin.fill("held.npy", "normal", shape=(100, 100))
    for command in (["show", "held.npy"], ["methods"], ["init", "torch", "--like", "m.zarr", "--dry-run"]):
        if command[0] == "init":
            bigin.fill("m.zarr/\u03b1.weight", "zeros", shape=(3, 4))
        done = shell("", *command, PYTHONIOENCODING=encoding, PYTHONUTF8="0")
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert ("####" in done.stdout) == (command[0] == "show")


NAMES = ["ckpt[/data].npy", "[red]w[/red].npy", "[link=a]:smile:.npy", "a%sb{x}.npy"]


def on_terminal(*arguments: str) -> str:
    """What a command writes to a terminal."""
    parent, child = pty.openpty()
    process = subprocess.Popen([*BIGIN, *arguments], stdout=child, stderr=child, stdin=child)
    os.close(child)
    seen = b""
    while True:
        try:
            data = os.read(parent, 1 << 16)
        except OSError:  # the other end was closed
            break
        if not data:
            break
        seen += data
    assert process.wait() == 0, seen
    return seen.decode()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_no_name_is_read_as_markup(name):
    Path(name).parent.mkdir(exist_ok=True)
    assert name in on_terminal("fill", "--method", "normal", name, "--shape", "10,20")
    assert name in on_terminal("show", name)
    assert name in on_terminal("verify", name)
    assert bigin.verify(name).equal


def test_no_tensors_name_is_read_as_markup():
    tensor = "a[/b].[red]w"
    bigin.fill(f"m.zarr/{tensor}", "zeros", shape=(30, 40))
    for command in (["init", "r[/x].toml", "m.zarr", "--dry-run"], ["signal", "r[/x].toml", "--like", "m.zarr"]):
        Path("r[/x].toml").parent.mkdir(exist_ok=True)
        Path("r[/x].toml").write_text('[default]\nmethod = "normal"\n')
        assert tensor in run(*command).stdout
        on_terminal(*command)


def test_help_and_docstrings_survive_python_oo():
    code = "import bigin.init; print(bigin.init.normal_.__doc__)"
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    code = (
        "from click.testing import CliRunner; from bigin.cli import cli\n"
        'for command in ("fill", "init", "methods", "recipes", "show", "signal", "table", "verify", "table create"):\n'
        '    print(CliRunner().invoke(cli, [*command.split(), "--help"]).output)'
    )
    texts = [
        subprocess.run([sys.executable, *options, "-c", code], capture_output=True, text=True, check=True).stdout
        for options in ([], ["-OO"])
    ]
    assert texts[0].count("Usage: ") == 9
    assert texts[0] == texts[1]


def test_numba_without_its_compiler_is_told_as_that():
    bigin.fill("w.npy", "normal", shape=(3, 4))
    for command in (["fill", "--method", "normal", "new.npy", "--shape", "3"], ["verify", "w.npy"], ["show", "w.npy"]):
        done = shell("", *command, NUMBA_DISABLE_JIT="1")
        assert done.returncode == 2
        assert "NUMBA_DISABLE_JIT=1" in done.stderr
    assert not Path("new.npy").exists()


def test_nothing_follows_the_message_of_a_command_that_failed():
    """As the tracebacks of an HTTP library whose threads and sessions are still there when Python shuts down."""
    code = (
        "import sys, threading, time, bigin.cli\n"
        "class Session:\n"
        "    def __del__(self):\n"
        "        raise RuntimeError('never closed')\n"
        "held = Session()\n"
        "threading.Thread(target=time.sleep, args=[60]).start()\n"
        "sys.argv = ['bigin', 'show', 'none.npy']\n"
        "bigin.cli.run()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == 2
    assert done.stderr == "bigin: none.npy: expected a target to show, got nothing\n"
