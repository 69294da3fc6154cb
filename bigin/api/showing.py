"""bigin.show: what a target is, and its values beside what is expected of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from bigin.api.opening import existing, record_of
from bigin.core.errors import RecordError, SourceError
from bigin.core.limits import Limits
from bigin.core.record import Record
from bigin.inspect.checks import checks, expected_of, span_for
from bigin.inspect.overview import Overview
from bigin.inspect.structure import structure_checks
from bigin.jobs.compare import Sample
from bigin.jobs.job import check_progress
from bigin.jobs.measure import Statistics
from bigin.jobs.reading import Filled, filled, measure
from bigin.jobs.retries import Retries
from bigin.jobs.run import Progress
from bigin.jobs.what import What, recorded_spec
from bigin.methods.expected import Expected
from bigin.spec.arranged import ArrangedSpec
from bigin.spec.coded import CodedSpec
from bigin.spec.copied import CopySpec, GrownSpec
from bigin.spec.part import FlatSliceSpec, RegionSpec
from bigin.spec.spec import Spec
from bigin.spec.tensor import TensorSpec
from bigin.spec.values import ValuesSpec
from bigin.targets.target import Target


def show(
    target: Any,
    method: str | None = None,
    *,
    seed: int = 0,
    name: str | None = None,
    shape: Any = None,
    dtype: Any = None,
    raw: bool = False,
    offset: int = 0,
    region: Any = None,
    padding_idx: int | None = None,
    statistics: bool = True,
    sample: float = 1.0,
    sample_seed: int = 0,
    threads: int | None = None,
    max_memory: int | str | None = None,
    requests: int | None = None,
    progress: Progress | None = None,
    **parameters: Any,
) -> Overview:
    """Describe a target, and compare its values with the distribution of their method.

    Statistics prove nothing: `verify` compares every bit.

    Args:
        target: as in `fill`.
        method, seed, name, shape, dtype, region, padding_idx, **parameters: the expected values, as in `fill`. Without
            a method they are those of the record, if there is one.
        raw, offset, threads, max_memory, requests, progress: as in `fill`.
        statistics: whether to read the values.
        sample: the fraction of the chunks that is read, above 0 and up to 1.
        sample_seed: seed that selects the chunks.

    Returns:
        The layout, the record, the progress of an incomplete fill, statistics and checks.

    Raises:
        InputError: there is no such target, or an argument is invalid.
        FillError: the target could not be read.

    Example:
        >>> w = np.empty((512, 512), np.float32)
        >>> report = bigin.fill(w, "kaiming_normal", seed=1)
        >>> bigin.show(w, "kaiming_normal").looks_right
        True
        >>> bigin.show(w, "xavier_normal").looks_right
        False
    """
    what = What.parse(method, parameters, seed, name, shape, region, padding_idx)
    where = what.where(target, dtype, raw=raw, offset=offset, damaged=True)
    limits, chosen = Limits.parse(threads, max_memory, requests=requests), Sample(sample, sample_seed)
    check_progress(progress)
    with existing(where, "show") as (opened, retries):
        shown = Shown.of(what, opened, record_of(opened, retries))
        part = filled(opened, shown.record)
        measurable = opened.dtype.kind != "c"  # complex values are constants, and have no order
        tasks = chosen.of(part.regions) if statistics and measurable else ()
        overview = shown.overview(opened, part, len(tasks), retries)
        if not tasks:
            return overview
        expected = shown.expected(whole=len(tasks) == len(part.grid))
        measured, seconds = measure(opened, part.grid, tasks, span_for(expected), limits, retries, progress)
        return shown.compared(overview, opened, measured, seconds, limits, retries)


@dataclass(frozen=True)
class Shown:
    """What a target should hold, or why that is not known, and the record that it keeps."""

    spec: Spec | None
    reason: str
    record: Record | None

    @classmethod
    def of(cls, what: What, target: Target, record: Record | None) -> Shown:
        """What a caller says that a target holds, else what its record does."""
        return cls(*expected_spec(what, target, record), record)

    @property
    def tensor(self) -> TensorSpec | None:
        """The tensor whose values, or a part of them, it should hold."""
        return whole_of(self.spec)

    def expected(self, *, whole: bool) -> Expected | None:
        """What the values should be like; `whole` says whether all of them are read."""
        return None if self.tensor is None else expected_of(self.tensor, whole=whole and self.spec is self.tensor)

    def overview(self, target: Target, part: Filled, regions: int, retries: Retries) -> Overview:
        """The overview without statistics, of which so many regions are to be read."""
        record = self.record
        return Overview(
            target=target.label,
            shape=target.shape,
            dtype=target.dtype.name,
            layout=retries.attempt(target.layout),
            nbytes=target.nbytes,
            stored_bytes=retries.attempt(target.stored_bytes),
            record=record,
            done=None if record is None or record.get("complete") is True else part.regions / max(1, len(part.grid)),
            wanted="" if self.tensor is None else self.tensor.call,
            reason=self.reason,
            regions=regions,
            total=len(part.grid),
        )

    def compared(
        self, overview: Overview, target: Target, measured: Statistics, seconds: float, limits: Limits, retries: Retries
    ) -> Overview:
        """The overview with statistics, and the checks of what is expected of them."""
        all_read = overview.regions == overview.total
        expected = self.expected(whole=all_read)
        done = [] if expected is None else checks(measured, expected)
        whole = all_read and self.spec is self.tensor and measured.finite == measured.count
        if expected is not None and whole:
            done += retries.attempt(lambda: structure_checks(target, expected, limits.memory))
        return replace(overview, seconds=seconds, statistics=measured, expected=expected, checks=done)


def whole_of(spec: Spec | None) -> TensorSpec | None:
    """The tensor whose values, or a part of them, are specified; None for fused tensors and models."""
    tensor = spec.whole if isinstance(spec, RegionSpec | FlatSliceSpec) else spec
    return tensor if isinstance(tensor, TensorSpec) else None


def expected_spec(what: What, target: Target, record: Record | None) -> tuple[Spec | None, str]:
    """What a target should hold: a tensor or a part of one; or None, and why that is not known."""
    if what.method is not None:
        said = what.spec(target)
        said.plan()  # refuses what the dtype cannot hold
        return said, ""
    try:
        spec = recorded_spec(target, record)
    except (RecordError, SourceError) as error:
        return None, str(error)
    if whole_of(spec) is not None:
        return spec, ""
    if isinstance(spec, ValuesSpec):
        return None, "its values were given, not drawn"
    if isinstance(spec, CodedSpec):
        return None, "its values are bytes that hold quantized weights"
    if isinstance(spec, CopySpec | GrownSpec | ArrangedSpec):
        return None, "its values were copied, not drawn"
    return None, "its record is of several tensors, each with an expected distribution of its own"
