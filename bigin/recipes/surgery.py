"""Read what a rule copies from another checkpoint: copy, grow, noise and reinit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from bigin.core.errors import InputError
from bigin.methods import table
from bigin.recipes.glob import Glob, SourceName
from bigin.recipes.recipe import Copied, Drawn, Grow, Reinit
from bigin.recipes.source import Path
from bigin.recipes.tables import TableReader

COPY_KEYS = ("from", "slice", "transpose", "concat", "repeat", "block", "stack", "multiply")
GROW_KEYS = ("from", "rows", "multiple", "new", "like", "axis")
REINIT_KEYS = ("fraction", "axis", "group")
NEW = ("mean", "mean+covariance")
HOLE = re.compile(r"\*|\{([^{}]*)\}")


def read_copied(reader: TableReader, path: Path, data: Mapping[str, Any], match: tuple[Glob, ...]) -> Copied | None:
    """Return what a rule copies, or None for a rule that copies nothing."""
    given = data.get("copy")
    if given is None:
        return None
    told = given if isinstance(given, dict) else {"from": given}
    inside = (*path, "copy")
    reader.known(inside, told, COPY_KEYS)
    names = tuple(source_name(reader, inside, text, match) for text in reader.words(inside, told, "from"))
    if "from" not in told:
        names = (SourceName("", (), ()),)  # the tensor of the same name
    with reader.at(inside):
        multiply = reader.number(told["multiply"]) if "multiply" in told else None
    return Copied(
        names,
        tuple(ends(reader, inside, cut) for cut in reader.typed(inside, told, "slice", list, "a list of axes") or []),
        transpose=bool(reader.typed(inside, told, "transpose", bool, "true or false")),
        concat=reader.typed(inside, told, "concat", int, "an axis") or 0,
        repeat=whole_numbers(reader, inside, told, "repeat"),
        block=whole_numbers(reader, inside, told, "block"),
        stack=bool(reader.typed(inside, told, "stack", bool, "true or false")),
        multiply=multiply,
        noise=read_drawn(reader, path, data, "noise"),
        reinit=read_reinit(reader, path, data, match),
    )


def whole_numbers(reader: TableReader, path: Path, data: Mapping[str, Any], key: str) -> tuple[int, ...]:
    """Return numbers for each axis: integers, or expressions of the recipe's variables."""
    value = data.get(key, [])
    with reader.at((*path, key)):
        numbers = [reader.of_variables(each) for each in (value if isinstance(value, list) else [value])]
        if not all(number.is_integer() and number >= 0 for number in numbers):
            raise InputError(f"expected whole numbers >= 0, got {value!r}")
    return tuple(map(int, numbers))


def read_grow(reader: TableReader, path: Path, data: Mapping[str, Any], match: tuple[Glob, ...]) -> Grow | None:
    """Return how a rule adds rows, or None for one that does not."""
    given = reader.typed(path, data, "grow", dict, 'a table such as {rows = 128512, new = "mean"}')
    if given is None:
        return None
    inside = (*path, "grow")
    reader.known(inside, given, GROW_KEYS)
    with reader.at(inside):
        rows = reader.number(given["rows"]) if "rows" in given else None
    multiple = reader.typed(inside, given, "multiple", int, "an integer above 0")
    if multiple is not None and multiple < 1:
        raise reader.source.error((*inside, "multiple"), f"expected an integer above 0, got {multiple}")
    name = reader.typed(inside, given, "from", str, "the name of a tensor")
    like = reader.typed(inside, given, "like", str, "the name of a tensor")
    axis = reader.typed(inside, given, "axis", int, "the axis that grows, 0 or 1") or 0
    if axis not in (0, 1):
        raise reader.source.error((*inside, "axis"), f"expected the axis that grows, 0 or 1, got {axis}")
    return Grow(
        SourceName("", (), ()) if name is None else source_name(reader, inside, name, match),
        rows,
        multiple or 1,
        read_new(reader, inside, given),
        None if like is None else source_name(reader, inside, like, match),
        axis,
    )


