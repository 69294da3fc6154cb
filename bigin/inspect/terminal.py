"""An overview as text: coloured on a terminal, plain in a pipe."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bigin.core.text import agree, counted, rate_text, size_text

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from bigin.inspect.checks import Check
    from bigin.inspect.overview import Histogram, Overview

ROWS = 17  # of the histogram
BAR, SHORTEST = 44, 20  # columns of the longest bar, at most and at least
BESIDE = 28  # columns of a chart beside its bars
NARROWEST = 40  # columns that text is wrapped to
ROOMY = 72  # columns that all of a statistic's line takes


@dataclass(frozen=True)
class Drawing:
    """The characters that a chart is drawn with: a full cell, parts of one, the mark of what is expected.

    bar: columns of the longest bar. distances: whether a line says by how much a statistic is off.
    """

    full: str
    parts: str
    mark: str
    measured: str
    plus_minus: str
    bar: int = BAR
    distances: bool = True


BLOCKS = Drawing("█", " ▏▎▍▌▋▊▉", "│", "▌", "±")
ASCII = Drawing("#", " #", "|", "#", "+-")


def print_overview(overview: Overview) -> None:
    """Print an overview on the standard output, on the terminal's width, or in a pipe on COLUMNS or 80 columns.

    In a pipe no number is broken. On few columns nothing is said of how far a statistic is off.
    """
    from rich.console import Console
    from rich.measure import Measurement
    from rich.text import Text

    console = Console()
    width = max(NARROWEST, console.width if console.is_terminal else shutil.get_terminal_size().columns)
    characters = BLOCKS if console.encoding.startswith("utf") else ASCII
    bar = max(SHORTEST, min(BAR, width - BESIDE))
    drawing = replace(characters, bar=bar, distances=width >= ROOMY)
    if console.is_terminal:
        console.print(*parts(overview, drawing), sep="\n")
        return
    wide = Console(width=1000, color_system=None)
    with wide.capture() as captured:
        for number, part in enumerate(parts(overview, drawing)):
            natural = Measurement.get(wide, wide.options, part).maximum
            wide.print(part, width=width if number == 0 or isinstance(part, Text) else natural)
    print("\n".join(line.rstrip() for line in captured.get().rstrip().split("\n")))


def parts(overview: Overview, drawing: Drawing) -> Iterator[Table | Text]:
    """Yield what is printed, with blank lines between."""
    from rich.text import Text

    yield facts(overview)
    if overview.statistics is not None:
        yield Text()
        yield statistics(overview, drawing)
        if histogram := overview.histogram(ROWS):
            yield Text()
            yield chart(histogram, overview, drawing)
    if line := conclusion(overview):
        yield Text()
        yield line


def grid() -> Table:
    """Return a table without lines."""
    from rich.table import Table

    return Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))


def facts(overview: Overview) -> Table:
    """Return what the target is, as a table."""
    from rich.text import Text

    shape = "x".join(map(str, overview.shape)) or "scalar"
    rows = [
        ("target", overview.target),
        ("values", f"{shape} {overview.dtype}, {size_text(overview.nbytes)}"),
        ("layout", layout(overview)),
        ("stored", stored(overview)),
        ("record", record(overview)),
    ]
    if overview.done is not None:
        rows.append(("progress", f"{100 * overview.done:.1f}% has reached the disk; rerun the same fill to continue"))
    if overview.statistics is not None:
        rows.append(("read", read(overview)))
    table = grid()
    for name, text in rows:
        table.add_row(Text(name, "bold"), Text(text, overflow="fold"))
    return table


def layout(overview: Overview) -> str:
    """Return how the values are laid out."""
    has = overview.layout
    words = [has["format"]]
    if "chunks" in has:
        words.append(f"chunks of {times(has['chunks'])}")
        if has["shards"]:
            words.append(f"in shards of {times(has['shards'])}")
        words.append(", ".join(has["codecs"]) or "no codec")
    if "order" in has:
        words.append(f"{has['order']} order")
    if "byte_order" in has and overview.nbytes > math.prod(overview.shape):
        words.append(f"{has['byte_order']}-endian")
    if has.get("offset"):
        words.append(f"offset {has['offset']} bytes")
    if "strides" in has:
        words.append(f"strides of {times(has['strides'])} bytes" if has["strides"] else "")
    return ", ".join(filter(None, words))


def times(sizes: list[int]) -> str:
    """Return sizes with crosses between them."""
    return "x".join(map(str, sizes)) or "one value"


def stored(overview: Overview) -> str:
    """Return how much is stored."""
    part = f"{overview.stored_bytes / overview.nbytes:.3g} of the values' size" if overview.nbytes else ""
    has = overview.layout
    what = "shards" if has.get("shards") else "chunks"
    count = f"{has['stored']:,} of {has['of']:,} {what}" if "stored" in has else ""
    return ", ".join(filter(None, [size_text(overview.stored_bytes), part, count]))


def record(overview: Overview) -> str:
    """Return what the provenance record says."""
    record = overview.record
    if record is None:
        return "none"
    from bigin.core.errors import InputError
    from bigin.spec.tensor import TensorSpec

    try:
        words = [str(TensorSpec.from_record(record)).rsplit(", ", 1)[0]]
    except InputError:
        words = [overview.reason or "unusable"]
    words += [f"{key} {record[key]}" for key in ("region", "flat_slice") if key in record]
    words.append(f"stream {record.get('stream')}, bigin {record.get('bigin')}")
    words.append("complete" if record.get("complete") is True else "not complete")
    return ", ".join(words)


def read(overview: Overview) -> str:
    """Return how much was read, and how fast."""
    stats = overview.statistics
    assert stats is not None
    size = stats.count * overview.nbytes // max(1, math.prod(overview.shape))
    speed = size / max(overview.seconds, 1e-9)
    many = counted(stats.count, "value")
    of = f"{overview.regions:,} of {counted(overview.total, 'region')}"
    part = "" if stats.count == math.prod(overview.shape) else f" ({of})"
    return f"{many}{part} in {overview.seconds:.2f} s, {rate_text(speed)}"


def statistics(overview: Overview, drawing: Drawing) -> Table:
    """Return a line for each statistic, with the range that is expected."""
    from rich.table import Table
    from rich.text import Text

    stats = overview.statistics
    assert stats is not None
    if not overview.checks:
        rows = [("mean", stats.mean), ("std", stats.std), ("min", stats.minimum), ("max", stats.maximum)]
        table = grid()
        for name, value in rows:
            table.add_row(Text(name, "bold"), figure(value))
        for name, count in (("zeros", stats.zeros), ("NaN", stats.nan), ("infinite", sum(stats.infinite))):
            table.add_row(Text(name, "bold"), f"{count:,}")
        return table
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for name in ("measured", "expected", *["off by"] * drawing.distances):
        table.add_column(name, justify="right")
    table.add_column("")
    for check in overview.checks:
        off = "" if check.off is None else f"{check.off:+.1f} sigma"
        mark = Text("ok", "green") if check.right else Text("WRONG", "bold red")
        distance = [off] * drawing.distances
        table.add_row(Text(check.what, "bold"), figure(check.got), expected_range(check, drawing), *distance, mark)
    return table


def figure(value: float) -> str:
    """Return a number with six digits; counts are whole."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def expected_range(check: Check, drawing: Drawing) -> str:
    """Return the range that a correct fill stays in."""
    low, high = check.low, check.high
    if check.what == "CDF distance":
        return f"at most {high:.3g}"
    middle, width = (low + high) / 2, (high - low) / 2
    if width <= 1e-9 * abs(middle):
        return figure(int(low) if isinstance(check.got, int) else low)
    if figure(low) == figure(high):
        return f"about {figure(middle)}"
    if check.what in ("mean", "rms"):
        return f"{0.0 if abs(middle) < 1e-9 * width else middle:.6g} {drawing.plus_minus} {width:.2g}"
    return f"{figure(low)} to {figure(high)}"


