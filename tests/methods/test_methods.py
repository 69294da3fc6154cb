"""Names, defaults, formulas and errors of the methods: against torch.nn.init where it is installed, and by hand."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest

import bigin
import bigin.core.dtypes
import bigin.methods.gain
from bigin.methods import table
from bigin.methods.distributions import Constant, Normal, TruncNormal, Uniform
from bigin.methods.fans import fans

SHAPES = [(30, 20), (7, 3, 5), (64, 16, 3, 3), (2, 1, 1, 1, 9), (1, 1)]
NONLINEARITIES = [*bigin.methods.gain.NONLINEARITIES]


def resolve(method: str, shape: tuple[int, ...], **parameters: object) -> object:
    row = table.find(method)
    return table.resolve(row, shape, row.parse(parameters))


@pytest.fixture(name="torch")
def _torch():
    return pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")


def drawn_by(torch, monkeypatch, method, shape, **parameters):
    """What torch.nn.init asks of the tensor: the method's numbers, exactly."""
    seen = []

    def record(kind):
        def draw(self, first, second, generator=None):
            seen.append((kind, first, second))
            return self

        return draw

    monkeypatch.setattr(torch.Tensor, "uniform_", record(Uniform))
    monkeypatch.setattr(torch.Tensor, "normal_", record(Normal))
    getattr(torch.nn.init, f"{method}_")(torch.empty(shape), **parameters)
    kind, first, second = seen[0]
    return kind(first, second)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("gain", [1.0, 0.3, math.sqrt(2)])
@pytest.mark.parametrize("method", ["xavier_uniform", "xavier_normal"])
def test_xavier_is_torchs(torch, monkeypatch, method, shape, gain):
    assert resolve(method, shape, gain=gain) == drawn_by(torch, monkeypatch, method, shape, gain=gain)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("mode", ["fan_in", "fan_out"])
@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("method", ["kaiming_uniform", "kaiming_normal"])
def test_kaiming_is_torchs(torch, monkeypatch, method, shape, mode, nonlinearity):
    parameters = {"a": 0.37, "mode": mode, "nonlinearity": nonlinearity}
    assert resolve(method, shape, **parameters) == drawn_by(torch, monkeypatch, method, shape, **parameters)


@pytest.mark.parametrize("nonlinearity", NONLINEARITIES)
@pytest.mark.parametrize("param", [None, 0, 0.2, 3])
def test_calculate_gain_is_torchs(torch, nonlinearity, param):
    assert bigin.calculate_gain(nonlinearity, param) == torch.nn.init.calculate_gain(nonlinearity, param)


def test_names_and_defaults_are_torchs(torch):
    for name, function in inspect.getmembers(bigin.init, inspect.isfunction):
        theirs = getattr(torch.nn.init, name, None)
        if theirs is None or not name.endswith("_"):
            continue
        ours = list(inspect.signature(function).parameters.values())[1:-1]
        expected = [p for p in list(inspect.signature(theirs).parameters.values())[1:] if p.name != "generator"]
        assert [(p.name, p.default) for p in ours] == [(p.name, p.default) for p in expected], name


def test_every_init_of_torch_is_here(torch):
    theirs = {name for name in torch.nn.init.__all__ if name.endswith("_")}
    assert theirs <= set(dir(bigin.init))


def test_the_table_and_init_have_the_same_defaults():
    for name, method in table.METHODS.items():
        signature = inspect.signature(getattr(bigin.init, f"{name}_"))
        for parameter in list(signature.parameters.values())[1:-1]:
            if parameter.default is not inspect.Parameter.empty and method.defaults[parameter.name] is not None:
                assert parameter.default == method.defaults[parameter.name], (name, parameter.name)


def test_numbers_by_hand():
    assert resolve("uniform", (3,), a=-1, b=2) == Uniform(-1.0, 2.0)
    assert resolve("uniform", (3,), a=2, b=2) == Constant(2.0)
    assert resolve("normal", (3,), std=0) == Constant(0.0)
    assert resolve("trunc_normal", (3,)) == TruncNormal(0.0, 1.0, -2.0, 2.0)
    assert resolve("trunc_normal", (3,), std=0.02) == TruncNormal(0.0, 0.02, -2.0, 2.0)
    assert resolve("trunc_normal", (3,), mean=1, std=0.5, lower=-2, upper=3) == TruncNormal(1.0, 0.5, 0.0, 2.5)
    assert resolve("xavier_uniform", (3, 3)).high == pytest.approx(1.0)
    assert resolve("kaiming_normal", (5, 8)) == Normal(0.0, 0.5)
    assert resolve("kaiming_normal", (8, 5), mode="fan_out") == Normal(0.0, 0.5)
    assert resolve("lecun_uniform", (9, 3)) == Uniform(-1.0, 1.0)
    assert resolve("constant", (3,), val=7) == Constant(7)


