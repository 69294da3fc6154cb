"""Where the values of tensors lie in files that torch has written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bigin.core.regions import Shape


@dataclass(frozen=True)
class Box:
    """A part of a tensor in a file: where it begins in the tensor, its shape, and the byte at which its values begin.

    fortran: whether the values are in Fortran order.
    """

    path: Path
    start: Shape
    shape: Shape
    offset: int
    fortran: bool = False


@dataclass(frozen=True)
class Boxed:
    """A tensor and its parts."""

    dtype: np.dtype[Any]
    shape: Shape
    boxes: tuple[Box, ...]


@dataclass(frozen=True)
class Stored:
    """The tensors of a checkpoint by name, and the names of its other entries, such as tensors of unknown dtypes."""

    tensors: Mapping[str, Boxed]
    others: tuple[str, ...]
