"""Recipes that ship: plain TOML files beside this one."""

from __future__ import annotations

from pathlib import Path

from bigin.errors import InputError

FOLDER = Path(__file__).parent


def presets() -> list[str]:
    """Their names."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find_recipe(place: str | Path) -> Path:
    """The file of a recipe: a path, or the name of a preset. A path stands above a name."""
    path = Path(place)
    if path.exists() or path.suffix == ".toml":
        return path
    if str(place) not in presets():
        raise InputError(f"expected a recipe's file or a preset among {', '.join(presets())}, got {str(place)!r}")
    return FOLDER / f"{place}.toml"