@pytest.mark.parametrize(
    ("mode", "denominator"), [("fan_in", 8), ("fan_out", 18), ("fan_avg", 13), ("fan_geo_avg", 12)]
)
def test_variance_scaling_is_jaxs(mode, denominator):
    scale = 2.5
    variance = scale / denominator
    common = {"scale": scale, "mode": mode}
    assert resolve("variance_scaling", (18, 8), distribution="normal", **common) == Normal(0.0, math.sqrt(variance))
    bound = math.sqrt(3 * variance)
    assert resolve("variance_scaling", (18, 8), distribution="uniform", **common) == Uniform(-bound, bound)
    std = math.sqrt(variance) / 0.87962566103423978
    truncated = resolve("variance_scaling", (18, 8), distribution="truncated_normal", **common)
    assert truncated == TruncNormal(0.0, std, -2 * std, 2 * std)


@pytest.mark.parametrize("method", ["lecun_normal", "variance_scaling"])
def test_the_truncated_methods_have_the_variance_they_promise(method):
    values = np.empty((1000, 1000), np.float32)
    bigin.fill(values, method, seed=3)
    assert values.std() == pytest.approx(1 / math.sqrt(1000), rel=2e-3)


@pytest.mark.parametrize(
    ("shape", "layout", "expected"),
    [
        ((4, 3), {}, (3, 4)),
        ((4, 3, 5, 7), {}, (105, 140)),
        ((5, 7, 3, 4), {"in_axis": -2, "out_axis": -1}, (105, 140)),
        ((9, 3, 4), {"in_axis": 1, "out_axis": 2, "batch_axis": 0}, (3, 4)),
        ((2, 3, 4), {"in_axis": [0, 1], "out_axis": 2}, (6, 4)),
    ],
)
def test_fans_follow_the_layout(shape, layout, expected):
    assert fans(shape, **layout) == expected


@pytest.mark.parametrize(("alias", "name"), table.ALIASES.items())
def test_an_alias_gives_the_same_bits_and_records_the_method(alias, name):
    ours, theirs = np.empty((9, 5), np.float32), np.empty((9, 5), np.float32)
    assert bigin.fill(ours, alias).record["method"] == name
    bigin.fill(theirs, name)
    assert (ours == theirs).all()
    assert (getattr(bigin.init, f"{alias}_")(np.empty((9, 5), np.float32)) == theirs).all()


@pytest.mark.parametrize(
    ("gain", "number"), [("relu", math.sqrt(2)), ("leaky_relu:0.2", math.sqrt(2 / 1.04)), ("tanh", 5 / 3), ("1.5", 1.5)]
)
def test_a_gain_may_name_a_nonlinearity(gain, number):
    assert resolve("xavier_normal", (5, 5), gain=gain) == resolve("xavier_normal", (5, 5), gain=number)


def test_init_fills_in_place_and_returns_the_array():
    values = np.zeros((8, 4), np.float32)
    assert bigin.init.kaiming_normal_(values, mode="fan_out", nonlinearity="relu", seed=1) is values
    other = np.zeros((8, 4), np.float32)
    bigin.fill(other, "kaiming_normal", mode="fan_out", nonlinearity="relu", seed=1)
    assert (values == other).all()
    assert values.all()


def test_an_empty_tensor_is_filled_with_nothing():
    for method in ("kaiming_uniform", "xavier_normal", "lecun_normal", "normal", "zeros"):
        bigin.fill(np.empty((0, 4), np.float32), method)


