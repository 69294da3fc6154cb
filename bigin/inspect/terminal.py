"""An overview as text: in colours on a terminal, plain in a pipe."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bigin.core.text import size_text

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from bigin.inspect.checks import Verdict
    from bigin.inspect.overview import Histogram, Overview

ROWS = 17  # of the histogram
BAR = 44  # columns of the longest bar
WIDTH = 100  # where there is no terminal
EIGHTHS = " ▏▎▍▌▋▊▉"


def print_overview(overview: Overview) -> None:
    """Prints it."""
    from rich.console import Console

    console = Console()
    if console.is_terminal:
        console.print(*parts(overview), sep="\n")
        return
    console = Console(width=WIDTH, color_system=None)
    with console.capture() as captured:
        console.print(*parts(overview), sep="\n")
    print("\n".join(line.rstrip() for line in captured.get().rstrip().split("\n")))


def parts(overview: Overview) -> Iterator[Table | Text]:
    """What is printed, with blank lines between."""
    from rich.text import Text

    yield facts(overview)
    if overview.statistics is not None:
        yield Text()
        yield statistics(overview)
        if histogram := overview.histogram(ROWS):
            yield Text()
            yield chart(histogram, overview)
    if line := conclusion(overview):
        yield Text()
        yield line


def grid() -> Table:
    """A table without lines."""
    from rich.table import Table

    return Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))


def facts(overview: Overview) -> Table:
    """What the target is."""
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
        rows.append(("progress", f"{100 * overview.done:.1f}% has reached the disk; the same fill goes on from there"))
    if overview.statistics is not None:
        rows.append(("read", read(overview)))
    table = grid()
    for name, text in rows:
        table.add_row(Text(name, "bold"), Text(text, overflow="fold"))
    return table


def layout(overview: Overview) -> str:
    """How the values lie."""
    has = overview.layout
    said = [has["format"]]
    if "chunks" in has:
        said.append(f"chunks of {times(has['chunks'])}")
        if has["shards"]:
            said.append(f"in shards of {times(has['shards'])}")
        said.append(", ".join(has["codecs"]) or "no codec")
    if "order" in has:
        said.append(f"{has['order']} order")
    if "byte_order" in has and overview.nbytes > math.prod(overview.shape):
        said.append(f"{has['byte_order']}-endian")
    if has.get("offset"):
        said.append(f"from byte {has['offset']} on")
    if "strides" in has:
        said.append(f"strides of {times(has['strides'])} bytes" if has["strides"] else "")
    return ", ".join(filter(None, said))


def times(sizes: list[int]) -> str:
    """Sizes with crosses between them."""
    return "x".join(map(str, sizes)) or "one value"


def stored(overview: Overview) -> str:
    """What it takes."""
    part = f"{overview.stored_bytes / overview.nbytes:.3g} of the values' size" if overview.nbytes else ""
    has = overview.layout
    what = "shards" if has.get("shards") else "chunks"
    count = f"{has['stored']:,} of {has['of']:,} {what}" if "stored" in has else ""
    return ", ".join(filter(None, [size_text(overview.stored_bytes), part, count]))


def record(overview: Overview) -> str:
    """What it was filled with."""
    record = overview.record
    if record is None:
        return "none"
    from bigin.core.errors import InputError
    from bigin.spec.tensor import TensorSpec

    try:
        said = [str(TensorSpec.from_record(record)).rsplit(", ", 1)[0]]
    except InputError:
        said = [overview.reason or "none that can be used"]
    said += [f"{key} {record[key]}" for key in ("region", "stretch") if key in record]
    said.append(f"stream {record.get('stream')}, bigin {record.get('bigin')}")
    said.append("complete" if record.get("complete") is True else "not complete")
    return ", ".join(said)


def read(overview: Overview) -> str:
    """How much was read, and how fast."""
    found = overview.statistics
    assert found is not None
    size = found.count * overview.nbytes // max(1, math.prod(overview.shape))
    speed = size / max(overview.seconds, 1e-9) / 1e9
    many = f"{found.count:,} value{'' if found.count == 1 else 's'}"
    part = "" if found.count == math.prod(overview.shape) else f" ({overview.regions:,} of {overview.total:,} regions)"
    return f"{many}{part} in {overview.seconds:.2f} s, {speed:.2f} GB/s"


def statistics(overview: Overview) -> Table:
    """A line for each statistic, with what was promised."""
    from rich.table import Table
    from rich.text import Text

    found = overview.statistics
    assert found is not None
    if not overview.verdicts:
        rows = [("mean", found.mean), ("std", found.std), ("min", found.minimum), ("max", found.maximum)]
        table = grid()
        for name, value in rows:
            table.add_row(Text(name, "bold"), figure(value))
        for name, count in (("zeros", found.zeros), ("NaN", found.nan), ("infinite", sum(found.infinite))):
            table.add_row(Text(name, "bold"), f"{count:,}")
        return table
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("")
    for name in ("measured", "promised", "off by"):
        table.add_column(name, justify="right")
    table.add_column("")
    for verdict in overview.verdicts:
        off = "" if verdict.off is None else f"{verdict.off:+.1f} sigma"
        mark = Text("ok", "green") if verdict.right else Text("WRONG", "bold red")
        table.add_row(Text(verdict.what, "bold"), figure(verdict.got), promised(verdict), off, mark)
    return table


def figure(value: float) -> str:
    """A number with six digits; counts whole."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


