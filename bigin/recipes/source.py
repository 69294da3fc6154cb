"""A TOML file, and the line of each of its keys, which tomllib does not tell."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bigin.core.errors import InputError

LARGEST = 1 << 18  # bytes of a recipe
TRIES = 200  # parses that may be spent on finding a line

Path = tuple[str | int, ...]  # keys and indices in lists, outermost first


@dataclass(frozen=True)
class TomlText:
    """A file's label, for messages, and its text."""

    label: str
    text: str

    @cached_property
    def data(self) -> dict[str, Any]:
        """The parsed file; raises InputError if it is not TOML."""
        if len(self.text) > LARGEST:
            raise InputError(f"{self.label}: expected at most {LARGEST} characters, got {len(self.text)}")
        try:
            data = tomllib.loads(self.text)
            _measured(data)
            return data
        except tomllib.TOMLDecodeError as error:
            message, _, position = str(error).rpartition(" (at ")
            where = position.removesuffix(")").partition(",")[0]
            if not where.startswith("line "):  # at the end of the document
                where = f"line {len(self.text.rstrip().split(chr(10)))}"
            raise InputError(f"{self.label}, {where}: expected TOML: {message or error}") from None
        except (ValueError, RecursionError):
            raise InputError(
                f"{self.label}: expected TOML, got numbers that are too large or lists that are nested too deeply"
            ) from None

    def error(self, path: Path, message: str) -> InputError:
        """Return an error that names the line and the key of a value."""
        line = self.line(path)
        # A search for the line that took too long leaves the number of the rule.
        number = f", rule {path[1] + 1}" if line is None and path[:1] == ("rule",) and isinstance(path[1], int) else ""
        keys = [key for key in path if isinstance(key, str) and key != "rule"]
        key = f"{'.'.join(keys)}: " if keys else ""
        return InputError(f"{self.label}{f', line {line}' if line else ''}{number}: {key}{message}")

    def line(self, path: Path) -> int | None:
        """Return the line, from 1, at which the statement that sets a value begins.

        It is the first line such that the file, cut off at the end of the statement on this line, has the value: a file
        that is cut off within a statement is not TOML. None if the value is not in the file, or the search takes long.
        """
        lines = self.text.split("\n")
        if not _holds(self.data, path):
            return None
        tries = 0
        low, high = 1, len(lines)
        while low < high:  # the first `low` lines, or some more up to the end of a statement, hold it
            middle = (low + high) // 2
            for end in range(middle, len(lines) + 1):
                tries += 1
                if tries > TRIES:
                    return None
                cut = _cut(lines, end)
                if cut is not None:
                    break
            if cut is not None and _holds(cut, path):
                high = middle
            else:
                low = middle + 1
        return low


def _measured(data: Any) -> None:
    """Raise ValueError for integers beyond float64, which Python would not even print."""
    if isinstance(data, int) and data.bit_length() > 1023:
        raise ValueError
    for inner in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        _measured(inner)


def _cut(lines: list[str], end: int) -> Any:
    """Return what the first lines say, or None if they end within a statement."""
    try:
        return tomllib.loads("\n".join(lines[:end]))
    except (ValueError, RecursionError):
        return None


def _holds(data: Any, path: Path) -> bool:
    for key in path:
        if isinstance(key, int):
            if not isinstance(data, list) or key >= len(data):
                return False
        elif not isinstance(data, dict) or key not in data:
            return False
        data = data[key]
    return True
