"""The files that lie beside a checkpoint's weights in a store."""

from __future__ import annotations

from fnmatch import fnmatchcase

from bigin.core.errors import ExistsError
from bigin.targets.objects.folder import Folder
from bigin.targets.objects.open import checkpoint_place
from bigin.targets.safetensors.companions import PATTERNS, Companions

LARGEST = 256 << 20  # bytes of a file that is copied


def companions_at(folder: Folder) -> Companions:
    """The files beside the weights of a folder, read whole: configurations and tokenizers are small."""
    prefix = f"{folder.key}/" if folder.key else ""
    found = {}
    for stat in folder.store.list(prefix):
        name = stat.key.removeprefix(prefix)
        if "/" not in name and stat.size <= LARGEST and any(fnmatchcase(name, pattern) for pattern in PATTERNS):
            found[name] = folder.store.get(stat.key) or b""
    return Companions(dict(sorted(found.items())))


def check_companions(url: str, beside: Companions) -> None:
    """Raises ExistsError where a file would replace another of the same name."""
    place = checkpoint_place(url)
    for name in beside.files:
        held = place.store.get(place.key_of(name))
        if held is not None and held != beside.content(name):
            raise ExistsError(
                f"{place.store.label(place.key_of(name))}: expected no file or the same one, got another; give "
                "--overwrite (overwrite=True) to replace it, or --weights-only (weights_only=True) to keep it"
            )


def write_companions(url: str, beside: Companions) -> None:
    """Writes the files that are not there yet."""
    place = checkpoint_place(url)
    for name in beside.files:
        if place.store.get(place.key_of(name)) != beside.content(name):
            place.store.put(place.key_of(name), beside.content(name))
