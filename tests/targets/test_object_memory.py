"""Whether --max-memory bounds a fill of a store, with the copies that its client makes: at eight times its size."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from common import LIMIT, MIB
from servers import SERVERS, missing

MEMORY = 96 * MIB
CODE = """
import sys, warnings
import bigin

warnings.simplefilter("ignore")

def peak():
    return 1024 * int([line for line in open("/proc/self/status") if line.startswith("VmHWM")][0].split()[1])

folder, name, rows, chunk, memory = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
options = {"chunks": (chunk, 1024)} if chunk else {}
bigin.fill(f"{folder}/warm-{name}", "normal", shape=(16, 1024), **({"chunks": (16, 1024)} if chunk else {}))
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts anew
before = peak()
bigin.fill(f"{folder}/{name}", "normal", shape=(rows, 1024), max_memory=memory, threads=2, **options)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rclone", "azurite"])
@pytest.mark.parametrize(("name", "chunk"), [("w.npy", 0), ("w.zarr", 4096)])
def test_a_fill_of_eight_times_its_memory_stays_within_it(kind, name, chunk):
    if reason := missing(kind):
        pytest.skip(reason)
    with SERVERS[kind]() as server:
        rows = 8 * MEMORY // 4096
        command = [sys.executable, "-c", CODE, server.root, name, str(rows), str(chunk), str(MEMORY)]
        environment = {**os.environ, **server.environment}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 1.05 * MEMORY
