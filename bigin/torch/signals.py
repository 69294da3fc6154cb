"""The variance of activations and gradients in a model's own forward and backward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.html import card, listing
from bigin.core.limits import Limits
from bigin.core.memory import available
from bigin.core.text import counted, size_text
from bigin.jobs.job import FillOptions
from bigin.torch.configuration import Configuration
from bigin.torch.distributed import part_jobs
from bigin.torch.modules import members

STEADY, RATE = 10.0, 1.5  # a stream is steady if it changes by less, at its end in all, or from block to block
SAMPLES = 4  # of a batch, whose attention is measured


@dataclass(frozen=True)
class ModuleSignal:
    """What a module puts out, over all its calls.

    activation: the mean square of its output. gradient: that of the gradient with respect to it, None where none
    arrives. logits: the variance of what softmax takes within the module, for one that attends. stream: whether it is a
    block of the residual stream.
    """

    name: str
    kind: str
    activation: float
    gradient: float | None = None
    logits: float | None = None
    stream: bool = False


@dataclass(frozen=True)
class ModelSignal:
    """The modules of a model in the order in which they are done, and the blocks of its residual streams."""

    modules: list[ModuleSignal] = field(default_factory=list)

    def streams(self) -> list[list[ModuleSignal]]:
        """Blocks that follow each other.

        Returns:
            A list for each stack of blocks (an encoder, a decoder), in the order of the forward pass.
        """
        stacks: dict[str, list[ModuleSignal]] = {}
        for module in self.modules:
            if module.stream:
                stacks.setdefault(module.name.rpartition(".")[0], []).append(module)
        return list(stacks.values())

    def shown(self) -> list[ModuleSignal]:
        """The modules that a table has: all but those within blocks that are neither the first nor the last.

        Returns:
            Some of the modules, in their order.
        """
        hidden = tuple(f"{block.name}." for blocks in self.streams() for block in blocks[1:-1])
        return [module for module in self.modules if not module.name.startswith(hidden)] if hidden else self.modules

    def conclusions(self) -> list[str]:
        """What becomes of each stream on its way through the blocks.

        Returns:
            A sentence for each stream: steady, vanishing or exploding, forward and backward.
        """
        told = []
        for blocks in self.streams():
            forward = [block.activation for block in blocks]
            backward = [block.gradient for block in reversed(blocks) if block.gradient is not None]
            gradients = f"gradients {course(backward)}" if backward else "no gradients"
            names = f"{blocks[0].name} to {blocks[-1].name}"
            told.append(f"{names} ({counted(len(blocks), 'block')}): activations {course(forward)}, {gradients}")
        return told

    def _repr_html_(self) -> str:
        facts = {"stream" if len(self.streams()) == 1 else "streams": "; ".join(self.conclusions())}
        columns = ("module", "class", "mean square of outputs", "of gradients", "variance of attention logits")
        return card("signal of a model", facts, listing(columns, map(cells, self.shown())))

    def as_dict(self) -> dict[str, Any]:
        """The same for JSON, with None for infinities.

        Returns:
            A mapping with `modules` and `conclusions`.
        """
        rows = [asdict(module) for module in self.modules]
        for row in rows:
            row |= {key: None for key, value in row.items() if isinstance(value, float) and not math.isfinite(value)}
        return {"modules": rows, "conclusions": self.conclusions()}

    def __str__(self) -> str:
        head = ("module", "class", "activations", "gradients", "attention logits")
        rows = [head, *map(cells, self.shown())]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([*lines, *self.conclusions()])


def signal(
    model: Any,
    inputs: Any,
    *,
    loss: Callable[[Any], Any] | None = None,
    seed: int = 0,
) -> ModelSignal:
    """Run a model's own forward and backward pass, and measure the variance of activations and gradients.

    Every module that returns a float tensor is measured: layers, attention, and the blocks of residual streams, which
    are the modules of one class in a list or a sequence. In modules with attention (softmax or
    scaled_dot_product_attention), the input of the softmax is measured, too. The model runs in its present mode (train
    or eval) and on its device. Neither its parameters nor their gradients are changed.

    Args:
        model: a torch.nn.Module in memory.
        inputs: the input of the model, a tuple of inputs, or a mapping of keyword arguments.
        loss: a function from the model's result to the scalar whose gradient is computed. By default the gradient with
            respect to the first float tensor of the result is drawn from a standard normal distribution, as in
            bigin.signal.
        seed: seed of this gradient, and of random numbers in the model (dropout).

    Returns:
        The measured modules, in the order in which they run.

    Raises:
        InputError: the model has no memory, or its result has no float tensor.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64))
        >>> _ = bigin.torch.init_(model, {"*.bias": "zeros", torch.nn.Linear: "kaiming_normal"})
        >>> result = bigin.torch.signal(model, torch.randn(32, 64))
        >>> [module.name for module in result.modules]
        ['0', '1', '2']
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"expected a torch.nn.Module, got {type(model).__name__}")
    if any(tensor.is_meta for tensor in model.parameters()):
        raise InputError("expected a model in memory, got one on the meta device; call to_empty and bigin.torch.init_")
    devices = sorted({t.device.index for t in model.parameters() if t.device.type == "cuda"})
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(seed)
        measuring = Measuring(model)
        with measuring.hooked(), Attention(measuring):
            returned = called(model, inputs)
        end = returned if loss is None else loss(returned)
        measuring.backward(end, drawn=loss is None)
    return ModelSignal(measuring.rows())


