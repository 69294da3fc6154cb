"""Where the parts of a file begin and end: between two pages of the file, so that no two machines write one page.

A network file system locks and caches pages. A part that ended within one would have two machines pass it to and fro.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from bigin.core.regions import Region, extent, flat_slice, segments, within
from bigin.targets.files import FileTarget
from bigin.targets.model import ModelTarget
from bigin.targets.target import Target

PAGE = 4096  # bytes


@dataclass(frozen=True)
class PartRegions(Sequence[Region]):
    """Some regions that follow each other, but with other ones for the first and after the last."""

    all: Sequence[Region]
    tasks: range
    target: Target

    @cached_property
    def _head(self) -> list[Region]:
        """What is left of the first region, whose beginning belongs to the part before."""
        first = self.all[self.tasks.start]
        return list(piece(self.target, first, start=cut(self.target, first))) if self.tasks.start else [first]

    @cached_property
    def _tail(self) -> list[Region]:
        """The beginning of the region behind the last one."""
        if self.tasks.stop == len(self.all):
            return []
        behind = self.all[self.tasks.stop]
        return list(piece(self.target, behind, stop=cut(self.target, behind)))

    def __len__(self) -> int:
        return len(self._head) + len(self.tasks) - 1 + len(self._tail) if self.tasks else 0

    def __getitem__(self, index: int) -> Region:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        middle = index - len(self._head)
        if middle < 0:
            return self._head[index]
        if middle < len(self.tasks) - 1:
            return self.all[self.tasks[1 + middle]]
        return self._tail[middle - len(self.tasks) + 1]


def regions_of(target: Target, regions: Sequence[Region], tasks: range) -> Sequence[Region]:
    """The regions of a part, of all that a target's parts have: those of a file are cut at pages."""
    return PartRegions(regions, tasks, target)


def file_of(target: Target, region: Region) -> tuple[FileTarget, Region] | None:
    """The file that a region lies in, and the region in it; None where it is no file's."""
    if isinstance(target, ModelTarget):
        return file_of(target.member(region), region[1:])
    return (target, region) if isinstance(target, FileTarget) else None


def cut(target: Target, region: Region) -> int:
    """How many elements of a region lie before the first page that begins in it; all, where none does.

    None at the beginning of a tensor: what lies before that in the file is another tensor, or the header. Nor where a
    page begins within an element.
    """
    place = file_of(target, region)
    if place is None:
        return 0
    file, inside = place
    ((first, count),) = segments(*file.in_file_order(inside))
    position = file.offset + first * file.dtype.itemsize
    elements, rest = divmod(-position % PAGE, file.dtype.itemsize)
    return 0 if rest or first == 0 else min(elements, count)


def piece(target: Target, region: Region, start: int = 0, stop: int | None = None) -> Iterator[Region]:
    """Some elements of a region of a file, in the order of the file, as regions of which each is one stretch of it."""
    if start == 0 and stop is None:
        yield region
        return
    if stop == 0:
        return
    if isinstance(target, ModelTarget):
        yield from ((region[0], *each) for each in piece(target.member(region), region[1:], start, stop))
        return
    assert isinstance(target, FileTarget)
    _, ordered = target.in_file_order(region)
    shape = extent(ordered)
    for each in flat_slice(shape, start, math.prod(shape) if stop is None else stop):
        found = within(ordered, each)
        yield found[::-1] if target.fortran else found
