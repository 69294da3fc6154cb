"""Names, defaults, formulas and errors of the methods: against torch.nn.init where it is installed, and by hand."""

from __future__ import annotations

import inspect
import json
import math

import numpy as np
import pytest
import reference
from common import few

import bigin
import bigin.core.dtypes
import bigin.methods.gain
from bigin.core.text import parse_shape
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
    bounds = {"a": -2.0, "b": 2.0}  # trunc_normal's None stands for them, so that lower and upper can be given instead
    for name, function in inspect.getmembers(bigin.init, inspect.isfunction):
        theirs = getattr(torch.nn.init, name, None)
        if theirs is None or not name.endswith("_"):
            continue
        ours, expected = (
            [
                (p.name, bounds.get(p.name) if p.default is None else p.default)
                for p in list(inspect.signature(f).parameters.values())[1:]
                if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "generator"
            ]
            for f in (function, theirs)
        )
        assert ours == expected, name


def test_every_init_of_torch_is_here(torch):
    theirs = {name for name in torch.nn.init.__all__ if name.endswith("_")}
    assert theirs <= set(dir(bigin.init))


def test_the_table_and_init_have_the_same_defaults():
    for name, method in table.METHODS.items():
        signature = inspect.signature(getattr(bigin.init, f"{name}_"))
        for parameter in list(signature.parameters.values())[1:]:
            if parameter.default is not inspect.Parameter.empty and method.defaults.get(parameter.name) is not None:
                ours = table.parse_parameter(parameter.name, parameter.default)
                assert ours == method.defaults[parameter.name], (name, parameter.name)


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
def test_the_truncated_methods_have_the_variance_that_they_should(method):
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


@pytest.mark.parametrize(
    "shape", [(3, 2**60 + 129), (2**60 + 385, 3), (2**31 + 11, 2**31 - 77), (2**54 + 3, 5, 7)], ids=str
)
@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("xavier_uniform", {}),
        ("xavier_normal", {}),
        ("kaiming_uniform", {"mode": "fan_out"}),
        ("kaiming_normal", {}),
        *(("variance_scaling", {"mode": mode, "distribution": "normal"}) for mode in table.SCALING_MODES),
        ("variance_scaling", {"mode": "fan_avg", "distribution": "uniform"}),
    ],
    ids=str,
)
def test_fans_above_two_to_the_53_are_rounded_as_the_page_says(shape, method, parameters):
    kind, *numbers = reference.resolve(method, parameters, shape)
    assert resolve(method, shape, **parameters) == {"uniform": Uniform, "normal": Normal}[kind](*numbers)


@pytest.mark.parametrize(("alias", "name"), table.ALIASES.items())
def test_an_alias_gives_the_same_bits_and_records_the_method(alias, name):
    ours, theirs = np.empty((9, 5), np.float32), np.empty((9, 5), np.float32)
    assert bigin.fill(ours, alias).record["method"] == name
    bigin.fill(theirs, name)
    assert (ours == theirs).all()
    assert (getattr(bigin.init, f"{alias}_")(np.empty((9, 5), np.float32), seed=0) == theirs).all()


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
    ("constant", {"val": "much"}, (3,), "expected val to be a number"),
    ("uniform", {"a": -math.inf}, (3,), "expected a finite a"),
    ("trunc_normal", {"a": math.nan}, (3,), "expected a finite a"),
    ("trunc_normal", {"a": math.inf, "b": math.inf}, (3,), "expected a < b"),
    ("kaiming_normal", {"a": math.inf}, (3, 3), "expected negative_slope to be a finite number"),
    ("normal", {"sdt": 1}, (3,), r"normal does not take 'sdt'; it takes mean, std; did you mean std\?"),
    ("kaiming_uniform", {"mode": "fan_inn"}, (3, 3), r"got 'fan_inn'; did you mean fan_in\?"),
    ("orthogonal", {"out_axis": 2}, (3, 3), "expected out_axis from -2 to 1"),
    ("orthogonal", {"out_axis": 1}, (3, 3), "expected in_axis and out_axis to name different axes"),
    ("orthogonal", {"out_axis": []}, (3, 3), "expected an output axis"),
    ("delta_orthogonal", {"out_axis": [2, 3], "in_axis": 1}, (3, 3, 8, 8), "expected one input and one output axis"),
    ("delta_orthogonal", {"out_axis": -1, "in_axis": -2}, (3, 3, 16, 8), "got 16 .axis 2. and 8 .axis 3."),
    ("delta_orthogonal", {}, (3, 5, 1), "expected no more input than output channels"),
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
        ("int8", "constant", {"val": math.nan}, "expected an integer from -128 to 127 for int8, got nan"),
        ("bool", "constant", {"val": 2}, "expected an integer from 0 to 1 for bool"),
        ("bool", "normal", {}, "expected a float dtype for random values"),
        ("complex64", "normal", {}, "expected a float dtype for random values"),
        ("complex64", "constant", {"val": 1e39}, "float32's range"),
        ("float8_e4m3fn", "constant", {"val": math.inf}, "float8_e4m3fn has no infinity"),
        ("float16", "trunc_normal", {"std": 1e4, "a": -math.inf}, "float16's range"),
        ("U3", "zeros", {}, "expected a dtype among"),
        ("O", "zeros", {}, "expected a dtype among"),
    ],
)
def test_what_a_dtype_cannot_hold_is_refused(dtype, method, parameters, message):
    values = np.zeros((4, 4), bigin.core.dtypes.DTYPES.get(dtype, dtype))
    with pytest.raises(bigin.InputError, match=message):
        bigin.fill(values, method, **parameters)


