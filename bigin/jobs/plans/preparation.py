"""What is prepared once for all parts of a plan, in parts of its own."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bigin.core.limits import Limits
from bigin.fillers.filler import Filler, SetupProgress
from bigin.fillers.model import LateFiller, ModelFiller, SetUp
from bigin.jobs.plans.plan import WorkPlan
from bigin.jobs.workers import Workers, worker_memory
from bigin.methods.distributions import Orthogonal
from bigin.spec.model import Composed, ModelSpec
from bigin.spec.record import spec_of
from bigin.spec.spec import Spec
from bigin.spec.tensor import TensorSpec
from bigin.targets.part_ledger import PartLedger
from bigin.targets.target import Target

if TYPE_CHECKING:
    from bigin.fillers.orthogonal_parts import Preparation, Store

KEPT = 2  # fillers that a process keeps for its next parts
ROUNDS = ("gram", "triangle")


@dataclass(frozen=True)
class Prepared:
    """A matrix of a plan that is prepared in rounds: which filler's it is, its specification, and its parts."""

    number: int  # among the tensors of a model, or the parts of those that are composed
    spec: TensorSpec
    parts: Mapping[str, int]  # of each round
    alone: bool  # whether it is all that the plan fills

    def store(self, notes: PartLedger) -> Store:
        """Where its preparation lies in the plan's ledger."""
        return notes if self.alone else Under(notes, f"matrix-{self.number}/")

    def preparation(self, filler: Filler, notes: PartLedger) -> Preparation:
        """Its preparation, by a filler of it."""
        from bigin.fillers.orthogonal_parts import Preparation, reflections_of

        return Preparation(reflections_of(filler), self.store(notes), self.parts["gram"])


@dataclass(frozen=True)
class Under:
    """The keys of a ledger that begin with a prefix."""

    notes: PartLedger
    prefix: str

    def get(self, key: str) -> bytes | None:
        """The value of a key."""
        return self.notes.get(self.prefix + key)

    def put(self, key: str, data: bytes) -> None:
        """Sets the value of a key."""
        self.notes.put(self.prefix + key, data)


def specs_of(spec: Spec) -> Iterator[Any]:
    """The specifications of a tensor, or of every tensor of a model and every part of one that is composed."""
    for each in spec.tensors.values() if isinstance(spec, ModelSpec) else [spec]:
        yield from each.parts if isinstance(each, Composed) else [each]


def matrices_of(spec: Spec, parts: int) -> list[Prepared]:
    """The matrices that a fill in so many parts prepares in rounds. Each has its share of the parts of a round."""
    if parts < 2:
        return []
    sizes = {}
    for number, each in enumerate(specs_of(spec)):
        if isinstance(each, TensorSpec) and isinstance(each.distribution, Orthogonal):
            rows, columns = each.distribution.matrix(each.shape)
            if rows and columns:
                sizes[number] = (each, max(rows, columns), min(rows, columns))
    if not sizes:
        return []
    from bigin.fillers.orthogonal_parts import counts

    work = {number: m * n * n for number, (_, m, n) in sizes.items()}
    total = sum(work.values())
    return [
        Prepared(number, each, counts(m, n, -(-parts * work[number] // total)), alone=not isinstance(spec, ModelSpec))
        for number, (each, m, n) in sizes.items()
    ]


def rounds_of(spec: Spec, parts: int) -> dict[str, int]:
    """The rounds of preparation that a fill in so many parts has, each with its number of parts."""
    matrices = matrices_of(spec, parts)
    return {which: sum(each.parts[which] for each in matrices) for which in ROUNDS} if matrices else {}


def matrices(plan: WorkPlan) -> list[Prepared]:
    """The matrices that a plan prepares in rounds."""
    return matrices_of(spec_of(plan.record), plan.parts) if plan.rounds else []


_lock = threading.Lock()
_ready: OrderedDict[tuple[str, int, int], Filler] = OrderedDict()


def filler_of(plan: WorkPlan) -> Filler:
    """What makes the values of a plan; nothing is prepared."""
    return spec_of(plan.record).plan()()


def prepared(plan: WorkPlan, target: Target, filler: Filler, workers: Workers, limits: Limits) -> Filler:
    """The filler of a plan, ready to fill; one that needed a preparation is kept for the next parts of this process."""
    if not filler.has_setup or (isinstance(filler, ModelFiller) and not plan.rounds):
        _set_up(plan, target, filler, workers, limits)
        return filler
    key = (plan.fingerprint, workers.requests, limits.memory)
    with _lock:
        if key not in _ready:
            while len(_ready) >= KEPT:
                _ready.popitem(last=False)
            _set_up(plan, target, filler, workers, limits)
            _ready[key] = filler
        _ready.move_to_end(key)
        return _ready[key]


def _set_up(plan: WorkPlan, target: Target, filler: Filler, workers: Workers, limits: Limits) -> None:
    left = limits.memory - workers.requests * worker_memory(target, filler)
    if isinstance(filler, ModelFiller):
        filler.setup(workers.cores, left, lambda part: None)
        for each in matrices(plan):
            late = filler.setups.fillers[each.number]
            assert isinstance(late, LateFiller)
            late.set_up = loading(each, plan.notes)
    elif plan.rounds:
        loading(matrices(plan)[0], plan.notes)(filler, workers.cores, left)
    elif filler.has_setup:
        filler.setup(workers.cores, left, lambda part: None)


def loading(matrix: Prepared, notes: PartLedger) -> SetUp:
    """What sets a filler up with what the rounds have prepared."""
    return lambda filler, threads, max_memory: matrix.preparation(filler, notes).load(threads, max_memory)


def prepare_part(plan: WorkPlan, which: str, part: int, limits: Limits, report: SetupProgress) -> None:
    """Does a part of a round of preparation."""
    for matrix in matrices(plan):
        if part < matrix.parts[which]:
            break
        part -= matrix.parts[which]
    preparation = matrix.preparation(matrix.spec.plan()(), plan.notes)
    do: dict[str, Callable[[], None]] = {
        "gram": lambda: preparation.gram(part, limits.threads, report),
        "triangle": lambda: preparation.triangle(
            range(part, preparation.layout.count, matrix.parts["triangle"]), limits.threads, limits.memory, report
        ),
    }
    do[which]()
