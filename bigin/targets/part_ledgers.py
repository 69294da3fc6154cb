"""From the path or URL of a plan's ledger to the ledger."""

from __future__ import annotations

from bigin.targets.part_ledger import FolderLedger, PartLedger
from bigin.targets.paths import local_path


def part_ledger(place: str) -> PartLedger:
    """The ledger at a path or a URL."""
    path = local_path(place)
    if path is not None:
        return FolderLedger(path)
    from bigin.targets.zarr.part_ledger import store_ledger

    return store_ledger(place)