@pytest.mark.parametrize("dtype", ["bool", "complex64", "complex128"])
def test_bool_and_complex_take_what_is_not_random(dtype):
    for method, parameters, expected in (
        ("ones", {}, np.ones((3, 3))),
        ("zeros", {}, np.zeros((3, 3))),
        ("eye", {}, np.eye(3)),
        ("constant", {"val": True}, np.ones((3, 3))),
        ("constant", {"val": 1}, np.ones((3, 3))),
    ):
        values = np.full((3, 3), 7, dtype)
        bigin.fill(values, method, **parameters)
        assert values.dtype == dtype
        assert (values == expected.astype(dtype)).all()
        assert not bigin.verify(values, method, **parameters).differences
        assert bigin.show(values, method, **parameters).looks_right in (True, None)


@pytest.mark.parametrize("dtype", bigin.core.dtypes.FLOATS)
@pytest.mark.parametrize("val", [math.inf, -math.inf, math.nan])
def test_a_constant_need_not_be_finite(dtype, val):
    values = np.zeros(3, bigin.core.dtypes.FLOATS[dtype])
    if math.isinf(val) and dtype == "float8_e4m3fn":
        return  # it has none: refused, see above
    report = bigin.fill(values, "constant", val=val)
    expected = np.asarray(val, np.float32).astype(values.dtype)
    assert values.tobytes() == expected.tobytes() * 3
    assert json.loads(json.dumps(report.record["parameters"], allow_nan=False)) == {"val": str(val)}
    assert not bigin.verify(values, "constant", val=val).differences
    assert not bigin.verify(values, "constant", val=str(val)).differences
    shown = bigin.show(values, "constant", val=val)
    assert shown.looks_right
    values[1] = 0
    assert not bigin.show(values, "constant", val=val).looks_right


def test_equal_parameters_are_equal_also_where_they_are_nan():
    row = table.find("constant")
    first, second = (row.parse({"val": value}) for value in (float("nan"), np.float32("nan")))
    assert first == second
    assert table.resolve(row, (3,), first) == table.resolve(row, (3,), second)


@pytest.mark.parametrize("dtype", few("float32", "float64", "bfloat16"))
@pytest.mark.parametrize(
    ("parameters", "law"),
    [
        ({"a": -math.inf, "b": 0.5}, (-math.inf, 0.5)),
        ({"a": 1, "b": math.inf}, (1, math.inf)),
        ({"a": -math.inf, "b": math.inf}, (-math.inf, math.inf)),
        ({"lower": 3, "upper": math.inf}, (3, math.inf)),
        ({"a": -math.inf, "b": -4}, (-math.inf, -4)),
    ],
    ids=str,
)
def test_one_sided_truncated_normals(dtype, parameters, law):
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed, so nothing to compare with")
    values = np.zeros(40_000, bigin.core.dtypes.FLOATS[dtype])
    bigin.fill(values, "trunc_normal", **parameters)
    wide = values.astype(np.float64)
    assert wide.min() >= law[0]
    assert wide.max() <= law[1]
    if dtype != "bfloat16":
        assert stats.kstest(wide, stats.truncnorm(*law).cdf).pvalue > 1e-6
    assert bigin.show(values, "trunc_normal", **parameters).looks_right


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("variance_scaling", {"scale": 0, "distribution": "uniform"}),
        ("variance_scaling", {"scale": 0, "distribution": "normal"}),
        ("variance_scaling", {"scale": 0, "distribution": "truncated_normal"}),
        ("xavier_uniform", {"gain": 0}),
        ("xavier_uniform", {"gain": -0.0}),
        ("xavier_normal", {"gain": 0}),
        ("uniform", {"a": -0.0, "b": 0.0}),
        ("uniform", {"a": 0.0, "b": -0.0}),
        ("uniform", {"a": -0.0, "b": -0.0}),
        ("normal", {"mean": -0.0, "std": 0}),
        ("normal", {"std": -0.0}),
        ("sparse", {"sparsity": 0.5, "std": 0}),
    ],
    ids=str,
)
def test_a_distribution_without_width_gives_zeros_without_a_sign(method, parameters):
    values = np.full((4, 4), 7, np.float32)
    bigin.fill(values, method, **parameters)
    assert values.tobytes() == bytes(values.nbytes)


def test_init_takes_bounds_in_deviations():
    values = bigin.init.trunc_normal_(np.zeros(999, np.float32), std=0.5, lower=-1, upper=3)
    assert -0.5 <= values.min() < -0.4
    assert 1.0 < values.max() <= 1.5
    values = bigin.init.trunc_normal_(np.zeros(999, np.float32), std=0.5, upper=1)
    assert -2.0 <= values.min() < -1.0
    assert 0.4 < values.max() <= 0.5


@pytest.mark.parametrize(
    ("alias", "name"),
    [("bf16", "bfloat16"), ("fp16", "float16"), ("half", "float16"), ("float", "float32"), ("double", "float64")],
)
def test_a_dtype_has_torchs_short_names(alias, name):
    assert bigin.core.dtypes.parse_dtype(alias).name == name


def test_a_shape_may_be_an_array():
    assert parse_shape(np.array([3, 4])) == (3, 4)
    assert parse_shape(np.array(5)) == (5,)
    assert bigin.virtual(np.array([3, 4]), "normal").shape == (3, 4)
    with pytest.raises(bigin.InputError, match="expected a shape of integers"):
        parse_shape(np.array([3.0, 4.0]))


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
    bigin.manual_seed(0)  # a call with a name but no seed takes this one
    draws = [
        bigin.init.normal_(np.zeros(100, np.float32), **options)
        for options in ({}, {"seed": 1}, {"seed": 1 << 32}, {"name": "a"}, {"name": "b"}, {"name": "a", "seed": 1})
    ]
    for i, first in enumerate(draws):
        for second in draws[:i]:
            assert (first != second).all()
