"""An overview as HTML for a notebook: what a target is, its statistics beside the expected ones, and a histogram."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bigin.core.html import card, listing
from bigin.core.text import size_text
from bigin.inspect import terminal

if TYPE_CHECKING:
    from bigin.inspect.overview import Histogram, Overview

BINS = 48
WIDTH, HEIGHT = 480, 120  # of the histogram, in pixels


def overview_html(overview: Overview) -> str:
    """Return an overview as HTML, in the colors of the page."""
    shape = "x".join(map(str, overview.shape)) or "scalar"
    conclusion = terminal.conclusion(overview)
    facts = {
        "result": None if conclusion is None else conclusion.plain,
        "values": f"{shape} {overview.dtype}, {size_text(overview.nbytes)}",
        "layout": terminal.layout(overview),
        "stored": terminal.stored(overview),
        "record": terminal.record(overview),
        "progress": None if overview.done is None else f"{100 * overview.done:.1f}% has reached the disk",
        "read": None if overview.statistics is None else terminal.read(overview),
    }
    return card(overview.target, facts, statistics(overview) + chart(overview))


def statistics(overview: Overview) -> str:
    """Return a row for each statistic."""
    stats = overview.statistics
    if stats is None:
        return ""
    if not overview.checks:
        values = [("mean", stats.mean), ("std", stats.std), ("min", stats.minimum), ("max", stats.maximum)]
        counts = [("zeros", stats.zeros), ("NaN", stats.nan), ("infinite", sum(stats.infinite))]
        return listing(["", "measured"], [[name, terminal.figure(value)] for name, value in (*values, *counts)])
    rows = [
        [
            check.what,
            terminal.figure(check.got),
            terminal.expected_range(check, terminal.BLOCKS),
            "" if check.off is None else f"{check.off:+.1f} sigma",
            "ok" if check.right else "WRONG",
        ]
        for check in overview.checks
    ]
    return listing(["", "measured", "expected", "off by", ""], rows)


def chart(overview: Overview) -> str:
    """Return the histogram as bars, with a line where the expected one is."""
    histogram = overview.histogram(BINS)
    if histogram is None:
        return ""
    counts = [float(count) for count in histogram.counts]
    expected = None if histogram.expected is None else [float(count) for count in histogram.expected]
    scale = HEIGHT / max(*counts, *(expected or [0.0]), 1.0)
    step = WIDTH / len(counts)
    bars = "".join(
        f"M{i * step:.0f} {HEIGHT}V{HEIGHT - count * scale:.1f}H{(i + 1) * step - 1:.0f}V{HEIGHT}z"
        for i, count in enumerate(counts)
    )
    line = "" if expected is None else outline([HEIGHT - count * scale for count in expected], step)
    box = f'viewBox="0 -2 {WIDTH} {HEIGHT + 20}" style="width:100%;max-width:{WIDTH}px;display:block"'
    return (
        f'<svg {box} role="img" aria-label="histogram of the values{" and what is expected" if line else ""}">'
        f'<path d="{bars}" fill="#4c8bf5" fill-opacity="0.6"></path>{line}{axis(histogram)}</svg>'
    )


def outline(heights: list[float], step: float) -> str:
    """Return the line of the expected counts."""
    path = "".join(f"{'L' if i else 'M'}{(i + 0.5) * step:.0f} {height:.1f}" for i, height in enumerate(heights))
    return f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="1.2"></path>'


def axis(histogram: Histogram) -> str:
    """Return the first, the middle and the last edge of the bins below them."""
    edges = [float(edge) for edge in histogram.edges]
    middle = len(edges) // 2
    names = terminal.edge_names(edges)
    places = ((0, 0, "start"), (middle, WIDTH * middle // (len(edges) - 1), "middle"), (-1, WIDTH, "end"))
    style = 'font-size="11" fill="currentColor" fill-opacity="0.7"'
    return "".join(
        f'<text x="{x}" y="{HEIGHT + 14}" text-anchor="{anchor}" {style}>{names[i]}</text>' for i, x, anchor in places
    )
