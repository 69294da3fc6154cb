"""Recipes that ship: plain TOML files beside this one."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

from bigin.core.errors import InputError
from bigin.methods.table import REQUIRED

FOLDER = Path(__file__).parent


def presets() -> list[str]:
    """Their names."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find_recipe(place: str | os.PathLike[str]) -> Path:
    """The file of a recipe: a path, or the name of a preset. A path stands above a name."""
    if not isinstance(place, str | os.PathLike):
        raise InputError(f"expected a recipe's file or the name of a preset, got {type(place).__name__}")
    path = Path(place)
    if path.exists() or path.suffix == ".toml":
        return path
    if str(place) not in presets():
        raise InputError(f"expected a recipe's file or a preset among {', '.join(presets())}, got {str(place)!r}")
    return FOLDER / f"{place}.toml"


@dataclass(frozen=True)
class Outline:
    """What a listing tells of a preset."""

    name: str
    description: str
    variables: str
    source: str


def outlines() -> list[Outline]:
    """All presets in a few words."""
    return [_outline(name) for name in presets()]


def _outline(name: str) -> Outline:
    data = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    source = data["source"]
    variables = [
        f"{key} ({value})" if value == REQUIRED else f"{key}={value}" for key, value in data.get("vars", {}).items()
    ]
    return Outline(
        name,
        data["description"],
        ", ".join(variables) or "none",
        source if isinstance(source, str) else "\n".join(source),
    )
