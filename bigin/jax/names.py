"""The methods of jax.nn.initializers: their names, parameters and defaults, as jax means them."""

from __future__ import annotations

from typing import Any

from bigin.core.errors import InputError
from bigin.methods.dialect import CHANNELS_LAST, NAMED_SCALINGS, Dialect, Foreign, Meaning
from bigin.methods.table import REQUIRED

AXES: dict[str, Any] = {**CHANNELS_LAST, "batch_axis": ()}
ALSO = {"glorot": "xavier", "he": "kaiming"}  # jax's second names


def _scaled(scale: Any, mode: Any, distribution: Any, **axes: Any) -> Meaning:
    return "variance_scaling", {"scale": scale, "mode": mode, "distribution": distribution, **axes}


def _named(family: str, *, uniform: bool) -> Foreign:
    """A variance scaling that has a name. That of the uniform ones is bigin's own method, with the same bits."""
    scale, mode, own = NAMED_SCALINGS[family]
    choice = {"mode": mode} if family == "he" else {}  # jax has none; it is what people give to kaiming_normal

    def meaning(**given: Any) -> Meaning:
        if uniform:
            return own, given
        return _scaled(scale, given.pop("mode", mode), "truncated_normal", **given)

    return Foreign({**AXES, **choice}, meaning)


def _orthogonal(method: str) -> Foreign:
    """Q is as likely as Q transposed, so the axis of the columns decides only which axes are flattened."""

    def meaning(scale: Any, column_axis: Any) -> Meaning:
        if isinstance(column_axis, bool) or not hasattr(column_axis, "__index__"):
            raise InputError(f"expected column_axis to be an axis, got {column_axis!r}")
        axis = int(column_axis.__index__())
        if method == "delta_orthogonal":
            if axis not in (-1, -2, 0, 1):
                raise InputError(f"expected column_axis -1 or -2, of the matrix at the kernel's centre, got {axis}")
            return method, {"gain": scale, **CHANNELS_LAST}
        return method, {"gain": scale, "out_axis": axis, "in_axis": -2 if axis == -1 else -1}

    return Foreign({"scale": 1.0, "column_axis": -1}, meaning)


def _rows() -> dict[str, Foreign]:
    rows = {
        "zeros": Foreign({}, lambda: ("zeros", {})),
        "ones": Foreign({}, lambda: ("ones", {})),
        "constant": Foreign({"value": REQUIRED}, lambda value: ("constant", {"val": value})),
        "uniform": Foreign({"scale": 1e-2}, lambda scale: ("uniform", {"a": 0.0, "b": scale})),
        "normal": Foreign({"stddev": 1e-2}, lambda stddev: ("normal", {"std": stddev})),
        "truncated_normal": Foreign(
            {"stddev": 1e-2, "lower": -2.0, "upper": 2.0},
            lambda stddev, lower, upper: ("trunc_normal", {"std": stddev, "lower": lower, "upper": upper}),
        ),
        "variance_scaling": Foreign({"scale": REQUIRED, "mode": REQUIRED, "distribution": REQUIRED, **AXES}, _scaled),
        "orthogonal": _orthogonal("orthogonal"),
        "delta_orthogonal": _orthogonal("delta_orthogonal"),
    }
    for family in NAMED_SCALINGS:
        for name in (family, ALSO.get(family, family)):
            rows[f"{name}_uniform"] = _named(family, uniform=True)
            rows[f"{name}_normal"] = _named(family, uniform=False)
    return rows


JAX = Dialect("jax.nn.initializers", _rows(), AXES)
