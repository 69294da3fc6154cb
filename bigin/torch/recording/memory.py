"""What has been written where: the memory of tensors that hold values which are recorded, and not made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from bigin.core.errors import InputError
from bigin.core.regions import dense
from bigin.core.views import View, along_axes
from bigin.torch.recording.values import KNOWN, Composite, Draw, Full, Pieces, Refused, Unset, Value, Write


@dataclass
class Cell:
    """The memory of a tensor, which its views share. It keeps the memory, so that no other gets its address."""

    storage: Any
    itemsize: int
    dtype: torch.dtype
    writes: list[Write] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many elements it has."""
        return int(self.storage.nbytes()) // self.itemsize


class Memory:
    """The cells of all tensors that are recorded."""

    def __init__(self) -> None:
        self.cells: dict[int, Cell] = {}

    def holds(self, tensor: torch.Tensor) -> bool:
        """Whether something has been written into the memory of a tensor."""
        return key_of(tensor) in self.cells

    def cell(self, tensor: torch.Tensor) -> Cell:
        """The memory of a tensor."""
        key = key_of(tensor)
        cell = self.cells.get(key)
        if cell is None:
            storage = tensor.untyped_storage()
            cell = self.cells[key] = Cell(storage, tensor.element_size(), tensor.dtype)
        return cell

    def write(self, tensor: torch.Tensor, value: Value) -> None:
        """Write a value into the elements of a tensor."""
        cell, where = self.cell(tensor), view_of(tensor)
        if where.count == 0:
            return
        if tensor.element_size() != cell.itemsize:
            value = Refused("view", "another dtype's view of the memory")
            where = View.whole((cell.count,))
        if where.covers(cell.count):
            cell.writes.clear()
            cell.dtype = tensor.dtype
        cell.writes += placed(value, where) if isinstance(value, Composite) else [Write(where, value)]

    def read(self, tensor: torch.Tensor) -> Value:
        """What the elements of a tensor hold."""
        if not self.holds(tensor):
            return Unset()
        cell, view = self.cell(tensor), view_of(tensor)
        if view.count == 0:
            return Full(0)
        if tensor.element_size() != cell.itemsize:
            return Refused("view", "another dtype's view of the memory")
        return read(cell, view)


def key_of(tensor: torch.Tensor) -> int:
    """What identifies the memory of a tensor."""
    return int(tensor.untyped_storage()._cdata)


def view_of(tensor: torch.Tensor) -> View:
    """Which elements of its memory a tensor has."""
    return View(int(tensor.storage_offset()), tuple(tensor.shape), tuple(tensor.stride()))


def read(cell: Cell, view: View) -> Value:
    """What a view of a cell holds."""
    if not cell.writes:
        return Unset()
    if len(cell.writes) == 1 or cell.writes[-1].where.normal() == view.normal():
        return part(cell.writes[-1], cell, view)
    if len(cell.writes) > 1:
        top = next((write for write in reversed(cell.writes) if overlaps(write.where, view)), None)
        if top is None:
            return Unset()
        if contains(top.where, view):
            return part(top, cell, view)
    values = [write.value for write in cell.writes]
    if all(isinstance(value, KNOWN) for value in values):
        return Pieces(tuple(cell.writes), cell.count, cell.dtype, view)
    last = max(number for number, value in enumerate(values) if not isinstance(value, KNOWN))
    known = tuple(cell.writes[last + 1 :])  # what lies on top of all draws, and may hide them
    if known and covered(known, cell.count, view):
        return Pieces(known, cell.count, cell.dtype, view)
    numbers = {value.number for value in values if isinstance(value, Full)}
    if len(numbers) == 1 and all(isinstance(value, Full) for value in values):
        return values[0]
    refused = next((value for value in values if isinstance(value, Refused)), None)
    return composite(cell, view) or refused or Refused("view", "a part of a tensor that was written in parts")


def composite(cell: Cell, view: View) -> Composite | None:
    """What a dense view has of several writes; None where a write is only partly in it."""
    normal = view.normal()
    if normal.strides not in ((), (1,)):
        return None
    whole, kept = View.whole((view.count,)), [Write(View.whole((view.count,)), Unset())]
    for write in cell.writes:
        if not overlaps(write.where, view):
            continue
        if contains(write.where, view):
            kept = [Write(whole, part(write, cell, replace(view, sizes=whole.sizes, strides=whole.strides)))]
        elif contains(view, write.where):
            kept.append(replace(write, where=replace(write.where, offset=write.where.offset - view.offset)))
        else:
            return None
    return Composite(tuple(kept))


def placed(value: Composite, where: View) -> list[Write]:
    """The writes of a composite in a view of another memory."""
    if where.normal().strides in ((), (1,)):
        return [replace(w, where=replace(w.where, offset=w.where.offset + where.offset)) for w in value.writes]
    moved = []
    for write in value.writes:
        if write.where.is_whole(where.count) and isinstance(write.value, Full | Refused | Unset):
            moved.append(Write(where, write.value))
            continue
        within = box(write.where, where)
        if within is None:
            return [Write(where, Refused("copy", "a tensor that was written in parts, in another order"))]
        moved.append(replace(write, where=within))
    return moved


