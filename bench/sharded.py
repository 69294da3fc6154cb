"""Sharded arrays of jax: bigin against jax.nn.initializers under jit, with the same sharding. Time and peak memory.

python -m bench.sharded [--size 268435456] [--repeats 3] [--quick]. Each figure comes from a process of its own, with 8
devices of the CPU. Memory is the most that the calls add to what the process has before them, with the array itself.
Orthogonal matrices have a sixteenth of the size. CPU time is that of all threads, the user's and the system's.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEVICES = 8
METHODS = {"normal": {}, "glorot_uniform": {}, "he_normal": {}, "orthogonal": {}}
WAYS = {
    "jax": "jax.nn.initializers in jit, out_shardings",
    "array": "bigin.jax.array, sharding",
    "initializer": "bigin.jax.initializer in jit, out_sharding",
}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=256 << 20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=METHODS)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # in a process of its own: way, method, dtype
    options = parser.parse_args(arguments)
    size, repeats = (1 << 20, 1) if options.quick else (options.size, options.repeats)
    if options.one:
        print(json.dumps(measured(*options.one, size, repeats)))
        return
    print(f"{size >> 20} MiB in {DEVICES} shards (4 x 2), median of {repeats}")
    print("| values | way | first call, s | CPU, s | next, s | CPU, s | GB/s | peak memory, MiB |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for method in [options.only] if options.only else METHODS:
        for dtype in ("float32", "bfloat16") if method == "normal" else ("float32",):
            for way, label in WAYS.items():
                found = apart(way, method, dtype, size if method != "orthogonal" else size // 16, repeats)
                print(f"| {method}, {dtype} | {label} | {found} |", flush=True)


def apart(way: str, method: str, dtype: str, size: int, repeats: int) -> str:
    """The figures of one way, from another process; what is wrong where it has none."""
    command = [sys.executable, "-m", "bench.sharded", "--one", way, method, dtype]
    environment = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [*command, "--size", str(size), "--repeats", str(repeats)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        return f"{done.stderr.strip().splitlines()[-1][:100]} | | | | |"
    found = json.loads(done.stdout.splitlines()[-1])
    rate = found["bytes"] / found["next"] / 1e9
    first, after = (f"{found[name]:.3g} | {found[name + '_cpu']:.3g}" for name in ("first", "next"))
    return f"{first} | {after} | {rate:.2g} | {found['peak'] / (1 << 20):.0f}"


def measured(way: str, method: str, dtype: str, size: int, repeats: int) -> dict[str, float]:
    """Seconds of the first call, which compiles, and of the next ones, and the memory that these add."""
    make = maker(way, method, dtype, size)
    before = memory("VmRSS")
    start, used = time.perf_counter(), time.process_time()
    count = make(0)
    first, first_cpu = time.perf_counter() - start, time.process_time() - used
    times, cpu, peaks = [], [], []
    for seed in range(1, repeats + 1):
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the highest memory is counted from now on
        start, used = time.perf_counter(), time.process_time()
        make(seed)
        times.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
        peaks.append(memory("VmHWM") - before)
    found = {"first": first, "first_cpu": first_cpu, "peak": statistics.median(peaks), "bytes": count}
    return found | {"next": statistics.median(times), "next_cpu": statistics.median(cpu)}


def maker(way: str, method: str, dtype: str, size: int) -> Callable[[int], int]:
    """What makes the array of a seed, waits for it and returns its bytes."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    import bigin.jax

    mesh = jax.make_mesh((DEVICES // 2, 2), ("x", "y"))
    sharding = NamedSharding(mesh, PartitionSpec("x", "y"))
    side = 64
    while (2 * side) ** 2 * jax.numpy.dtype(dtype).itemsize <= size:
        side *= 2
    shape = (side, size // jax.numpy.dtype(dtype).itemsize // side)
    if way == "jax":
        theirs = getattr(jax.nn.initializers, method)(**METHODS[method])
        drawn = jax.jit(lambda key: theirs(key, shape, dtype), out_shardings=sharding)
    elif way == "initializer":
        ours = bigin.jax.initializer(method, **METHODS[method])
        drawn = jax.jit(lambda key: ours(key, shape, dtype, sharding))

    def make(seed: int) -> int:
        made: Any
        if way == "array":
            made = bigin.jax.array(shape, method, sharding=sharding, seed=seed, dtype=dtype, **METHODS[method])
        else:
            made = drawn(jax.random.key(seed))
        return int(made.block_until_ready().nbytes)

    return make


def memory(line: str) -> int:
    """Bytes that the system counts for this process: VmRSS now, VmHWM at its highest."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{line}:")[1].split()[0]) * 1024


if __name__ == "__main__":
    main()
