"""Rows by key: made by several threads, written as a dump, and a dump compared."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bigin.core import dtypes
from bigin.core.compiling import clock
from bigin.core.errors import FillError, InputError
from bigin.core.limits import Limits
from bigin.core.record import Record
from bigin.core.text import counted
from bigin.core.threads import map_threads
from bigin.fillers.filler import Array
from bigin.fillers.keyed import RowFiller
from bigin.jobs.compare import Difference, Sample, Verification
from bigin.jobs.report import Report
from bigin.jobs.run import Progress
from bigin.spec.keyed import KeyedSpec
from bigin.spec.keys import parse_keys
from bigin.targets.dumps import KEY, SCORE, Dump, keep_record
from bigin.targets.memory import BLOCK

GIVEN = "given"  # of scores in a record: each key has its own
BATCH = 16 << 20  # bytes of rows that are made and written together


def make_rows(filler: RowFiller, keys: Array, out: Array, threads: int) -> None:
    """Fill rows, by several threads if there are many."""
    step = max(1, BLOCK // (filler.dim * filler.dtype.itemsize))
    if len(keys) <= step:
        filler(keys, out)
        return
    map_threads(lambda i: filler(keys[i : i + step], out[i : i + step]), range(0, len(keys), step), threads)


def batches_of(keys: Any, step: int) -> Iterator[Array]:
    """Keys, so many at once, as uint64: of an array, or of an iterator of arrays."""
    if hasattr(keys, "__len__") and hasattr(keys, "__getitem__") and not isinstance(keys, Mapping):
        keys = keys.reshape(-1) if isinstance(keys, np.ndarray) else keys
        for first in range(0, len(keys), step):
            yield from _pieces(keys[first : first + step], step)
    elif isinstance(keys, Iterable) and not isinstance(keys, Mapping):
        for part in keys:
            yield from _pieces(part, step)
    else:
        raise InputError(f"expected keys in an array, a file or an iterator of arrays, got {type(keys).__name__}")


def _pieces(keys: Any, step: int) -> Iterator[Array]:
    numbers, _ = parse_keys(keys)
    for first in range(0, len(numbers), step):
        yield numbers[first : first + step]


def keys_in(path: Path, what: str = "keys") -> Array:
    """The keys in a file, mapped into memory: a .npy file of integers, or int64 as a dump has them."""
    try:
        if path.suffix == ".npy":
            array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        else:
            size = path.stat().st_size
            if size % KEY.itemsize:
                raise InputError(f"{path}: expected int64 {what}, got {size} bytes, which is not a multiple of 8")
            array = np.memmap(path, KEY, "r") if size else np.empty(0, KEY)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: expected a file of {what}, got: {reason}") from None
    if array.dtype.kind not in "iu":
        raise InputError(f"{path}: expected integer {what}, got {array.dtype.name}")
    return array


Scores = Array | int | None  # one for each key, in their order; the same for all; or none


def parse_scores(scores: Any) -> Scores:
    """Scores as a caller gives them; raises InputError for anything else."""
    if scores is None:
        return None
    if isinstance(scores, str | Path):
        held = keys_in(Path(scores), "scores").reshape(-1)
    elif hasattr(scores, "__index__") and not isinstance(scores, bool | np.ndarray):
        if not -(1 << 63) <= scores.__index__() < 1 << 63:
            raise InputError(f"expected a score to be an int64, got {scores}")
        return int(scores.__index__())
    else:
        held = np.asarray(scores).reshape(-1)
    if held.dtype.kind not in "iu":
        raise InputError(f"expected scores to be integers, got {type(scores).__name__} of {held.dtype.name}")
    return held


def scores_of(scores: Array | int, first: int, count: int) -> Array:
    """The scores of so many keys from one on; raises InputError where there are fewer."""
    if isinstance(scores, int):
        return np.full(count, scores, SCORE)
    if first + count > len(scores):
        raise InputError(
            f"expected a score for each key, got {counted(len(scores), 'score')} for at least {first + count}"
        )
    return scores[first : first + count].astype(SCORE)


def write_dump(
    spec: KeyedSpec, keys: Any, dump: Dump, limits: Limits, progress: Progress | None, scores: Scores = None
) -> Report:
    """Writes the rows of keys, each to the rank key % world_size, in the order of the keys."""
    start, compiled = time.perf_counter(), clock.seconds
    filler = spec.plan()()
    row = spec.dim * spec.dtype.itemsize
    if isinstance(keys, str | Path):
        keys = keys_in(Path(keys))
    total = row * (keys.size if isinstance(keys, np.ndarray) else len(keys) if hasattr(keys, "__len__") else 0)
    counts, done = np.zeros(dump.world_size, np.int64), 0
    try:
        with dump.writing() as files:
            for part in batches_of(keys, max(1, BATCH // row)):
                ranks = (part % np.uint64(dump.world_size)).astype(np.int64)
                order = np.argsort(ranks, kind="stable")
                sizes = np.bincount(ranks, minlength=dump.world_size)
                values = np.empty((len(part), spec.dim), spec.dtype)
                make_rows(filler, np.ascontiguousarray(part[order]), values, limits.threads)
                columns: list[Array] = [part[order].astype(KEY), values.view(np.uint8)]
                if scores is not None:
                    columns.append(scores_of(scores, done, len(part))[order])
                first = 0
                for rank in np.flatnonzero(sizes):
                    stop = first + int(sizes[rank])
                    for file, column in zip(files[rank], columns, strict=True):
                        file.write(column[first:stop].data)
                    first = stop
                counts += sizes
                done += len(part)
                if progress is not None:
                    progress(done * row, max(total, done * row))
            if isinstance(scores, np.ndarray) and len(scores) != done:
                raise InputError(
                    f"expected a score for each key, got {counted(len(scores), 'score')} for {counted(done, 'key')}"
                )
    except OSError as error:
        raise FillError(f"{dump.folder}: the dump could not be written: {error.strerror}") from error
    record = spec.record() | {"world_size": dump.world_size, "rows": counts.tolist(), "complete": True}
    if scores is not None:
        record["scores"] = scores if isinstance(scores, int) else GIVEN
    keep_record(dump, record)
    compiling = clock.seconds - compiled
    seconds = time.perf_counter() - start - compiling
    return Report(str(dump.folder), done * row, seconds, record, compiling=compiling)


@dataclass(frozen=True)
class Block:
    """A region of a dump: rows of a rank."""

    number: int
    rank: int
    start: int
    stop: int


def compare_dump(
    dump: Dump, record: Record, limits: Limits, sample: Sample, progress: Progress | None = None
) -> Verification:
    """Makes the rows of a dump's keys again and compares them with its values; keys must be those of their rank."""
    spec = KeyedSpec.from_record(record)
    start = time.perf_counter()
    filler = spec.plan()()
    row = spec.dim * spec.dtype.itemsize
    step = max(1, BATCH // row)
    blocks = [
        (rank, first, min(first + step, rows))
        for rank, rows in enumerate(record["rows"])
        for first in range(0, max(1, rows), step)
    ]
    chosen = [Block(number, *blocks[number]) for number in sample.of(len(blocks))]
    nbytes = sum(block.stop - block.start for block in chosen) * row
    done, lock = [0], threading.Lock()

    def compare(block: Block) -> list[Difference]:
        found = compare_block(dump, filler, block, record)
        with lock:
            done[0] += (block.stop - block.start) * row
            if progress is not None:
                progress(done[0], nbytes)
        return found

    found = map_threads(compare, chosen, limits.threads)
    seconds = time.perf_counter() - start
    differences = [difference for part in found for difference in part]
    return Verification(str(dump.folder), record, len(chosen), len(blocks), nbytes, seconds, differences)


def compare_block(dump: Dump, filler: RowFiller, block: Block, record: Record) -> list[Difference]:
    """What differs in a block: its keys that belong to another rank, its values, or files that are no dump's."""
    rows = int(record["rows"][block.rank])
    count, unsigned = block.stop - block.start, dtypes.unsigned(filler.dtype)
    width = filler.dim * (filler.dtype.itemsize // unsigned.itemsize)
    paths = [dump.path(kind, block.rank) for kind in dump.kinds]
    keys, values = paths[:2]
    sizes = (KEY.itemsize, width * unsigned.itemsize, SCORE.itemsize)
    for path, size in zip(paths, (rows * each for each in sizes), strict=False):
        try:
            got = path.stat().st_size
        except OSError as error:
            return [Difference(block.number, path.name, count, (block.start,), str(error.strerror))]
        if got != size:
            return [Difference(block.number, path.name, count, (block.start,), f"expected {size} bytes, got {got}")]
    numbers = np.fromfile(keys, KEY, count, offset=block.start * KEY.itemsize).astype(np.int64).view(np.uint64)
    size = width * unsigned.itemsize
    stored = np.fromfile(values, unsigned, count * width, offset=block.start * size).reshape(count, width)
    made = np.empty((count, filler.dim), filler.dtype)
    filler(numbers, made)
    compared = [
        (keys, (numbers % np.uint64(dump.world_size) != np.uint64(block.rank))[:, None]),
        (values, stored != made.view(unsigned)),
    ]
    if isinstance(record.get("scores"), int):
        scores = np.fromfile(paths[2], SCORE, count, offset=block.start * SCORE.itemsize)
        compared.append((paths[2], (scores != record["scores"])[:, None]))
    found = []
    for path, wrong in compared:
        if wrong.any():
            first, column = np.argwhere(wrong)[0].tolist()
            at = (first + block.start, column) if path is values else (first + block.start,)
            where = f"{path.name}, rows {block.start}-{block.stop}"
            found.append(Difference(block.number, where, int(wrong.sum()), at))
    return found
