"""Fused tensors: several tensors that lie one behind the other along an axis of one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.regions import Grid, Region, Shape, block_of_rows, extent, within
from bigin.core.text import parse_shape
from bigin.fillers.filler import Array, Filler, Report
from bigin.spec.tensor import STREAM, Specification

BATCH = 1 << 17  # elements that are made at once where the parts do not lie in the rows' order


@dataclass(frozen=True)
class SplitSpecification:
    """What decides the values of a fused tensor: its parts, each with its own name and shape, along an axis.

    With `stack` each part is one place of the axis, and lacks it.
    """

    axis: int
    stack: bool
    parts: tuple[Specification, ...]
    shape: Shape
    dtype: np.dtype[Any]

    def filler(self) -> Filler:
        """What makes the values of any region."""
        return SplitFilled(self, [part.filler() for part in self.parts])

    def sizes(self) -> list[int]:
        """How long each part is along the axis."""
        return [1 if self.stack else part.shape[self.axis] for part in self.parts]

    def record(self) -> dict[str, Any]:
        """As the record keeps it."""
        parts = []
        for part in self.parts:
            record = part.record()
            parts.append({key: record[key] for key in PART_KEYS if key in record})
        first = self.parts[0].record()
        return {
            "method": "split",
            "split": {"axis": self.axis, "stack": self.stack, "parts": parts},
            **{key: first[key] for key in ("seed", "stream", "bigin")},
            "shape": list(self.shape),
            "dtype": self.dtype.name,
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> SplitSpecification:
        """What a record says; raises InputError where it says nothing that could be filled."""
        split, shape, dtype = record.get("split"), record.get("shape"), record.get("dtype")
        if not isinstance(split, dict) or not isinstance(split.get("parts"), list) or not split["parts"]:
            raise InputError(f"expected a record of a fused tensor with its parts, got {split!r}")
        whole = parse_shape(shape if isinstance(shape, list) else None)
        common = {key: record.get(key) for key in ("seed", "stream", "dtype") if key in record}
        parts = tuple(
            Specification.from_record({**part, **common})
            for part in split["parts"]
            if isinstance(part, dict) and "split" not in part
        )
        made = cls(split.get("axis", -1), bool(split.get("stack")), parts, whole, dtypes.parse_dtype(dtype))
        made.check(len(split["parts"]))
        return made

    def check(self, count: int) -> None:
        """Refuses parts that do not make up the tensor."""
        axis = self.axis
        fits = type(axis) is int and 0 <= axis < len(self.shape) and len(self.parts) == count
        if fits:
            rest = (*self.shape[:axis], *self.shape[axis + 1 :])
            others = [
                part.shape if self.stack else (*part.shape[:axis], *part.shape[axis + 1 :]) for part in self.parts
            ]
            fits = all(other == rest for other in others) and sum(self.sizes()) == self.shape[axis]
        if not fits:
            raise InputError(f"expected parts that make up shape {self.shape} along an axis, got others")

    def __str__(self) -> str:
        return f"{len(self.parts)} parts along axis {self.axis}: {self.parts[0]}, ..."


PART_KEYS = ("method", "parameters", "name", "shape", "padding_idx")
Values = Specification | SplitSpecification


def values_of(record: Mapping[str, Any]) -> Values:
    """The specification that a tensor's record tells, of either kind."""
    if "split" in record and record.get("stream") == STREAM:
        return SplitSpecification.from_record(record)
    return Specification.from_record(record)


class SplitFilled(Filler):
    """Each part's values in its place."""

    def __init__(self, specification: SplitSpecification, fillers: Sequence[Filler]) -> None:
        self.shape = specification.shape
        self.axis = specification.axis
        self.stack = specification.stack
        self.fillers = fillers
        self.stops = list(accumulate(specification.sizes()))
        self.region_bytes = max(filler.region_bytes for filler in fillers)
        self.worker_memory = max(filler.worker_memory for filler in fillers) + BATCH * specification.dtype.itemsize
        self.has_setup = any(filler.has_setup for filler in fillers)

    def setup(self, threads: int, max_memory: int, report: Report) -> None:
        """That of all parts, each in its share of the memory."""
        needed = [filler for filler in self.fillers if filler.has_setup]
        for i, filler in enumerate(needed, 1):
            filler.setup(threads, max_memory // len(needed), lambda part: None)
            report(i / len(needed))

    def __call__(self, region: Region, out: Array) -> None:
        first, last = region[self.axis]
        number = bisect_right(self.stops, first)
        while first < last:
            stop = min(self.stops[number], last)
            place = (slice(None),) * self.axis + (slice(first - region[self.axis][0], stop - region[self.axis][0]),)
            covered = (*region[: self.axis], (first, stop), *region[self.axis + 1 :])
            self._fill(number, covered, out[place])
            first, number = stop, number + 1

    def _fill(self, number: int, covered: Region, out: Array) -> None:
        """What one part has in a region, which lies in it whole."""
        if out.flags.c_contiguous:
            self._make(number, covered, out)
            return
        sizes = extent(covered)
        for block in Grid(sizes, block_of_rows(sizes, BATCH)):
            made = np.empty(extent(block), out.dtype)
            self._make(number, within(covered, block), made)
            out[tuple(slice(*axis) for axis in block)] = made

    def _make(self, number: int, covered: Region, out: Array) -> None:
        axis, start = self.axis, self.stops[number - 1] if number else 0
        if self.stack:
            inside: Region = (*covered[:axis], *covered[axis + 1 :])
        else:
            first, last = covered[axis]
            inside = (*covered[:axis], (first - start, last - start), *covered[axis + 1 :])
        self.fillers[number](inside, out.reshape(extent(inside)))
