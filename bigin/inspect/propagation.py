"""The variance of activations and gradients: a random batch is propagated through layers, forward and backward.

Glorot and Bengio (2010) and He et al. (2015) derive their scales so that both variances stay the same from layer to
layer. The weights are computed a tile at a time and never stored, so a model that does not fit in memory can be
measured before anything is written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.html import card, listing
from bigin.core.limits import Limits
from bigin.core.regions import Shape
from bigin.fillers.filler import Filler
from bigin.methods.gain import LEAKY_SLOPE

Array = np.ndarray[Any, np.dtype[Any]]

TILE = 1 << 24  # elements of a weight that are made at once
GRID = {0: 1, 1: 32, 2: 8, 3: 4}  # positions along each axis of a convolution's input, which is periodic
STEADY = 10.0  # a variance that has changed by less than this factor at the end is steady


@dataclass(frozen=True)
class Layer:
    """The weight of a linear or convolution layer: its name, shape, dtype and filler, and the order of its axes.

    order is "linear" (out, in, kernel...), "transposed" (kernel..., in, out) or "conv_transpose" (in, out, kernel...).
    """

    name: str
    shape: Shape
    dtype: np.dtype[Any]
    filler: Filler
    order: str = "linear"

    @property
    def axes(self) -> tuple[int, int, tuple[int, ...]]:
        """The axes of the outputs, the inputs and the kernel."""
        last = len(self.shape) - 1
        if self.order == "transposed":
            return last, last - 1, tuple(range(last - 1))
        out_axis, in_axis = (1, 0) if self.order == "conv_transpose" else (0, 1)
        return out_axis, in_axis, tuple(range(2, last + 1))

    @property
    def outputs(self) -> int:
        return self.shape[self.axes[0]]

    @property
    def inputs(self) -> int:
        """Of one group, where the convolution has groups."""
        return self.shape[self.axes[1]]

    @property
    def kernel(self) -> Shape:
        return tuple(self.shape[axis] for axis in self.axes[2])

    def tiles(self) -> Iterator[tuple[slice, slice, Array]]:
        """Yield (outputs, inputs, values of shape (outputs, inputs, kernel positions)), some rows at a time."""
        out_axis, in_axis, kernel = self.axes
        axis = 0 if not (self.order == "transposed" and kernel) else in_axis  # the one that is cut
        step = max(1, TILE * self.shape[axis] // max(1, math.prod(self.shape)))
        for start in range(0, self.shape[axis], step):
            region = [(0, size) for size in self.shape]
            region[axis] = (start, min(start + step, self.shape[axis]))
            tile = np.empty([b - a for a, b in region], self.dtype)
            self.filler(tuple(region), tile)
            values = np.moveaxis(tile, (out_axis, in_axis), (0, 1)).astype(np.float32)
            yield slice(*region[out_axis]), slice(*region[in_axis]), values.reshape(*values.shape[:2], -1)


@dataclass(frozen=True)
class Measured:
    """The mean square of a layer's outputs before the nonlinearity, and of the gradient with respect to them.

    fresh is true for a layer that does not take the outputs of the one before it, and gets a new batch.
    """

    name: str
    shape: Shape
    activation: float
    gradient: float
    fresh: bool


@dataclass(frozen=True)
class Signal:
    """The measured layers in order, for a batch of unit variance; `chains` tells where each batch begins."""

    nonlinearity: str
    layers: list[Measured] = field(default_factory=list)
    note: str | None = None  # why the layers are no plain stack

    def as_dict(self) -> dict[str, Any]:
        """Return a dict for JSON, with None for infinities."""
        layers = [asdict(layer) for layer in self.layers]
        for layer in layers:
            layer |= {key: None for key in ("activation", "gradient") if not math.isfinite(layer[key])}
        return {"nonlinearity": self.nonlinearity, "layers": layers, "note": self.note}

    def _repr_html_(self) -> str:
        rows = [[layer.name, f"{layer.activation:.3g}", f"{layer.gradient:.3g}"] for layer in self.layers]
        facts = {}
        if self.layers:
            facts["activations"] = ", ".join(trend([layer.activation for layer in chain]) for chain in self.chains())
            facts["gradients"] = ", ".join(trend([layer.gradient for layer in chain[::-1]]) for chain in self.chains())
        below = listing(["layer", "variance of outputs", "of gradients"], rows)
        return card(f"signal through {self.nonlinearity}, from a variance of 1", facts, below)

    def chains(self) -> list[list[Measured]]:
        """Return the layers of each batch."""
        chains: list[list[Measured]] = []
        for layer in self.layers:
            if layer.fresh:
                chains.append([])
            chains[-1].append(layer)
        return chains


def trend(variances: Sequence[float]) -> str:
    """Return what becomes of a variance of 1 on its way through layers: steady, vanishing or exploding."""
    last = variances[-1]
    if not math.isfinite(last) or last > STEADY:
        return "exploding"
    return "steady" if last >= 1 / STEADY else "vanishing"


Nonlinearity = tuple[Callable[[Array], Array], Callable[[Array], Array]]  # the function, and its derivative


def _sigmoid(y: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-y)))


def _leaky(slope: float) -> Nonlinearity:
    return lambda y: np.where(y > 0, y, slope * y), lambda y: np.where(y > 0, 1, np.float32(slope))


def _gelu_inner(y: Array) -> Array:
    return np.asarray(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3))


def _gelu_slope(y: Array) -> Array:
    t = np.tanh(_gelu_inner(y))
    inner_slope = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * y * y)
    return np.asarray(0.5 * (1 + t) + 0.5 * y * (1 - t * t) * inner_slope)


SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772  # Klambauer et al. 2017

FUNCTIONS: dict[str, Nonlinearity] = {
    "linear": (lambda y: y, np.ones_like),
    "relu": (lambda y: np.maximum(y, 0), lambda y: (y > 0).astype(np.float32)),
    "tanh": (np.tanh, lambda y: 1 - np.tanh(y) ** 2),
    "sigmoid": (_sigmoid, lambda y: _sigmoid(y) * (1 - _sigmoid(y))),
    "selu": (
        lambda y: SELU_SCALE * np.where(y > 0, y, SELU_ALPHA * np.expm1(np.minimum(y, 0))),
        lambda y: SELU_SCALE * np.where(y > 0, 1, SELU_ALPHA * np.exp(np.minimum(y, 0))),
    ),
    "gelu": (lambda y: 0.5 * y * (1 + np.tanh(_gelu_inner(y))), _gelu_slope),
    "silu": (lambda y: y * _sigmoid(y), lambda y: _sigmoid(y) * (1 + y * (1 - _sigmoid(y)))),
}


def parse_nonlinearity(text: str) -> Nonlinearity:
    """Return a function by name; leaky_relu may have a slope: leaky_relu:0.2."""
    name, _, slope = text.lower().partition(":")
    if name == "leaky_relu":
        try:
            return _leaky(float(slope) if slope else LEAKY_SLOPE)
        except ValueError:
            raise InputError(f"expected a slope such as leaky_relu:0.2, got {text!r}") from None
    if name not in FUNCTIONS or slope:
        raise InputError(f"expected a nonlinearity among {', '.join(FUNCTIONS)}, leaky_relu:SLOPE, got {text!r}")
    return FUNCTIONS[name]


def propagate(
    layers: Sequence[Layer],
    *,
    nonlinearity: str = "relu",
    batch: int = 64,
    seed: int = 0,
    limits: Limits | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Signal:
    """Propagate a random batch through layers, forward and backward, and measure its variance at each.

    Every layer computes y = W x and passes on x = f(y). The first x is f of standard normal values, and the gradient
    with respect to the last y is standard normal too. The inputs of a convolution are periodic, so that no position is
    at an edge. Strides and pooling do not change the variance of a position and are ignored. Between a convolution and
    a linear layer, as many positions are kept as the linear layer has inputs. A layer that does not take the outputs of
    the one before it gets a new batch.

    Args:
        layers: the layers, in the order of the forward pass.
        nonlinearity: f: linear, relu, leaky_relu:SLOPE, tanh, sigmoid, selu, gelu, silu.
        batch: number of samples.
        seed: seed of the batch; the weights come from the fillers of the layers.
        limits: threads, and bytes of memory for the preparation of orthogonal weights.
        progress: called with the number of finished layer passes and their total.

    Returns:
        The measured variances.

    Raises:
        InputError: an argument is invalid.
    """
    if not layers:
        raise InputError("expected at least one weight of a linear or convolution layer, got none")
    if batch < 1:
        raise InputError(f"expected a batch of at least 1 sample, got {batch}")
    function, slope = parse_nonlinearity(nonlinearity)
    random = np.random.default_rng(seed)
    limits = limits or Limits()
    passes = _Passes(2 * len(layers), progress)
    measured: list[Measured] = []
    with default_modes(), np.errstate(over="ignore", invalid="ignore"):
        for chain in chained(layers):
            for layer in chain:
                if layer.filler.has_setup:
                    layer.filler.setup(limits.threads, limits.memory, lambda part: None)
            measured += _through(chain, function, slope, batch, random, passes)
    return Signal(nonlinearity, measured)


class _Passes:
    """Counts layer passes."""

    def __init__(self, total: int, progress: Callable[[int, int], None] | None) -> None:
        self.done, self.total, self.progress = 0, total, progress

    def step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def chained(layers: Sequence[Layer]) -> list[list[Layer]]:
    """Return the layers, split where one does not take the outputs of the one before it."""
    chains: list[list[Layer]] = []
    for layer in layers:
        if chains and fits(chains[-1][-1], layer):
            chains[-1].append(layer)
        else:
            chains.append([layer])
    return chains


def fits(before: Layer, layer: Layer) -> bool:
    """Return whether a layer takes the outputs of another: its channels, groups of them, or them flattened."""
    if len(layer.kernel) == len(before.kernel):
        return before.outputs == layer.inputs or grouped(before.outputs, layer)
    return not layer.kernel and layer.inputs % before.outputs == 0


def grouped(channels: int, layer: Layer) -> bool:
    """Return whether a convolution takes so many channels in groups."""
    groups, left = divmod(channels, layer.inputs)
    return bool(layer.kernel) and groups > 1 and left == 0 and layer.outputs % groups == 0


def _through(
    chain: Sequence[Layer],
    function: Callable[[Array], Array],
    slope: Callable[[Array], Array],
    batch: int,
    random: np.random.Generator,
    passes: _Passes,
) -> list[Measured]:
    """Measure one batch; arrays are (channels, batch, positions...)."""
    first = chain[0]
    spatial = grid_of(chain)
    y = random.standard_normal((first.inputs, batch, *spatial), np.float32)
    slopes, flattened, activations = [], [], []
    for layer in chain:
        slopes.append(slope(y).astype(np.float16))
        x = function(y).astype(np.float32, copy=False)
        flattened.append(None if layer.kernel or x.ndim == 2 else x.shape)
        if flattened[-1] is not None:
            x = flatten(x, layer.inputs)
        y = forward(layer, x)
        activations.append(mean_square(y))
        passes.step()
    gradients = []
    gradient = random.standard_normal(y.shape, np.float32)
    for layer, factor, before in reversed(list(zip(chain, slopes, flattened, strict=True))):
        gradients.append(mean_square(gradient))
        channels = factor.shape[0] if before is None else layer.inputs
        gradient = backward(layer, gradient, channels)
        if before is not None:
            gradient = unflatten(gradient, before)
        gradient = gradient * factor
        passes.step()
    return [
        Measured(layer.name, layer.shape, activation, back, fresh=layer is first)
        for layer, activation, back in zip(chain, activations, reversed(gradients), strict=True)
    ]


def grid_of(chain: Sequence[Layer]) -> Shape:
    """Return the positions of the convolutions' inputs: one size, at least that of every kernel."""
    kernels = [layer.kernel for layer in chain if layer.kernel]
    if not kernels:
        return ()
    axes = len(kernels[0])
    return tuple(max(GRID.get(axes, 2), *(kernel[axis] for kernel in kernels)) for axis in range(axes))


