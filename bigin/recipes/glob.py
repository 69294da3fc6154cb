"""Patterns of tensor names, and names made from what they matched."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from bigin.core.errors import InputError
from bigin.recipes.expression import Expression

LONGEST = 400  # characters of a pattern
TOKEN = re.compile(r"\*+|\[(?:!.|[^!])[^\]]*\]|.", re.DOTALL)  # stars, a set, or a character


@dataclass(frozen=True)
class Glob:
    """A pattern of names.

    * is any text, ? is one character, [ab] is one of them, [!ab] is another one, [*] is a star itself. A / in a name or
    a pattern counts as a dot.
    """

    text: str
    stars: int
    _expression: re.Pattern[str]

    def match(self, name: str) -> tuple[str, ...] | None:
        """Return what the stars stand for in a name, each as little text as possible, or None without a match."""
        if self.text == "*":
            return (name.replace("/", "."),)
        found = self._expression.fullmatch(name.replace("/", "."))
        if found is None:
            return None
        return tuple(name[start:stop] for start, stop in map(found.span, range(1, self.stars + 1)))


def parse_glob(text: str) -> Glob:
    """Return the pattern that a text is; raise InputError for one that is none."""
    if not text or len(text) > LONGEST:
        raise InputError(f"expected a pattern of 1 to {LONGEST} characters, got {len(text)}")
    pieces = [""]  # regular expressions for what lies between the stars
    for token in TOKEN.findall(text):
        if token.startswith("*"):
            pieces.append("")
        else:
            pieces[-1] += _expression(token, text)
    stars = len(pieces) - 1
    if stars == 0:
        return Glob(text, 0, re.compile(pieces[0], re.DOTALL))
    # Atomic groups: the first match of a piece is kept, so that matching never tries again and again.
    middle = "".join(f"(?>(.*?){piece})" for piece in pieces[1:-1])
    return Glob(text, stars, re.compile(f"{pieces[0]}{middle}(.*){pieces[-1]}", re.DOTALL))


def _expression(token: str, text: str) -> str:
    """Return a regular expression for a character or a set."""
    if token == "[":
        raise InputError(f"expected a ] after the [ of {text!r}; the character itself is [[]")
    if token.startswith("["):
        negated = token.startswith("[!")
        return _set(token[1 + negated : -1], text, negated=negated)
    return "." if token == "?" else re.escape("." if token == "/" else token)


def _set(inside: str, text: str, *, negated: bool) -> str:
    """Return a regular expression for a set of characters, with ranges such as 0-9."""
    members = re.findall(r"(.)-(.)|(.)", inside.replace("/", "."), re.DOTALL)
    if any(first > last for first, last, _ in members):
        raise InputError(f"expected ascending ranges such as 0-9, got [{inside}] in {text!r}")
    listed = "".join(
        re.escape(single) if single else f"{re.escape(first)}-{re.escape(last)}" for first, last, single in members
    )
    return f"[{'^' if negated else ''}{listed}]"


@dataclass(frozen=True)
class Template:
    """A name with * for what the stars of a pattern matched, in their order, and {} for a part's number."""

    text: str

    @property
    def stars(self) -> int:
        """The number of stars it takes from the pattern."""
        return self.text.count("*")

    @property
    def numbered(self) -> bool:
        """Whether the name depends on the number."""
        return "{}" in self.text

    def name(self, of: str, matched: tuple[str, ...], number: int = 0) -> str:
        """Return the name for a tensor `of`; if that is a path, the template's dots become slashes."""
        text = self.text.replace(".", "/") if "/" in of else self.text
        pieces = text.replace("{}", str(number)).split("*")
        return "".join(piece + star for piece, star in zip(pieces, (*matched[: self.stars], ""), strict=True))


@dataclass(frozen=True)
class SourceName:
    """A name in another checkpoint. Each * and each {expression} stands for what one star of the pattern matched.

    A * is that text, and an expression, such as {layer // 2}, is a whole number instead of it.
    """

    text: str
    pieces: tuple[str, ...]  # around the holes
    holes: tuple[Expression | None, ...]  # None for a star

    def name(self, matched: tuple[str, ...], value: Callable[[Expression], int]) -> str:
        """Return the name, given what the stars matched and the value of an expression."""
        held = matched[: len(self.holes)]
        filled = [star if hole is None else str(value(hole)) for hole, star in zip(self.holes, held, strict=True)]
        return "".join(piece + hole for piece, hole in zip(self.pieces, (*filled, ""), strict=True))
