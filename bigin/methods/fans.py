"""Fans of a weight, from its global shape and its layout."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bigin.core.errors import InputError

Axes = int | Sequence[int]


def fans(shape: Sequence[int], in_axis: Axes = 1, out_axis: Axes = 0, batch_axis: Axes = ()) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight.

    The default axes are torch's layout, (out, in, receptive field...); JAX's and Keras's is in_axis=-2,
    out_axis=-1. Every axis that is none of these belongs to the receptive field, whose size multiplies both fans;
    batch axes count for neither (jax.nn.initializers, `_compute_fans`).

    Raises InputError for fewer than 2 dimensions, an axis out of range or one named twice.
    """
    if len(shape) < 2:
        raise InputError(
            f"expected a shape of 2 or more dimensions, got {tuple(shape)}: fan in and fan out can not be computed "
            "for fewer; use a method without fans, such as normal"
        )
    axes = axes_of(len(shape), in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis)
    named = [axis for group in axes.values() for axis in group]
    field = math.prod(size for axis, size in enumerate(shape) if axis not in named)
    fan_in = math.prod(shape[axis] for axis in axes["in_axis"]) * field
    fan_out = math.prod(shape[axis] for axis in axes["out_axis"]) * field
    return fan_in, fan_out


def axes_of(ndim: int, **given: Axes) -> dict[str, tuple[int, ...]]:
    """Groups of axes as indices from 0; raises InputError for one out of range or named twice."""
    axes = {name: _axes(name, group, ndim) for name, group in given.items()}
    named = [axis for group in axes.values() for axis in group]
    if len(set(named)) < len(named):
        names = " and ".join([", ".join([*axes][:-1]), [*axes][-1]])
        raise InputError(f"expected {names} to name different axes, got {axes}")
    return axes


def _axes(name: str, axes: Axes, ndim: int) -> tuple[int, ...]:
    """The axes as indices from 0."""
    given = (axes,) if isinstance(axes, int) else tuple(axes)
    for axis in given:
        if not -ndim <= axis < ndim:
            raise InputError(f"expected {name} from {-ndim} to {ndim - 1} for {ndim} dimensions, got {axis}")
    return tuple(axis % ndim for axis in given)
