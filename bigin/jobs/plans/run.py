"""Running a plan on an executor: round by round, a bounded number of parts at a time, lost ones again."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import BrokenExecutor, CancelledError
from dataclasses import replace
from typing import Any

from bigin.core.errors import FillError, InputError
from bigin.jobs.executors.named import limits_for
from bigin.jobs.executors.waiting import cancel, done_of
from bigin.jobs.plans.finish import lacking_now, retries_of
from bigin.jobs.plans.plan import FILL, WorkPlan
from bigin.jobs.plans.work import Done, Options, do_part, is_finished, marked, marker
from bigin.jobs.retries import one_line
from bigin.jobs.run import Progress

AT_ONCE = 1000  # parts that are submitted and not done: enough for a scheduler, which should not hold a million tasks
ATTEMPTS = 5  # at a part whose worker was lost each time
LOOK = 5.0  # seconds between two looks for the markers of parts whose futures say nothing
REPORT = 0.1  # seconds between two reports of progress


class Run:
    """One round of a plan on an executor."""

    def __init__(self, plan: WorkPlan, which: str, executor: Any, options: Options) -> None:
        self.plan, self.which = plan, which
        self.executor = executor
        self.options = options
        self.attempts: Counter[int] = Counter()
        self.running: dict[Any, int] = {}  # futures, with their parts
        self.queue: deque[int] = deque()
        self.again: frozenset[int] = frozenset()
        self.nbytes = self.stored = 0
        self.last_error: BaseException | None = None

    def run(self, parts: Sequence[int], again: Sequence[int], progress: Progress | None) -> None:
        """Does the parts, and those that are to be done again although they have a marker.

        Raises the error of a part that no other attempt would help; FillError where workers were lost too often.
        """
        self.queue.extend([*again, *parts])
        self.again = frozenset(again)
        looked, total = time.monotonic(), len(self.queue)
        try:
            while self.queue or self.running:
                self._submit()
                done = done_of(self.running, REPORT)
                for future in done:
                    self._take(future, self.running.pop(future))
                if not done and time.monotonic() - looked > LOOK:
                    looked = time.monotonic()
                    self._look()
                if progress is not None:
                    progress(total - len(self.queue) - len(self.running), total)
        except BaseException:
            cancel(self.running)
            raise

    def _submit(self) -> None:
        while self.queue and len(self.running) < AT_ONCE:
            part = self.queue.popleft()
            self.attempts[part] += 1
            if self.attempts[part] > ATTEMPTS:
                raise FillError(
                    f"{self.plan.target}: expected part {part} of the plan to be done, but {ATTEMPTS} workers at it "
                    f"were lost, the last one with: {one_line(self.last_error)}; see their logs and rerun the "
                    "same command"
                )
            options = replace(self.options, again=part in self.again or self.options.again)
            arguments = (self.plan.ledger, self.plan.fingerprint, self.which, part, options)
            try:
                self.running[self.executor.submit(do_part, *arguments)] = part
            except (BrokenExecutor, RuntimeError) as error:
                raise FillError(
                    f"{self.plan.target}: expected an executor that takes parts, got a broken one: {one_line(error)}; "
                    "rerun with a new one"
                ) from error

    def _take(self, future: Any, part: int) -> None:
        """Handles the result of a part."""
        try:
            done: Done = future.result()
        except BrokenExecutor as error:
            if hasattr(self.executor, "renew"):
                self.executor.renew()
                self.last_error = error
                self.queue.append(part)
                return
            raise FillError(
                f"{self.plan.target}: a worker was lost, and with it the executor: {one_line(error)}; run the same "
                "again with a new one, which continues"
            ) from error
        except (InputError, FillError):
            raise
        except (Exception, CancelledError) as error:
            if not is_lost(error):
                raise FillError(
                    f"{self.plan.target}: part {part}: {one_line(error)}; fix this and rerun the same command"
                ) from error
            self.last_error = error
            self.queue.append(part)
            return
        self.stored += done.nbytes if done.stored else 0
        self.nbytes += 0 if done.stored else done.nbytes

    def _look(self) -> None:
        """Parts that are done although their futures do not say so: what is stored counts."""
        for future, part in list(self.running.items()):
            if (
                part not in self.again
                and self.plan.notes.get(marker(self.which, part)) is not None
                and not future.done()
            ):
                cancel([future])
                del self.running[future]


LOST = ("Killed", "Lost", "Cancelled", "Died", "Comm", "Crashed", "Restarted", "Unavailable", "Disconnect", "Manager")


def is_lost(error: BaseException) -> bool:
    """Whether an error says that a worker was lost, and nothing of the part. Executors have errors of their own."""
    names = [kind.__name__ for kind in type(error).__mro__]
    return isinstance(error, OSError | CancelledError) or any(word in name for name in names for word in LOST)


class Share:
    """The progress of a round as a share of that of all rounds."""

    def __init__(self, progress: Progress, number: int, rounds: int) -> None:
        self.progress, self.number, self.rounds = progress, number, rounds

    def __call__(self, done: int, total: int) -> None:
        self.progress(int(WHOLE * (self.number + done / max(1, total)) / self.rounds), WHOLE)


WHOLE = 10_000  # the progress of all rounds


def run_plan(plan: WorkPlan, executor: Any, options: Options, progress: Progress | None) -> tuple[int, int]:
    """Runs all that is left of a plan; returns the bytes made, and those that were there."""
    options = replace(options, limits=limits_for(options.limits, executor))
    made = stored = 0
    for number, which in enumerate(rounds := [*plan.rounds, FILL]):
        left, again = left_of(plan, which)
        run = Run(plan, which, executor, options)
        share = None if progress is None else Share(progress, number, len(rounds))
        run.run(left, again, share)
        made, stored = run.nbytes, run.stored
    return made, stored


def left_of(plan: WorkPlan, which: str) -> tuple[list[int], list[int]]:
    """The parts of a round without a marker, and those with one of which something is missing."""
    retries = retries_of(plan)
    if which == FILL and plan.task in ("fill", "grow"):
        if is_finished(plan, retries):
            return [], []
        missing = lacking_now(plan, retries)
        return missing.unmarked, sorted(missing.short)
    return sorted(set(range(plan.count(which))) - retries.attempt(lambda: marked(plan, which))), []