def promised(verdict: Verdict) -> str:
    """The range that a right fill stays in."""
    low, high = verdict.low, verdict.high
    if verdict.what == "CDF distance":
        return f"at most {high:.3g}"
    middle, width = (low + high) / 2, (high - low) / 2
    if width <= 1e-9 * abs(middle):
        return figure(int(low) if isinstance(verdict.got, int) else low)
    if figure(low) == figure(high):
        return f"about {figure(middle)}"
    if verdict.what in ("mean", "rms"):
        return f"{0.0 if abs(middle) < 1e-9 * width else middle:.6g} ± {width:.2g}"
    return f"{figure(low)} to {figure(high)}"


def chart(histogram: Histogram, overview: Overview) -> Table:
    """A bar for each bin, with a mark where its end is expected."""
    from rich.table import Table
    from rich.text import Text

    assert overview.statistics is not None
    finite = overview.statistics.finite
    expected = histogram.expected
    title = (
        f"values other than 0, which {percent(overview.statistics.zeros / finite)} are"
        if histogram.without_zeros
        else None
    )
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left", title_style="")
    table.add_column("from", justify="right")
    table.add_column("▌ measured" + ("  │ promised" if expected is not None else ""))
    table.add_column("measured", justify="right")
    if expected is not None:
        table.add_column("promised", justify="right")
    most = max(float(histogram.counts.max()), 0.0 if expected is None else float(expected.max()), 1.0)

    def row(name: str, count: float, wanted: float | None, bar: Text) -> None:
        table.add_row(name, bar, percent(count / finite), *([] if wanted is None else [percent(wanted / finite)]))

    if histogram.below[0] or histogram.below[1] >= 0.5:
        row("below", histogram.below[0], histogram.below[1] if expected is not None else None, Text(""))
    names = edge_names([float(edge) for edge in histogram.edges])
    for i, count in enumerate(histogram.counts.tolist()):
        wanted = None if expected is None else float(expected[i])
        row(names[i], count, wanted, bar(count / most, None if wanted is None else wanted / most))
    if histogram.above[0] or histogram.above[1] >= 0.5:
        row(names[-1], histogram.above[0], histogram.above[1] if expected is not None else None, Text(""))
    return table


def bar(share: float, expected: float | None) -> Text:
    """A bar of a share of the width, with a mark at another share."""
    from rich.text import Text

    eighths = round(share * BAR * 8)
    text = "█" * (eighths // 8) + EIGHTHS[eighths % 8].strip()
    line = Text(text.ljust(BAR + 1), "cyan")
    if expected is None:
        return line
    place = min(BAR, round(expected * BAR))
    inside = place < len(text)
    mark = Text("│", "black on cyan" if inside and text[place] == "█" else "yellow")
    return Text.assemble(line[:place], mark, line[place + 1 :])


def edge_names(edges: list[float]) -> list[str]:
    """The bins' edges with as many digits as tell them apart."""
    width = (edges[-1] - edges[0]) / (len(edges) - 1)
    reach = max(abs(edges[0]), abs(edges[-1]))
    if reach >= 1e6 or width < 1e-5:
        digits = max(2, math.ceil(math.log10(reach / width)) + 1)
        return [f"{edge:.{digits}e}" for edge in edges]
    digits = max(0, 2 - math.floor(math.log10(width)))
    return [f"{0.0 if abs(edge) < width / 1000 else edge:.{digits}f}" for edge in edges]


def percent(share: float) -> str:
    """A share, with digits that tell small ones."""
    return f"{100 * share:.3f} %" if share >= 1e-5 or share == 0 else f"{100 * share:.1e} %"


def conclusion(overview: Overview) -> Text | None:
    """Whether the values look like what they should be."""
    from rich.text import Text

    right = overview.looks_right
    if right is None:
        why = overview.reason if not overview.wanted else "nothing was read"
        return (
            Text(f"compared with nothing: {why}; --method says what to compare with") if overview.statistics else None
        )
    if right:
        return Text.assemble(
            ("looks like ", "green"),
            (overview.wanted, "bold green"),
            " (by its statistics; bigin verify compares bits)",
        )
    wrong = [verdict.what for verdict in overview.verdicts if not verdict.right]
    said = " and ".join(filter(None, [", ".join(wrong[:-1]), wrong[-1]]))
    verb = "is" if len(wrong) == 1 else "are"
    return Text.assemble(
        ("does not look like ", "red"), (overview.wanted, "bold red"), f": {said} {verb} not what it promises"
    )
