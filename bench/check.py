"""Whether an output is right: ours bit by bit against tests/reference.py, a peer's by its moments."""

from __future__ import annotations

import importlib.util
import math
import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bench.measure import WrongError

REFERENCE = Path(__file__).parent.parent / "tests" / "reference.py"
SAMPLES = 24  # random elements that are compared, besides the first and the last
QUICK = 4 << 20  # bytes: of this size and below, cases only show that they work
LOOK = 1 << 16  # elements in each piece that a peer's moments are taken from

# What the default parameters of a method must give: mean, standard deviation, lowest and highest possible value.
MOMENTS = {
    "uniform": (0.5, math.sqrt(1 / 12), 0.0, 1.0),
    "normal": (0.0, 1.0, -9.0, 9.0),
    "trunc_normal": (0.0, 0.879626, -2.0, 2.0),
}


@cache
def reference() -> Any:
    """The tests' oracle, which imports nothing from bigin; from its path, as tests/ is no package."""
    spec = importlib.util.spec_from_file_location("bigin_reference", REFERENCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def some(first: int, stop: int) -> list[int]:
    """Flat indices in [first, stop): both ends and random ones, other ones at every call."""
    inside = {random.randrange(first, stop) for _ in range(SAMPLES)}
    return sorted({first, stop - 1} | inside)


def against_reference(
    method: str,
    shape: tuple[int, ...],
    dtype: str,
    indices: list[int],
    found: np.ndarray[Any, Any],
    **parameters: float,
) -> None:
    """Compares the bits of the elements at these flat indices; seed 0, no name."""
    expected = np.asarray(expected_values(method, parameters, shape, dtype, indices))
    same = _bits(expected) == _bits(found)
    if expected.shape != found.shape or not same.all():
        raise WrongError(f"{method} {dtype}: elements {np.array(indices)[~same]} differ from the reference")


def expected_values(
    method: str, parameters: dict[str, float], shape: tuple[int, ...], dtype: str, indices: list[int]
) -> Any:
    """The oracle's values."""
    return reference().elements(method, parameters, shape, dtype, 0, "", indices)


def _bits(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")


def pieces(values: Any) -> list[np.ndarray[Any, Any]]:
    """The start, the middle and the end of an array of numpy or zarr: up to LOOK elements each, in whole rows."""
    rows = values.shape[0]
    count = max(1, min(rows, LOOK * rows // values.size))
    return [np.asarray(values[first : first + count]) for first in (0, (rows - count) // 2, rows - count)]


def moments(method: str, found: list[np.ndarray[Any, Any]]) -> None:
    """Checks mean, standard deviation and range of each of several pieces."""
    mean, std, low, high = MOMENTS[method]
    for piece in found:
        values = piece.astype(np.float64)
        few = 6 / math.sqrt(values.size)  # 6 standard errors of the mean, and more than that of the deviation
        near = abs(values.mean() - mean) < few * std and abs(values.std() / std - 1) < few
        if not near or values.min() < low or values.max() > high:
            raise WrongError(
                f"{method}: expected mean {mean:.4f} and std {std:.4f} in [{low}, {high}], got {values.mean():.4f} "
                f"and {values.std():.4f} in [{values.min()}, {values.max()}]"
            )
