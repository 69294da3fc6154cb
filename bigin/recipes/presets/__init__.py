"""Recipes that ship: plain TOML files beside this one."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from bigin.core.errors import InputError
from bigin.core.paths import expand
from bigin.core.text import similar
from bigin.methods.table import REQUIRED

FOLDER = Path(__file__).parent


def presets() -> list[str]:
    """Return the names of the recipes that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find_recipe(recipe: str | os.PathLike[str]) -> Path:
    """Return the file of a recipe, given its path or the name of one that ships.

    The name stands for the recipe that ships, whatever lies in the working directory; a file of the same name is
    ./NAME.
    """
    if not isinstance(recipe, str | os.PathLike):
        raise InputError(f"expected a recipe's file or the name of a preset, got {type(recipe).__name__}")
    names = presets()
    if str(recipe) in names:
        return FOLDER / f"{recipe}.toml"
    path = Path(expand(recipe))
    if path.is_file() or path.suffix == ".toml":
        return path
    what = f"the folder {str(recipe)!r}" if path.is_dir() else repr(str(recipe))
    raise InputError(
        f"expected a recipe's file or a preset among {', '.join(names)}, got {what}{similar(str(recipe), names)}"
    )


def preset_text(name: str) -> str:
    """Return the text of a recipe that ships."""
    names = presets()
    if name not in names:
        raise InputError(f"expected a preset among {', '.join(names)}, got {name!r}{similar(name, names)}")
    return (FOLDER / f"{name}.toml").read_text(encoding="utf-8")


def label(path: Path) -> str:
    """Return what messages call a recipe: its path, or the name of one that ships."""
    return f"recipe {path.stem}" if path.parent == FOLDER else str(path)


@dataclass(frozen=True)
class Outline:
    """What a listing says about a recipe that ships."""

    name: str
    description: str
    architectures: str
    variables: str
    source: str


def outlines() -> list[Outline]:
    """Return what a listing says about every recipe that ships."""
    return [_outline(name) for name in presets()]


def _outline(name: str) -> Outline:
    data = tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
    source = data["source"]
    variables = [
        f"{key} ({value})" if value == REQUIRED else f"{key}={value}" for key, value in data.get("vars", {}).items()
    ]
    return Outline(
        name,
        data["description"],
        "; ".join(data["architectures"]),
        ", ".join(variables) or "none",
        source if isinstance(source, str) else "; ".join(source),
    )
