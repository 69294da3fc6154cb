"""Generators of random numbers that a skeptic will name, on one core, and Random123's own C as the bound for words."""

from __future__ import annotations

import ctypes
import importlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit

from bench.check import moments, pieces, reference
from bench.measure import Work, WrongError, burst
from bench.peers import BLOCK, in_memory
from bench.setting import Setting
from bigin.kernels.words import words_from
from bigin.rng.instructions import instruction_set

SOURCE = """
#include <Random123/philox.h>
#include <string.h>
void words(uint32_t *out, int64_t count, uint64_t first, uint64_t stream, uint64_t seed) {
    philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
    for (int64_t i = 0; i < count; i++) {
        uint64_t block = first + i;
        philox4x32_ctr_t counter = {{block, block >> 32, stream, stream >> 32}};
        counter = philox4x32(counter, key);
        memcpy(out + 4 * i, counter.v, 16);
    }
}
"""
STREAM, SEED = 0x1234567890, 5
COUNT = BLOCK // 16  # blocks of Philox in a block of bytes


def jax_block(setting: Setting, method: str) -> Work:
    """jax.random (threefry) of float32, compiled, on one core as far as XLA can be told."""
    if "XLA_FLAGS" not in os.environ:
        os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    jax = importlib.import_module("jax")
    draw = jax.jit(getattr(jax.random, method), static_argnums=1)
    cpu = jax.devices("cpu")[0]  # also where jax would rather take a GPU
    with jax.default_device(cpu):
        keys = [jax.random.key(i) for i in range(8)]
    made = {}

    def block(i: int) -> int:
        with jax.default_device(cpu):
            made[0] = draw(keys[i % len(keys)], (BLOCK // 4,)).block_until_ready()
        return BLOCK

    return Work(lambda: burst(block, setting.seconds), lambda: moments(method, pieces(np.asarray(made[0]))))


def mkl(setting: Setting, method: str, generator: str) -> Work:
    """Intel MKL by mkl_random, float64; it makes a new array for each call."""
    state = importlib.import_module("mkl_random").RandomState(1, brng=generator)
    draw = {"uniform": state.random_sample, "normal": state.standard_normal}[method]
    return new_arrays(setting, method, lambda: draw(BLOCK // 8))


def randomgen(setting: Setting, method: str, generator: str) -> Work:
    """randomgen's bit generator in numpy's Generator, float64."""
    numbers = np.random.Generator(getattr(importlib.import_module("randomgen"), generator)(1))
    out = np.empty(BLOCK // 8)
    draw = {"uniform": numbers.random, "normal": numbers.standard_normal}[method]
    return in_memory(setting, method, out, lambda: draw(out=out))


def dgen(setting: Setting, method: str) -> Work:
    """dgen-py's float32 uniforms on one thread; it makes a new buffer for each call."""
    make = importlib.import_module("dgen_py").generate_uniform
    return new_arrays(setting, method, lambda: np.frombuffer(make(BLOCK // 4, max_threads=1, seed=1), np.float32))


def new_arrays(setting: Setting, method: str, make: Any) -> Work:
    """A peer that returns a new block each time."""
    made = {}

    def block(i: int) -> int:
        made[0] = make()
        return int(made[0].nbytes)

    return Work(lambda: burst(block, setting.seconds), lambda: moments(method, pieces(made[0])))


def words(setting: Setting) -> Work:
    """bigin's words of consecutive blocks."""
    out = np.empty(4 * COUNT, np.uint32)
    make = njit(nogil=True)(lambda out, first, stream, key: words_from(out, first, stream, key))

    def block(i: int) -> int:
        make(out, np.uint64(i * COUNT), np.uint64(STREAM), np.uint64(SEED))
        return out.nbytes

    return Work(lambda: burst(block, setting.seconds), lambda: checked(block, out))


def random123(setting: Setting) -> Work:
    """Random123's philox4x32 in a loop, compiled here for the same instruction set."""
    function = compiled()
    out = np.empty(4 * COUNT, np.uint32)

    def block(i: int) -> int:
        function(out.ctypes.data, COUNT, i * COUNT, STREAM, SEED)
        return out.nbytes

    return Work(lambda: burst(block, setting.seconds), lambda: checked(block, out))


def compiled() -> Any:
    """The C loop; ImportError where no compiler or no header is installed."""
    target = {"avx2": "haswell"}.get(instruction_set(), "native")
    with tempfile.TemporaryDirectory(prefix="bigin-bench-") as folder:
        source, library = Path(folder) / "words.c", Path(folder) / "words.so"
        source.write_text(SOURCE)
        command = ["cc", "-O3", f"-march={target}", "-shared", "-fPIC", "-o", str(library), str(source)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ImportError("No module named Random123: install a C compiler and librandom123-dev") from error
        function = ctypes.CDLL(str(library)).words
    function.argtypes = [ctypes.c_void_p, ctypes.c_int64, *[ctypes.c_uint64] * 3]
    function.restype = None
    return function


def checked(block: Any, out: np.ndarray[Any, Any]) -> None:
    """Compares some words with the reference's."""
    for i in (0, 70_000):
        block(i)
        for j in (0, 1, COUNT // 2 + 3, COUNT - 1):
            expected = reference().block_words(i * COUNT + j, STREAM, SEED)
            if out[4 * j : 4 * j + 4].tolist() != list(expected):
                raise WrongError(f"the words of block {i * COUNT + j} are not the reference's")
