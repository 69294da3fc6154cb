"""Read a recipe from TOML, and report every error that can be detected without the tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

from bigin.core.errors import InputError
from bigin.core.packed import PACKED
from bigin.core.text import counted, similar
from bigin.methods import table
from bigin.methods.table import PARAMETERS, REQUIRED, Method
from bigin.recipes.expression import FUNCTIONS, NAME, OF_A_TENSOR, Expression
from bigin.recipes.glob import Glob, parse_glob
from bigin.recipes.presets import label
from bigin.recipes.recipe import AXES, LAYOUTS, Recipe, RecipeRule, Split
from bigin.recipes.source import LARGEST, Path, TomlText
from bigin.recipes.surgery import read_copied, read_grow
from bigin.recipes.tables import TableReader, template_of

KEYS = ("seed", "description", "architectures", "source", "vars", "skip", "rule", "default", "from")
CONDITIONS = ("match", "shape", "ndim", "dtype")
COPYING = ("copy", "grow")  # either says what a tensor is, as a method does
COPY_RULE_KEYS = (*CONDITIONS, *COPYING, "noise", "reinit", "optional")
RULE_KEYS = (
    *CONDITIONS,
    *COPYING,
    "noise",
    "reinit",
    "method",
    "layout",
    *AXES,
    "fans_of",
    "split",
    "padding_idx",
    "optional",
)
SPLIT_KEYS = ("axis", "sizes", "parts", "stack", "names")


def read_recipe(path: FilePath, given: Mapping[str, Any] | None = None) -> Recipe:
    """Return the recipe of a file. `given` are variables that override its own."""
    return parse_recipe(read_text(path), label(path), given)


def read_text(path: FilePath) -> str:
    """Return the text of a recipe's file; raises InputError."""
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1).decode()
    except OSError as error:
        raise InputError(f"{label(path)}: expected a recipe, got none that can be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{label(path)}: expected a recipe, text in UTF-8, got other bytes") from None


def parse_recipe(text: str, label: str = "recipe", given: Mapping[str, Any] | None = None) -> Recipe:
    """Return a recipe from its text; raises InputError with the line and the key of an error."""
    reader = Reader(TomlText(label, text))
    return reader.recipe(given or {})