def mean_square(y: Array) -> float:
    """Return the variance about 0."""
    return float(np.mean(np.square(y, dtype=np.float64)))


def flatten(x: Array, inputs: int) -> Array:
    """Reshape (channels, batch, positions...) to (channels times some of the positions, batch), in torch's order."""
    channels, batch = x.shape[:2]
    count = inputs // channels
    positions = np.resize(np.arange(math.prod(x.shape[2:])), count)
    return np.ascontiguousarray(x.reshape(channels, batch, -1)[:, :, positions].swapaxes(1, 2)).reshape(inputs, batch)


def unflatten(gradient: Array, shape: Shape) -> Array:
    """Undo flatten; the positions that were kept are repeated for the others, which keeps the mean square."""
    channels, batch = shape[:2]
    kept = gradient.reshape(channels, -1, batch).swapaxes(1, 2)
    whole = np.resize(np.arange(kept.shape[2]), math.prod(shape[2:]))
    return np.ascontiguousarray(kept[:, :, whole]).reshape(shape)


def shifts(kernel: Shape) -> Iterator[tuple[int, ...]]:
    """Yield the offset of each position of a kernel from its centre."""
    for index in np.ndindex(*kernel):
        yield tuple(size // 2 - at for at, size in zip(index, kernel, strict=True))


def forward(layer: Layer, x: Array) -> Array:
    """Return y = W x, for x of (channels, batch, positions...)."""
    y = np.zeros((layer.outputs, *x.shape[1:]), np.float32)
    axes = tuple(range(2, x.ndim))
    for outputs, inputs, tile in layer.tiles():
        for k, shift in enumerate(shifts(layer.kernel)):
            moved = np.roll(x, shift, axes) if any(shift) else x
            for rows, columns in groups_of(outputs, inputs, layer, x.shape[0]):
                weight = tile[rows.start - outputs.start : rows.stop - outputs.start, :, k]
                y[rows] += np.tensordot(weight, moved[columns], 1)
    return y


def backward(layer: Layer, gradient: Array, channels: int) -> Array:
    """Return the gradient with respect to x, given the one with respect to y and the number of channels of x."""
    result = np.zeros((channels, *gradient.shape[1:]), np.float32)
    axes = tuple(range(2, gradient.ndim))
    for outputs, inputs, tile in layer.tiles():
        for k, shift in enumerate(shifts(layer.kernel)):
            back = tuple(-step for step in shift)
            moved = np.roll(gradient, back, axes) if any(shift) else gradient
            for rows, columns in groups_of(outputs, inputs, layer, channels):
                weight = tile[rows.start - outputs.start : rows.stop - outputs.start, :, k]
                result[columns] += np.tensordot(weight.T, moved[rows], 1)
    return result


def groups_of(outputs: slice, inputs: slice, layer: Layer, channels: int) -> Iterator[tuple[slice, slice]]:
    """Yield which outputs depend on which channels: all on all, or group by group."""
    groups = channels // layer.inputs
    if groups == 1:
        yield outputs, inputs
        return
    size = layer.outputs // groups
    for group in range(outputs.start // size, -(-outputs.stop // size)):
        rows = slice(max(outputs.start, group * size), min(outputs.stop, group * size + size))
        first = group * layer.inputs
        yield rows, slice(first + inputs.start, first + inputs.stop)
