"""Both sides of the cases of arrays without storage: a row alone, and rows in any order."""

from __future__ import annotations

from typing import Any

import numpy as np

import bigin
from bench.check import QUICK, against_reference, moments, reference
from bench.measure import Work, WrongError, burst
from bench.setting import Setting

SHAPE = (10**12, 128)  # 512 TB of float32
ROWS = 100_000  # that are gathered
SEED = 0


def places(count: int, rows: int) -> np.ndarray[Any, Any]:
    """Rows of a table, in no order."""
    return np.random.default_rng(1).integers(0, rows, count)


def compared(values: Any, rows: np.ndarray[Any, Any]) -> None:
    """Compares a few elements of rows with the reference."""
    some = np.linspace(0, len(rows) - 1, 6).astype(int)
    indices = [int(rows[i]) * SHAPE[1] + column for i in some for column in (0, 1, 127)]
    against_reference("normal", SHAPE, "float32", indices, values[some][:, [0, 1, 127]].reshape(-1))


def one_row(setting: Setting) -> Work:
    """bigin.virtual, a random row at a time."""
    w = bigin.virtual(SHAPE, "normal", seed=SEED)
    rows = places(4096, SHAPE[0])
    numbers = rows.tolist()

    def row(i: int) -> int:
        return int(w[numbers[i % 4096]].nbytes)

    return Work(lambda: burst(row, setting.seconds), lambda: compared(np.stack([w[i] for i in numbers]), rows))


def numpy_row(setting: Setting) -> Work:
    """A row that numpy draws from a generator of its own, Philox at the row's counter."""
    numbers = places(4096, SHAPE[0]).tolist()

    def draw(i: int) -> np.ndarray[Any, Any]:
        generator = np.random.Generator(np.random.Philox(key=SEED, counter=numbers[i % 4096] << 64))
        return generator.standard_normal(SHAPE[1], np.float32)

    def check() -> None:
        moments("normal", [np.concatenate([draw(i) for i in range(512)])])

    return Work(lambda: burst(lambda i: draw(i).nbytes, setting.seconds), check)


def many_rows(setting: Setting) -> Work:
    """bigin.virtual on one core, rows in any order."""
    w = bigin.virtual(SHAPE, "normal", seed=SEED, threads=1)
    rows = places(1000 if setting.size <= QUICK else ROWS, SHAPE[0])
    made: list[Any] = []

    def run() -> int:
        made[:] = [w[rows]]
        return int(made[0].nbytes)

    return Work(run, lambda: compared(made[0], rows))


def rows_in_order(setting: Setting) -> Work:
    """The same as many rows, one behind the other."""
    w = bigin.virtual(SHAPE, "normal", seed=SEED, threads=1)
    count = 1000 if setting.size <= QUICK else ROWS
    rows = np.arange(10**11, 10**11 + count)
    made: list[Any] = []

    def run() -> int:
        made[:] = [w[10**11 : 10**11 + count]]
        return int(made[0].nbytes)

    return Work(run, lambda: compared(made[0], rows))


def keyed_rows(setting: Setting) -> Work:
    """bigin.KeyedTable on one core, rows of hashed keys."""
    table = bigin.KeyedTable(SHAPE[1], "normal", seed=SEED, name="users", threads=1)
    count = 1000 if setting.size <= QUICK else ROWS
    keys = np.random.default_rng(1).integers(0, 2**64, count, np.uint64)
    made: list[Any] = []

    def run() -> int:
        made[:] = [table[keys]]
        return int(made[0].nbytes)

    def check() -> None:
        (out,) = made
        for i in (0, count // 2, count - 1):
            row = reference().keyed_row("normal", {}, SHAPE[1], "float32", SEED, "users", int(keys[i]))
            if row.tobytes() != out[i].tobytes():
                raise WrongError(f"the row of key {keys[i]} differs from the reference")

    return Work(run, check)


def torch_embedding(setting: Setting) -> Work:
    """Random rows of a torch.nn.Embedding that is in memory: a copy of what was made before."""
    import torch

    count = 1000 if setting.size <= QUICK else ROWS
    torch.set_num_threads(1)
    table = torch.nn.Embedding(10 * count, SHAPE[1])
    ids = torch.from_numpy(places(count, 10 * count))
    made: list[Any] = []

    def run() -> int:
        with torch.no_grad():
            made[:] = [table(ids)]
        return int(made[0].nbytes)

    return Work(run, lambda: moments("normal", [made[0].numpy()]))