def called(model: Any, inputs: Any) -> Any:
    """What a model returns."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


@dataclass
class Output:
    """One output of a module: its mean square, and the tensor itself."""

    square: float
    tensor: Any


class Measuring:
    """Collects what modules put out while a model runs."""

    def __init__(self, model: Any) -> None:
        self.names: dict[int, str] = {}
        self.kinds: dict[str, str] = {}
        self.blocks: set[str] = set()
        self.modules = []
        for name, module in model.named_modules():
            if name:
                self.names[id(module)], self.kinds[name] = name, type(module).__name__
                self.modules.append(module)
            self.blocks |= {f"{name}.{each}".lstrip(".") for each in blocks_of(module)}
        self.open: list[str] = []  # the modules that are running, the innermost last
        self.outputs: dict[str, list[Output]] = {}
        self.logits: dict[str, list[float]] = {}
        self.gradients: dict[str, list[float]] = {}

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Measures while it is open."""
        handles = []
        for module in self.modules:
            handles.append(module.register_forward_pre_hook(self._begin))
            handles.append(module.register_forward_hook(self._end))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _begin(self, module: Any, *_: Any) -> None:
        self.open.append(self.names[id(module)])

    def _end(self, module: Any, _: Any, returned: Any) -> None:
        name = self.names[id(module)]
        while self.open and self.open.pop() != name:
            pass
        tensor = floats(returned)
        if tensor is not None:
            self.outputs.setdefault(name, []).append(Output(mean_square(tensor), tensor))

    def attended(self, logits: Any) -> None:
        """Note what softmax takes, for the module that is running."""
        finite = logits.detach().double()
        finite = finite[torch.isfinite(finite) & (finite > -1e4)]
        if self.open and finite.numel() > 1:
            self.logits.setdefault(self.open[-1], []).append(float(finite.var()))

    def backward(self, returned: Any, *, drawn: bool) -> None:
        """Take the gradient with respect to all outputs."""
        end = floats(returned)
        if end is None or not end.requires_grad:
            raise InputError("expected a model that returns a tensor which a gradient can begin at, got none")
        begin = torch.randn_like(end) if drawn else torch.ones_like(end)
        pairs = [(name, out.tensor) for name, outs in self.outputs.items() for out in outs if out.tensor.requires_grad]
        found = torch.autograd.grad(end, [tensor for _, tensor in pairs], begin, allow_unused=True)
        for (name, tensor), gradient in zip(pairs, found, strict=True):
            if tensor is end:
                gradient = begin
            if gradient is not None:
                self.gradients.setdefault(name, []).append(mean_square(gradient))

    def rows(self) -> list[ModuleSignal]:
        """The modules, in the order in which they were done first."""
        rows = []
        for name, outs in self.outputs.items():
            row = ModuleSignal(name, self.kinds[name], mean([out.square for out in outs]), stream=name in self.blocks)
            if name in self.gradients:
                row = replace(row, gradient=mean(self.gradients[name]))
            if name in self.logits:
                row = replace(row, logits=mean(self.logits[name]))
            rows.append(row)
        return rows


def blocks_of(module: Any) -> list[str]:
    """The names of a module's children that are blocks of a residual stream: several of one class, with parts."""
    if not isinstance(module, nn.ModuleList | nn.Sequential):
        return []
    kinds = [type(child) for child in module.children() if any(True for _ in child.children())]
    if not kinds or kinds.count(kinds[0]) < 2 or len(set(kinds)) > 3:
        return []
    return [name for name, child in module.named_children() if type(child) in kinds]


def floats(returned: Any) -> Any:
    """The first tensor of floats of what a module returns, or None."""
    leaves = returned.values() if isinstance(returned, Mapping) else [returned]
    for leaf in tree_leaves(list(leaves)):
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point() and leaf.numel():
            return leaf
    return None


