"""The same bits from code that was compiled for other CPUs, and under other floating-point modes of the caller."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from common import CPUS, LIMIT, ROOT

import bigin

# Every draw is here, and every rounding, but not every pair of the two, each of which takes seconds to compile.
# Prints the code's fingerprint and {"distribution dtype": digest} of runs from even and odd places, long and short.
PROGRAM = """
import hashlib, json
import numpy as np
from bigin.core import dtypes
from bigin.fillers.families import plan
from bigin.kernels.files import fingerprint
from bigin.methods.distributions import Normal, TruncNormal, Uniform

shape = (2**50, 7)
regions = [((0, 10_000), (0, 7)), ((2**40 + 1, 2**40 + 3001), (0, 7)), ((2**33, 2**33 + 999), (1, 4))]
tensors = {
    "uniform": Uniform(-0.1, 0.3),
    "normal": Normal(0.25, 1.5),
    "trunc_normal": TruncNormal(0.0, 1.0, -2.0, 2.0),
    "trunc_normal, tail": TruncNormal(-20.0, 1.0, -0.5, 1.0),
    "trunc_normal, wide": TruncNormal(0.0, 1.0, -30.0, 7.0),
}
digests = {}
for kind, distribution in tensors.items():
    for name, dtype in dtypes.FLOATS.items():
        if name not in ("float32", "float64") and kind != "uniform":
            continue
        fill = plan(distribution, shape, dtype, 12345, "portable")()
        digest = hashlib.blake2b(digest_size=8)
        for region in regions:
            out = np.empty([stop - start for start, stop in region], dtype)
            fill(region, out)
            digest.update(out.tobytes())
        digests[f"{kind} {name}"] = digest.hexdigest()
from bigin.spec.keyed import KeyedSpec

keys = np.arange(0, 2**64, 2**64 // 5003, dtype=np.uint64)
for name, dim in (("float32", 13), ("float64", 24), ("bfloat16", 16)):
    fill = KeyedSpec.parse("normal", {}, 12345, "portable", dim, name).plan()()
    out = np.empty((len(keys), dim), dtypes.FLOATS[name])
    fill(keys, out)
    digests[f"keyed {name}"] = hashlib.blake2b(out.tobytes(), digest_size=8).hexdigest()
import tempfile
from pathlib import Path
from safetensors.numpy import load_file, save_file
import bigin

with tempfile.TemporaryDirectory() as folder:
    old, new = Path(folder, "old.safetensors"), Path(folder, "new.safetensors")
    save_file({"wte.weight": bigin.virtual((700, 90), "normal", seed=3, name="wte.weight")[...]}, old)
    bigin.grow_vocabulary(old, new, 800, new="mean+covariance", seed=5)
    rows = load_file(new)["wte.weight"][700:]
    digests["grown float32"] = hashlib.blake2b(rows.tobytes(), digest_size=8).hexdigest()
print(json.dumps([fingerprint(), digests]))
"""


@pytest.fixture(name="made", scope="module")
def _made():
    """What each CPU's code made: (fingerprint, digests)."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("expected an x86-64 machine, whose CPUs these are")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)

    def run(variables):
        environment = {**os.environ, "PYTHONPATH": path, **variables}
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=LIMIT, check=True)
        return json.loads(done.stdout)

    with ThreadPoolExecutor() as pool:
        return dict(zip(CPUS, pool.map(run, CPUS.values()), strict=True))


@pytest.mark.slow
def test_these_are_other_codes(made):
    """Each process compiled for its own CPU: the cache of kernels cannot have served one with another's."""
    assert len({fingerprint for fingerprint, _ in made.values()}) == len(CPUS)


@pytest.mark.slow
@pytest.mark.parametrize("cpu", [cpu for cpu in CPUS if cpu != "host"])
def test_bits_are_equal_on_other_cpus(made, cpu):
    host, other = made["host"][1], made[cpu][1]
    assert len(host) == 18
    assert len({*host.values()}) == len(host)
    assert {key for key in host if host[key] != other[key]} == set()


@pytest.fixture(name="flush")
def _flush():
    """Flush-to-zero on this thread."""
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'bigin[torch]'")
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU has no flush-to-zero")
    try:
        yield torch
    finally:
        torch.set_flush_denormal(False)


TINY = [
    ("normal", "float32", {"std": 1e-39}),
    ("normal", "float32", {"std": 1e-38}),
    ("normal", "float64", {"std": 1e-309}),
    ("normal", "bfloat16", {"std": 1e-39}),
    ("normal", "float16", {"std": 1e-6}),
    ("normal", "float8_e5m2", {"std": 1e-4}),
    ("uniform", "float32", {"a": -1e-39, "b": 2e-39}),
    ("uniform", "float64", {"a": -1e-310, "b": 2e-309}),
    ("uniform", "bfloat16", {"a": -1e-39, "b": 2e-38}),
    ("trunc_normal", "float32", {"std": 1e-39, "a": -1e-39, "b": 3e-39}),
    ("trunc_normal", "float64", {"std": 1e-309, "a": -1e-309, "b": 3e-309}),
    ("constant", "float32", {"val": 1e-40}),
    ("constant", "bfloat16", {"val": 1e-39}),
]


def made_here(method, dtype, parameters):
    from bigin.core import dtypes

    out = np.zeros((130, 31), dtypes.FLOATS[dtype])
    bigin.fill(out, method, seed=3, **parameters)
    return out.view(f"u{out.itemsize}").copy()


@pytest.mark.parametrize(("method", "dtype", "parameters"), TINY, ids=str)
def test_bits_are_equal_under_flush_to_zero(request, method, dtype, parameters):
    """A tensor's numbers, and its values, are small enough to be flushed."""
    plain = made_here(method, dtype, parameters)
    assert np.count_nonzero(plain)
    torch = request.getfixturevalue("flush")
    flushed = made_here(method, dtype, parameters)
    np.testing.assert_array_equal(flushed, plain)
    tiny = np.full(2, np.finfo(np.float32).tiny)
    assert not (tiny * np.float32(0.5)).any(), "the fill must leave the caller's mode as it was"
    assert torch.set_flush_denormal(False)
