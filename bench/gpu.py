"""python -m bench.gpu: fills on a CUDA device beside what the device can do and what other libraries do there.

Each output of bigin is compared with the CPU's before it is timed. A peer that is not here is left out, and why.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import numpy as np

import bigin
from bigin.core.dtypes import DTYPES
from bigin.fillers.cuda.fillers import on_device
from bigin.kernels.cuda import device as cuda_device
from bigin.kernels.cuda.device import View
from bigin.spec.tensor import TensorSpec

Run = Callable[[], None]  # launches once, on the device's default stream
DRAWS = {"uniform": {}, "normal": {}, "trunc_normal": {"a": -2.0, "b": 2.0}}
AIMS = {"uniform": 0.94, "normal": 0.75}  # of the bandwidth of a copy


class Absent(Exception):  # noqa: N818 (no error: a peer that is not here)
    """Why a peer is left out."""


@dataclass
class Row:
    """A case: seconds of each run of bigin and of the peer, of so many bytes."""

    case: str
    peer: str
    nbytes: int
    ours: list[float]
    theirs: list[float]
    aim: float | None
    note: str = ""

    def cells(self) -> list[str]:
        """As the table shows it."""
        aim = "" if self.aim is None else f"{self.aim:g}x"
        if not self.theirs:
            return [self.case, pace(self.nbytes, self.ours), f"{self.peer}: left out: {self.note}", "", aim]
        ratio = statistics.median(self.theirs) / statistics.median(self.ours)
        return [
            self.case,
            pace(self.nbytes, self.ours),
            f"{self.peer}: {pace(self.nbytes, self.theirs)}",
            f"{ratio:.2f}x",
            aim,
        ]


def pace(nbytes: int, seconds: list[float]) -> str:
    """Bandwidth and time of the median run."""
    median = statistics.median(seconds)
    return f"{nbytes / median / 1e9:,.1f} GB/s ({median * 1e3:,.2f} ms)"


def timed(run: Run, repeats: int) -> list[float]:
    """Seconds of each run, by the device's clock, after two that warm it up."""
    for _ in range(2):
        run()
    if cuda_device.SIMULATED:
        return [wall(run) for _ in range(repeats)]
    from numba import cuda

    stream = cuda.legacy_default_stream()
    events = [(cuda.event(), cuda.event()) for _ in range(repeats)]
    for start, stop in events:
        start.record(stream)
        run()
        stop.record(stream)
    stream.synchronize()
    return [start.elapsed_time(stop) / 1e3 for start, stop in events]


def wall(run: Run) -> float:
    """Seconds of a run that waits for its end."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def filler_of(method: str, shape: tuple[int, ...], dtype: str, parameters: dict[str, Any]) -> Any:
    """The CPU's filler."""
    return TensorSpec.parse(method, parameters, 7, "", shape, DTYPES[dtype]).plan()()