def box(inner: View, where: View) -> View | None:
    """Where the elements lie that a view of a dense tensor has, if that tensor lies in `where`; None if no box."""
    try:
        axes = [places for places, _ in along_axes(where.sizes, inner, View.whole(inner.sizes))]
    except InputError:
        return None
    if tuple(map(len, axes)) != inner.sizes or not all(isinstance(axis, range) for axis in axes):
        return None
    steps = [(axis.start, axis.step) for axis in axes if isinstance(axis, range)]
    offset = where.offset + sum(start * stride for (start, _), stride in zip(steps, where.strides, strict=True))
    strides = tuple(step * stride for (_, step), stride in zip(steps, where.strides, strict=True))
    ordered = sorted(inner.strides, reverse=True) == list(inner.strides)
    return View(offset, inner.sizes, strides) if ordered else None


MOST = 1 << 26  # elements of a memory of which it is looked up which are written


def covered(writes: Sequence[Write], count: int, view: View) -> bool:
    """Whether writes have every element of a view."""
    if count > MOST:
        return False
    with _disable_current_modes():
        written = torch.zeros(count, dtype=torch.bool, device="cpu")
        for write in writes:
            written.as_strided(write.where.sizes, write.where.strides, write.where.offset).fill_(1)
        return bool(written.as_strided(view.sizes, view.strides, view.offset).all())


def overlaps(one: View, other: View) -> bool:
    """Whether two views may share an element, by where they begin and end, and within each stride of both."""
    (first, last), (start, stop) = span(one), span(other)
    if last < start or stop < first:
        return False
    for stride in {*one.strides} & {*other.strides} | {math.gcd(*steps(one), *steps(other))}:
        if stride > 1:
            (first, last), (start, stop) = residues(one, stride), residues(other, stride)
            if last < stride and stop < stride and (last < start or stop < first):
                return False
    return True


def span(view: View) -> tuple[int, int]:
    """The first and the last element of a view."""
    reach = sum((size - 1) * stride for size, stride in zip(view.sizes, view.strides, strict=True))
    return view.offset, view.offset + reach


def steps(view: View) -> list[int]:
    """The strides of a view's axes that have more than one element."""
    return [stride for size, stride in zip(view.sizes, view.strides, strict=True) if size > 1]


def residues(view: View, stride: int) -> tuple[int, int]:
    """The least and the largest place of a view's elements within a stride; past its end where they go around."""
    first = view.offset % stride
    inner = [(n, s) for n, s in zip(view.sizes, view.strides, strict=True) if s % stride]
    return first, first + sum((size - 1) * step for size, step in inner)


def contains(where: View, view: View) -> bool:
    """Whether a view has all elements of another one, for views that are dense or the same."""
    if where.normal() == view.normal():
        return True
    (first, last), (start, stop) = span(where), span(view)
    return where.covers_span() and first <= start and stop <= last


def part(write: Write, cell: Cell, view: View) -> Value:
    """What a view has of what one write wrote."""
    value, where = write.value, write.where
    if isinstance(value, Full | Refused | Unset):
        return value
    same = where.normal() == view.normal()
    if isinstance(value, Draw):
        source = value.source
        if same and where.sizes == view.sizes:
            return value
        if same and source.normal().strides in ((), (1,)):
            return replace(value, source=View(source.offset, view.sizes, dense(view.sizes)))
        if where.is_whole(cell.count) and source.normal().strides in ((), (1,)):
            return replace(value, source=View(source.offset + view.offset, view.sizes, view.strides))
        if where.covers(cell.count) and sorted(zip(where.strides, where.sizes, strict=True)) == sorted(
            zip(view.strides, view.sizes, strict=True)
        ):
            # The same elements with their axes in another order.
            order = [where.strides.index(stride) for stride in view.strides]
            return replace(value, source=View(source.offset, view.sizes, tuple(source.strides[i] for i in order)))
        inner = source_within(where, source, view)
        return Refused("view", "a part of a draw") if inner is None else replace(value, source=inner)
    if same and where.sizes == view.sizes:
        return value
    return Pieces((write,), cell.count, cell.dtype, view)


def source_within(where: View, source: View, view: View) -> View | None:
    """Which elements of a draw a view has, of those that were written densely; None where no view says it."""
    if source.sizes != where.sizes or where.strides != dense(where.sizes):
        return None
    left, starts = view.offset - where.offset, []
    for stride in where.strides:
        starts.append(left // stride)
        left %= stride
    offset = source.offset + sum(start * stride for start, stride in zip(starts, source.strides, strict=True))
    strides, used = [], set()
    for size, stride in zip(view.sizes, view.strides, strict=True):
        if size == 1:
            strides.append(0)
            continue
        fits = (i for i, each in enumerate(where.strides) if stride and stride % each == 0 and i not in used)
        axis = next((i for i in fits if starts[i] + (size - 1) * (stride // where.strides[i]) < where.sizes[i]), None)
        if axis is None:
            return None
        used.add(axis)
        strides.append(stride // where.strides[axis] * source.strides[axis])
    return View(offset, view.sizes, tuple(strides))
