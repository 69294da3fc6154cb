"""Defaults of options: [tool.bigin] of a pyproject.toml. click reads those of the environment itself."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from bigin.core.errors import InputError
from bigin.core.text import similar

FILE = "pyproject.toml"
PREFIX = "BIGIN"  # of variables of the environment: BIGIN_FILL_SEED, BIGIN_TABLE_CREATE_CHUNKS


def defaults(group: click.Group) -> dict[str, Any]:
    """Return click's default map for a group of commands: what the nearest pyproject.toml says in [tool.bigin].

    A key that names a command is a table of its options; any other key is an option of every command that has it.

    Raises:
        InputError: the file cannot be read, or names what no command has.
    """
    path, table = nearest(Path.cwd())
    return mapped(group, table, f"{path}: tool.bigin")


def nearest(folder: Path) -> tuple[Path, dict[str, Any]]:
    """The first pyproject.toml from a folder upwards, and its [tool.bigin]; an empty table where there is none."""
    for path in (place / FILE for place in (folder, *folder.parents)):
        try:
            text = path.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: expected a file of settings, got {error}") from error
        try:
            tools = tomllib.loads(text).get("tool", {})
        except tomllib.TOMLDecodeError as error:
            if "tool.bigin" not in text:  # whoever reads the file for its own sake says what is wrong with it
                return path, {}
            raise InputError(f"{path}: expected TOML, got {error}") from error
        table = tools.get("bigin", {}) if isinstance(tools, dict) else {}
        if not isinstance(table, dict):
            raise InputError(f"{path}: expected a table tool.bigin, got {table!r}")
        return path, table
    return folder / FILE, {}


def mapped(group: click.Group, table: dict[str, Any], where: str) -> dict[str, Any]:
    """A table of options and commands as click's default map of a group."""
    common = {key: value for key, value in table.items() if not isinstance(value, dict)}
    known = {option for _, command in leaves(group) for option in options(command)}
    for key in common:
        if key not in known:
            raise InputError(f"{where}: expected an option or a command, got {key!r}{similar(key, known)}")
    made: dict[str, Any] = {}
    for name, command in group.commands.items():
        own = table.get(name, {})
        if isinstance(command, click.Group):
            made[name] = mapped(command, {**of_any(command, common), **own}, f"{where}.{name}")
            continue
        names = options(command)
        for key in own:
            if key not in names:
                raise InputError(
                    f"{where}.{name}: expected an option of bigin {name}, got {key!r}{similar(key, names)}"
                )
        wanted = {**common, **own}
        made[name] = {parameter: wanted[key] for key, parameter in names.items() if key in wanted}
    for key, value in table.items():
        if isinstance(value, dict) and key not in group.commands:
            raise InputError(f"{where}: expected a command, got {key!r}{similar(key, group.commands)}")
    return made


def of_any(group: click.Group, common: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that a command of the group has."""
    known = {option for _, command in leaves(group) for option in options(command)}
    return {key: value for key, value in common.items() if key in known}


def leaves(group: click.Group) -> Iterator[tuple[str, click.Command]]:
    """The commands of a group, and of the groups in it."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command)
        else:
            yield name, command


def options(command: click.Command) -> dict[str, str]:
    """The long names of a command's options, without their dashes, and what click calls them."""
    return {
        text.removeprefix("--"): option.name or ""
        for option in command.params
        if isinstance(option, click.Option)
        for text in option.opts
        if text.startswith("--")
    }
