"""Every method: its parameters, its formula, where it comes from, and how it becomes a distribution.

A named method is a row over three independent choices (scale, fans, distribution), as in jax.nn.initializers. All
arithmetic here is float64 with operations that IEEE 754 rounds correctly, so a method's numbers are the same
everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bigin.core.errors import InputError
from bigin.core.text import similar
from bigin.core.warning import warn
from bigin.methods import distributions
from bigin.methods.distributions import (
    Arange,
    Constant,
    Dirac,
    Distribution,
    Eye,
    IdentityPlusNoise,
    Linspace,
    LogArange,
    Orthogonal,
    Rotary,
    Rows,
    Sinusoidal,
    Sparse,
)
from bigin.methods.fans import axes_of, fans
from bigin.methods.gain import NONLINEARITIES, calculate_gain, parse_gain

Shape = tuple[int, ...]
REQUIRED = "required"  # stands for the default of a parameter that has none
FAN_MODES = ("fan_in", "fan_out")
SCALING_MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
TRUNC_LOW, TRUNC_HIGH = -2.0, 2.0  # torch's default bounds of trunc_normal
SCALING_DISTRIBUTIONS = ("truncated_normal", "normal", "uniform")

# The standard deviation of a standard normal that is truncated to [-2, 2]: jax.nn.initializers and Keras divide by it.
TRUNCATED_STD = 0.87962566103423978


# Numbers that JSON does not have: a parameter keeps their names, which are equal to themselves and can be recorded.
NOT_FINITE = {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}


@dataclass(frozen=True)
class Parameter:
    """A parameter of methods: one name, one meaning, in every method that takes it.

    kind: number, integer, value, gain, choice or axes. infinite: whether the number may be infinite. A value may be
    any number.
    """

    name: str
    kind: str
    help: str
    infinite: bool = False


@dataclass(frozen=True)
class Method:
    """A row of the table. `resolve` takes the global shape and the parameters."""

    name: str
    defaults: Mapping[str, Any]
    resolve: Callable[..., Distribution]
    formula: str
    source: str
    choices: Mapping[str, tuple[str, ...]]

    def parse(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters, with defaults where none was given; raises InputError for one the method does not take."""
        key = _text(given)
        if key is None:
            return self._parse(given)
        known = _PARSED.get((self.name, key)) or _remember(_PARSED, (self.name, key), self._parse(given))
        return dict(known)

    def _parse(self, given: Mapping[str, Any]) -> dict[str, Any]:
        for name in given:
            if name not in self.defaults:
                takes = ", ".join(self.defaults) or "no parameters"
                hint = similar(name, self.defaults)
                raise InputError(f"{self.name} does not take {name!r}; it takes {takes}{hint}")
        for name, default in self.defaults.items():
            if default == REQUIRED and given.get(name) is None:
                raise InputError(f"{self.name} needs {name}: {PARAMETERS[name].help}")
        values = {
            name: parse_parameter(name, default if given.get(name) is None else given[name])
            for name, default in self.defaults.items()
        }
        for name, choices in self.choices.items():
            if values[name] not in choices:
                hint = similar(values[name], choices)
                raise InputError(f"expected {name} among {', '.join(choices)}, got {values[name]!r}{hint}")
        return values


PARAMETERS = {
    p.name: p
    for p in (
        Parameter("a", "number", "lower bound; for kaiming, the negative slope of leaky_relu", infinite=True),
        Parameter("b", "number", "upper bound", infinite=True),
        Parameter("lower", "number", "lower bound in standard deviations from the mean, instead of a", infinite=True),
        Parameter("upper", "number", "upper bound in standard deviations from the mean, instead of b", infinite=True),
        Parameter("mean", "number", "mean"),
        Parameter("std", "number", "standard deviation"),
        Parameter("val", "value", "the value of every element"),
        Parameter("groups", "integer", "number of groups of the convolution"),
        Parameter("sparsity", "number", "fraction of the entries of each column that are 0"),
        Parameter("gain", "gain", "scaling factor: a number or a nonlinearity (relu, leaky_relu:0.2)"),
        Parameter("mode", "choice", "which fan: " + ", ".join(SCALING_MODES)),
        Parameter("nonlinearity", "choice", "the function after the layer: " + ", ".join(NONLINEARITIES)),
        Parameter("scale", "number", "scaling factor of the variance"),
        Parameter("distribution", "choice", ", ".join(SCALING_DISTRIBUTIONS)),
        Parameter("floor", "number", "smallest value; smaller draws are set to it"),
        Parameter("start", "value", "the first value"),
        Parameter("step", "value", "difference between adjacent values"),
        Parameter("base", "number", "base of the frequencies"),
        Parameter("order", "choice", "order of sines and cosines: interleaved, halves"),
        Parameter("in_axis", "axes", "input axes (torch's layout: 1; JAX's and Keras's: -2)"),
        Parameter("out_axis", "axes", "output axes (torch's layout: 0; JAX's and Keras's: -1)"),
        Parameter("batch_axis", "axes", "axes that are not part of a fan"),
    )
}


