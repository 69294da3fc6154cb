"""What the pages say that one types: every function and argument of Python is there, and every command is understood.

Blocks of pages that stand for themselves are run by other tests (test_site, test_notebooks, test_virtual_store).
"""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from common import ROOT

from bigin.cli import cli

PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.S | re.M)
PLACEHOLDER = re.compile(r"\.\.\.|…")
SHELL = ("", "bash", "sh", "console", "text", "yaml")
ROOMS = {"torch": "torch", "jax": "jax", "keras": "keras"}  # what needs another package


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, *kinds: str) -> list[str]:
    return [text for _, kind, text in FENCED.findall(path.read_text()) if kind in kinds]


def resolved(node: ast.AST) -> Any:
    """What bigin.a.b is; None where a call is not of bigin, or its package is not installed."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id != "bigin" or not names:
        return None
    if (package := ROOMS.get(names[0])) and importlib.util.find_spec(package) is None:
        return None
    held: Any = importlib.import_module(f"bigin.{names[0]}" if names[0] in (*ROOMS, "init") else "bigin")
    for name in names[1:] if names[0] in (*ROOMS, "init") else names:
        held = getattr(held, name)
    return held


def check_call(call: ast.Call) -> None:
    function = resolved(call.func)
    if function is None:
        return
    signature = inspect.signature(function)
    starred = any(isinstance(argument, ast.Starred) for argument in call.args)
    keywords = {keyword.arg: None for keyword in call.keywords if keyword.arg}
    if PLACEHOLDER.search(ast.unparse(call)) or starred:
        signature.bind_partial(**keywords)
    else:
        signature.bind(*call.args, **keywords)


@pytest.mark.parametrize("path", [path for path in PAGES if blocks(path, "python")], ids=name_of)
def test_what_python_is_shown_is_there(path):
    """In a process of its own where jax is imported, as one that has it should not fork."""
    if "bigin.jax" in path.read_text() or "bigin.keras" in path.read_text():
        code = f"import pathlib, test_pages; test_pages.check_python(pathlib.Path({str(path)!r}))"
        known = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": known, "KERAS_BACKEND": "jax"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    else:
        check_python(path)


def check_python(path: Path) -> None:
    for block in blocks(path, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Call):
                try:
                    check_call(node)
                except (AttributeError, TypeError) as error:
                    raise AssertionError(f"{ast.unparse(node)}: {error}") from None


def commands(path: Path) -> list[str]:
    """The lines of shell blocks that begin with bigin; a line that ends in a backslash goes on."""
    found = []
    for block in blocks(path, *SHELL):
        for line in block.replace("\\\n", " ").splitlines():
            line = line.strip().removeprefix("$ ")
            if line.startswith("bigin ") and not line.startswith("bigin: "):
                found.append(line)
    return found


def parsed(arguments: list[str]) -> None:
    """Has click read a command, without doing anything."""
    command: click.Command = cli
    context = click.Context(cli, info_name="bigin")
    while isinstance(command, click.Group):
        name = arguments.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"no command {name}"
        command = found
        context = click.Context(command, parent=context, info_name=name)
    parser = command.make_parser(context)
    _, rest, _ = parser.parse_args(arguments)
    assert not rest, f"arguments too many: {rest}"


@pytest.mark.parametrize("path", [path for path in PAGES if commands(path)], ids=name_of)
def test_what_commands_are_shown_are_understood(path):
    for line in commands(path):
        text = re.split(r"\s(?:\||>|2>|&&|;|<)", re.sub(r"\s+# .*", "", line))[0]
        if PLACEHOLDER.search(text):
            continue
        arguments = shlex.split(os.path.expandvars(text))[1:]
        try:
            parsed(arguments)
        except (click.ClickException, AssertionError) as error:
            message = error.format_message() if isinstance(error, click.ClickException) else str(error)
            raise AssertionError(f"{line}: {message}") from None


def test_a_wrong_page_is_found():
    with pytest.raises(TypeError):
        check_call(ast.parse("bigin.calculate_gain('relu', slope=1)").body[0].value)  # type: ignore[attr-defined]
    with pytest.raises(AttributeError):
        check_call(ast.parse("bigin.fil(a)").body[0].value)  # type: ignore[attr-defined]
    with pytest.raises(click.ClickException):
        parsed(shlex.split("fill a.npy --method normal --nothing 3"))
    assert sum(len(commands(path)) for path in PAGES) > 50
