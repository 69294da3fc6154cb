"""What hypothesis draws: methods with parameters, shapes, seeds and names."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from common import all_run
from hypothesis import strategies as st

from bigin.core.dtypes import FLOATS

METHODS: list[tuple[str, dict[str, Any]]] = [
    ("uniform", {}),
    ("uniform", {"a": -0.3, "b": 7.25}),
    ("normal", {}),
    ("normal", {"mean": 0.75, "std": 0.02}),
    ("trunc_normal", {}),
    ("trunc_normal", {"mean": 0.1, "std": 0.02, "a": 0.05, "b": 0.2}),
    ("trunc_normal", {"mean": -1.0, "std": 0.125, "lower": 4.0, "upper": 6.0}),
    ("trunc_normal", {"std": 0.5, "lower": -3.0, "upper": -1.0}),
    ("trunc_normal", {"a": -math.inf, "b": 0.5}),
    ("trunc_normal", {"mean": 0.25, "lower": 3.0, "upper": math.inf}),
    ("constant", {"val": 0.1}),
    ("constant", {"val": math.nan}),
    ("ones", {}),
    ("zeros", {}),
]
FAN_METHODS: list[tuple[str, dict[str, Any]]] = [
    ("xavier_uniform", {"gain": 2.0}),
    ("xavier_normal", {}),
    ("kaiming_uniform", {"a": 0.2}),
    ("kaiming_normal", {"mode": "fan_out", "nonlinearity": "relu"}),
    ("lecun_uniform", {"in_axis": [0], "out_axis": [1]}),
    ("lecun_normal", {}),
    ("variance_scaling", {"scale": 2.0, "mode": "fan_geo_avg", "distribution": "normal"}),
]


def structured_methods(shape: tuple[int, ...]) -> list[tuple[str, dict[str, Any]]]:
    """The structured methods that are for tensors of this shape."""
    rows: list[tuple[str, dict[str, Any]]] = [
        ("orthogonal", {"gain": 0.75}),
        ("orthogonal", {"gain": -1.0, "in_axis": -2, "out_axis": -1}),
        ("orthogonal", {"in_axis": [], "out_axis": [len(shape) - 1, 0]}),
    ]
    if len(shape) == 2:
        rows += [("eye", {}), ("sparse", {"sparsity": 0.4}), ("sparse", {"sparsity": 0.7, "std": 2.0})]
    if len(shape) > 2:
        rows.append(("dirac", {"groups": shape[0]}))
        rows.append(("dirac", {}))
    if len(shape) > 2 and shape[1] <= shape[0]:
        rows.append(("delta_orthogonal", {}))
    if len(shape) > 2 and shape[-2] <= shape[-1]:
        rows.append(("delta_orthogonal", {"in_axis": -2, "out_axis": -1}))
    return rows


SEEDS = st.sampled_from([0, 1, 2**32 - 1, 2**32, 2**64 - 1]) | st.integers(0, 2**64 - 1)
NAMES = st.sampled_from(["", "layers/0/weight", "größe"]) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), max_size=12
)
SHAPES = st.lists(st.integers(1, 9), min_size=1, max_size=4).map(tuple).filter(lambda s: np.prod(s) <= 120)


@st.composite
def specifications(draw: Any, structured: bool = True) -> tuple[str, dict[str, Any], tuple[int, ...], str, int, str]:
    """A method with its parameters, a shape, a dtype, a seed and a name."""
    shape = draw(SHAPES)
    methods = METHODS + (FAN_METHODS if len(shape) > 1 else [])
    if structured and len(shape) > 1 and draw(st.booleans()):
        methods = structured_methods(shape)
    method, parameters = draw(st.sampled_from(methods))
    return method, parameters, shape, draw(st.sampled_from(dtypes_of(method))), draw(SEEDS), draw(NAMES)


def dtypes_of(method: str) -> list[str]:
    """The dtypes in which a method is tried; in a quick run those whose kernels other tests need, too."""
    if all_run() or method in ("constant", "ones", "zeros", "eye", "dirac"):
        return list(FLOATS)
    plain = method.endswith(("uniform", "normal")) and method not in ("trunc_normal", "lecun_normal")
    return ["float32", "float64", "bfloat16"] if plain else ["float32"]
