"""From a distribution, a dtype and a stream to a filler."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.errors import InputError
from bigin.core.regions import Shape
from bigin.fillers.filler import Drawn, Filled, Filler
from bigin.fillers.structured import DiracFilled, EyeFilled, SparseFilled
from bigin.methods import scalars as numbers
from bigin.methods.distributions import Constant, Dirac, Distribution, Eye, Normal, Orthogonal, Random, Sparse, Uniform


def prepare(distribution: Distribution, shape: Shape, dtype: np.dtype[Any], seed: int, stream: str) -> Filler:
    """The filler of a tensor.

    Raises InputError where the dtype cannot hold the distribution's values, before anything is compiled.
    """
    return plan(distribution, shape, dtype, seed, stream)()


def plan(
    distribution: Distribution, shape: Shape, dtype: np.dtype[Any], seed: int, stream: str
) -> Callable[[], Filler]:
    """What makes the filler of a tensor; all checks are done, and nothing is compiled."""
    if isinstance(distribution, Constant):
        return partial(Filled, shape, numbers.constant(distribution.value, dtype))
    if isinstance(distribution, Eye):
        return partial(EyeFilled, shape, numbers.constant(1, dtype))
    if isinstance(distribution, Dirac):
        return partial(DiracFilled, shape, numbers.constant(1, dtype), distribution.groups)
    if dtype.name not in dtypes.FLOATS:
        raise InputError(
            f"expected a float dtype for random values, got {dtype.name}; fill integers with constant, ones, zeros, "
            "eye or dirac"
        )
    if isinstance(distribution, Sparse):
        values = draw(Normal(0.0, distribution.std), shape, dtype, seed, stream)
        return lambda: SparseFilled(shape, values(), distribution.zeros, seed, stream)
    if isinstance(distribution, Orthogonal):
        return orthogonal(distribution, shape, dtype, seed, stream)
    return draw(distribution, shape, dtype, seed, stream)


def draw(
    distribution: Random, shape: Shape, dtype: np.dtype[Any], seed: int, stream: str, purpose: str = ""
) -> Callable[[], Drawn]:
    """What makes the filler of a distribution of independent values."""
    if isinstance(distribution, Uniform):
        kind, scalars, anchor = numbers.uniform(distribution, dtype)
    elif isinstance(distribution, Normal):
        kind, scalars, anchor = numbers.normal(distribution, dtype)
    else:
        kind, scalars, anchor = numbers.trunc_normal(distribution, dtype)
    return partial(Drawn, shape, dtype, kind, numbers.drawn_as(dtype), scalars, anchor, seed, stream, purpose)


def orthogonal(
    distribution: Orthogonal, shape: Shape, dtype: np.dtype[Any], seed: int, stream: str
) -> Callable[[], Filler]:
    """What makes the filler of an orthogonal matrix, which draws a Gaussian one of its own purpose."""
    numbers.fits(-abs(distribution.gain), abs(distribution.gain), dtype)
    matrix = shape[:2] if distribution.delta else (shape[0], int(np.prod(shape[1:], dtype=object)))
    tall = (max(matrix), min(matrix))
    drawn = np.dtype(numbers.drawn_as(dtype))
    gaussian = draw(Normal(0.0, 1.0), tall, drawn, seed, stream, "orthogonal")

    def make() -> Filler:
        from bigin.fillers.orthogonal import DeltaOrthogonalFilled, OrthogonalFilled

        kind = DeltaOrthogonalFilled if distribution.delta else OrthogonalFilled
        return kind(shape, gaussian(), drawn, distribution.gain)

    return make