def mean_square(tensor: Any) -> float:
    """The variance about 0."""
    return float(tensor.detach().double().square().mean())


def mean(numbers: Sequence[float]) -> float:
    """The mean."""
    return math.fsum(numbers) / len(numbers) if all(map(math.isfinite, numbers)) else math.nan


def course(variances: Sequence[float]) -> str:
    """What becomes of a stream: a residual one may grow block by block, but not by a factor each."""
    first, last = variances[0], variances[-1]
    half = variances[len(variances) // 2 - 1 if len(variances) > 3 else 0 :]
    if not all(math.isfinite(v) for v in variances):
        word = "exploding"
    elif min(half) <= 0:
        word = "vanishing"
    else:
        change = half[-1] / half[0]
        rate = abs(math.log(change)) / max(1, len(half) - 1)
        steady = abs(math.log(change)) < math.log(STEADY) or rate < math.log(RATE)
        word = "steady" if steady else "exploding" if change > 1 else "vanishing"
    return f"{word} ({first:.3g} to {last:.3g})"


def cells(row: ModuleSignal) -> tuple[str, ...]:
    """A module's row of a table."""
    return row.name, row.kind, *map(short, (row.activation, row.gradient, row.logits))


def short(value: float | None) -> str:
    """A number in a table."""
    return "" if value is None else f"{value:.3g}"


class Attention(TorchDispatchMode):  # type: ignore[misc]
    """Notes what softmax takes where a model attends."""

    def __init__(self, measuring: Measuring) -> None:
        super().__init__()
        self.measuring = measuring

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = str(func._schema.name).partition("::")[2]
        if name.startswith("_scaled_dot_product") and "backward" not in name:
            query, key = args[0][:SAMPLES].float(), args[1][:SAMPLES].float()
            if query.dim() == key.dim() == 4 and key.shape[1] < query.shape[1]:  # heads that share their keys
                key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
            scale = kwargs.get("scale") or query.shape[-1] ** -0.5
            self.measuring.attended(query @ key.mT * scale)
        elif name in ("_softmax", "_safe_softmax") and args[0].dim() >= 3:
            self.measuring.attended(args[0][:SAMPLES])
        return func(*args, **kwargs)


def signal_of_configuration(
    model: Configuration, *, batch: int = 4, length: int = 64, batch_seed: int = 0
) -> ModelSignal:
    """Measure the model of a configuration with random tokens or pixels, in memory and in float32.

    batch, length: of the inputs. Raises InputError for a model that takes other inputs, or that memory does not hold.
    """
    module = model.module
    needed = sum(4 * math.prod(member.tensor.shape) for member in members(module))
    if needed > available():
        raise InputError(
            f"expected a model that fits in memory, got {size_text(needed)} of {size_text(available())}; change sizes "
            "in the configuration, such as the number of layers"
        )
    module.to_empty(device="cpu")
    module.tie_weights()  # to_empty makes them several
    own = {member.name: spec for member, spec in model.recorded()}
    with default_modes(), torch.no_grad():
        for member in members(module):
            spec = model.specs.get(member.name) or own[member.name]
            for job in part_jobs(member.tensor, spec, Limits()):
                job.fill(FillOptions())
    try:
        return signal(module.float().eval(), inputs_of(module, batch, length, batch_seed), seed=batch_seed)
    except InputError:
        raise
    except Exception as error:  # whatever a model's code does with inputs that are random
        text = " ".join(str(error).split())[:200]
        raise InputError(
            f"expected a model that runs on random {module.main_input_name} alone, got {type(error).__name__}: {text}; "
            "build it and call bigin.torch.signal(model, inputs)"
        ) from None


def inputs_of(module: Any, batch: int, length: int, seed: int) -> dict[str, Any]:
    """Random inputs of a model of transformers."""
    generator = torch.Generator().manual_seed(seed)
    config, main = module.config, module.main_input_name
    text = config.get_text_config()
    if main == "input_ids" and isinstance(getattr(text, "vocab_size", None), int):
        most = getattr(text, "max_position_embeddings", None) or length
        ids = torch.randint(0, text.vocab_size, (batch, min(length, most)), generator=generator)
        return {main: ids, "decoder_input_ids": ids} if config.is_encoder_decoder else {main: ids}
    size = getattr(config, "image_size", None)
    if main == "pixel_values" and size is not None:
        height, width = size if isinstance(size, list | tuple) else (size, size)
        shape = (batch, getattr(config, "num_channels", 3), height, width)
        return {main: torch.randn(shape, generator=generator)}
    raise InputError(
        f"expected a model that takes tokens or pixels, got one of {main}; build it and call "
        "bigin.torch.signal(model, inputs)"
    )
