"""Histograms and signals as pictures, drawn by matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bigin.core.errors import FillError, InputError
from bigin.core.text import counted
from bigin.inspect.style import LIGHT, Style, framed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bigin.inspect.model_check import ModelCheck
    from bigin.inspect.overview import Histogram, Overview
    from bigin.inspect.propagation import Signal

BINS, PANEL_BINS = 128, 48
LONGEST = 38  # characters of a tensor's name over its picture
SIZE = (10.0, 4.2)  # inches
DPI = 150
PANEL, COLUMNS, MOST = (2.1, 1.25), 6, 240  # inches of a tensor's picture, pictures in a row and on a page


def check_plot(path: str | Path) -> None:
    """Raise InputError for a picture that cannot be drawn, before anything is read."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError("expected matplotlib for a plot, got none; pip install 'bigin[plot]'") from None
    if not Path(path).absolute().parent.is_dir():
        raise InputError(f"{path}: expected an existing folder {Path(path).absolute().parent}; create it first")


def plot(overview: Overview, path: str | Path, style: Style = LIGHT) -> None:
    """Draw the density of the values beside the expected one, on a linear and on a logarithmic scale."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    stats = overview.statistics
    if stats is None or overview.histogram(BINS) is None:
        raise InputError(f"{overview.target}: expected values that differ to plot, got none")
    figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained", facecolor=style.page)
    shape = "x".join(map(str, overview.shape)) or "scalar"
    figure.suptitle(
        plain(f"{overview.target}: {shape} {overview.dtype}"), x=0.01, ha="left", color=style.ink, fontweight="bold"
    )
    linear, log = figure.subplots(1, 2)
    for axes, outside in ((linear, 5e-4), (log, 1e-7)):
        histogram = overview.histogram(BINS, outside)
        assert histogram is not None
        draw(axes, histogram, stats.finite, overview.wanted, style)
    linear.set_title(f"{counted(stats.finite, 'value')}, mean {stats.mean:.4g}, std {stats.std:.4g}", **style.title)
    linear.set_ylim(0, 1.25 * max(float(patch.get_data().values.max()) for patch in linear.patches))
    linear.legend(frameon=False, fontsize=8, loc="upper left", labelcolor=style.ink)
    log.set_title("the same on a logarithmic scale", **style.title)
    log.set_yscale("log")
    seen = log.patches[0].get_data().values
    log.set_ylim(seen[seen > 0].min() / 3, seen.max() * 3)
    for axes in (linear, log):
        framed(axes, style)
    save(figure, path)


def plot_model(check: ModelCheck, path: str | Path, style: Style = LIGHT) -> None:
    """Draw a page with the density of every tensor beside the expected one; of more than MOST, some evenly spaced."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    from bigin.inspect.overview import histogram_of

    count = len(check.tensors)
    shown = [check.tensors[i * count // min(count, MOST)] for i in range(min(count, MOST))]
    if not shown:
        raise InputError(f"{check.target}: expected tensors to plot, got none")
    rows = -(-len(shown) // COLUMNS)
    figure = Figure(
        figsize=(PANEL[0] * COLUMNS, PANEL[1] * rows + 0.5), dpi=DPI, layout="constrained", facecolor=style.page
    )
    some = f"{len(shown)} of " if len(shown) < count else ""
    figure.suptitle(
        plain(f"{check.target}: {some}{counted(count, 'tensor')}"),
        x=0.01,
        ha="left",
        color=style.ink,
        fontweight="bold",
    )
    panels = figure.subplots(rows, COLUMNS, squeeze=False).reshape(-1)
    for axes, each in zip(panels, shown, strict=False):
        name = each.tensor if len(each.tensor) <= LONGEST else f"...{each.tensor[3 - LONGEST :]}"
        axes.set_title(
            plain(name), **style.title | {"fontsize": 6, "color": style.second if each.findings else style.grey}
        )
        histogram = None if each.statistics is None else histogram_of(each.statistics, each.expected, PANEL_BINS)
        if histogram is None or each.statistics is None:
            text = "" if each.statistics is None else f"all {each.statistics.minimum:.4g}"
            axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=style.grey, fontsize=7)
            axes.set_axis_off()
            continue
        draw(axes, histogram, each.statistics.finite, each.wanted, style)
        axes.set(xlabel="", ylabel="", yticks=[])
        framed(axes, style)
        axes.tick_params(labelsize=5)
        axes.spines["left"].set_visible(False)
    for axes in panels[len(shown) :]:
        axes.set_axis_off()
    save(figure, path)


def plot_signal(signal: Signal, title: str, path: str | Path, style: Style = LIGHT) -> None:
    """Draw the variances of all layers, a line for each batch that goes through some of them."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    layers = signal.layers
    figure = Figure(
        figsize=(max(6.0, min(24.0, 2 + 0.35 * len(layers))), 5.0), dpi=DPI, layout="constrained", facecolor=style.page
    )
    figure.suptitle(plain(title), x=0.01, ha="left", color=style.ink, fontweight="bold")
    axes = figure.subplots()
    axes.axhspan(0.1, 10, color=style.grey, alpha=0.12, linewidth=0, zorder=0)
    axes.axhline(1, color=style.grey, linewidth=0.8, zorder=1)
    start = 0
    for chain in signal.chains():
        at = range(start, start + len(chain))
        labels = ("activations", "gradients") if start == 0 else (None, None)
        axes.plot(at, [layer.activation for layer in chain], "o-", color=style.first, markersize=4, label=labels[0])
        axes.plot(at, [layer.gradient for layer in chain], "s--", color=style.second, markersize=4, label=labels[1])
        start += len(chain)
    axes.set_yscale("log")
    axes.set_title("variance (mean square) at each layer", **style.title)
    axes.set_xticks(range(len(layers)), [plain(layer.name) for layer in layers], rotation=60, ha="right")
    axes.legend(frameon=False, fontsize=8, labelcolor=style.ink)
    framed(axes, style)
    save(figure, path)


def plain(text: str) -> str:
    """Return a text in which matplotlib reads no mathematics."""
    return text.replace("$", r"\$")


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure to a file whose ending is a picture's."""
    try:
        figure.savefig(path)
    except ValueError as error:  # an ending that is none of a picture's
        raise InputError(f"{path}: {error}") from None
    except OSError as error:
        raise FillError(f"{path}: {error.strerror or error}") from error


def draw(axes: Axes, histogram: Histogram, count: int, wanted: str, style: Style = LIGHT) -> None:
    """Draw the density of `count` values, and a line for the expected one."""
    scale = np.diff(histogram.edges) * count
    axes.stairs(
        histogram.counts / scale, histogram.edges, fill=True, color=style.first, alpha=0.35, lw=0, label="values"
    )
    if histogram.expected is not None:
        axes.stairs(histogram.expected / scale, histogram.edges, baseline=None, color=style.ink, lw=1.1, label=wanted)
    axes.set_xlabel("value" + (" (without zeros)" if histogram.without_zeros else ""), color=style.ink)
    axes.set_ylabel("density", color=style.ink)
