"""A part of a tensor as a target of its own: a region, or a slice of the flat tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from bigin.core.record import Record
from bigin.core.regions import Shape
from bigin.fillers.filler import Filler
from bigin.fillers.parts import FlatSliceFiller, RegionFiller
from bigin.spec.model import TensorValues


@dataclass(frozen=True)
class RegionSpec:
    """The product of ranges along the axes of a tensor, as a rank's shard is."""

    whole: TensorValues
    ranges: tuple[range, ...]

    @property
    def shape(self) -> Shape:
        """The shape of the region."""
        return tuple(map(len, self.ranges))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the tensor."""
        return self.whole.dtype

    def plan(self) -> Callable[[], Filler]:
        """What makes the filler; raises InputError where the dtype cannot hold the values."""
        make = self.whole.plan()
        return lambda: RegionFiller(make(), self.ranges)

    def record(self) -> Record:
        """The tensor's record, and the region."""
        return self.whole.record() | {"region": [[r.start, r.stop, r.step] for r in self.ranges]}

    def __str__(self) -> str:
        region = ", ".join(f"{r.start}:{r.stop}" + (f":{r.step}" if r.step != 1 else "") for r in self.ranges)
        return f"{self.whole}, region [{region}]"


@dataclass(frozen=True)
class FlatSliceSpec:
    """The elements of the flat tensor from `offset` on, in an array of any shape, as a rank of FSDP holds them."""

    whole: TensorValues
    offset: int
    shape: Shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the tensor."""
        return self.whole.dtype

    def plan(self) -> Callable[[], Filler]:
        """What makes the filler; raises InputError where the dtype cannot hold the values."""
        make = self.whole.plan()
        return lambda: FlatSliceFiller(make(), self.offset, self.shape)

    def record(self) -> Record:
        """The tensor's record, and the slice."""
        return self.whole.record() | {"flat_slice": [self.offset, list(self.shape)]}

    def __str__(self) -> str:
        return f"{self.whole}, flat slice from {self.offset}"
