"""The signal: layers against torch's, and variances against what Glorot's and He's derivations promise."""

from __future__ import annotations

import numpy as np
import pytest

import bigin
from bigin.inspect.propagation import Layer, backward, chained, forward, parse_nonlinearity, propagate, trend
from bigin.spec.tensor import TensorSpec

F32 = np.dtype(np.float32)


def layer(name: str, shape: tuple[int, ...], method: str, order: str = "linear", **parameters: object) -> Layer:
    return Layer(name, shape, F32, TensorSpec.parse(method, parameters, 0, name, shape, F32).plan()(), order)


def stack(method: str, depth: int = 8, width: int = 512, **parameters: object) -> list[Layer]:
    return [layer(f"layers.{i}", (width, width), method, **parameters) for i in range(depth)]


def weight_of(made: Layer) -> np.ndarray:
    weight = np.empty(made.shape, np.float32)
    made.filler(tuple((0, size) for size in made.shape), weight)
    return weight


@pytest.mark.parametrize(
    ("shape", "order", "channels", "grid"),
    [
        ((7, 5), "linear", 5, ()),
        ((5, 7), "transposed", 5, ()),
        ((6, 4, 3), "linear", 4, (9,)),
        ((6, 4, 3, 5), "linear", 4, (8, 8)),
        ((6, 4, 2, 2), "linear", 4, (8, 8)),  # an even kernel
        ((6, 2, 3, 3), "linear", 4, (8, 8)),  # two groups
        ((8, 1, 3, 3), "linear", 8, (8, 8)),  # depthwise
        ((8, 1, 3, 3), "linear", 4, (8, 8)),  # depthwise, two outputs for each
        ((4, 6, 3, 3), "conv_transpose", 4, (8, 8)),
        ((3, 3, 4, 6), "transposed", 4, (8, 8)),
        ((5, 3, 3, 3, 3), "linear", 3, (4, 4, 4)),
    ],
    ids=str,
)
@pytest.mark.parametrize("tile", [1 << 24, 20])
def test_a_layer_is_torchs_with_periodic_inputs(shape, order, channels, grid, tile, monkeypatch):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    monkeypatch.setattr("bigin.inspect.propagation.TILE", tile)
    made = layer("w", shape, "normal", order)
    out_axis, in_axis, _ = made.axes
    weight = torch.from_numpy(np.moveaxis(weight_of(made), (out_axis, in_axis), (0, 1)).copy())
    random = np.random.default_rng(1)
    x = random.standard_normal((channels, 3, *grid), np.float32)
    gradient = random.standard_normal((made.outputs, 3, *grid), np.float32)
    inputs = torch.from_numpy(x.swapaxes(0, 1).copy()).requires_grad_()
    if grid:
        padding = [side for size in reversed(made.kernel) for side in (size // 2, size - 1 - size // 2)]
        padded = torch.nn.functional.pad(inputs, padding, mode="circular")
        convolution = getattr(torch.nn.functional, f"conv{len(grid)}d")
        outputs = convolution(padded, weight, groups=channels // made.inputs)
    else:
        outputs = torch.nn.functional.linear(inputs, weight)
    outputs.backward(torch.from_numpy(gradient.swapaxes(0, 1).copy()))
    np.testing.assert_allclose(forward(made, x), outputs.detach().numpy().swapaxes(0, 1), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        backward(made, gradient, channels), inputs.grad.numpy().swapaxes(0, 1), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", ["linear", "relu", "leaky_relu:0.3", "tanh", "sigmoid", "selu", "gelu", "silu"])
def test_a_nonlinearity_is_torchs_and_so_is_its_slope(name):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    function, slope = parse_nonlinearity(name)
    word, _, parameter = name.partition(":")
    theirs = {
        "linear": lambda y: y,
        "leaky_relu": lambda y: torch.nn.functional.leaky_relu(y, float(parameter or 0.01)),
        "gelu": lambda y: torch.nn.functional.gelu(y, approximate="tanh"),
    }.get(word) or getattr(torch.nn.functional, word)
    y = torch.linspace(-4, 4, 100, dtype=torch.float64, requires_grad=True)
    theirs(y).sum().backward()
    values = y.detach().numpy()
    np.testing.assert_allclose(function(values), theirs(y).detach().numpy(), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(slope(values), y.grad.numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("method", "parameters", "nonlinearity"),
    [
        ("kaiming_normal", {}, "relu"),  # He et al. 2015, eq. 10
        ("kaiming_uniform", {"mode": "fan_out"}, "relu"),  # eq. 14
        ("kaiming_normal", {"a": 0.2}, "leaky_relu:0.2"),  # eq. 15
        ("xavier_uniform", {}, "linear"),  # Glorot and Bengio 2010, eq. 16
        ("lecun_normal", {}, "selu"),  # Klambauer et al. 2017
        ("orthogonal", {}, "linear"),  # Saxe et al. 2014
    ],
)
def test_what_is_derived_to_be_steady_is(method, parameters, nonlinearity):
    found = propagate(stack(method, **parameters), nonlinearity=nonlinearity, batch=128)
    activations = [measured.activation for measured in found.layers]
    gradients = [measured.gradient for measured in found.layers]
    assert all(0.5 < value < 2 for value in (*activations, *gradients))
    assert trend(activations) == trend(gradients[::-1]) == "steady"


def test_orthogonal_layers_keep_every_length():
    found = propagate(stack("orthogonal"), nonlinearity="linear")
    assert np.ptp([measured.activation for measured in found.layers]) < 1e-5


@pytest.mark.parametrize(("std", "word"), [(0.02, "vanishing"), (0.15, "exploding")])
def test_a_wrong_gain_vanishes_or_explodes_at_the_rate_that_he_derives(std, word):
    found = propagate(stack("normal", std=std), nonlinearity="relu", batch=128)
    activations = [measured.activation for measured in found.layers]
    gradients = [measured.gradient for measured in found.layers][::-1]
    assert trend(activations) == trend(gradients) == word
    rate = 512 * std**2 / 2  # of the variance, in each layer: half of the fan times the weights' variance
    assert (activations[-1] / activations[0]) ** (1 / 7) == pytest.approx(rate, rel=0.15)
    assert (gradients[-1] / gradients[0]) ** (1 / 7) == pytest.approx(rate, rel=0.15)


def test_a_convolution_feeds_a_linear_layer_and_what_does_not_fit_begins_anew():
    layers = [
        layer("conv1", (32, 3, 5, 5), "kaiming_normal"),
        layer("conv2", (64, 32, 3, 3), "kaiming_normal"),
        layer("depthwise", (64, 1, 3, 3), "kaiming_normal"),
        layer("fc", (100, 64 * 25), "kaiming_normal"),
        layer("other", (50, 77), "kaiming_normal"),
    ]
    assert [[made.name for made in chain] for chain in chained(layers)] == [
        ["conv1", "conv2", "depthwise", "fc"],
        ["other"],
    ]
    found = propagate(layers, batch=32)
    assert [measured.fresh for measured in found.layers] == [True, False, False, False, True]
    assert [len(chain) for chain in found.chains()] == [4, 1]
    assert all(0.3 < measured.activation < 3 for measured in found.layers)


def test_the_batch_is_its_seeds():
    one, same, other = (propagate(stack("kaiming_normal", 2, 64), seed=seed) for seed in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"nonlinearity": "swoosh"}, "expected a nonlinearity among"),
        ({"nonlinearity": "leaky_relu:x"}, "expected a slope"),
        ({"batch": 0}, "expected a batch of at least 1 sample, got 0"),
    ],
)
def test_bad_input_gets_one_line(options, message):
    with pytest.raises(bigin.InputError, match=message):
        propagate(stack("kaiming_normal", 1, 8), **options)
    with pytest.raises(bigin.InputError, match="expected at least one weight"):
        propagate([])
