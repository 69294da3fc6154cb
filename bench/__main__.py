"""python -m bench"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench import against, check, report
from bench import measure as measuring
from bench.cases import CACHED, CASES, SMALLEST, Case
from bench.measure import WrongError, compare
from bench.setting import Setting, switches
from bigin.core.text import parse_size, size_text


@click.command(help="Measure bigin and its peers side by side in one run, each output checked.")
@click.option("--size", default="4GiB", show_default=True, help="Bytes in a file, a multiple of 16 MiB.")
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(1), help="Samples of each side.")
@click.option("--only", default="", help="Only the cases whose name or peer holds this text.")
@click.option("--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path(), help="Disk.")
@click.option("--quick", is_flag=True, help="Tiny sizes, one sample: shows that every case works, and no speed.")
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Keep all samples here.")
@click.option(
    "--against",
    "earlier",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Say what is "
    "slower than in this file of --json by more than the noise of both; exit code 1 where something is.",
)
@click.option(
    "--clock",
    type=click.Choice(["wall", "cpu"]),
    default="wall",
    show_default=True,
    help="cpu: the process's CPU time, for cases of one core in memory on a machine that is busy.",
)
@click.option("--instructions", type=click.Choice(["avx2"]), help="Have bigin and its peers use no newer instructions.")
@click.option("--markdown", is_flag=True, help="Print the README's table.")
def main(
    size: str,
    repeats: int,
    only: str,
    folder: Path,
    quick: bool,
    json_path: Path | None,
    earlier: Path | None,
    clock: str,
    instructions: str | None,
    markdown: bool,
) -> None:
    wanted = switches(instructions) if instructions else {}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, "-m", "bench", *sys.argv[1:]], {**os.environ, **wanted})
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
    measuring.clock = clock
    machine = report.machine() | {"clock": clock}
    before = None
    if earlier is not None:
        try:
            before = json.loads(earlier.read_text())
            against.require_same(machine, before)
        except (against.OtherMachineError, KeyError, ValueError) as error:
            raise click.UsageError(f"{earlier}: {error}") from error
    results = []
    with tempfile.TemporaryDirectory(prefix="bigin-bench-", dir=folder) as place:
        setting = Setting(Path(place), nbytes, 0.002 if quick else 0.3)
        for case in cases:
            result = measure(case, case.within(setting), repeats)
            results.append(result)
            progress.print(" | ".join(result.cells()), highlight=False)
        if before is not None:
            results = again(results, before, setting, repeats)
    options = {"size": nbytes, "repeats": repeats, "quick": quick, "only": only}
    found = {"machine": machine, "options": options, "cases": [r.as_dict() for r in results]}
    if json_path is not None:
        json_path.write_text(json.dumps(found, indent=2) + "\n")
    if markdown:
        click.echo(report.markdown(results, machine))
    else:
        report.print_results(results)
    behind = compared(found, before) if before is not None else False
    sys.exit(behind or any(result.wrong for result in results))


def compared(found: dict[str, Any], earlier: dict[str, Any]) -> bool:
    """Prints what is slower than before, and returns whether anything is."""
    lines, count = against.slower(found, earlier)
    for line in lines or [f"none of {count} cases is slower than before by more than the noise"]:
        click.echo(line)
    return bool(lines)


def again(results: list[report.Result], earlier: dict[str, Any], setting: Setting, repeats: int) -> list[report.Result]:
    """The results, in which a case that looks slower than before has the samples of a second measurement, too."""
    return [
        result.joined(measure(result.case, result.case.within(setting), repeats))
        if against.slower({"cases": [result.as_dict()]}, earlier)[0]
        else result
        for result in results
    ]


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