def parse_parameter(name: str, value: Any) -> Any:
    """A parameter's clean value: a number (a name of NOT_FINITE for one of these), a word or a list of axes."""
    parameter = PARAMETERS[name]
    kind = parameter.kind
    if value is None:
        return None
    if kind == "gain":
        return parse_gain(value if isinstance(value, str) else _number(name, value))
    if kind == "choice":
        if not isinstance(value, str):
            raise InputError(f"expected {name} to be a word, got {value!r}")
        return value.lower()
    if kind == "axes":
        axes = [value] if _is_index(value) else value
        if not isinstance(axes, list | tuple) or not all(map(_is_index, axes)):
            raise InputError(f"expected {name} to be an axis or several, got {value!r}")
        return [int(axis) for axis in axes]
    if kind == "integer":
        if not _is_index(value):
            raise InputError(f"expected {name} to be an integer, got {value!r}")
        return int(value)
    return _real(parameter, value)


def _real(parameter: Parameter, value: Any) -> int | float | str:
    """The clean value of a number or a value."""
    if parameter.kind == "value" and isinstance(value, bool):
        value = int(value)
    number = NOT_FINITE[value] if isinstance(value, str) and value in NOT_FINITE else _number(parameter.name, value)
    if not math.isfinite(number):
        if parameter.kind == "value" or (parameter.infinite and math.isinf(number)):
            return str(number)
        distributions.finite(parameter.name, number)
    return int(value) if parameter.kind == "value" and _is_index(value) else number


def _is_index(value: Any) -> bool:
    """Whether it is an integer, of Python's or numpy's; an array with one element is none."""
    return hasattr(value, "__index__") and not isinstance(value, bool) and not getattr(value, "ndim", 0)


def _number(name: str, value: Any) -> float:
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"expected {name} to be a number, got {value!r}") from None


def _uniform(shape: Shape, a: float, b: float) -> Distribution:
    return distributions.uniform(a, b)


def _normal(shape: Shape, mean: float, std: float) -> Distribution:
    return distributions.normal(mean, std)


def _trunc_normal(
    shape: Shape,
    mean: float,
    std: float,
    a: float | None,
    b: float | None,
    lower: float | None,
    upper: float | None,
) -> Distribution:
    if (a is not None and lower is not None) or (b is not None and upper is not None):
        raise InputError("expected bounds as values (a, b) or in standard deviations (lower, upper), got both for one")
    if a is None:
        a = TRUNC_LOW if lower is None else mean + lower * std
    if b is None:
        b = TRUNC_HIGH if upper is None else mean + upper * std
    return distributions.trunc_normal(mean, std, a, b)


def _constant(shape: Shape, val: int | float) -> Distribution:
    return Constant(val)


def _xavier(shape: Shape, gain: float, **layout: Any) -> float:
    """torch's standard deviation: gain sqrt(2 / (fan_in + fan_out))"""
    if gain < 0:
        raise InputError(f"expected a gain that is not negative, got gain={gain:g}")
    fan_in, fan_out = fans(shape, **layout)
    return gain * math.sqrt(2.0 / float(fan_in + fan_out))


def _kaiming(shape: Shape, a: float, mode: str, nonlinearity: str, **layout: Any) -> float:
    """torch's standard deviation: gain / sqrt(fan)"""
    fan_in, fan_out = fans(shape, **layout)
    return calculate_gain(nonlinearity, a) / math.sqrt(float(fan_in if mode == "fan_in" else fan_out))


