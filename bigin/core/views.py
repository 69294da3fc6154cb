"""Strided views of a tensor, in integers: which elements a view has, and where each lies in the view."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bigin.core.errors import InputError
from bigin.core.regions import Shape, dense

Positions = range | np.ndarray[Any, Any]  # indices along an axis, rising


@dataclass(frozen=True)
class View:
    """Some elements of a flat tensor: offset + i strides[0] + j strides[1] + ..., in elements."""

    offset: int
    sizes: Shape
    strides: Shape

    @classmethod
    def whole(cls, shape: Shape) -> View:
        """All elements of a tensor, in C order."""
        return cls(0, tuple(shape), dense(shape))

    @property
    def count(self) -> int:
        """The number of elements."""
        return math.prod(self.sizes)

    def normal(self) -> View:
        """The same elements in the same order, without axes of one element, and with those merged that can be."""
        dims: list[list[int]] = []
        for size, stride in zip(self.sizes, self.strides, strict=True):
            if size == 1:
                continue
            if dims and dims[-1][1] == size * stride:
                dims[-1] = [dims[-1][0] * size, stride]
            else:
                dims.append([size, stride])
        return View(self.offset, tuple(size for size, _ in dims), tuple(stride for _, stride in dims))

    def is_whole(self, count: int) -> bool:
        """Whether it is all of a flat tensor of so many elements, in order."""
        normal = self.normal()
        return self.offset == 0 and self.count == count and normal.strides in ((), (1,))

    def covers(self, count: int) -> bool:
        """Whether it has every element of a flat tensor of so many, in any order."""
        if self.count != count or self.offset:
            return False
        expected = 1
        for stride, size in sorted(zip(self.strides, self.sizes, strict=True)):
            if size == 1:
                continue
            if stride != expected:
                return False
            expected *= size
        return True

    def covers_span(self) -> bool:
        """Whether it has every element from its first to its last, in any order."""
        return replace(self, offset=0).covers(self.count)

    def injective(self) -> bool:
        """Whether no element occurs twice, as far as the strides tell."""
        reach = 0
        for stride, size in sorted(zip(self.strides, self.sizes, strict=True)):
            if size == 1:
                continue
            if stride <= reach:
                return False
            reach += stride * (size - 1)
        return True


def along_axes(shape: Shape, view: View, source: View) -> list[tuple[Positions, Positions]]:
    """For each axis of a tensor, the indices that a view of it has, and what each adds to the flat index in a source.

    The view's sizes are those of the source, whose strides say where each element of the view comes from. Raises
    InputError where the elements are no product of indices along the axes.
    """
    strides = dense(shape)
    dims: list[list[tuple[int, int, int]]] = [[] for _ in shape]
    todo = [
        (size, stride, inner)
        for size, stride, inner in zip(view.sizes, view.strides, source.strides, strict=True)
        if size > 1
    ]
    while todo:
        size, stride, inner = todo.pop()
        axis = axis_of(shape, strides, stride)
        step, rest = divmod(stride, strides[axis]) if axis is not None else (0, 1)
        if axis is None or rest or not step:
            raise InputError(f"expected a view along the axes of shape {shape}, got strides {view.strides}")
        if size * step > shape[axis]:
            inside, odd = divmod(shape[axis], step)
            if odd or inside < 2 or size % inside:
                raise InputError(f"expected a view along the axes of shape {shape}, got strides {view.strides}")
            todo += [(size // inside, stride * inside, inner * inside)]
            size = inside
        dims[axis].append((size, step, inner))
    places = []
    for axis, (size, stride) in enumerate(zip(shape, strides, strict=True)):
        start = view.offset // stride % size if size else 0
        places.append(joined(start, size, dims[axis]))
    first = places[0] if places else None
    if first is not None and source.offset:
        places[0] = (first[0], shifted(first[1], source.offset))
    return places


def axis_of(shape: Shape, strides: Shape, stride: int) -> int | None:
    """The axis along which a step of so many elements goes: the one of the largest stride that is no larger."""
    for axis, (size, own) in enumerate(zip(shape, strides, strict=True)):
        if size > 1 and own <= stride:
            return axis
    return None


def joined(start: int, size: int, dims: list[tuple[int, int, int]]) -> tuple[Positions, Positions]:
    """The indices along one axis and the numbers that belong to them, in rising order of the indices."""
    if not dims:
        return range(start, start + 1), range(1)
    indices, numbers = np.full(1, start, np.int64), np.zeros(1, np.int64)
    for count, step, inner in sorted(dims, key=lambda dim: -dim[1]):
        indices = np.add.outer(indices, np.arange(count) * step).reshape(-1)
        numbers = np.add.outer(numbers, np.arange(count) * inner).reshape(-1)
    order = np.argsort(indices, kind="stable")
    indices, numbers = indices[order], numbers[order]
    if indices[-1] >= size or (len(indices) > 1 and np.diff(indices).min() <= 0):
        raise InputError(f"expected a view whose elements are apart, got {dims} along an axis of {size}")
    return compact(indices), compact(numbers)


def shifted(numbers: Positions, offset: int) -> Positions:
    """All numbers, plus an offset."""
    if isinstance(numbers, range):
        return range(numbers.start + offset, numbers.stop + offset, numbers.step)
    moved: np.ndarray[Any, Any] = numbers + np.asarray(offset, numbers.dtype)
    return moved


def compact(numbers: np.ndarray[Any, Any]) -> Positions:
    """Numbers as a range, where they are one that rises."""
    if len(numbers) == 1:
        return range(int(numbers[0]), int(numbers[0]) + 1)
    steps = np.diff(numbers)
    if steps[0] > 0 and (steps == steps[0]).all():
        step = int(steps[0])
        return range(int(numbers[0]), int(numbers[-1]) + 1, step)
    return numbers.astype(np.uint64)
