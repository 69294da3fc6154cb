"""Bringing the chunks of a local store to the disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bigin.core.disk import FEW, sync_file_system, sync_files
from bigin.core.regions import Region
from bigin.targets.zarr.chunks import Writer

DOCUMENTS = ("zarr.json", ".zarray", ".zattrs", ".zgroup")


def sync_regions(root: Path, regions: Iterable[tuple[Writer, Sequence[Region]]]) -> None:
    """Brings some chunks or shards of arrays to the disk, with the metadata of the arrays and of the groups above."""
    chosen = list(regions)
    if sum(len(some) for _, some in chosen) > FEW:
        sync_file_system(root)
        return
    files: dict[Path, None] = {}  # each once: the groups above are the same
    for writer, some in chosen:
        folder = root / writer.array.store_path.path
        above = [folder, *(parent for parent in folder.parents if parent.is_relative_to(root))]
        files |= dict.fromkeys(path / document for path in above for document in DOCUMENTS)
        files |= dict.fromkeys(root / writer.key(region) for region in some)
    sync_files(root, list(files))
