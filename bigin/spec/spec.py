"""What every specification offers: one tensor's values, a part of it, a fused tensor, a whole model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

import bigin
from bigin.core import dtypes
from bigin.core.record import Record
from bigin.core.regions import Shape
from bigin.fillers.filler import Filler

STREAM = 1  # the version of the stream, docs/stream-v1.md


class Spec(Protocol):
    """What the values of a target are.

    shape and dtype are those of the target. For a model they mean nothing: every tensor has its own.
    """

    @property
    def shape(self) -> Shape:
        """The shape of what is filled."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of what is filled."""

    def plan(self) -> Callable[[], Filler]:
        """What makes the filler. All checks are done, and nothing is compiled.

        Raises InputError where the dtype cannot hold the values.
        """

    def record(self) -> Record:
        """The provenance record that a store keeps; `spec_of` reads it back."""


def common(seed: int, name: str, shape: Shape, dtype: np.dtype[Any]) -> Record:
    """The keys that every record of a tensor has."""
    return {
        "seed": seed,
        "name": name,
        "shape": list(shape),
        "dtype": dtypes.name_of(dtype),
        "stream": STREAM,
        "bigin": bigin.__version__,
    }
