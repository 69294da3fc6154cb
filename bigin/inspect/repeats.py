"""Parts of a tensor that are equal, where values that are drawn never are: rows, and shards along an axis."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bigin.core.regions import Region, Shape, extent, flat_slice
from bigin.targets.target import Target

Array = np.ndarray[Any, np.dtype[Any]]

LEAST = 32  # elements of a row
KEPT = 1 << 17  # rows whose hashes are kept
LOOKED_AT = 1 << 18  # elements in which shards are compared
SHARDS = (2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
SHOWN = 4096  # rows of which each is compared with another


def row_axis(shape: Shape) -> int | None:
    """From which axis on a row of the tensor lies, so that it has a good many elements; None where it has no rows."""
    for axis in range(len(shape) - 1, 0, -1):
        if math.prod(shape[axis:]) >= LEAST:
            return axis
    return None


@dataclass
class Rows:
    """Hashes of the rows of a tensor. Of many rows those are kept whose hashes are small: equal rows stay together.

    A row is the tensor's from axis `axis` on.
    """

    shape: Shape
    axis: int
    limit: int = 1 << 64
    hashes: list[Array] = field(default_factory=list)
    numbers: list[Array] = field(default_factory=list)
    count: int = 0

    @property
    def length(self) -> int:
        """The elements of a row."""
        return math.prod(self.shape[self.axis :])

    def add(self, region: Region, values: Array) -> None:
        """Adds the rows of a region that holds them whole."""
        if any(bounds != (0, size) for bounds, size in zip(region[self.axis :], self.shape[self.axis :], strict=True)):
            return
        bytes_of = np.ascontiguousarray(values).reshape(-1, self.length).view(np.uint8)
        made = hashed(bytes_of)
        first = sum(
            start * math.prod(self.shape[k + 1 : self.axis]) for k, (start, _) in enumerate(region[: self.axis])
        )
        chosen = made < np.uint64(self.limit) if self.limit < 1 << 64 else np.ones(len(made), np.bool_)
        self.hashes.append(made[chosen])
        self.numbers.append(np.flatnonzero(chosen) + first)
        self.count += int(chosen.sum())
        while self.count > KEPT:
            self.limit //= 2
            kept = [each < np.uint64(self.limit) for each in self.hashes]
            self.hashes = [each[keep] for each, keep in zip(self.hashes, kept, strict=True)]
            self.numbers = [each[keep] for each, keep in zip(self.numbers, kept, strict=True)]
            self.count = sum(map(len, self.hashes))

    def equal(self, target: Target) -> list[tuple[int, int]]:
        """Pairs of rows that are equal, of which the first is the first of its kind; compared once more, as read."""
        if not self.hashes:
            return []
        hashes, numbers = np.concatenate(self.hashes), np.concatenate(self.numbers)
        order = np.lexsort((numbers, hashes))
        hashes, numbers = hashes[order], numbers[order]
        again = np.flatnonzero(hashes[1:] == hashes[:-1]) + 1
        firsts = np.searchsorted(hashes, hashes[again])
        pairs = sorted(zip(numbers[firsts].tolist(), numbers[again].tolist(), strict=True), key=lambda pair: pair[1])
        return [pair for pair in pairs[:SHOWN] if self._row(target, pair[0]) == self._row(target, pair[1])]

    def _row(self, target: Target, number: int) -> bytes:
        parts = flat_slice(self.shape, number * self.length, (number + 1) * self.length)
        return b"".join(np.ascontiguousarray(target.read(part)).tobytes() for part in parts)


def hashed(rows: Array) -> Array:
    """A hash of 64 bits for each row of bytes: a sum of its words, each by a random factor."""
    width = next(width for width in (8, 4, 2, 1) if rows.shape[1] % width == 0)
    words = rows.view(f"u{width}").astype(np.uint64, copy=False)
    factors = np.random.default_rng(0).integers(0, 1 << 64, words.shape[1], np.uint64) | np.uint64(1)
    total = np.multiply(words, factors).sum(axis=1, dtype=np.uint64)
    mixed: Array = (total ^ (total >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
    return mixed


def of_rows(pairs: list[tuple[int, int]], rows: int) -> str:
    """Equal rows in words."""
    if not pairs:
        return ""
    first, second = pairs[0]
    apart = {b - a for a, b in pairs}
    if len(pairs) > 1 and len(apart) == 1 and rows % (step := apart.pop()) == 0:
        return f"identical shards: rows {first}-{first + step} and {second}-{second + step} are equal"
    if len(pairs) == 1:
        return f"rows {first} and {second} are equal"
    return f"{len(pairs)} rows equal others, such as rows {first} and {second}"


def equal_shards(values: Array, whole: list[bool], collision: float, rare: float) -> str:
    """Equal parts along an axis of some values of a tensor, in words; `whole` says which axes are all there.

    collision: the probability that two values are equal; rare: that with which this may be said of a correct tensor.
    """
    for axis in range(values.ndim):
        size = values.shape[axis]
        if not whole[axis]:
            continue
        for count in SHARDS:
            if size % count or size < count:
                continue
            parts = [part.tobytes() for part in np.split(values, count, axis=axis)]
            elements = values.size // count
            if math.log(count * count) + elements * math.log(collision) > math.log(rare):
                break
            seen: dict[bytes, int] = {}
            for number, part in enumerate(parts):
                if part in seen:
                    return f"identical shards: parts {seen[part]} and {number} of {count} along axis {axis} are equal"
                seen[part] = number
    return ""


def few(values: Array, region: Region, shape: Shape) -> tuple[Array, list[bool]]:
    """Some of the values of a region, and which axes of the tensor they are all of."""
    inner = max(1, math.prod(values.shape[1:]))
    kept = values[: max(1, LOOKED_AT // inner)]
    sizes = extent(region)
    return kept, [part == size for part, size in zip((kept.shape[0], *sizes[1:]), shape, strict=True)]
