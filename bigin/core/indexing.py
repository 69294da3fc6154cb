"""numpy's indexing, in integers: which elements of a tensor an index picks, without the tensor."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from bigin.core.regions import Shape

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Picked:
    """What an index picks.

    ranges: the places along each axis that no array indexes, rising; None stands for one that arrays do.
    points: what the arrays add to the flat index (uint64, flat); None where there are no arrays.
    at: before which of the remaining ranges the axis of the points stands.
    shape: of the result, once made in that order.
    turn: indexes the result of that shape, to turn around what a negative step picks from its end.
    scalar: whether the result is a scalar and no array.
    """

    ranges: tuple[range | None, ...]
    points: Array | None
    at: int
    shape: Shape
    turn: tuple[slice, ...] | None
    scalar: bool


def pick(key: Any, shape: Shape) -> Picked:
    """What an index picks of a tensor, as numpy has it; raises numpy's own IndexError where it picks nothing."""
    try:
        items = [_item(item) for item in (key if isinstance(key, tuple) else (key,))]
        return _pick(_expanded(items, len(shape)), shape, scalar=all(item is not Ellipsis for item in items))
    except (IndexError, ValueError, TypeError, OverflowError):
        refuse(key, shape)


def refuse(key: Any, shape: Shape) -> NoReturn:
    """Raises what numpy raises for an index."""
    np.broadcast_to(np.zeros((), np.bool_), shape)[key]
    raise IndexError(f"index {key!r} does not fit shape {shape}")


def _item(item: Any) -> Any:
    """A slice, None, an Ellipsis or an integer as it is; everything else as an array of int64 or of booleans."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return item
    if isinstance(item, bool | np.bool_):
        return np.asarray(item)
    if hasattr(item, "__index__") and not getattr(item, "ndim", 0):
        return operator.index(item)
    array = np.asarray(item)
    if array.size == 0 and not isinstance(item, np.ndarray):
        array = array.astype(np.int64)
    if array.dtype.kind == "b":
        return array
    if array.dtype.kind not in "iu":
        raise IndexError
    return array.astype(np.int64, casting="same_kind", copy=False)


def _axes_of(item: Any) -> int:
    """How many axes of the tensor an item indexes."""
    if item is None or item is Ellipsis:
        return 0
    return item.ndim if isinstance(item, np.ndarray) and item.dtype.kind == "b" else 1


def _expanded(items: list[Any], ndim: int) -> list[Any]:
    """The items with one for each axis: whole slices for an Ellipsis, and for what is left out."""
    left = ndim - sum(map(_axes_of, items))
    places = [i for i, item in enumerate(items) if item is Ellipsis]
    if left < 0 or len(places) > 1:
        raise IndexError
    place = places[0] if places else len(items)
    # An Ellipsis parts the arrays around it even where it stands for no axis: an empty list of items does so, too.
    whole: list[Any] = [slice(None)] * left
    return [*items[:place], *(whole or [()]), *items[place + 1 :]] if places or left else items


def _pick(items: list[Any], shape: Shape, *, scalar: bool) -> Picked:
    fancy = any(isinstance(item, np.ndarray) for item in items)
    ranges: list[range | None] = []
    sizes: list[int] = []  # of the result's axes
    turns: list[slice] = []
    arrays: list[tuple[Array, int]] = []  # an array of indices, and the axis it indexes
    seats: list[int] = []  # where among the items the arrays stand
    at = place = 0  # where the points stand among the ranges, and among the result's axes
    for seat, item in enumerate(items):
        if isinstance(item, tuple):
            continue
        if item is None:
            sizes.append(1)
            turns.append(slice(None))
            continue
        axis = len(ranges)
        if isinstance(item, slice):
            picked = range(*item.indices(shape[axis]))
            ranges.append(picked if picked.step > 0 else picked[::-1])
            sizes.append(len(picked))
            turns.append(slice(None, None, 1 if picked.step > 0 else -1))
        elif not fancy:
            row = _row(item, shape[axis])
            ranges.append(range(row, row + 1))
        else:
            if not seats:
                at, place = sum(r is not None for r in ranges), len(sizes)
            seats.append(seat)
            found = _indices(item, shape, axis)
            arrays += found
            ranges += [None] * _axes_of(item)
    points = None
    if fancy:
        if seats[-1] - seats[0] >= len(seats):  # something stands between them
            at = place = 0
        points, corner = _points(arrays, shape)
        sizes[place:place] = corner
        turns[place:place] = [slice(None)] * len(corner)
    turn = tuple(turns) if any(t.step == -1 for t in turns) else None
    return Picked(tuple(ranges), points, at, tuple(sizes), turn, scalar=scalar and not fancy and not sizes)


def _row(index: int, size: int) -> int:
    if not -size <= index < size:
        raise IndexError
    return index % size


def _indices(item: Any, shape: Shape, axis: int) -> list[tuple[Array, int]]:
    """The arrays of indices that an array of indices, an integer beside one, or a mask is."""
    if not isinstance(item, np.ndarray):
        return [(np.asarray(_row(item, shape[axis])), axis)]
    if item.dtype.kind != "b":
        return [(item, axis)]
    if item.ndim == 0:
        return [(np.zeros(int(item), np.int64), -1)]
    if any(has not in (0, size) for has, size in zip(item.shape, shape[axis:], strict=False)):  # numpy lets 0 pass
        raise IndexError
    return [(places, axis + k) for k, places in enumerate(item.nonzero())]


def _points(arrays: Sequence[tuple[Array, int]], shape: Shape) -> tuple[Array, Shape]:
    """What arrays of indices add to the flat index together, flat; and the shape that they are broadcast to."""
    corner = np.broadcast_shapes(*(array.shape for array, _ in arrays))
    total = np.zeros(corner, np.uint64)
    for array, axis in arrays:
        if axis < 0 or total.size == 0:
            continue
        size = shape[axis]
        if array.size and (array.min() < -size or array.max() >= size):
            raise IndexError
        places = np.where(array < 0, array + size, array).astype(np.uint64)
        total += places * np.uint64(math.prod(shape[axis + 1 :]))
    return total.reshape(-1), corner
