"""A job: one specification, one target and limits, opened together."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from bigin.core import dtypes
from bigin.core.compiling import clock
from bigin.core.errors import DamagedError, InputError, Interrupted, Terminated
from bigin.core.limits import Limits, check_flags
from bigin.core.record import Record
from bigin.core.regions import Grid
from bigin.core.text import counted, size_text
from bigin.core.threads import apart
from bigin.fillers.filler import Filler
from bigin.jobs.compare import BUFFERS, Difference, Sample, Verification, compare
from bigin.jobs.device import Choice, choose
from bigin.jobs.executors.named import check_executor, limits_for
from bigin.jobs.executors.submitted import run_submitted
from bigin.jobs.journal import Journal, done_regions
from bigin.jobs.parts import fill_part, parts_of
from bigin.jobs.report import Report
from bigin.jobs.resume import identity, plan_on, state_of
from bigin.jobs.retries import Retries, is_final
from bigin.jobs.run import Pending, Progress, journalled, run, set_up, store
from bigin.jobs.where import Where, as_fill_error
from bigin.jobs.workers import OPEN, Workers, required_memory, tell_sizes, workers_within
from bigin.spec.spec import Spec
from bigin.targets.target import Scratch, Target


@dataclass(frozen=True)
class FillOptions:
    """How a fill is done.

    overwrite: whether a target that holds other data may be filled. sync: whether data must have reached the disk
    before the record says complete. progress: called now and then, from the calling thread, with the bytes made so far
    and the bytes in all. executor: runs the parts of the fill, as `running` gives it where a text names one; None for
    threads of this process.
    """

    overwrite: bool = False
    sync: bool = True
    progress: Progress | None = None
    executor: Any = None

    def __post_init__(self) -> None:
        check_flags(overwrite=self.overwrite, sync=self.sync)
        check_progress(self.progress)
        if self.executor is not None:
            check_executor(self.executor)


def check_progress(progress: Any) -> None:
    """Refuses what cannot be called, before any work is done."""
    if progress is not None and not callable(progress):
        raise InputError(
            "expected progress to be a function of (bytes made, bytes in all), such as bigin.ProgressBar(), "
            f"got {progress!r}"
        )


log = logging.getLogger(__name__)


class Job:
    """What, where and how, opened together. A fill, a comparison and a measurement are each one call of it."""

    def __init__(
        self,
        spec: Spec,
        target: Target,
        limits: Limits,
        retries: Retries | None = None,
        where: Where | None = None,
    ) -> None:
        self.where = where  # what other processes open the target by
        self.spec = spec
        self.target = target
        self.limits = limits
        self.retries = retries or Retries(remote=target.remote)
        self._plan = spec.plan()
        self._filler: Filler | None = None

    @property
    def filler(self) -> Filler:
        """What makes the values of any region; it is made, and its kernels are compiled, when it is first needed."""
        if self._filler is None:
            self._filler = self._plan()
            tell_sizes(self.target, self._filler)
        return self._filler

    def check(self) -> None:
        """Raises InputError where a fill would, before anything is changed."""
        chosen = choose(self.target, self.filler, self.limits)
        workers_within(self.target, chosen.filler, chosen.limits)

    def fill(self, options: FillOptions) -> Report:
        """Fills the target, or continues what an earlier fill of the same values has begun.

        Raises InputError where something is wrong with what was asked for (nothing was changed), FillError where the
        fill could not be finished, Interrupted where it was interrupted.
        """
        before = clock.seconds
        chosen = choose(self.target, self.filler, self.limits)
        required_memory(self.target, chosen.filler, chosen.limits)
        compiled = clock.seconds
        record = self._record() | {"complete": False}
        start = time.perf_counter()
        self.target.sync = options.sync
        with as_fill_error(self.target.label):
            if options.executor is not None and (self.where is None or self.target.ledger is None):
                raise InputError(
                    f"{self.target.label}: expected a file or a zarr array for an executor, whose processes open it; "
                    "leave the executor out"
                )
            if self.target.ledger is None:
                made = self._fill_in_place(chosen, options.progress)
                stored = 0
            else:
                made, stored = self._fill_and_keep(chosen.filler, chosen.limits, record, options)
        record["complete"] = True
        spent = time.perf_counter() - start - (clock.seconds - compiled)
        seconds = max(0.0, spent) if made or not stored else 0.0
        compiling = clock.seconds - before
        return Report(self.target.label, made, seconds, record, stored, self.retries.count, chosen.device, compiling)

    def _record(self) -> Record:
        """The record of the values. That of an array in memory, which is not read back, omits long lists of values."""
        try:
            return self.spec.record()
        except InputError:
            if self.target.ledger is not None:
                raise
            return {"method": "values", "shape": list(self.spec.shape), "dtype": dtypes.name_of(self.spec.dtype)}

    def _fill_in_place(self, chosen: Choice, progress: Progress | None) -> int:
        """Fills a target without a ledger, such as an array in memory. A small one is filled by this thread."""
        target, filler = self.target, chosen.filler
        grid = target.grid(filler.region_bytes)
        try:
            target.start()
            if grid.block == target.shape and not filler.has_setup:
                whole = tuple((0, size) for size in target.shape)
                scratch = Scratch(filler.buffer, filler.region_bytes)
                made = store(lambda: target.block(whole, scratch), filler, lambda: False, OPEN)
                if progress is not None:
                    progress(made, made)
            else:
                workers = workers_within(target, filler, chosen.limits)
                set_up(target, filler, workers, self.limits, progress)
                made = run(target, filler, Pending(grid), workers, self.retries, progress)
            target.flush()
        except KeyboardInterrupt as stop:
            kind = Terminated if isinstance(stop, Terminated) else Interrupted
            raise kind(f"{target.label}: {_stopped(kind)}; it is partly filled") from None
        return made

    def _fill_and_keep(self, filler: Filler, limits: Limits, record: Record, options: FillOptions) -> tuple[int, int]:
        """Fills a target with a ledger. Returns the bytes made, and those that were stored before."""
        target, ledger, retries = self.target, self.target.ledger, self.retries
        assert ledger is not None
        grid, which = target.grid(filler.region_bytes), identity(record)
        retries.remote = target.remote or (retries.remote and not target.exists())
        try:
            ledger.lock()
            state = retries.attempt(lambda: state_of(target, record, overwrite=options.overwrite))
            log.info("%s: %s; the fill is %s", target.label, self.spec, state)
            if state == "done":
                ledger.clean()
                return 0, target.nbytes
            if state == "new":
                retries.attempt(lambda: ledger.begin(record))
            else:
                retries.attempt(ledger.resume)
            retries.remote = target.remote
            workers = workers_within(target, filler, limits)  # now that it is known whether it is remote
            regions = counted(len(grid), "region")
            log.info("%s: %s of up to %s, %d at once", target.label, regions, list(grid.block), workers.requests)
            plan = Pending(grid, fill=which)
            if options.executor is None or state == "begun":
                set_up(target, filler, workers, self.limits, options.progress)
            if state == "begun":
                plan = plan_on(target, filler, plan, workers.shared(BUFFERS), retries)
            if options.executor is None:
                made = run(target, filler, plan, workers, retries, options.progress)
            else:
                made = self._run_by(plan, record, options)
            self._check_stored(filler, grid, workers.shared(BUFFERS))
            retries.attempt(lambda: apart(lambda: ledger.finish(record | {"complete": True})))
        except KeyboardInterrupt as stop:
            raise self._interruption(stop, grid, which) from None
        except Exception as error:
            if is_final(error):
                with suppress(Exception):  # the first error is the one to report
                    ledger.abandon()
            raise
        return made, target.nbytes - made

    def _run_by(self, plan: Pending, record: Record, options: FillOptions) -> int:
        """Runs the parts of a plan on the executor of the options; this process keeps the journal."""
        target = self.target
        assert self.where is not None
        parts = parts_of(self.where, self._kept(record), plan, limits_for(self.limits, options.executor))
        tasks = [0, *(part.tasks.stop for part in parts)]
        return journalled(
            lambda report: run_submitted(
                options.executor, fill_part, parts, lambda size, front: report(size, tasks[front])
            ),
            Journal(target, plan.grid, plan.start, plan.fill, self.retries),
            target,
            plan,
            options.progress,
        )

    def _kept(self, record: Record) -> Record:
        """The record as the target keeps it."""
        assert self.target.ledger is not None
        return self.target.ledger.record() or record

    def _check_stored(self, filler: Filler, grid: Grid, workers: Workers) -> None:
        """Raises DamagedError where the store lists nothing of a region whose values are not its fill value."""
        target, retries = self.target, self.retries
        unstored = retries.attempt(lambda: target.unstored(grid))
        if unstored and (differences := compare(target, filler, grid, unstored, workers, retries)):
            raise DamagedError(
                f"{target.label}: expected the values that were written, got nothing in the store: {differences[0]}; "
                "check the store and rerun the same command"
            )

    def _interruption(self, stop: KeyboardInterrupt, grid: Grid, which: str) -> KeyboardInterrupt:
        """The interruption, with how far the fill got and how it continues."""
        kind = Terminated if isinstance(stop, Terminated) else Interrupted
        done = 0.0
        if self.target.exists():
            with suppress(Exception):  # then it is not known
                done = done_regions(self.target, grid, which) / max(1, len(grid))
        return kind(
            f"{self.target.label}: {_stopped(kind)}; at least {100 * done:.0f}% of {size_text(self.target.nbytes)} is "
            "stored; rerun the same command to continue"
        )

    def compare(
        self, sample: Sample, record: Record, *, repair: bool = False, progress: Progress | None = None
    ) -> Verification:
        """Makes the values of a sample of the regions again and compares them with what the target holds.

        With `repair` the differing regions are filled again, and compared once more. Raises FillError where the target
        cannot be read, or a repair does not hold.
        """
        target, filler = self.target, self.filler
        workers = workers_within(target, filler, self.limits, BUFFERS)
        grid = target.grid(filler.region_bytes)
        tasks = sample.of(len(grid))
        if target.remote and len(tasks) < len(grid):  # the store lists what it has lost, so it is always compared
            tasks = sorted({*tasks, *self.retries.attempt(lambda: target.unstored(grid))})
        total = target.nbytes * len(tasks) // max(1, len(grid))
        if repair and target.ledger is not None:
            target.ledger.lock()
        start = time.perf_counter()
        set_up(target, filler, workers, self.limits, None)
        report = None if progress is None else (lambda size: progress(min(size, total), total))
        differences = compare(target, filler, grid, tasks, workers, self.retries, report)
        if repair and differences:
            # The record of a sample would cover regions that were not compared.
            keep = len(tasks) == len(grid) or (target.ledger is not None and target.ledger.record() is not None)
            self._repair(filler, grid, differences, workers, record if keep else None)
        seconds = time.perf_counter() - start
        repaired = repair and bool(differences)
        return Verification(target.label, record, len(tasks), len(grid), total, seconds, differences, repaired=repaired)

    def _repair(
        self, filler: Filler, grid: Grid, differences: Sequence[Difference], workers: Workers, record: Record | None
    ) -> None:
        """Fills the differing regions again, and keeps the record, if there is one to keep."""
        target, ledger, again = self.target, self.target.ledger, [d.region for d in differences]
        if ledger is None:
            target.start()
        else:
            ledger.resume()
        run(target, filler, Pending(grid, len(grid), again), workers, self.retries, None)
        left = compare(target, filler, grid, again, workers, self.retries)
        if left:
            raise DamagedError(
                f"{target.label}: expected the values that were written, read other ones back: {left[0]}; the store "
                "or a codec changes what it is given"
            )
        if ledger is None:
            target.flush()
        elif record is not None:
            self.retries.attempt(lambda: apart(lambda: ledger.finish(record)))
        else:
            self.retries.attempt(lambda: apart(lambda: ledger.checkpoint({})))  # to the disk
            ledger.forget()


def _stopped(kind: type[KeyboardInterrupt]) -> str:
    return "terminated" if kind is Terminated else "interrupted"
