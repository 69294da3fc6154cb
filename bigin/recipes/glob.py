"""Patterns of tensor names, and names made from what they matched."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bigin.core.errors import InputError

LONGEST = 400  # characters of a pattern


@dataclass(frozen=True)
class Glob:
    """A pattern: * is any text, ? one character, [ab] one of them, [!ab] another. A / in a name counts as a dot."""

    text: str
    stars: int
    _expression: re.Pattern[str]

    def match(self, name: str) -> tuple[str, ...] | None:
        """What the stars stand for in a name, each as little text as possible; None where it does not match."""
        found = self._expression.fullmatch(name.replace("/", "."))
        if found is None:
            return None
        return tuple(name[start:stop] for start, stop in map(found.span, range(1, self.stars + 1)))


def parse_glob(text: str) -> Glob:
    """A pattern from its text; raises InputError."""
    if not text or len(text) > LONGEST:
        raise InputError(f"expected a pattern of 1 to {LONGEST} characters, got {len(text)}")
    pieces = re.split(r"\*+", text)
    expressions = [_literal(piece, text) for piece in pieces]
    stars = len(pieces) - 1
    if stars == 0:
        return Glob(text, 0, re.compile(expressions[0], re.DOTALL))
    # Atomic groups: the first place where a piece is found is kept, so that matching never tries again and again.
    middle = "".join(f"(?>(.*?){piece})" for piece in expressions[1:-1])
    return Glob(text, stars, re.compile(f"{expressions[0]}{middle}(.*){expressions[-1]}", re.DOTALL))


def _literal(piece: str, text: str) -> str:
    """A regular expression for a piece without stars."""
    expression, i = "", 0
    while i < len(piece):
        character = piece[i]
        i += 1
        if character == "[":
            end = piece.find("]", i + 1 + piece[i : i + 1].count("!"))
            if end < 0:
                raise InputError(f"expected a ] behind the [ of {text!r}")
            inside, i = piece[i:end], end + 1
            negated = inside.startswith("!")
            expression += _set(inside[negated:], negated, text)
        else:
            expression += "." if character == "?" else re.escape("." if character == "/" else character)
    return expression


def _set(inside: str, negated: bool, text: str) -> str:
    """A set of characters, with ranges such as 0-9."""
    members = re.findall(r"(.)-(.)|(.)", inside.replace("/", "."), re.DOTALL)
    if any(first > last for first, last, _ in members):
        raise InputError(f"expected ranges such as 0-9 that go up, got [{inside}] in {text!r}")
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
        """How many stars it takes from the pattern."""
        return self.text.count("*")

    @property
    def numbered(self) -> bool:
        """Whether it is another name for every number."""
        return "{}" in self.text

    def name(self, of: str, matched: tuple[str, ...], number: int = 0) -> str:
        """The name that stands beside the tensor `of`; where that is a path, the template's dots are slashes."""
        text = self.text.replace(".", "/") if "/" in of else self.text
        pieces = text.replace("{}", str(number)).split("*")
        return "".join(piece + star for piece, star in zip(pieces, (*matched[: self.stars], ""), strict=True))
