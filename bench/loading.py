"""python -m bench.loading: torch.distributed.checkpoint.load, computed beside read from a disk."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import click
import torch
import torch.distributed.checkpoint as dcp
from torch import nn

import bigin.torch
from bigin.core.text import parse_size


def evict(folder: Path) -> None:
    """Has the system forget what it keeps of files in memory."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@click.command(
    help="Load a model of equal layers, normal and uniform, in one process; each way checked against the other."
)
@click.option("--size", default="1GiB", show_default=True, help="Bytes of the model.")
@click.option("--repeats", default=3, show_default=True, type=click.IntRange(1), help="Samples of each way.")
@click.option("--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path(), help="Disk.")
def main(size: str, repeats: int, folder: Path) -> None:
    """Measure."""
    warnings.simplefilter("ignore")
    layers = max(2, parse_size(size) // (4 * 4096 * 4096))
    with bigin.torch.deferred(seed=1) as init:
        model = nn.Sequential(*(nn.Linear(4096, 4096, bias=False) for _ in range(layers)))
        for layer in list(model)[::2]:
            nn.init.normal_(layer.weight, std=0.02)
    held = model.to_empty(device="cpu").state_dict()
    nbytes = sum(tensor.nbytes for tensor in held.values())
    with tempfile.TemporaryDirectory(dir=folder) as place:
        out = Path(place, "checkpoint")
        start = time.perf_counter()
        bigin.torch.save_dcp(init, out)
        click.echo(f"save_dcp, fsync: {nbytes / (time.perf_counter() - start) / 1e9:.2f} GB/s")
        reader = bigin.torch.reader(init)
        dcp.load(held, storage_reader=reader)
        computed = {name: tensor.clone() for name, tensor in held.items()}

        def cold() -> None:
            evict(out)

        ways: dict[str, tuple[Callable[[], None], dict[str, object]]] = {
            "computed by the reader": (lambda: None, {"storage_reader": reader}),
            "read from the page cache": (lambda: None, {"checkpoint_id": out}),
            "read from the disk": (cold, {"checkpoint_id": out}),
        }
        dcp.load(held, checkpoint_id=out)
        if not all(torch.equal(held[name], tensor) for name, tensor in computed.items()):
            raise SystemExit("expected the same values, computed and read")
        del computed
        samples: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, (prepare, given) in ways.items():
                prepare()
                start, cpu = time.perf_counter(), time.process_time()
                dcp.load(held, **given)
                spent = time.perf_counter() - start, time.process_time() - cpu
                samples[name].append((nbytes / spent[0] / 1e9, nbytes / spent[1] / 1e9))
        for name, taken in samples.items():
            wall, cpu_rates = zip(*taken, strict=True)
            click.echo(
                f"dcp.load, {name}: {statistics.median(wall):.2f} GB/s ({min(wall):.2f} - {max(wall):.2f}); "
                f"{statistics.median(cpu_rates):.2f} GB/s of CPU time"
            )


if __name__ == "__main__":
    main()