def _symmetric(std: float) -> Distribution:
    """Uniform with this standard deviation around 0."""
    bound = math.sqrt(3.0) * std
    return distributions.uniform(-bound, bound)


def _variance_scaling(shape: Shape, scale: float, mode: str, distribution: str, **layout: Any) -> Distribution:
    if scale < 0:
        raise InputError(f"expected scale >= 0, got scale={scale:g}")
    fan_in, fan_out = map(float, fans(shape, **layout))
    denominator = {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": (fan_in + fan_out) / 2.0,
        "fan_geo_avg": math.sqrt(fan_in * fan_out),
    }[mode]
    variance = scale / denominator
    if distribution == "uniform":
        bound = math.sqrt(3.0 * variance)
        return distributions.uniform(-bound, bound)
    if distribution == "normal" or variance == 0:
        return distributions.normal(0.0, math.sqrt(variance))
    std = math.sqrt(variance) / TRUNCATED_STD
    return distributions.trunc_normal(0.0, std, -2.0 * std, 2.0 * std)


def _eye(shape: Shape) -> Distribution:
    _dimensions(shape, (2,))
    return Eye()


def _dirac(shape: Shape, groups: int) -> Distribution:
    _dimensions(shape, (3, 4, 5))
    if groups < 1 or shape[0] % groups:
        raise InputError(f"expected dim 0 to be divisible by groups, got {shape[0]} and groups={groups}")
    return Dirac(groups)


def _sparse(shape: Shape, sparsity: float, std: float) -> Distribution:
    _dimensions(shape, (2,))
    if not 0 <= sparsity <= 1:
        raise InputError(f"expected sparsity from 0 to 1, got {sparsity:g}")
    if std < 0:
        raise InputError(f"expected std >= 0, got std={std:g}; give a standard deviation that is not negative")
    zeros = math.ceil(sparsity * shape[0])
    return Constant(0) if std == 0 or zeros == shape[0] or 0 in shape else Sparse(zeros, std)


def _orthogonal(shape: Shape, gain: float, in_axis: list[int], out_axis: list[int]) -> Distribution:
    if len(shape) < 2:
        raise InputError(f"expected a shape of 2 or more dimensions, got {shape}; orthogonal is for matrices")
    inputs, outputs = axes_of(len(shape), in_axis=in_axis, out_axis=out_axis).values()
    if not outputs:
        raise InputError("expected an output axis, got none")
    if (inputs, outputs) == ((1,), (0,)) and _looks_like_hwio(shape):
        _warn_of_layout("orthogonal", shape)
    if 0 in shape:
        return Constant(0)
    return Orthogonal(gain, delta=False, out_axes=outputs, in_axes=inputs)


def _delta_orthogonal(shape: Shape, gain: float, in_axis: list[int], out_axis: list[int]) -> Distribution:
    _dimensions(shape, (3, 4, 5))
    inputs, outputs = axes_of(len(shape), in_axis=in_axis, out_axis=out_axis).values()
    if len(inputs) != 1 or len(outputs) != 1:
        raise InputError(f"expected one input and one output axis, got in_axis={in_axis} and out_axis={out_axis}")
    hwio = (inputs, outputs) == ((1,), (0,)) and _looks_like_hwio(shape)
    if shape[inputs[0]] > shape[outputs[0]]:
        hint = f"; {CHANNELS_LAST}" if hwio else ""
        raise InputError(
            f"expected no more input than output channels, got {shape[inputs[0]]} (axis {inputs[0]}) and "
            f"{shape[outputs[0]]} (axis {outputs[0]}) in shape {shape}{hint}"
        )
    if hwio:
        _warn_of_layout("delta_orthogonal", shape)
    if 0 in shape:
        return Constant(0)
    return Orthogonal(gain, delta=True, out_axes=outputs, in_axes=inputs)


CHANNELS_LAST = "for a kernel (..., in, out), as JAX and Keras have it, give in_axis=-2, out_axis=-1"


def _looks_like_hwio(shape: Shape) -> bool:
    """Whether it would be a strange kernel of torch's (out, in, ...), and a usual one of JAX's (..., in, out)."""
    *kernel, inputs, outputs = shape
    usual = len(kernel) in (2, 3) and len(set(kernel)) == 1 and kernel[0] in (3, 5, 7, 9, 11)
    return usual and outputs >= 8 and (inputs != outputs or outputs > 11)