def check(filler: Any, view: View, dtype: str, stream: Any) -> None:
    """Compares the ends and the middle of a flat fill with the CPU's."""
    (size,) = view.shape
    for start in (0, size // 2, max(0, size - 4099)):
        stop = min(start + 4099, size)
        expected = np.empty(stop - start, DTYPES[dtype])
        filler(((start, stop),), expected)
        made = cuda_device.to_host(view.at(start, (stop - start,), (1,)), DTYPES[dtype], stream)
        if made.tobytes() != expected.tobytes():
            raise SystemExit(f"{dtype}: the device's bits are not the CPU's at {start}")


def draw(method: str, dtype: str, view: View, stream: Any) -> Run:
    """bigin's draws into the whole of a flat view."""
    filler = filler_of(method, view.shape, dtype, DRAWS[method])
    made = on_device(filler, DTYPES[dtype])
    region = ((0, view.shape[0]),)
    made(region, view, stream)
    check(filler, view, dtype, stream)
    return lambda: made(region, view, stream)


def memset(view: View, nbytes: int) -> Run:
    """The fastest way to write memory."""
    if cuda_device.SIMULATED:
        raise Absent("the simulator has no driver")
    from cuda.bindings import driver

    return lambda: succeed(driver.cuMemsetD32Async(view.first, 0, nbytes // 4, driver.CUstream(1)))


def copy(view: View, nbytes: int) -> Run:
    """A copy from one half of the memory to the other: as many bytes moved as half are read and half written."""
    if cuda_device.SIMULATED:
        raise Absent("the simulator has no driver")
    from cuda.bindings import driver

    half = nbytes // 2
    return lambda: succeed(driver.cuMemcpyDtoDAsync(view.first + half, view.first, half, driver.CUstream(1)))


def succeed(result: tuple[Any, ...]) -> None:
    """Raises what the driver answers."""
    if int(result[0]) != 0:
        raise SystemExit(f"the driver says {result[0]}")


def torch_here() -> Any:
    """torch, if it has CUDA here."""
    try:
        import torch
    except ImportError:
        raise Absent("torch is not installed") from None
    if cuda_device.SIMULATED or not torch.cuda.is_available():
        raise Absent("this torch has no CUDA device")
    return torch


def torch_draw(method: str, size: int) -> Run:
    """torch's, in place."""
    torch = torch_here()
    out = torch.empty(size, device="cuda")
    if method == "trunc_normal":
        return lambda: torch.nn.init.trunc_normal_(out)
    return lambda: getattr(out, f"{method}_")()


def curand_draw(method: str, size: int) -> Run:
    """cuRAND's Philox, through cupy."""
    try:
        import cupy
    except ImportError:
        raise Absent("cupy is not installed") from None
    if cuda_device.SIMULATED:
        raise Absent("the simulator has no cuRAND")
    if method == "trunc_normal":
        raise Absent("cuRAND has no truncated normal")
    try:
        from cupy_backends.cuda.libs import curand
    except ImportError:
        from cupy.cuda import curand  # older versions
    out = cupy.empty(size, cupy.float32)
    generator = curand.createGenerator(curand.CURAND_RNG_PSEUDO_PHILOX4_32_10)
    curand.setStream(generator, 1)
    if method == "uniform":
        return lambda: curand.generateUniform(generator, out.data.ptr, size)
    return lambda: curand.generateNormal(generator, out.data.ptr, size, 0.0, 1.0)


def row(
    case: str, peer: str, nbytes: int, ours: list[float], theirs: Callable[[], list[float]], aim: float | None = None
) -> Row:
    """A row, with the peer left out where it is not here."""
    try:
        return Row(case, peer, nbytes, ours, theirs(), aim)
    except Absent as reason:
        return Row(case, peer, nbytes, ours, [], aim, str(reason))


def draws(size: int, repeats: int) -> list[Row]:
    """Every distribution in float32, and normals in other dtypes."""
    rows = []
    with cuda_device.on_stream(1) as stream:
        for method in DRAWS:
            rows += draws_of(method, cuda_device.contiguous((size,), DTYPES["float32"]), repeats, stream)
        for dtype in ("float64", "float16", "bfloat16", "float8_e4m3fn"):
            rows.append(normals_of(dtype, cuda_device.contiguous((size,), DTYPES[dtype]), repeats, stream))
    return rows


def draws_of(method: str, view: View, repeats: int, stream: Any) -> list[Row]:
    """A distribution in float32, beside what writes the same memory otherwise."""
    (size,) = view.shape
    nbytes = 4 * size
    peers: dict[str, Callable[[], Run]] = {
        "cuMemsetD32": lambda: memset(view, nbytes),
        "device copy": lambda: copy(view, nbytes),
        "cuRAND Philox": lambda: curand_draw(method, size),
        f"torch {method}_": lambda: torch_draw(method, size),
    }
    ours = timed(draw(method, "float32", view, stream), repeats)
    rows = []
    for name, make in peers.items():
        aim = AIMS.get(method) if name == "device copy" else None
        rows.append(row(f"float32 {method}", name, nbytes, ours, lambda make=make: timed(make(), repeats), aim))
    return rows


def normals_of(dtype: str, view: View, repeats: int, stream: Any) -> Row:
    """Normals of another dtype, beside the memset."""
    nbytes = view.itemsize * view.shape[0]
    ours = timed(draw("normal", dtype, view, stream), repeats)
    return row(f"{dtype} normal", "cuMemsetD32", nbytes, ours, lambda: timed(memset(view, nbytes), repeats))


class Lent:
    """A matrix on the device, as another library lends it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.memory = cuda_device.contiguous(shape, DTYPES["float32"])
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": "<f4",
            "data": (self.memory.first, False),
            "version": 3,
        }


def orthogonal(n: int, repeats: int) -> Row:
    """The whole call, its preparation too, by the wall's clock."""
    target, middle, few = Lent((n, n)), n // 2, min(3, n - n // 2)
    expected = np.empty((few, n), np.float32)

    def ours() -> None:
        bigin.fill(target, "orthogonal", seed=7)

    ours()
    filler = filler_of("orthogonal", (n, n), "float32", {})
    filler.setup(8, 64 << 30, lambda part: None)
    filler(((middle, middle + few), (0, n)), expected)
    with cuda_device.on_stream(None) as stream:
        made = cuda_device.to_host(target.memory.at(middle * n, (few, n), (n, 1)), DTYPES["float32"], stream)
    if made.tobytes() != expected.tobytes():
        raise SystemExit("orthogonal: the device's bits are not the CPU's")

    def theirs() -> list[float]:
        torch = torch_here()
        out = torch.empty(n, n, device="cuda")

        def run() -> None:
            torch.nn.init.orthogonal_(out)
            torch.cuda.synchronize()

        run()
        return [wall(run) for _ in range(repeats)]

    return row(
        f"float32 orthogonal {n:,} x {n:,}",
        "torch orthogonal_",
        4 * n * n,
        [wall(ours) for _ in range(repeats)],
        theirs,
        2.0,
    )


def store(nbytes: int, repeats: int, folder: Path) -> Row:
    """Normals into a zarr array in the page cache, against the same by the CPU."""
    shape = (nbytes // 4096, 1024)

    def run(device: str) -> float:
        with tempfile.TemporaryDirectory(prefix="bigin-gpu-", dir=folder) as place:
            return wall(lambda: bigin.fill(f"{place}/a.zarr", "normal", shape=shape, device=device, sync=False))

    run("cuda")
    times = [(run("cuda"), run("cpu")) for _ in range(repeats)]
    return Row(
        "normal into zarr, page cache", "bigin --device cpu", nbytes, [t[0] for t in times], [t[1] for t in times], None
    )


@click.command(help=__doc__)
@click.option("--repeats", default=20, show_default=True, type=click.IntRange(1))
@click.option("--elements", default=1 << 30, show_default=True, help="In an array.")
@click.option("--rows", default=4096, show_default=True, help="Of the orthogonal matrix.")
@click.option("--store", "store_bytes", default=4 << 30, show_default=True, help="Bytes in a zarr array.")
@click.option(
    "--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path(), help="Its disk."
)
@click.option("--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Keep all samples here.")
def main(repeats: int, elements: int, rows: int, store_bytes: int, folder: Path, json_path: Path | None) -> None:
    if (problem := cuda_device.problem()) is not None:
        raise click.UsageError(f"no CUDA device works here: {problem}")
    with cuda_device.on_device(0):
        name = cuda_device.device_name()
        free = cuda_device.free_memory()
        if free < 12 * elements:
            elements = free // 12 // 4096 * 4096
            click.echo(f"{elements} elements, as {free / 1e9:.1f} GB of the device are free", err=True)
        when = datetime.now(UTC).strftime("%Y-%m-%d")
        found = draws(elements, repeats)
        found += [orthogonal(rows, max(3, repeats // 4)), store(store_bytes, max(3, repeats // 4), folder)]
    click.echo(f"{name}, {when}; medians of {repeats} runs (of {max(3, repeats // 4)} for the last two)\n")
    click.echo("| case | bigin | peer | ratio | aim |\n| --- | --- | --- | --- | --- |")
    for found_row in found:
        click.echo("| " + " | ".join(found_row.cells()) + " |")
    if json_path is not None:
        rows_json = [asdict(found_row) for found_row in found]
        json_path.write_text(json.dumps({"device": name, "date": when, "cases": rows_json}, indent=2) + "\n")


if __name__ == "__main__":
    main()