def chart(histogram: Histogram, overview: Overview, drawing: Drawing) -> Table:
    """Return a bar for each bin, with a mark where its end is expected."""
    from rich.table import Table
    from rich.text import Text

    assert overview.statistics is not None
    finite = overview.statistics.finite
    expected = histogram.expected
    title = (
        f"values other than 0; {percent(overview.statistics.zeros / finite)} are 0" if histogram.without_zeros else None
    )
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left", title_style="")
    table.add_column("from", justify="right")
    table.add_column(f"{drawing.measured} measured" + (f"  {drawing.mark} expected" if expected is not None else ""))
    table.add_column("measured", justify="right")
    if expected is not None:
        table.add_column("expected", justify="right")
    most = max(float(histogram.counts.max()), 0.0 if expected is None else float(expected.max()), 1.0)

    def row(name: str, count: float, wanted: float | None, bar: Text) -> None:
        table.add_row(name, bar, percent(count / finite), *([] if wanted is None else [percent(wanted / finite)]))

    if histogram.below[0] or histogram.below[1] >= 0.5:
        row("below", histogram.below[0], histogram.below[1] if expected is not None else None, Text(""))
    names = edge_names([float(edge) for edge in histogram.edges])
    for i, count in enumerate(histogram.counts.tolist()):
        wanted = None if expected is None else float(expected[i])
        row(names[i], count, wanted, bar(count / most, None if wanted is None else wanted / most, drawing))
    if histogram.above[0] or histogram.above[1] >= 0.5:
        row(names[-1], histogram.above[0], histogram.above[1] if expected is not None else None, Text(""))
    return table