def _warn_of_layout(method: str, shape: Shape) -> None:
    warn(
        f"{method}: shape {shape} is read in torch's layout, (out, in, ...), with {shape[0]} output channels; "
        f"{CHANNELS_LAST}",
        UserWarning,
    )


def _dimensions(shape: Shape, allowed: tuple[int, ...]) -> None:
    """torch's check, with what came."""
    if len(shape) not in allowed:
        numbers = " or ".join(map(str, allowed))
        raise InputError(f"expected a shape of {numbers} dimensions, got {shape}")


def _identity_plus_noise(shape: Shape, gain: float, std: float) -> Distribution:
    _dimensions(shape, (2,))
    distributions.normal(0.0, std)
    return Eye() if std == 0 and gain == 1 else IdentityPlusNoise(gain, std)


def _along_rows(shape: Shape, rows: Rows) -> Distribution:
    if not shape:
        raise InputError("expected a shape of 1 or more dimensions, got a scalar; values go along the last axis")
    return rows


def _sinusoidal(shape: Shape, base: float, order: str) -> Distribution:
    _dimensions(shape, (2,))
    if shape[1] % 2:
        raise InputError(f"expected an even number of columns, half of them sines, got {shape[1]} in shape {shape}")
    return Sinusoidal(_base(base), order)


def _base(base: float) -> float:
    if not base > 1:
        raise InputError(f"expected base > 1, got base={base:g}; 10000 is usual")
    return base


def _log_arange(shape: Shape, start: float) -> Distribution:
    if start <= 0:
        raise InputError(f"expected start > 0, got start={start:g}; logarithms are of positive numbers")
    return _along_rows(shape, LogArange(start))


GLOROT = "Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural networks"
HE = "He et al. 2015, Delving deep into rectifiers"
LECUN = "LeCun et al. 1998, Efficient BackProp"
MAMBA = "Gu and Dao 2023, Mamba"
ORDERS = ("interleaved", "halves")
LAYOUT = {"in_axis": [1], "out_axis": [0], "batch_axis": []}
MATRIX = {"in_axis": [1], "out_axis": [0]}  # the layout, for methods without fans
KAIMING = {"a": 0.0, "mode": "fan_in", "nonlinearity": "leaky_relu"}
KAIMING_CHOICES = {"mode": FAN_MODES, "nonlinearity": NONLINEARITIES}