class Reader(TableReader):
    """Reads one file."""

    def recipe(self, given: Mapping[str, Any]) -> Recipe:
        data = self.source.data
        self.known((), data, KEYS)
        seed = self.typed((), data, "seed", int, "an integer") or 0
        if not 0 <= seed < 1 << 64:
            raise self.source.error(("seed",), f"expected a seed from 0 to 2^64 - 1, got {seed}")
        description = self.typed((), data, "description", str, "text") or ""
        sources = self.words((), data, "source")
        architectures = self.words((), data, "architectures")
        with self.at(("skip",)):
            skip = tuple(map(parse_glob, self.words((), data, "skip")))
        self.read_variables(self.typed((), data, "vars", dict, "a table") or {}, given)
        rules = self.typed((), data, "rule", list, "tables, each headed [[rule]]") or []
        read = [self.rule(("rule", i), rule, i + 1) for i, rule in enumerate(rules)]
        if "default" in data:
            read.append(self.rule(("default",), data["default"], 0))
        if not read:
            raise InputError(f"{self.source.label}: expected rules, each headed [[rule]], got none")
        origin = self.typed((), data, "from", str, "the path of a checkpoint")
        return Recipe(
            self.source, seed, description, sources, architectures, dict(self.variables), skip, tuple(read), origin
        )

    # Variables

    def read_variables(self, data: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        for name in given:
            if name not in data:
                declared = ", ".join(data) or "none"
                raise InputError(
                    f"{self.source.label}: expected a variable that the recipe declares ({declared}), got {name}"
                    f"{similar(name, data)}"
                )
        for name, value in {**data, **given}.items():
            path = ("vars", name)
            if not NAME.fullmatch(name) or name in (*OF_A_TENSOR, *FUNCTIONS):
                reserved = ", ".join((*OF_A_TENSOR, *FUNCTIONS))
                raise self.source.error(path, f"expected a name of letters, digits and _, other than {reserved}")
            if value == REQUIRED:
                what = f"expected a value, as it has no default; give --var {name}=... (variables={{{name!r}: ...}})"
                raise self.source.error(path, what)
            with self.at(path):
                self.variables[name] = self.of_variables(value)

    # Rules

    def rule(self, path: Path, data: Any, number: int) -> RecipeRule:
        if not isinstance(data, dict):
            raise self.source.error(path, f"expected a table, got {data!r}")
        if any(key in data for key in COPYING):
            return self.copying(path, data, number)
        for key in ("noise", "reinit"):
            if key in data:
                raise self.source.error((*path, key), "expected it beside copy, which says what it is done to")
        word = self.typed(path, data, "method", str, "the name of a method")
        if word is None:
            raise self.source.error(path, "expected a method, got none; add method = ...")
        with self.at((*path, "method")):
            method = table.find(word)
        for key in data:
            if key in PARAMETERS and key not in (*method.defaults, *AXES):
                takes = ", ".join(method.defaults) or "no parameters"
                raise self.source.error((*path, key), f"{method.name} does not take it; it takes {takes}")
        self.known(path, data, tuple(dict.fromkeys((*RULE_KEYS, *method.defaults))))
        match = self.globs(path, data, number)
        parameters = self.parameters(path, data, method)
        axes = self.axes(path, data, method, parameters)
        return RecipeRule(
            number,
            path,
            match,
            self.shape(path, data),
            self.integers(path, data, "ndim"),
            self.dtypes(path, data),
            method,
            parameters,
            axes,
            self.template(path, data, "fans_of", match),
            self.split(path, data, match),
            self.typed(path, data, "padding_idx", int, "the number of a row"),
            optional=bool(self.typed(path, data, "optional", bool, "true or false")),
        )

    def copying(self, path: Path, data: Mapping[str, Any], number: int) -> RecipeRule:
        """Return a rule that copies from another checkpoint."""
        if all(key in data for key in COPYING):
            raise self.source.error((*path, "grow"), "expected copy or grow, got both")
        self.known(path, data, COPY_RULE_KEYS)
        match = self.globs(path, data, number)
        return RecipeRule(
            number,
            path,
            match,
            self.shape(path, data),
            self.integers(path, data, "ndim"),
            self.dtypes(path, data),
            None,
            {},
            dict(LAYOUTS["linear"]),
            None,
            None,
            None,
            optional=bool(self.typed(path, data, "optional", bool, "true or false")),
            copied=read_copied(self, path, data, match),
            grow=read_grow(self, path, data, match),
        )

    def globs(self, path: Path, data: Mapping[str, Any], number: int) -> tuple[Glob, ...]:
        if number == 0:
            for key in CONDITIONS:
                if key in data:
                    raise self.source.error(
                        (*path, key), "expected no condition in the default rule; make it a [[rule]]"
                    )
        elif "match" not in data:
            raise self.source.error(path, 'expected match, a pattern of names; every tensor is match = "*"')
        words = self.words(path, data, "match") if number else ("*",)
        with self.at((*path, "match")):
            return tuple(map(parse_glob, words))

    def shape(self, path: Path, data: Mapping[str, Any]) -> tuple[float | None, ...] | None:
        if "shape" not in data:
            return None
        sizes = self.typed(path, data, "shape", list, 'a list of sizes, in which "*" is any')
        with self.at((*path, "shape")):
            return tuple(None if size == "*" else self.of_variables(size) for size in sizes or [])

    def dtypes(self, path: Path, data: Mapping[str, Any]) -> tuple[str, ...] | None:
        if "dtype" not in data:
            return None
        from bigin.core.dtypes import DTYPES  # numpy, which nothing else here needs

        names, known = self.words(path, data, "dtype"), (*DTYPES, *PACKED)
        for name in names:
            if name not in known:
                raise self.source.error((*path, "dtype"), f"expected dtypes among {', '.join(known)}, got {name}")
        return names

    # Axes

    def axes(self, path: Path, data: Mapping[str, Any], method: Method, parameters: dict[str, Any]) -> dict[str, Any]:
        """Return the axes that the fans depend on: those of the layout, or those that are given one by one.

        A layout is allowed for a method without fans, too: `bigin signal` uses it.
        """
        word = self.typed(path, data, "layout", str, "a word")
        keys = [key for key in (*AXES, "layout") if key in data]
        fans_used = any(isinstance(p, Expression) and p.names & {"fan_in", "fan_out"} for p in parameters.values())
        if keys and keys[0] != "layout" and not fans_used and "in_axis" not in method.defaults:
            raise self.source.error((*path, keys[0]), f"{method.name} does not use fans; remove this key")
        axes = dict(LAYOUTS["linear"])
        if word is not None:
            if len(keys) > 1:
                raise self.source.error((*path, keys[0]), "expected axes or a layout, got both")
            if word not in LAYOUTS:
                raise self.source.error(
                    (*path, "layout"), f"expected a layout among {', '.join(LAYOUTS)}, got {word!r}"
                )
            axes = dict(LAYOUTS[word])
        for key in AXES:
            if key in data:
                with self.at((*path, key)):
                    axes[key] = table.parse_parameter(key, data[key])
        return axes

    # Fused tensors

    def split(self, path: Path, data: Mapping[str, Any], match: tuple[Glob, ...]) -> Split | None:
        given = self.typed(path, data, "split", dict, "a table such as {axis = 0, sizes = [...], names = [...]}")
        if given is None:
            return None
        path = (*path, "split")
        self.known(path, given, SPLIT_KEYS)
        axis = self.typed(path, given, "axis", int, "an axis")
        stack = bool(self.typed(path, given, "stack", bool, "true or false"))
        ways = [key for key in ("sizes", "parts", "stack") if given.get(key) not in (None, False)]
        if axis is None or len(ways) != 1:
            raise self.source.error(path, "expected axis and one of sizes, parts and stack")
        sizes = self.typed(path, given, "sizes", list, "a list of sizes")
        if sizes is not None and not sizes:
            raise self.source.error((*path, "sizes"), "expected sizes, got none")
        with self.at((*path, ways[0])):
            read = None if sizes is None else tuple(map(self.number, sizes))
            parts = self.number(given["parts"]) if "parts" in given else None
        if "names" not in given:
            raise self.source.error(path, "expected names, one for each part, which select their streams")
        with self.at((*path, "names")):
            names = tuple(template_of(text, match) for text in self.words(path, given, "names"))
            if isinstance(given["names"], str) and not names[0].numbered:
                raise InputError("expected a list of names, or one with {} for the number of the part")
            if read is not None and len(names) != len(read) and not isinstance(given["names"], str):
                raise InputError(f"expected {counted(len(read), 'name')}, one for every size, got {len(names)}")
        return Split(axis, read, parts, stack=stack, names=names)