def read_new(reader: TableReader, path: Path, given: Mapping[str, Any]) -> str | int | Drawn:
    """Return what new rows are: a word, the number of a row, or a method."""
    new = given.get("new", NEW[0])
    if isinstance(new, dict) and set(new) == {"row"} and type(new["row"]) is int and new["row"] >= 0:
        return int(new["row"])
    if isinstance(new, dict):
        drawn = read_drawn(reader, path, given, "new")
        assert drawn is not None
        return drawn
    if isinstance(new, str) and new not in NEW and new in table.METHODS:
        return read_method(reader, (*path, "new"), {"method": new})
    if new not in NEW:
        raise reader.source.error(
            (*path, "new"), f'expected "mean", "mean+covariance", {{row = 17}} or a method, got {new!r}'
        )
    return str(new)


def read_drawn(reader: TableReader, path: Path, data: Mapping[str, Any], key: str) -> Drawn | None:
    """Return the method of a table, or None where there is none."""
    given = reader.typed(path, data, key, dict, 'a table such as {method = "normal", std = 0.01}')
    return None if given is None else read_method(reader, (*path, key), given)


def read_method(reader: TableReader, path: Path, given: Mapping[str, Any], more: tuple[str, ...] = ()) -> Drawn:
    """Return a method and its parameters, beside which there may be more keys."""
    word = reader.typed(path, given, "method", str, "the name of a method")
    if word is None:
        raise reader.source.error(path, "expected a method, got none; add method = ...")
    with reader.at((*path, "method")):
        method = table.find(word)
    reader.known(path, given, ("method", *more, *method.defaults))
    return Drawn(method, reader.parameters(path, given, method))


def read_reinit(reader: TableReader, path: Path, data: Mapping[str, Any], match: tuple[Glob, ...]) -> Reinit | None:
    """Return what a rule draws anew of a copy."""
    given = reader.typed(path, data, "reinit", dict, 'a table such as {fraction = 0.5, method = "normal", std = 0.02}')
    if given is None:
        return None
    inside = (*path, "reinit")
    drawn = read_method(reader, inside, given, REINIT_KEYS)
    with reader.at((*inside, "fraction")):
        fraction = reader.of_variables(given.get("fraction", "none"))
        if not 0 <= fraction <= 1:
            raise InputError(f"expected a fraction from 0 to 1, got {fraction:g}")
    axis = reader.typed(inside, given, "axis", int, "an axis of what is copied")
    if axis is not None and axis < 0:
        raise reader.source.error((*inside, "axis"), f"expected an axis from 0 on, got {axis}")
    if axis is None and "group" in given:
        raise reader.source.error(
            (*inside, "group"), "expected axis beside group, whose indices tensors have in common"
        )
    return Reinit(drawn, fraction, axis, reader.template(inside, given, "group", match))


def source_name(reader: TableReader, path: Path, text: str, match: tuple[Glob, ...]) -> SourceName:
    """Return the name of what is copied, as a rule tells it."""
    with reader.at(path):
        pieces, holes, end = [], [], 0
        for found in HOLE.finditer(text):
            pieces.append(text[end : found.start()])
            holes.append(None if found[0] == "*" else reader.number(found[1]))
            end = found.end()
        for glob in match:
            if glob.stars < len(holes):
                raise InputError(f"expected at most {glob.stars} of * and {{}}, as {glob.text!r} has, got {text!r}")
        return SourceName(text, (*pieces, text[end:]), tuple(holes))


def ends(reader: TableReader, path: Path, cut: Any) -> tuple[int | None, int | None, int | None]:
    """Return the start, the stop and the step along an axis: a list of two or three integers, or "*" for all."""
    if cut == "*":
        return None, None, None
    listed = isinstance(cut, list) and 2 <= len(cut) <= 3 and all(type(number) is int for number in cut)
    if listed and (len(cut) < 3 or cut[2] > 0):
        return cut[0], cut[1], cut[2] if len(cut) > 2 else None
    raise reader.source.error((*path, "slice"), f'expected [start, stop], [start, stop, step] or "*", got {cut!r}')
