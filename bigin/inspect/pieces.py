"""The pieces of a tensor whose values are drawn each by one method: parts of a fused tensor, layers, or all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigin.core.regions import Region, Shape, extent
from bigin.core.views import Positions
from bigin.spec.arranged import ArrangedSpec
from bigin.spec.coded import CodedSpec
from bigin.spec.copied import CopySpec, GrownSpec
from bigin.spec.fused import FusedSpec
from bigin.spec.layered import LayeredSpec
from bigin.spec.model import TensorValues
from bigin.spec.tensor import TensorSpec
from bigin.spec.values import ValuesSpec

Array = np.ndarray[Any, np.dtype[Any]]
Given = ValuesSpec | CodedSpec | CopySpec | GrownSpec | ArrangedSpec  # specifications whose values are known one by one


@dataclass(frozen=True)
class Piece:
    """Values that one method makes, and the indices along each axis of the tensor at which they lie.

    whole: whether all values of the method's tensor lie there, and nothing lies above them.
    """

    spec: TensorSpec | Given
    places: tuple[Positions, ...]
    whole: bool = True


def pieces_of(spec: TensorValues) -> list[Piece]:
    """The pieces of a tensor, the lowest first where they lie above each other."""
    if isinstance(spec, FusedSpec):
        pieces, start = [], 0
        for part, size in zip(spec.parts, spec.sizes(), strict=True):
            places: list[Positions] = [range(length) for length in spec.shape]
            places[spec.axis] = range(start, start + size)
            pieces.append(Piece(part, tuple(places)))
            start += size
        return pieces
    if isinstance(spec, LayeredSpec):
        alone = len(spec.layers) == 1
        return [
            Piece(layer.spec, tuple(positions for positions, _ in layer.axes(spec.shape)), whole=alone)
            for layer in spec.layers
        ]
    return [Piece(spec, tuple(range(length) for length in spec.shape))]


def values_at(pieces: list[Piece], number: int, region: Region, values: Array, *, layered: bool) -> Iterator[Array]:
    """The values of a piece in a region of the tensor, one behind the other; nothing where it does not lie there."""
    inside = [cut(positions, *bounds) for positions, bounds in zip(pieces[number].places, region, strict=True)]
    if any(len(each) == 0 for each in inside):
        return
    if not layered:
        yield np.ascontiguousarray(values[selection(inside)]).reshape(-1)
        return
    above = np.zeros(extent(region), np.bool_)
    for other in pieces[number + 1 :]:
        there = [cut(positions, *bounds) for positions, bounds in zip(other.places, region, strict=True)]
        if all(len(each) for each in there):
            above[selection(there)] = True
    chosen = selection(inside)
    yield np.ascontiguousarray(values[chosen][~above[chosen]])


def cut(positions: Positions, start: int, stop: int) -> Positions:
    """The positions from `start` to `stop`, counted from `start`."""
    if isinstance(positions, range):
        if positions.step == 1:
            return range(max(positions.start, start) - start, max(start, min(positions.stop, stop)) - start)
        positions = np.arange(positions.start, positions.stop, positions.step)
    first, last = np.searchsorted(positions, (start, stop))
    return positions[first:last] - start


def selection(inside: list[Positions]) -> Any:
    """How numpy selects positions along each axis."""
    if all(isinstance(each, range) for each in inside):
        return tuple(slice(each.start, each.stop) for each in inside)  # type: ignore[union-attr]
    return np.ix_(*(np.asarray(each) for each in inside))


def shifted(region: Region, origin: Shape) -> Region:
    """A region that is counted from an index of the tensor, as a region of the tensor."""
    return tuple((start + at, stop + at) for (start, stop), at in zip(region, origin, strict=True))
