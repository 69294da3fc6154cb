"""python -m bench"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console

from bench import check, report
from bench.cases import CACHED, CASES, SMALLEST, Case
from bench.measure import WrongError, compare
from bench.setting import Setting
from bigin.core.text import parse_size, size_text


@click.command(help="Measure bigin and its peers side by side: ratios of speeds in one run, each output checked.")
@click.option("--size", default="4GiB", show_default=True, help="Bytes in a file, a multiple of 16 MiB.")
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1), help="Samples of each side.")
@click.option("--only", default="", help="Only the cases whose name or peer holds this text.")
@click.option("--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path(), help="Disk.")
@click.option("--quick", is_flag=True, help="Tiny sizes, one sample: shows that every case works, and no speed.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Keep all samples here.")
@click.option("--markdown", is_flag=True, help="Print the README's table.")
def main(size: str, repeats: int, only: str, folder: Path, quick: bool, json_path: Path | None, markdown: bool) -> None:
    step = CACHED * SMALLEST
    nbytes = SMALLEST if quick else parse_size(size)
    repeats = 1 if quick else repeats
    cases = [c for c in CASES if only.lower() in f"{c.name} {c.peer_name}".lower()]
    if not cases:
        raise click.UsageError(f"no case holds {only!r}")
    if nbytes % step and not quick:
        raise click.UsageError(f"expected a size that is a multiple of {size_text(step)}, got {size}")
    if not check.REFERENCE.exists():
        raise click.UsageError(f"expected {check.REFERENCE}, which outputs are compared with; run in a checkout")
    free = shutil.disk_usage(folder).free
    if free < nbytes * 1.1:
        raise click.UsageError(f"expected {size_text(nbytes)} of disk in {folder}, got {size_text(free)} free")

    progress = Console(stderr=True)
    machine = report.machine()
    results = []
    with tempfile.TemporaryDirectory(prefix="bigin-bench-", dir=folder) as place:
        setting = Setting(Path(place), nbytes, 0.002 if quick else 0.3)
        for case in cases:
            result = measure(case, case.within(setting), repeats)
            results.append(result)
            progress.print(" | ".join(result.cells()), highlight=False)
    if json_path is not None:
        options = {"size": nbytes, "repeats": repeats, "quick": quick, "only": only}
        found = {"machine": machine, "options": options, "cases": [r.as_dict() for r in results]}
        json_path.write_text(json.dumps(found, indent=2) + "\n")
    if markdown:
        click.echo(report.markdown(results, machine))
    else:
        Console(width=None if sys.stdout.isatty() else 200).print(report.table(results))
    sys.exit(any(result.wrong for result in results))


def measure(case: Case, setting: Setting, repeats: int) -> report.Result:
    """A case's result; a peer that cannot be imported skips it."""
    try:
        peer = case.peer(setting)
    except ImportError as error:
        return report.Result(case, setting.size, skipped=str(error))
    try:
        return report.Result(case, setting.size, compare(case.ours(setting), peer, repeats))
    except WrongError as error:
        return report.Result(case, setting.size, wrong=str(error))


main()