BAD = [
    ("xavier_unifrom", {}, (3, 3), "did you mean xavier_uniform"),
    ("normal", {"std": -1}, (3,), "expected std >= 0"),
    ("normal", {"std": math.nan}, (3,), "expected a finite std"),
    ("normal", {"mean": math.inf}, (3,), "expected a finite mean"),
    ("normal", {"std": "much"}, (3,), "expected std to be a number"),
    ("normal", {"gain": 1}, (3,), "normal does not take 'gain'; it takes mean, std"),
    ("zeros", {"val": 1}, (3,), "zeros does not take 'val'; it takes no parameters"),
    ("uniform", {"a": 1, "b": 0}, (3,), "expected a <= b"),
    ("trunc_normal", {"a": 2, "b": 2}, (3,), "expected a < b"),
    ("trunc_normal", {"std": 0}, (3,), "expected std > 0"),
    ("trunc_normal", {"a": 0, "lower": 0}, (3,), "got both"),
    ("trunc_normal", {"a": 40, "b": 50}, (3,), "within 37 standard deviations"),
    ("constant", {}, (3,), "constant needs val"),
    ("constant", {"val": math.nan}, (3,), "expected a finite val"),
    ("xavier_uniform", {}, (3,), "fan in and fan out can not be computed"),
    ("kaiming_normal", {}, (), "fan in and fan out can not be computed"),
    ("xavier_uniform", {"gain": -1}, (3, 3), "not negative"),
    ("xavier_uniform", {"gain": "rleu"}, (3, 3), "a number or a nonlinearity"),
    ("xavier_uniform", {"in_axis": 2}, (3, 3), "expected in_axis from -2 to 1"),
    ("xavier_uniform", {"in_axis": 0}, (3, 3), "different axes"),
    ("xavier_uniform", {"in_axis": 0.5}, (3, 3), "to be an axis"),
    ("kaiming_uniform", {"mode": "fan_avg"}, (3, 3), "expected mode among fan_in, fan_out"),
    ("kaiming_uniform", {"nonlinearity": "gelu"}, (3, 3), "expected nonlinearity among linear"),
    ("variance_scaling", {"scale": -1}, (3, 3), "expected scale >= 0"),
    ("variance_scaling", {"mode": "fan"}, (3, 3), "expected mode among fan_in, fan_out, fan_avg"),
    ("variance_scaling", {"distribution": "cauchy"}, (3, 3), "expected distribution among"),
    ("variance_scaling", {"mode": 3}, (3, 3), "expected mode to be a word"),
]


@pytest.mark.parametrize(("method", "parameters", "shape", "message"), BAD, ids=lambda value: str(value)[:30])
def test_bad_input_is_refused_in_one_line_and_changes_nothing(method, parameters, shape, message):
    values = np.full(shape, 0.25, np.float32)
    with pytest.raises(bigin.InputError, match=message) as caught:
        bigin.fill(values, method, **parameters)
    assert "\n" not in str(caught.value)
    assert (values == 0.25).all()


@pytest.mark.parametrize(
    ("dtype", "method", "parameters", "message"),
    [
        ("float16", "normal", {"std": 10000}, "float16's range"),
        ("float8_e4m3fn", "constant", {"val": 449}, "float8_e4m3fn's range"),
        ("float32", "uniform", {"a": -3e38, "b": 3e38}, "float32's range"),
        ("float32", "constant", {"val": 1e39}, "float32's range"),
        ("bfloat16", "uniform", {"a": 1.0001, "b": 1.0002}, "holds none"),
        ("bfloat16", "trunc_normal", {"mean": 1, "a": 1.0001, "b": 1.0002}, "holds none"),
        ("int32", "normal", {}, "expected a float dtype for random values"),
        ("int8", "constant", {"val": 128}, "from -128 to 127"),
        ("int8", "constant", {"val": 0.5}, "expected an integer"),
        ("complex64", "zeros", {}, "expected a dtype among"),
        ("bool", "zeros", {}, "expected a dtype among"),
        ("U3", "zeros", {}, "expected a dtype among"),
        ("O", "zeros", {}, "expected a dtype among"),
    ],
)
def test_what_a_dtype_cannot_hold_is_refused(dtype, method, parameters, message):
    values = np.zeros((4, 4), bigin.core.dtypes.DTYPES.get(dtype, dtype))
    with pytest.raises(bigin.InputError, match=message):
        bigin.fill(values, method, **parameters)


def test_the_largest_integers_arrive_whole():
    for dtype, value in (("uint64", 2**64 - 1), ("int64", -(2**63)), ("int64", 2**53 + 1)):
        values = np.zeros(3, dtype)
        bigin.fill(values, "constant", val=value)
        assert values.tolist() == [value] * 3


@pytest.mark.parametrize("seed", [-1, 2**64, 0.5, "7", None, True])
def test_a_seed_is_an_unsigned_64_bit_integer(seed):
    with pytest.raises(bigin.InputError, match="expected a seed"):
        bigin.fill(np.zeros(3, np.float32), "normal", seed=seed)


@pytest.mark.parametrize("name", ["a\0b", 3, "\ud800"])
def test_a_name_is_text_without_nul(name):
    with pytest.raises(bigin.InputError, match="expected a name"):
        bigin.fill(np.zeros(3, np.float32), "normal", name=name)


def test_names_and_seeds_give_other_values():
    draws = [
        bigin.init.normal_(np.zeros(100, np.float32), **options)
        for options in ({}, {"seed": 1}, {"seed": 1 << 32}, {"name": "a"}, {"name": "b"}, {"name": "a", "seed": 1})
    ]
    for i, first in enumerate(draws):
        for second in draws[:i]:
            assert (first != second).all()
