"""The values of keys in the tables of a recipe: their types, and the line and the key of what is wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from bigin.core.errors import InputError
from bigin.core.text import similar
from bigin.methods import table
from bigin.methods.gain import NONLINEARITIES
from bigin.methods.table import PARAMETERS, Method
from bigin.recipes.expression import OF_A_TENSOR, Expression, parse_expression
from bigin.recipes.glob import Glob, Template
from bigin.recipes.recipe import AXES
from bigin.recipes.source import Path, TomlText

T = TypeVar("T")


class TableReader:
    """Reads tables of one file."""

    def __init__(self, source: TomlText) -> None:
        self.source = source
        self.variables: dict[str, float] = {}

    def known(self, path: Path, data: Mapping[str, Any], keys: tuple[str, ...]) -> None:
        for key in data:
            if key not in keys:
                raise self.source.error(
                    (*path, key), f"expected a key among {', '.join(keys)}, got {key}{similar(key, keys)}"
                )

    def typed(self, path: Path, data: Mapping[str, Any], key: str, kind: type[T], what: str) -> T | None:
        """Return the value of a key, which must have this type, or None if the key is missing."""
        value = data.get(key)
        if key in data and (not isinstance(value, kind) or isinstance(value, bool) != (kind is bool)):
            raise self.source.error((*path, key), f"expected {what}, got {value!r}")
        return value

    @contextlib.contextmanager
    def at(self, path: Path) -> Iterator[None]:
        """Add the line and the key to InputErrors."""
        try:
            yield
        except InputError as error:
            raise self.source.error(path, str(error)) from None

    def words(self, path: Path, data: Mapping[str, Any], key: str) -> tuple[str, ...]:
        """Return the texts of a key, which is one text or a list of them."""
        value = data.get(key, [])
        words = [value] if isinstance(value, str) else value
        if (
            not isinstance(words, list)
            or not all(isinstance(word, str) for word in words)
            or (key in data and not words)
        ):
            raise self.source.error((*path, key), f"expected text or a list of it, got {value!r}")
        return tuple(words)

    def number(self, value: Any) -> Expression:
        """Return a number or a text as an expression of declared variables."""
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise InputError(f"expected a number or an expression, got {value!r}")
        expression = parse_expression(value if isinstance(value, str) else repr(value))
        for name in sorted(expression.names):
            if name not in self.variables and name not in OF_A_TENSOR:
                known = ", ".join((*self.variables, *OF_A_TENSOR))
                raise InputError(f"expected names among {known}, got {name}; declare it under [vars], above its use")
        return expression

    def of_variables(self, value: Any) -> float:
        """Return a number that is the same for every tensor."""
        expression = self.number(value)
        if expression.of_a_tensor:
            raise InputError(f"expected numbers and variables declared above, got {expression}")
        return expression.value(self.variables)

    def integers(self, path: Path, data: Mapping[str, Any], key: str) -> tuple[int, ...] | None:
        value = data.get(key)
        numbers: list[Any] = value if isinstance(value, list) else [value]
        if key in data and not (numbers and all(type(number) is int and number >= 0 for number in numbers)):
            raise self.source.error((*path, key), f"expected an integer >= 0 or a list of them, got {value!r}")
        return tuple(numbers) if key in data else None

    def template(self, path: Path, data: Mapping[str, Any], key: str, match: tuple[Glob, ...]) -> Template | None:
        text = self.typed(path, data, key, str, "a name, with * for the text that the stars of match match")
        if text is None:
            return None
        with self.at((*path, key)):
            return template_of(text, match)

    def parameters(self, path: Path, data: Mapping[str, Any], method: Method) -> dict[str, Any]:
        """Return the parameters that are given, as values or as expressions that depend on the tensor."""
        given = {key: value for key, value in data.items() if key in method.defaults and key not in AXES}
        read: dict[str, Any] = {}
        for key, value in given.items():
            with self.at((*path, key)):
                read[key] = self.parameter(key, value)
                if PARAMETERS[key].kind == "choice":
                    method.parse({key: value})  # so that the error names this line, not the rule's
        with self.at(path):  # what is missing
            method.parse({key: _stand_in(value) for key, value in read.items()})
        return read

    def parameter(self, key: str, value: Any) -> Any:
        kind = PARAMETERS[key].kind
        if isinstance(value, str) and (kind == "choice" or (value in table.NOT_FINITE and value not in self.variables)):
            return table.parse_parameter(key, value) if kind != "choice" else value
        if isinstance(value, str) and kind == "gain" and value.partition(":")[0] in NONLINEARITIES:
            return table.parse_parameter(key, value)
        if isinstance(value, str):
            expression = self.number(value)
            if expression.of_a_tensor:
                return expression
            value = whole(expression.value(self.variables))
        return table.parse_parameter(key, value)


def template_of(text: str, match: tuple[Glob, ...]) -> Template:
    """Return a name with stars; raises InputError where a pattern has fewer."""
    template = Template(text)
    for glob in match:
        if glob.stars < template.stars:
            raise InputError(f"expected at most {glob.stars} stars, as {glob.text!r} has, got {text!r}")
    if not text or "\0" in text:
        raise InputError(f"expected a name that is text without NUL characters, got {text!r}")
    return template


def whole(number: float) -> int | float:
    """Return an integer for a whole number, as some parameters accept only integers."""
    return int(number) if number.is_integer() and abs(number) < 1 << 53 else number


def _stand_in(value: Any) -> Any:
    """Return a value for a check that does not depend on it; an expression has one for a given tensor only."""
    return 1 if isinstance(value, Expression) else value
