"""Bytes that hold quantized weights, each from a draw: mostly zeros, and the smallest numbers of both signs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from bigin.core.regions import Region, Shape, extent
from bigin.fillers.filler import Array, Filler

PIECE = 1 << 18  # bytes that are made at once
NONE_ABOVE = 2  # float8_e4m3fn of this code and above make zeros: 997 of 1000 draws from [-1, 1)


@dataclass(frozen=True)
class Code:
    """What a byte is: `zero`, or that plus `one`, plus `first` and `second` where its weights are negative.

    holds: the numbers that it stands for.
    """

    holds: str
    zero: int
    one: int
    first: int
    second: int


CODES: Mapping[str, Code] = MappingProxyType(
    {
        "e2m1": Code("0, and 3 in 1000 bytes 0.5 or -0.5", 0x00, 0x11, 0x80, 0x08),  # floats of 4 bits
        "uint4": Code("0, and 3 in 1000 bytes 1 or -1", 0x88, 0x11, -0x20, -0x02),  # integers of 4 bits, where 8 is 0
        "int8": Code("0, and 3 in 1000 1 or -1", 0x00, 0x01, -0x02, 0x00),
    }
)


class CodedFiller(Filler):
    """The bytes of each element by a draw of float8_e4m3fn for each: `draws` has them along a last axis of its own."""

    on_device = "bigin.fillers.cuda.fillers:HostedOnDevice"

    def __init__(self, shape: Shape, draws: Filler, code: Code, itemsize: int, drawn: np.dtype[Any]) -> None:
        self.shape, self.draws, self.code, self.itemsize, self.drawn = shape, draws, code, itemsize, drawn
        self.worker_memory = draws.worker_memory + 4 * PIECE

    def __call__(self, region: Region, out: Array) -> None:
        if out.size == 0:
            return
        axis = next((axis for axis, size in enumerate(out.shape) if size > 1), None)
        if out.nbytes > PIECE and axis is not None:
            (start, stop), half = region[axis], out.shape[axis] // 2
            for first, last in ((start, start + half), (start + half, stop)):
                inside = (*(slice(None),) * axis, slice(first - start, last - start))
                self((*region[:axis], (first, last), *region[axis + 1 :]), out[inside])
            return
        whole = (*region, (0, self.itemsize))
        drawn = np.empty(extent(whole), self.drawn)
        self.draws(whole, drawn)
        coded(drawn.reshape(-1).view(np.uint8), self.code, out.reshape(-1).view(np.uint8))


def coded(bits: Array, code: Code, out: Array) -> None:
    """The bytes that the bits of draws stand for."""
    sign = bits >> np.uint8(7)
    np.multiply(sign, np.uint8(code.first % 256), out=out)
    sign ^= bits & np.uint8(1)
    sign *= np.uint8(code.second % 256)
    out += sign
    out += np.uint8(code.one)
    out *= (bits & np.uint8(0x7F)) < NONE_ABOVE
    out += np.uint8(code.zero)
