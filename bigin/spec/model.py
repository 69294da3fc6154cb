"""The tensors of a model as one filler, whose regions name their tensor first: ((i, i + 1), ...) is of the i-th."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bigin.core.errors import InputError
from bigin.core.regions import Region
from bigin.core.text import counted
from bigin.fillers.filler import Array, Filler, Report
from bigin.spec.fused import SplitFilled, SplitSpecification, Values, values_of

KEPT = 2  # fillers that stay set up: tensors are filled one after the other, and their ends overlap


@dataclass(frozen=True)
class ModelSpecification:
    """What decides the values of a model: a specification for every tensor, by name, in the names' order."""

    tensors: Mapping[str, Values]

    def filler(self) -> ModelFilled:
        """What makes the values of any region of any tensor."""
        return ModelFilled(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ModelSpecification:
        """What a record says; raises InputError where it says nothing that could be filled."""
        tensors = record.get("tensors")
        if not isinstance(tensors, dict) or not all(isinstance(inner, dict) for inner in tensors.values()):
            raise InputError(f"expected a record of a model with its tensors, got {type(tensors).__name__}")
        common = {"stream": record.get("stream")}
        return cls({name: values_of({**common, **inner}) for name, inner in sorted(tensors.items())})

    def __str__(self) -> str:
        return f"the methods of {counted(len(self.tensors), 'tensor')}"


class Setups:
    """Sets fillers up when they are first wanted, and lets go of those that have not been wanted for long.

    What orthogonal prepares takes much memory: that of all layers of a model would not fit.
    """

    def __init__(self) -> None:
        self.threads = 1
        self.memory = 0
        self._lock = threading.Lock()
        self._ready: OrderedDict[int, Filler] = OrderedDict()

    def get(self, key: int, make: Callable[[], Filler]) -> Filler:
        """A filler that is set up; who wants another one waits meanwhile."""
        with self._lock:
            filler = self._ready.get(key)
            if filler is None:
                while len(self._ready) >= KEPT:
                    self._ready.popitem(last=False)
                filler = make()
                filler.setup(self.threads, self.memory, lambda part: None)
                self._ready[key] = filler
            self._ready.move_to_end(key)
            return filler


class SetUpLate(Filler):
    """A filler that is made and set up when its first region is wanted."""

    def __init__(self, specification: Values, filler: Filler, setups: Setups) -> None:
        self.shape = specification.shape
        self.specification = specification
        self.region_bytes = filler.region_bytes
        self.worker_memory = filler.worker_memory
        self.setups = setups

    def __call__(self, region: Region, out: Array) -> None:
        self.setups.get(id(self), self.specification.filler)(region, out)


class ModelFilled(Filler):
    """Every tensor by its own filler."""

    def __init__(self, specification: ModelSpecification) -> None:
        self.shape = (len(specification.tensors),)
        self.setups = Setups()
        self.fillers = [_filler(values, self.setups) for values in specification.tensors.values()]
        self.sizes = [filler.region_bytes for filler in self.fillers]
        self.region_bytes = max(self.sizes, default=0)
        self.worker_memory = max((filler.worker_memory for filler in self.fillers), default=0)
        self.has_setup = True

    def setup(self, threads: int, max_memory: int, report: Report) -> None:
        """Nothing yet: only how a tensor is to be set up when its turn comes."""
        self.setups.threads, self.setups.memory = threads, max_memory // KEPT
        self.has_setup = False

    def __call__(self, region: Region, out: Array) -> None:
        (number, _), *inside = region
        self.fillers[number](tuple(inside), out.reshape(out.shape[1:]))


def _filler(specification: Values, setups: Setups) -> Filler:
    """The filler of a tensor; InputError names the tensor."""
    if isinstance(specification, SplitSpecification):
        return SplitFilled(specification, [_filler(part, setups) for part in specification.parts])
    try:
        filler = specification.filler()
    except InputError as error:
        raise InputError(f"{specification.name}: {error}") from None
    return SetUpLate(specification, filler, setups) if filler.has_setup else filler
