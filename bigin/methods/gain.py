"""The recommended gain of a nonlinearity, as torch.nn.init.calculate_gain has it."""

from __future__ import annotations

import math

from bigin.core.errors import InputError

GAINS = {
    "linear": 1.0,
    "conv1d": 1.0,
    "conv2d": 1.0,
    "conv3d": 1.0,
    "conv_transpose1d": 1.0,
    "conv_transpose2d": 1.0,
    "conv_transpose3d": 1.0,
    "sigmoid": 1.0,
    "tanh": 5.0 / 3.0,
    "relu": math.sqrt(2.0),
    "selu": 3.0 / 4.0,
}
NONLINEARITIES = (*GAINS, "leaky_relu")
LEAKY_SLOPE = 0.01  # torch's


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the recommended gain of a nonlinearity, as torch.nn.init.calculate_gain does.

    Args:
        nonlinearity: linear, conv1d to conv3d, conv_transpose1d to conv_transpose3d and sigmoid have the gain 1, tanh
            5/3, relu sqrt(2), selu 3/4, and leaky_relu sqrt(2 / (1 + slope^2)).
        param: the slope of leaky_relu, 0.01 by default.

    Returns:
        The gain.

    Raises:
        InputError: the nonlinearity is unknown, or the slope is not a finite number.

    Example:
        >>> bigin.calculate_gain("relu")
        1.4142135623730951
        >>> bigin.calculate_gain("leaky_relu", 1.0)
        1.0
    """
    if nonlinearity == "leaky_relu":
        slope = LEAKY_SLOPE if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, int | float) or not math.isfinite(slope):
            raise InputError(f"expected negative_slope to be a finite number, got {slope!r}")
        return math.sqrt(2.0 / (1.0 + float(slope) * float(slope)))
    if nonlinearity not in GAINS:
        raise InputError(f"expected a nonlinearity among {', '.join(NONLINEARITIES)}, got {nonlinearity!r}")
    return GAINS[nonlinearity]


def parse_gain(gain: float | str) -> float:
    """A gain given as a number, a nonlinearity, or a nonlinearity and its parameter (`leaky_relu:0.2`)."""
    if isinstance(gain, str):
        nonlinearity, colon, text = gain.partition(":")
        if nonlinearity in NONLINEARITIES:
            return calculate_gain(nonlinearity, _number(text) if colon else None)
        gain = _number(gain)
    if not math.isfinite(gain):
        raise InputError(f"expected a finite gain, got {gain}")
    return float(gain)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(
            f"expected a gain that is a number or a nonlinearity ({', '.join(NONLINEARITIES)}; leaky_relu:0.2 gives "
            f"a slope), got {text!r}"
        ) from None