METHODS = {
    method.name: method
    for method in (
        Method("uniform", {"a": 0.0, "b": 1.0}, _uniform, "U[a, b)", "torch.nn.init.uniform_", {}),
        Method("normal", {"mean": 0.0, "std": 1.0}, _normal, "N(mean, std^2)", "torch.nn.init.normal_", {}),
        Method(
            "trunc_normal",
            {"mean": 0.0, "std": 1.0, "a": None, "b": None, "lower": None, "upper": None},
            _trunc_normal,
            "N(mean, std^2) on [a, b], by default [-2, 2]; or on mean + [lower, upper] std",
            "torch.nn.init.trunc_normal_ (a, b); jax.nn.initializers.truncated_normal (lower, upper)",
            {},
        ),
        Method(
            "log_uniform",
            {"a": REQUIRED, "b": REQUIRED, "floor": 0.0},
            lambda shape, a, b, floor: distributions.log_uniform(a, b, floor),
            "exp(U[ln a, ln b)), at least floor",
            MAMBA,
            {},
        ),
        Method(
            "log_of_uniform",
            {"a": REQUIRED, "b": REQUIRED},
            lambda shape, a, b: distributions.log_of_uniform(a, b),
            "ln(U[a, b])",
            "Dao and Gu 2024, Transformers are SSMs (A_log of Mamba-2)",
            {},
        ),
        Method(
            "inverse_softplus",
            {"a": REQUIRED, "b": REQUIRED, "floor": 0.0},
            lambda shape, a, b, floor: distributions.inverse_softplus(a, b, floor),
            "ln(e^t - 1) with t = exp(U[ln a, ln b)), at least floor",
            MAMBA + " (dt_bias)",
            {},
        ),
        Method(
            "ring_decay",
            {"a": 0.9, "b": 0.999},
            lambda shape, a, b: distributions.ring_decay(a, b),
            "ln(1 / r - 1) with r^2 = U[a^2, b^2]",
            "De et al. 2024, Griffin (RG-LRU); Orvieto et al. 2023, Resurrecting recurrent neural networks (the ring)",
            {},
        ),
        Method(
            "identity_plus_noise",
            {"gain": 1.0, "std": 0.01},
            _identity_plus_noise,
            "gain on the diagonal, else 0, plus N(0, std^2); 2-d",
            "Le, Jaitly and Hinton 2015, A simple way to initialize recurrent networks of rectified linear units",
            {},
        ),
        Method(
            "arange",
            {"start": 0, "step": 1},
            lambda shape, start, step: _along_rows(shape, Arange(start, step)),
            "start + step i along the last axis",
            "torch.arange",
            {},
        ),
        Method(
            "linspace",
            {"a": REQUIRED, "b": REQUIRED},
            lambda shape, a, b: _along_rows(shape, Linspace(a, b)),
            "equal steps from a to b along the last axis",
            "torch.linspace",
            {},
        ),
        Method(
            "log_arange",
            {"start": 1.0},
            _log_arange,
            "ln(start + i) along the last axis",
            MAMBA + " (A_log: S4D-real)",
            {},
        ),
        Method(
            "rotary",
            {"base": 10000.0},
            lambda shape, base: _along_rows(shape, Rotary(_base(base))),
            "base^(-i / n) along the last axis, of n elements",
            "Su et al. 2021, RoFormer (inverse frequencies)",
            {},
        ),
        Method(
            "sinusoidal",
            {"base": 10000.0, "order": "interleaved"},
            _sinusoidal,
            "sin and cos of p base^(-2 i / d) of row p, in columns 2 i and 2 i + 1 (interleaved) or i and i + d / 2 "
            "(halves); 2-d",
            "Vaswani et al. 2017, Attention is all you need",
            {"order": ORDERS},
        ),
        Method("constant", {"val": REQUIRED}, _constant, "val", "torch.nn.init.constant_", {}),
        Method("ones", {}, lambda shape: Constant(1), "1", "torch.nn.init.ones_", {}),
        Method("zeros", {}, lambda shape: Constant(0), "0", "torch.nn.init.zeros_", {}),
        Method(
            "xavier_uniform",
            {"gain": 1.0, **LAYOUT},
            lambda shape, **p: _symmetric(_xavier(shape, **p)),
            "U[-x, x), x = gain sqrt(6 / (fan_in + fan_out))",
            GLOROT,
            {},
        ),
        Method(
            "xavier_normal",
            {"gain": 1.0, **LAYOUT},
            lambda shape, **p: distributions.normal(0.0, _xavier(shape, **p)),
            "N(0, s^2), s = gain sqrt(2 / (fan_in + fan_out))",
            GLOROT,
            {},
        ),
        Method(
            "kaiming_uniform",
            {**KAIMING, **LAYOUT},
            lambda shape, **p: _symmetric(_kaiming(shape, **p)),
            "U[-x, x), x = gain(nonlinearity, a) sqrt(3 / fan_mode)",
            HE,
            KAIMING_CHOICES,
        ),
        Method(
            "kaiming_normal",
            {**KAIMING, **LAYOUT},
            lambda shape, **p: distributions.normal(0.0, _kaiming(shape, **p)),
            "N(0, s^2), s = gain(nonlinearity, a) / sqrt(fan_mode)",
            HE,
            KAIMING_CHOICES,
        ),
        Method(
            "lecun_uniform",
            LAYOUT,
            lambda shape, **p: _variance_scaling(shape, 1.0, "fan_in", "uniform", **p),
            "U[-x, x), x = sqrt(3 / fan_in)",
            LECUN,
            {},
        ),
        Method(
            "lecun_normal",
            LAYOUT,
            lambda shape, **p: _variance_scaling(shape, 1.0, "fan_in", "truncated_normal", **p),
            "N(0, s^2) on [-2 s, 2 s] with standard deviation sqrt(1 / fan_in)",
            LECUN + "; jax.nn.initializers.lecun_normal",
            {},
        ),
        Method(
            "variance_scaling",
            {"scale": 1.0, "mode": "fan_in", "distribution": "truncated_normal", **LAYOUT},
            _variance_scaling,
            "a distribution around 0 with variance scale / fan_mode",
            "jax.nn.initializers.variance_scaling",
            {"mode": SCALING_MODES, "distribution": SCALING_DISTRIBUTIONS},
        ),
        Method("eye", {}, _eye, "1 on the diagonal, else 0; 2-d", "torch.nn.init.eye_", {}),
        Method(
            "dirac",
            {"groups": 1},
            _dirac,
            "1 at the kernel's centre where in channel = out channel of the group, else 0; 3- to 5-d",
            "torch.nn.init.dirac_",
            {},
        ),
        Method(
            "sparse",
            {"sparsity": REQUIRED, "std": 0.01},
            _sparse,
            "exactly ceil(sparsity rows) zeros in every column, the rest N(0, std^2); 2-d",
            "Martens 2010, Deep learning via Hessian-free optimization; torch.nn.init.sparse_",
            {},
        ),
        Method(
            "orthogonal",
            {"gain": 1.0, **MATRIX},
            _orthogonal,
            "gain Q, Q Haar-distributed with orthonormal rows or columns; all axes but out_axis flattened",
            "Saxe et al. 2013, Exact solutions to the nonlinear dynamics of learning; torch.nn.init.orthogonal_",
            {},
        ),
        Method(
            "delta_orthogonal",
            {"gain": 1.0, **MATRIX},
            _delta_orthogonal,
            "gain Q (out x in) at the kernel's centre, else 0; 3- to 5-d, in <= out",
            "Xiao et al. 2018, Dynamical isometry and a mean field theory of CNNs; "
            "jax.nn.initializers.delta_orthogonal",
            {},
        ),
    )
}

