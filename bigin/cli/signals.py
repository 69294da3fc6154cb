"""bigin signal: does a recipe's initialization keep the variance of activations and gradients?"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import click

from bigin.cli.models import variable
from bigin.cli.options import beyond_base
from bigin.cli.printing import print_table
from bigin.core.errors import InputError
from bigin.core.text import counted

if TYPE_CHECKING:
    from bigin.inspect.propagation import Signal

DECADES = 3  # on both sides of 1, that the scale shows
STEPS = 4  # characters for each


@click.command(no_args_is_help=True)
@click.argument("recipe")
@click.option("--like", required=True, help="A model whose names, shapes and dtypes count: a checkpoint or a group.")
@click.option("--match", multiple=True, help="Names of the weights, in the order of the layers: 'conv*.weight'.")
@click.option("--nonlinearity", default="relu", show_default=True, help="Behind every layer: tanh, leaky_relu:0.2, ...")
@click.option("--batch", default=64, show_default=True, help="Samples in the random batch.")
@click.option("--batch-seed", default=0, show_default=True, help="Which batch.")
@click.option("--var", "variables", multiple=True, help="A variable of the recipe: n_layers=32. May be repeated.")
@click.option("--seed", type=int, help="[default: the recipe's, else 0]")
@click.option("--max-memory", help="Bound on what orthogonal weights need: 2GiB.  [default: a quarter of what is free]")
@click.option("--plot", type=click.Path(dir_okay=False), help="Draw the variances into this PNG.")
@click.option("--json", "as_json", is_flag=True, help="Print the variances as JSON.")
def signal(
    recipe: str,
    like: str,
    match: tuple[str, ...],
    nonlinearity: str,
    batch: int,
    batch_seed: int,
    variables: tuple[str, ...],
    seed: int | None,
    max_memory: str | None,
    plot: str | None,
    as_json: bool,
) -> None:
    """Send a random batch through the layers that RECIPE makes, forward and backward. Nothing is written.

    Prints the variance of each layer's outputs, before the nonlinearity, and of the gradient there. A good
    initialization keeps both near 1, or at least steady; a wrong gain makes them vanish or explode.

    \b
    bigin signal lenet5 --like lenet.safetensors --nonlinearity tanh
    bigin signal recipe.toml --like checkpoint/ --match '*.mlp.*.weight' --plot signal.png
    """
    from bigin.api import signals

    found = signals.signal(
        recipe,
        like,
        match=match,
        nonlinearity=nonlinearity,
        batch=batch,
        batch_seed=batch_seed,
        seed=seed,
        variables=dict(map(variable, variables)),
        max_memory=beyond_base(max_memory),
    )
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
    else:
        print_signal(found, f"{recipe} for {like}, {nonlinearity}, a batch of {batch}")
    if plot is not None:
        draw(found, f"{recipe}, {nonlinearity}", plot)


def print_signal(found: Signal, title: str) -> None:
    """A row for each layer, with its place on a scale of decades; a line for each batch."""
    rows = []
    for chain in found.chains():
        for layer in chain:
            first = "> " if layer.fresh else "  "
            rows.append(
                (
                    first + layer.name,
                    "x".join(map(str, layer.shape)),
                    f"{layer.activation:.3g}",
                    f"{layer.gradient:.3g}",
                    scale(layer.activation, layer.gradient),
                )
            )
    head = "1e-3" + " " * (DECADES * STEPS - 5) + "1" + " " * (DECADES * STEPS - 3) + "1e3"
    columns = ("layer", "shape", "activations", "gradients", head)
    print_table(title, columns, rows, "> a fresh batch begins; a activations, g gradients, x both", lines=False)
    for chain in found.chains():
        click.echo(told(chain))


def told(chain: list[Any]) -> str:
    """What became of a batch, in a line."""
    from bigin.inspect.propagation import verdict

    activations = [layer.activation for layer in chain]
    gradients = [layer.gradient for layer in reversed(chain)]
    names = chain[0].name if len(chain) == 1 else f"{chain[0].name} to {chain[-1].name}"
    return (
        f"{names} ({counted(len(chain), 'layer')}): activations {verdict(activations)} (1 to {activations[-1]:.3g}), "
        f"gradients {verdict(gradients)} (1 to {gradients[-1]:.3g})"
    )


def scale(activation: float, gradient: float) -> str:
    """Where two variances lie between 1e-3 and 1e3."""
    line = list(("|" + "." * (STEPS - 1)) * 2 * DECADES + "|")
    places = [place(activation), place(gradient)]
    for mark, at in zip("ag", places, strict=True):
        line[at] = mark
    if places[0] == places[1]:
        line[places[0]] = "x"
    return "".join(line)


def place(variance: float) -> int:
    """The character for a variance; the outermost ones stand for all beyond."""
    decade = DECADES if not math.isfinite(variance) else math.log10(variance) if variance > 0 else -DECADES
    return round((min(DECADES, max(-DECADES, decade)) + DECADES) * STEPS)


def draw(found: Signal, title: str, path: str) -> None:
    """The variances of all layers, as a picture."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ModuleNotFoundError:
        raise InputError("expected matplotlib, which --plot draws with; pip install matplotlib") from None
    layers = found.layers
    figure, axes = pyplot.subplots(figsize=(max(6.0, min(24.0, 2 + 0.35 * len(layers))), 5.0), layout="constrained")
    axes.axhspan(0.1, 10, color="0.93", zorder=0)
    axes.axhline(1, color="0.6", linewidth=0.8, zorder=1)
    start = 0
    for chain in found.chains():
        places = range(start, start + len(chain))
        first = start == 0
        axes.plot(
            places, [layer.activation for layer in chain], "o-", color="#1f6fb4", label="activations" if first else None
        )
        axes.plot(
            places, [layer.gradient for layer in chain], "s--", color="#c8501e", label="gradients" if first else None
        )
        start += len(chain)
    axes.set_yscale("log")
    axes.set_ylabel("variance (mean square)")
    axes.set_xticks(range(len(layers)), [layer.name for layer in layers], rotation=60, ha="right", fontsize=8)
    axes.set_title(title)
    axes.legend()
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise InputError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        pyplot.close(figure)
