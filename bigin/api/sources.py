"""The checkpoint that a recipe copies tensors from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from bigin.core.errors import InputError
from bigin.core.paths import expand, is_path
from bigin.recipes.presets import find_recipe
from bigin.recipes.read import read_recipe
from bigin.recipes.specs import Chosen
from bigin.recipes.vocabulary import VOCABULARY, config_with_rows, values_of
from bigin.spec.copied import GrownSpec
from bigin.spec.model import TensorValues
from bigin.targets.models import Model
from bigin.targets.paths import is_url, local_path
from bigin.targets.safetensors.companions import CONFIG, Companions, config_text, parse_config
from bigin.targets.sources import sources_in


def with_sources(chosen: Chosen, source: Any = None) -> tuple[Chosen, Any]:
    """A recipe with the tensors of the checkpoint that it copies from, and that checkpoint; None where it copies none.

    source: instead of what the recipe says, which is relative to the recipe's folder.
    """
    path = find_recipe(chosen.recipe)
    said = read_recipe(path, chosen.variables).origin
    if source is None and said is None:
        return chosen, None
    if source is None:
        source = said if is_url(said) else os.path.join(path.parent, os.path.expanduser(str(said)))
    place, sources = sources_in(expand(source))
    return replace(chosen, sources=sources), place if is_url(place) else Path(place)


def refuse_itself(place: Any, out: Any) -> None:
    """Raises InputError where a checkpoint would be written over the one that it is made of."""
    if is_path(out) and (is_url(place) or is_url(out)):
        texts = {os.fsdecode(each).rstrip("/") for each in (place, os.path.dirname(place))}
        same = os.fsdecode(out).rstrip("/") in texts
    else:
        path, to = Path(place), local_path(out)
        same = to is not None and to.resolve() in (path.resolve(), (path if path.is_dir() else path.parent).resolve())
    if same:
        raise InputError(f"{out}: expected a path other than that of the checkpoint that is read, got the same one")


def grown_model(model: Model, specs: Mapping[str, TensorValues]) -> Model:
    """A model with the rows that its tensors are to have."""
    return model.reshaped({name: spec.shape for name, spec in specs.items() if isinstance(spec, GrownSpec)})


def grown_companions(beside: Companions, specs: Mapping[str, TensorValues]) -> Companions:
    """The files beside the weights, with a configuration whose vocab_size is that of the tensors that have grown."""
    held = beside.files.get(CONFIG)
    if held is None:
        return beside
    config = parse_config(beside.content(CONFIG), CONFIG)
    changed = config
    for spec in specs.values():
        if isinstance(spec, GrownSpec) and spec.kept in values_of(config, VOCABULARY):
            changed = config_with_rows(changed, spec.kept, spec.rows)
    return beside if changed == config else beside.with_config(config_text(changed))
