"""bigin signal: does a recipe keep the variance of activations and gradients?"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

import bigin
from bigin.cli.commands import Command
from bigin.cli.layout import print_table, print_text
from bigin.cli.models import configuration
from bigin.cli.options import (
    PATH,
    OutputOptions,
    OwnCode,
    RecipeOptions,
    gathered,
    max_memory_option,
    needs_config,
    output_options,
    own_code_options,
    recipe_options,
)
from bigin.core.text import counted

if TYPE_CHECKING:
    from bigin.inspect.propagation import Signal

DECADES = 3  # of the scale, on both sides of 1
STEPS = 3  # characters for each

HELP = """Propagate a random batch through the layers of a model that RECIPE would fill. Nothing is written.

The command prints the variance of each layer's outputs (activations, before the nonlinearity) and of the gradient with
respect to them. A good initialization keeps both near 1, or at least steady. A wrong gain makes them vanish or explode.
With --config, the model's own code in transformers runs forward and backward on random tokens or pixels, with its
attention and residual streams, and RECIPE may be omitted.

\b
bigin signal lenet5 --like lenet.safetensors --nonlinearity tanh
bigin signal recipe.toml --like checkpoint/ \\
    --match '*.mlp.*.weight' --plot signal.png
bigin signal --config config.json
"""


@dataclass(frozen=True)
class Inputs:
    """What a model is measured with: samples, tokens of each, and the seed."""

    batch: int | None
    length: int
    batch_seed: int


inputs_options = gathered(
    "inputs",
    Inputs,
    click.option("--batch", type=click.IntRange(1), help="Number of samples.  [default: 64; 4 with --config]"),
    click.option("--length", default=64, show_default=True, help="With --config: number of tokens per sample."),
    click.option("--batch-seed", default=0, show_default=True, help="Seed of the batch."),
)


@click.command(cls=Command, no_args_is_help=True, help=HELP, short_help="Measure how a recipe propagates variances.")
@click.argument("recipe", type=PATH, required=False)
@recipe_options(like_required=False)
@own_code_options
@click.option(
    "--match", multiple=True, help="Pattern of weights, in the order of the layers: 'conv*.weight'. May be repeated."
)
@click.option(
    "--nonlinearity", default="relu", show_default=True, help="Function after every layer: tanh, leaky_relu:0.2, ..."
)
@inputs_options
@max_memory_option
@output_options
def signal(
    recipe: str | None,
    choice: RecipeOptions,
    code: OwnCode,
    match: tuple[str, ...],
    nonlinearity: str,
    inputs: Inputs,
    max_memory: str | None,
    output: OutputOptions,
) -> None:
    """Measure a signal."""
    from bigin.inspect import plot

    if code.config is not None:
        if choice.like is not None or match or output.plot is not None:
            raise click.UsageError("expected --config without --like, --match and --plot, which are for plain stacks")
        measure_configuration(code, recipe, choice, inputs, as_json=output.as_json)
        return
    needs_config(code)
    if recipe is None or choice.like is None:
        raise click.UsageError("expected RECIPE and --like, or --config with a model's configuration")
    batch = inputs.batch or 64
    if output.plot is not None:
        plot.check_plot(output.plot)
    result = bigin.signal(
        recipe,
        choice.like,
        **choice.arguments(),
        match=match,
        nonlinearity=nonlinearity,
        batch=batch,
        batch_seed=inputs.batch_seed,
        max_memory=max_memory,
    )
    if output.as_json:
        click.echo(json.dumps(result.as_dict(), indent=2))
    else:
        print_signal(result, f"{recipe} for {choice.like}, {nonlinearity}, a batch of {batch}")
    if output.plot is not None:
        plot.plot_signal(result, f"{recipe}, {nonlinearity}", output.plot)


def measure_configuration(
    code: OwnCode, recipe: str | None, choice: RecipeOptions, inputs: Inputs, *, as_json: bool
) -> None:
    """Measure a model's own code."""
    assert code.config is not None
    model = configuration(code.config, rules=recipe, **code.arguments(), **choice.arguments())
    from bigin.torch.signals import cells, signal_of_configuration

    batch = inputs.batch or 4
    result = signal_of_configuration(model, batch=batch, length=inputs.length, batch_seed=inputs.batch_seed)
    if as_json:
        click.echo(json.dumps(result.as_dict(), indent=2))
        return
    columns = ("module", "class", "activations", "gradients", "attention logits")
    hidden = len(result.modules) - len(rows := result.shown())
    footer = f"{counted(hidden, 'module')} within blocks between the first and the last are left out" if hidden else ""
    print_table(f"{code.config}, a batch of {batch}", columns, [cells(row) for row in rows], footer=footer)
    for line in result.conclusions():
        print_text(line)


def print_signal(result: Signal, title: str) -> None:
    """Print a row for each layer, with its variances on a logarithmic scale, and a line for each batch."""
    rows = [
        (
            layer.name + " *" * layer.fresh,
            "x".join(map(str, layer.shape)),
            f"{layer.activation:.3g}",
            f"{layer.gradient:.3g}",
            scale(layer.activation, layer.gradient),
        )
        for layer in result.layers
    ]
    head = "1e-3" + " " * (DECADES * STEPS - 5) + "1" + " " * (DECADES * STEPS - 3) + "1e3"
    columns = ("layer", "shape", "activations", "gradients", head)
    print_table(title, columns, rows, footer="* first layer of a batch; a activations, g gradients, x both")
    for chain in result.chains():
        print_text(conclusion(chain, plain=result.note is None))
    if result.note is not None:
        print_text(f"note: {result.note}")


def conclusion(chain: list[Any], *, plain: bool) -> str:
    """Return one line about what became of a batch."""
    from bigin.inspect.propagation import trend

    activations = [layer.activation for layer in chain]
    gradients = [layer.gradient for layer in reversed(chain)]
    names = chain[0].name if len(chain) == 1 else f"{chain[0].name} to {chain[-1].name}"
    words = [
        f"{trend(each)} (1 to {each[-1]:.3g})" if plain else f"1 to {each[-1]:.3g}" for each in (activations, gradients)
    ]
    return f"{names} ({counted(len(chain), 'layer')}): activations {words[0]}, gradients {words[1]}"


def scale(activation: float, gradient: float) -> str:
    """Draw two variances on a line from 1e-3 to 1e3."""
    line = list(("|" + "." * (STEPS - 1)) * 2 * DECADES + "|")
    columns = [column(activation), column(gradient)]
    for mark, at in zip("ag", columns, strict=True):
        line[at] = mark
    if columns[0] == columns[1]:
        line[columns[0]] = "x"
    return "".join(line)


def column(variance: float) -> int:
    """Return the character of the line for a variance; the outermost ones stand for everything beyond."""
    decade = DECADES if not math.isfinite(variance) else math.log10(variance) if variance > 0 else -DECADES
    return round((min(DECADES, max(-DECADES, decade)) + DECADES) * STEPS)