ALIASES = {
    "glorot_uniform": "xavier_uniform",
    "glorot_normal": "xavier_normal",
    "he_uniform": "kaiming_uniform",
    "he_normal": "kaiming_normal",
}


def find(name: str) -> Method:
    """The method of a name or an alias; raises InputError for another name."""
    method = METHODS.get(ALIASES.get(name, name))
    if method is None:
        hint = similar(str(name), [*METHODS, *ALIASES]) or ";"
        raise InputError(f"expected a method, got {name!r}{hint} `bigin methods` lists them")
    return method


def resolve(method: Method, shape: Shape, parameters: Mapping[str, Any]) -> Distribution:
    """The distribution of a method with parsed parameters, for a tensor of this global shape.

    A tensor without elements resolves to a constant where the method has fans, as fans of 0 would divide by 0.
    """
    key = _text(parameters) if len(shape) <= 2 else None  # of more axes, orthogonal may warn
    if key is None:
        return _resolve(method, shape, parameters)
    known = _RESOLVED.get((method.name, shape, key))
    return known or _remember(_RESOLVED, (method.name, shape, key), _resolve(method, shape, parameters))


def _resolve(method: Method, shape: Shape, parameters: Mapping[str, Any]) -> Distribution:
    if 0 in shape and "batch_axis" in parameters:
        return Constant(0)
    numbers = {
        key: NOT_FINITE.get(value, value) if isinstance(value, str) else value for key, value in parameters.items()
    }
    return method.resolve(shape, **numbers)


# A model may have 100,000 tensors, and they share a few methods with a few parameters.
_PARSED: dict[Any, dict[str, Any]] = {}
_RESOLVED: dict[Any, Distribution] = {}
_PLAIN = {int, float, str, bool, type(None)}
_MOST = 1024  # the largest number of them that is kept


def _text(given: Mapping[str, Any]) -> str | None:
    """A text that tells parameters apart, by types and signs of zeros, too; None where a text may not."""
    for value in given.values():
        if type(value) not in _PLAIN and not (
            type(value) in (list, tuple) and all(type(axis) is int for axis in value)
        ):
            return None
    return repr(given)


def _remember(kept: dict[Any, Any], key: Any, value: Any) -> Any:
    """Keeps what was computed; returns it."""
    if len(kept) >= _MOST:
        kept.clear()
    kept[key] = value
    return value
