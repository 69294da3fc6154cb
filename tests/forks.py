"""The command line in a process of its own, forked from one that has imported what commands need.

A new process costs a second of imports, a forked one milliseconds. Each has its own arguments, environment, working
directory and outputs. Tests whose subject is the process itself (what it imports, its signals, its standard streams)
start a new one.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path

# The server: it reads commands and writes exit codes, line by line. It has no thread, so that it may fork.
SERVER = """
import atexit, importlib, json, os, sys, traceback
import bigin.api.filling, bigin.cli, bigin.kernels.cpu, zarr
for room in ("api", "cli", "fillers", "inspect", "recipes"):
    package = os.path.join(os.path.dirname(bigin.__file__), room)
    for file in sorted(os.listdir(package)):
        if file.endswith(".py"):
            importlib.import_module(f"bigin.{room}.{file[:-3]}".removesuffix(".__init__"))
commands = os.fdopen(os.dup(0), "r")
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
for line in commands:
    command = json.loads(line)
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        commands.close()
        for number, path in ((1, command["stdout"]), (2, command["stderr"])):
            os.dup2(os.open(path, os.O_WRONLY), number)
        os.chdir(command["folder"])
        os.environ.clear()
        os.environ.update(command["environment"])
        sys.argv = ["bigin", *command["arguments"]]
        code = 1
        try:
            bigin.cli.run()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            atexit._run_exitfuncs()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            os._exit(code)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""

FIXED = ("NUMBA_", "PYTHON", "LD_", "MALLOC_")  # variables that are read once, when a process begins


def fixed() -> dict[str, str]:
    """The variables of this process that a forked one cannot change."""
    return {key: value for key, value in os.environ.items() if key.startswith(FIXED)}


class Server:
    """Where commands are forked, one after the other."""

    def __init__(self) -> None:
        self.environment = fixed()
        self.lock = threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd="/"
        )
        atexit.register(self.end)

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _line(self, limit: float) -> str | None:
        """The next line that the server says; None if it takes longer."""
        ready, _, _ = select.select([self.process.stdout], [], [], limit)
        if not ready:
            return None
        line = self.process.stdout.readline()
        assert line, "the server of commands has ended"
        return line

    def run(self, folder: Path, arguments: Sequence[str], limit: float) -> subprocess.CompletedProcess[str]:
        with self.lock, tempfile.TemporaryDirectory() as outputs:
            paths = {name: os.path.join(outputs, name) for name in ("stdout", "stderr")}
            for path in paths.values():
                open(path, "w").close()
            command = {"folder": str(folder), "arguments": arguments, "environment": dict(os.environ), **paths}
            self.process.stdin.write(json.dumps(command) + "\n")
            child = self._line(limit)
            code = self._line(limit)
            if code is None:
                os.killpg(int(child), signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(arguments), limit)
            texts = [Path(path).read_text() for path in paths.values()]
        return subprocess.CompletedProcess(list(arguments), int(code), *texts)


@cache
def server() -> Server:
    return Server()