def bar(share: float, expected: float | None, drawing: Drawing) -> Text:
    """Return a bar of a share of the width, with a mark at another share."""
    from rich.text import Text

    cells, part = divmod(round(share * drawing.bar * len(drawing.parts)), len(drawing.parts))
    text = drawing.full * cells + drawing.parts[part].strip()
    line = Text(text.ljust(drawing.bar + 1), "cyan")
    if expected is None:
        return line
    at = min(drawing.bar, round(expected * drawing.bar))
    inside = at < len(text) and text[at] == drawing.full
    mark = Text(drawing.mark, "black on cyan" if inside else "yellow")
    return Text.assemble(line[:at], mark, line[at + 1 :])


def edge_names(edges: list[float]) -> list[str]:
    """Return the edges of the bins, with as many digits as tell them apart."""
    width = (edges[-1] - edges[0]) / (len(edges) - 1)
    reach = max(abs(edges[0]), abs(edges[-1]))
    if reach >= 1e6 or width < 1e-5:
        digits = max(2, math.ceil(math.log10(reach / width)) + 1)
        return [f"{edge:.{digits}e}" for edge in edges]
    digits = max(0, 2 - math.floor(math.log10(width)))
    return [f"{0.0 if abs(edge) < width / 1000 else edge:.{digits}f}" for edge in edges]


def percent(share: float) -> str:
    """Return a share in percent, with digits for small ones."""
    return f"{100 * share:.3f} %" if share >= 1e-5 or share == 0 else f"{100 * share:.1e} %"


def conclusion(overview: Overview) -> Text | None:
    """Return whether the values look as expected."""
    from rich.text import Text

    right = overview.looks_right
    if right is None:
        why = overview.reason if not overview.wanted else "nothing was read"
        return Text(f"not compared: {why}; give --method (method=) to compare") if overview.statistics else None
    if right:
        return Text.assemble(
            ("looks like ", "green"),
            (overview.wanted, "bold green"),
            " (by its statistics; bigin verify compares bits)",
        )
    wrong = [check.what for check in overview.checks if not check.right]
    listed = " and ".join(filter(None, [", ".join(wrong[:-1]), wrong[-1]]))
    verb = agree(len(wrong), "is", "are")
    return Text.assemble(
        ("does not look like ", "red"), (overview.wanted, "bold red"), f": {listed} {verb} not as expected"
    )
