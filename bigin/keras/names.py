"""The methods of keras.initializers: their names, parameters and defaults, as Keras means them."""

from __future__ import annotations

import math
from typing import Any

from bigin.core.errors import InputError
from bigin.core.regions import Shape
from bigin.methods.dialect import CHANNELS_LAST, NAMED_SCALINGS, Dialect, Foreign, Meaning
from bigin.methods.table import TRUNCATED_STD

AXES: dict[str, Any] = {"input_axes": None, "output_axes": None}
MODES = ("fan_in", "fan_out", "fan_avg")
DISTRIBUTIONS = {  # Keras's words for a distribution, and bigin's
    "truncated_normal": "truncated_normal",
    "normal": "truncated_normal",
    "untruncated_normal": "normal",
    "uniform": "uniform",
}


def _truncated(shape: Shape, mean: Any, stddev: Any) -> Meaning:
    return "trunc_normal", {"mean": mean, "std": stddev, "lower": -2.0, "upper": 2.0}


def _identity(shape: Shape, gain: Any) -> Meaning:
    return ("eye", {}) if gain == 1 else ("identity_plus_noise", {"gain": gain, "std": 0.0})


def _scaled(
    shape: Shape, scale: Any, mode: Any, distribution: Any, input_axes: Any, output_axes: Any, own: str = ""
) -> Meaning:
    """A scaling of the variance by fans. own: bigin's method for it, where it has one."""
    word = DISTRIBUTIONS.get(str(distribution).lower())
    if word is None:
        raise InputError(f"expected distribution among {', '.join(DISTRIBUTIONS)}, got {distribution!r}")
    if mode not in MODES:
        raise InputError(f"expected mode among {', '.join(MODES)}, got {mode!r}")
    layout: dict[str, Any] = dict(CHANNELS_LAST)
    if input_axes is not None and output_axes is not None:
        named = {axis % len(shape) for axis in (*input_axes, *output_axes)} if shape else set()
        batch = [axis for axis in range(len(shape)) if axis not in named]  # Keras leaves them out of the fans
        layout = {"in_axis": list(input_axes), "out_axis": list(output_axes), "batch_axis": batch}
    elif len(shape) < 2:
        return _of_a_vector(shape[0] if shape else 1, scale, word)
    if own and word == "uniform":
        return own, layout
    return "variance_scaling", {"scale": scale, "mode": mode, "distribution": word, **layout}


def _of_a_vector(size: int, scale: Any, distribution: str) -> Meaning:
    """Of one axis or none, whose size Keras takes for both fans."""
    variance = float(scale) / max(1, size)
    if distribution == "uniform":
        bound = math.sqrt(3.0 * variance)
        return "uniform", {"a": -bound, "b": bound}
    std = math.sqrt(variance)
    if distribution == "normal":
        return "normal", {"std": std}
    return _truncated((), 0.0, std / TRUNCATED_STD)


def _named(family: str, distribution: str) -> Foreign:
    scale, mode, own = NAMED_SCALINGS[family]
    return Foreign(AXES, lambda shape, **axes: _scaled(shape, scale, mode, distribution, **axes, own=own))


ROWS = {
    "zeros": Foreign({}, lambda shape: ("zeros", {})),
    "ones": Foreign({}, lambda shape: ("ones", {})),
    "constant": Foreign({"value": 0.0}, lambda shape, value: ("constant", {"val": value})),
    "identity": Foreign({"gain": 1.0}, _identity),
    "random_uniform": Foreign(
        {"minval": -0.05, "maxval": 0.05}, lambda shape, minval, maxval: ("uniform", {"a": minval, "b": maxval})
    ),
    "random_normal": Foreign(
        {"mean": 0.0, "stddev": 0.05}, lambda shape, mean, stddev: ("normal", {"mean": mean, "std": stddev})
    ),
    "truncated_normal": Foreign({"mean": 0.0, "stddev": 0.05}, _truncated),
    "variance_scaling": Foreign({"scale": 1.0, "mode": "fan_in", "distribution": "truncated_normal", **AXES}, _scaled),
    "orthogonal": Foreign({"gain": 1.0}, lambda shape, gain: ("orthogonal", {"gain": gain, **CHANNELS_LAST})),
    **{f"{family}_uniform": _named(family, "uniform") for family in NAMED_SCALINGS},
    **{f"{family}_normal": _named(family, "truncated_normal") for family in NAMED_SCALINGS},
}
SHORT = {"normal": "random_normal", "uniform": "random_uniform", "one": "ones", "zero": "zeros"}
CLASSES = {"".join(word.capitalize() for word in name.split("_")): row for name, row in ROWS.items()}

KERAS = Dialect(
    "keras.initializers", ROWS | CLASSES | {short: ROWS[name] for short, name in SHORT.items()}, CHANNELS_LAST
)
