"""Dtypes of quantized checkpoints that are filled by their bits: scales that are powers of two, and floats of 4 bits.

Open Compute Project, Microscaling Formats (MX) specification 1.0, 2023, sections 5.3.3 and 5.4.1: E2M1 and E8M0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bigin.core.errors import InputError
from bigin.core.regions import Shape

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # the number of each code below 8; bit 3 is the sign


@dataclass(frozen=True)
class Packed:
    """A dtype whose values are stored as bytes, `count` to one. safetensors: its name in a safetensors file."""

    name: str
    safetensors: str
    count: int

    @property
    def bits(self) -> int:
        """The width of a value."""
        return 8 // self.count

    def stored(self, shape: Shape) -> Shape:
        """The shape of the bytes: the values of a byte follow each other along the last axis that allows it."""
        size = math.prod(shape) // self.count
        if self.count == 1:
            return shape
        return (*shape[:-1], shape[-1] // self.count) if shape and shape[-1] % self.count == 0 else (size,)

    def byte(self, value: float) -> int:
        """The byte of one value, repeated; raises InputError for one that the dtype has not."""
        if self.count == 2:
            if abs(value) not in E2M1:
                numbers = ", ".join(f"{number:g}" for number in E2M1)
                raise InputError(f"expected a number among {numbers}, or a negative one, for {self.name}, got {value}")
            code = E2M1.index(abs(value)) | (8 if math.copysign(1, value) < 0 else 0)
            return code | code << 4
        mantissa, exponent = math.frexp(value)
        if mantissa != 0.5 or not -126 <= exponent <= 128:
            raise InputError(f"expected a power of two from 2^-127 to 2^127 for {self.name}, got {value}")
        return exponent + 126


ROWS = (Packed("float8_e8m0fnu", "F8_E8M0", 1), Packed("float4_e2m1fn", "F4", 2))
PACKED = {row.name: row for row in ROWS}
