"""bigin.plan and its kin: a job cut into parts, as data that any machines work on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bigin.api.matching import MENTIONED, Wanting, by_recipe, check_alone, matched
from bigin.api.opening import existing, record_of
from bigin.api.showing import Shown
from bigin.api.tables import count
from bigin.api.verifying import wanted
from bigin.api.writing import Form, Out, dummy_model, model_by_recipe, opened_model
from bigin.core.errors import InputError
from bigin.core.floats import default_modes
from bigin.core.html import card
from bigin.core.limits import Limits
from bigin.core.paths import expand, parse_path
from bigin.core.text import counted
from bigin.core.threads import after_stragglers
from bigin.inspect.checks import span_for
from bigin.inspect.overview import Overview
from bigin.jobs.compare import Sample, Verification
from bigin.jobs.executors.named import running
from bigin.jobs.grow import open_table
from bigin.jobs.job import check_progress
from bigin.jobs.plans.begin import (
    absolute,
    begin_fill,
    begin_reading,
    place_of,
    plan_fill,
    plan_measuring,
    plan_reading,
)
from bigin.jobs.plans.finish import Status, done_text, finish, status_of
from bigin.jobs.plans.growing import begin_growing, plan_growing
from bigin.jobs.plans.measuring import Measured
from bigin.jobs.plans.numbers import parse_parts, parts_here
from bigin.jobs.plans.opening import opened_plan
from bigin.jobs.plans.plan import FILL, WorkPlan, read_plan
from bigin.jobs.plans.run import run_plan
from bigin.jobs.plans.work import Done, Options, work
from bigin.jobs.reading import REGION, Filled
from bigin.jobs.report import Report
from bigin.jobs.retries import Retries
from bigin.jobs.what import What
from bigin.jobs.where import Blocks, as_fill_error, opened
from bigin.recipes.specs import Chosen
from bigin.spec.model import ModelSpec, TensorValues
from bigin.spec.record import spec_of
from bigin.targets import orbax


class Plan:
    """A job in parts, which any process on any machine may do, in any order and any number of times.

    The target exists, and its record says that it is incomplete. `bigin.plan` makes a plan; `Plan.read` reads a plan
    from a file.

    Example:
        >>> plan = bigin.plan("table.npy", "normal", std=0.02, shape=(40000, 64), parts=4)
        >>> plan.write("plan.json")
        >>> [done.part for done in bigin.Plan.read("plan.json").work("0,2-3")]
        [0, 2, 3]
        >>> plan.status().missing
        [1]
        >>> [done.nbytes for done in plan.work([1])]
        [2621440]
        >>> plan.finish().record["complete"]
        True
    """

    def __init__(self, data: WorkPlan) -> None:
        self._data = data

    @classmethod
    def read(cls, path: str | Path) -> Plan:
        """Read a plan from a file.

        Args:
            path: the file that `write` or `bigin plan` has written.

        Returns:
            The plan.

        Raises:
            InputError: the file is not a plan, or was made by another version of bigin or of the stream.
        """
        return cls(read_plan(parse_path(path, "a plan")))

    def write(self, path: str | Path) -> None:
        """Write the plan to a file of about one kilobyte.

        Args:
            path: the file; an earlier plan is replaced.

        Raises:
            InputError: there is no such folder, or another file at the path; nothing was changed.
        """
        self._data.write(parse_path(path, "a file for the plan"))

    @property
    def target(self) -> str:
        """The target's path or URL."""
        return self._data.target

    @property
    def parts(self) -> int:
        """The number of parts."""
        return self._data.parts

    @property
    def rounds(self) -> dict[str, int]:
        """The rounds of preparation that come first, in order, each with its number of parts."""
        return dict(self._data.rounds)

    @property
    def fingerprint(self) -> str:
        """A hash that identifies the plan. Plans of the same values in other parts have other hashes."""
        return self._data.fingerprint

    def __repr__(self) -> str:
        return f"<bigin.Plan {self.fingerprint}: {self._data.task} {self.target} in {counted(self.parts, 'part')}>"

    def _repr_html_(self) -> str:
        record = self._data.record
        facts = {
            "task": self._data.task,
            "values": counted(len(record["tensors"]), "tensor") if "tensors" in record else spec_of(record),
            "parts": f"{self.parts:,}, of {counted(self._data.regions, 'region')} together",
            "prepared in": ", ".join(f"{name} ({counted(count, 'part')})" for name, count in self.rounds.items())
            or None,
            "fingerprint": self.fingerprint,
        }
        return card(self.target, facts)

    def parts_of(self, text: str | None = None, round: str = FILL, *, one_based: bool = False) -> Sequence[int]:
        """Return the numbers of the parts that a string names, or that the environment assigns to this process.

        Args:
            text: a string such as "17,40-60". By default the number of a task of a job array (SLURM_ARRAY_TASK_ID,
                JOB_COMPLETION_INDEX, AWS_BATCH_JOB_ARRAY_INDEX, SGE_TASK_ID, PBS_ARRAY_INDEX) or of a rank (RANK,
                OMPI_COMM_WORLD_RANK) in the environment.
            round: the round of preparation that the parts belong to.
            one_based: whether the string, or the scheduler, counts from 1.

        Returns:
            The numbers, from 0.
        """
        count = self._count(round)
        if text is not None:
            return parse_parts(text, count, one_based=one_based)
        return parts_here(os.environ, count, one_based=one_based)

    def _count(self, which: str) -> int:
        if which != FILL and which not in self._data.rounds:
            rounds = ", ".join([*self._data.rounds, FILL])
            raise InputError(f"expected a round among {rounds}, got {which!r}")
        return self._data.count(which)

    def work(
        self,
        parts: Sequence[int] | str | int | None = None,
        *,
        round: str = FILL,
        again: bool = False,
        threads: int | None = None,
        max_memory: int | str | None = None,
        requests: int | None = None,
        sync: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Done]:
        """Do parts of the plan in this process. Any two attempts at a part write the same bytes.

        Args:
            parts: numbers, or a string such as "17,40-60". Without, what the environment assigns to this process.
            round: the round that the parts belong to; by default the last, which fills.
            again: whether to repeat parts that are marked as done.
            threads, max_memory, requests, progress: as in `bigin.fill`; progress is called for each part.
            sync: bring a part to the disk before it is marked as done.

        Returns:
            A report for each part.
        """
        options = Options(Limits.parse(threads, max_memory, requests=requests), again=again, sync=sync)
        check_progress(progress)
        if isinstance(parts, int):
            parts = [parts]
        if not (parts is None or isinstance(parts, Iterable)):
            raise InputError(f"expected the numbers of parts, or a string such as 17,40-60, got {parts!r}")
        numbers = self.parts_of(parts, round) if parts is None or isinstance(parts, str) else list(parts)
        for number in numbers:
            parse_parts(str(number), self._count(round))
        return [work(self._data, int(number), round, options, progress) for number in numbers]

    def status(self) -> Status:
        """Count the parts that are done.

        Returns:
            The number of parts, the missing parts, the bytes and the rate.
        """
        return status_of(self._data)

    def finish(
        self, *, threads: int | None = None, max_memory: int | str | None = None, requests: int | None = None
    ) -> Any:
        """Complete the plan: check what is stored, and mark the target as complete if nothing is missing.

        It may be repeated.

        Args:
            threads, max_memory, requests: as in `bigin.fill`.

        Returns:
            A Report of a fill, the Verification of a plan that verifies, or the Overview of a plan that shows.
        """
        return self._finish(Limits.parse(threads, max_memory, requests=requests))

    def _finish(self, limits: Limits) -> Any:
        found = finish(self._data, limits)
        return overview_of(self._data, found, limits) if isinstance(found, Measured) else found

    def run(
        self,
        executor: Any,
        *,
        threads: int | None = None,
        max_memory: int | str | None = None,
        requests: int | None = None,
        sync: bool = True,
        progress: Callable[[int, int], None] | None = None,
    ) -> Any:
        """Do all remaining parts on an executor, and finish the plan.

        Args:
            executor: anything with submit(function, *arguments) -> Future: of concurrent.futures, mpi4py.futures, Parsl
                or submitit; a dask.distributed Client; the module ray; or a string such as "processes:8" or
                "dask://scheduler:8786". If a worker is lost, other workers do its parts again.
            threads: number of threads of a worker. By default one, or the worker's share of the cores if the executor
                runs on this machine.
            max_memory: bytes of buffers that a worker may add to the memory of its process.
            requests: as in `bigin.fill`, for each worker.
            sync: bring a part to the disk before it is marked as done.
            progress: a function that is called with the finished work and the total work.

        Returns:
            As `finish`.
        """
        limits = Limits.parse(threads, max_memory, requests=requests)
        check_progress(progress)
        with running(executor) as pool:
            run_plan(self._data, pool, Options(limits, sync=sync), progress)
        return self._finish(limits)


def plan(
    target: Any,
    method: str,
    *,
    parts: int,
    seed: int = 0,
    name: str | None = None,
    shape: Any = None,
    dtype: Any = None,
    chunks: Any = None,
    shards: Any = None,
    raw: bool = False,
    offset: int = 0,
    region: Any = None,
    padding_idx: int | None = None,
    overwrite: bool = False,
    **parameters: Any,
) -> Plan:
    """Create a target and cut its fill into parts, so that many machines can fill it.

    Args:
        target: a path or a URL, as in `fill`, that every machine can access.
        parts: number of parts; each has whole chunks or shards.
        method, seed, name, shape, dtype, chunks, shards, raw, offset, region, padding_idx, **parameters: as in `fill`.
        overwrite: whether a target that holds other data, or that another plan has begun, may be replaced.

    Returns:
        The plan. The same call gives the same plan, and forgets no part that is done.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> plan = bigin.plan("table.npy", "normal", std=0.02, shape=(40000, 64), parts=4)
        >>> plan.run("processes:2").nbytes
        10240000
    """
    what = What.parse(method, parameters, seed, name, shape, region, padding_idx)
    place = absolute(expand(target))
    where = what.where(place, dtype, raw=raw, offset=offset, blocks=Blocks.parse(chunks, shards))
    retries = Retries(remote=where.remote)
    with default_modes(), opened(where, retries) as there:
        spec = what.spec(there)
        spec.plan()  # refuses what the dtype cannot hold
        data = plan_fill(spec, there, place, parts, layout={"raw": raw, "offset": where.offset})
        begin_fill(data, there, retries, overwrite=overwrite)
    return Plan(data)


def plan_initialize(
    recipe: str | os.PathLike[str],
    out: Any,
    *,
    parts: int,
    like: Any = None,
    seed: int | None = None,
    variables: Mapping[str, Any] | None = None,
    strict: bool = False,
    dtype: Any = None,
    format: str | None = None,
    source: str | os.PathLike[str] | None = None,
    max_shard_size: int | str | None = None,
    weights_only: bool = False,
    overwrite: bool = False,
) -> Plan:
    """Create the files of a model and cut its fill into parts, so that many machines can fill it.

    Args:
        recipe, out, like, seed, variables, strict, dtype, format, source: as in `initialize`.
        max_shard_size, weights_only, overwrite: as in `initialize`; `out` is a path or a URL that every machine can
            access.
        parts: as in `plan`.

    Returns:
        The plan.

    Raises:
        InputError: the recipe, the model or an argument is invalid; nothing was changed.

    Example:
        >>> group = zarr.open_group("model.zarr", mode="w")
        >>> array = group.create_array("fc1.weight", shape=(120, 400), chunks=(10, 400), dtype="float32")
        >>> with open("recipe.toml", "w") as file:
        ...     n = file.write('[[rule]]\\nmatch = "*.weight"\\nmethod = "kaiming_normal"\\n')
        >>> plan = bigin.plan_initialize("recipe.toml", "model.zarr", parts=3)
        >>> [done.nbytes for done in plan.work("0-2")]
        [64000, 64000, 64000]
        >>> plan.finish().nbytes
        192000
    """
    form = Form.parse(format, max_shard_size, dtype, weights_only=weights_only)
    with default_modes():
        chosen = Chosen(recipe, seed, variables or {}, strict=strict)
        made = model_by_recipe(chosen, source, absolute(expand(out)), expand(like), form)
        return plan_model(*made, parts, overwrite=overwrite)


def plan_dummy(
    out: Any,
    like: Any,
    *,
    parts: int,
    seed: int = 0,
    max_shard_size: int | str | None = None,
    weights_only: bool = False,
    overwrite: bool = False,
) -> Plan:
    """Create the files of a dummy checkpoint and cut its fill into parts, as `plan_initialize` does.

    Args:
        out, like, seed, max_shard_size, weights_only, overwrite: as in `initialize_dummy`; every machine can access
            `out`.
        parts: as in `plan`.

    Returns:
        The plan.

    Raises:
        InputError: an argument is invalid; nothing was changed.

    Example:
        >>> group = zarr.open_group("like.zarr", mode="w")
        >>> array = group.create_array("fc1.weight_packed", shape=(120, 50), dtype="int32")
        >>> plan = bigin.plan_dummy("out.safetensors", "like.zarr", parts=1)
        >>> sum(done.nbytes for done in plan.work("0"))
        24000
    """
    form = Form.parse(None, max_shard_size, weights_only=weights_only)
    with default_modes():
        return plan_model(*dummy_model(seed, absolute(expand(out)), expand(like), form), parts, overwrite=overwrite)


def plan_model(specs: Mapping[str, TensorValues], out: Out, parts: int, *, overwrite: bool) -> Plan:
    """Cut the filling of a model into parts, each tensor by its specification, and make its files."""
    spec = ModelSpec(dict(sorted(specs.items())))
    records = {name: each.record() for name, each in spec.tensors.items()}
    with opened_model(out, records) as target:
        out.check_beside(overwrite=overwrite)
        kind = {"kind": orbax.FORMAT} if out.group else {}
        model = target.outline() | {"records": records} | kind
        data = plan_fill(spec, target, out.path, parts, layout={}, model=model)
        begin_fill(data, target, Retries(remote=target.remote), overwrite=overwrite)
        out.write_beside()
    return Plan(data)


def plan_verify(
    target: Any,
    method: str | None = None,
    *,
    parts: int,
    recipe: str | os.PathLike[str] | None = None,
    like: Any = None,
    variables: Mapping[str, Any] | None = None,
    seed: int | None = None,
    name: str | None = None,
    shape: Any = None,
    dtype: Any = None,
    raw: bool = False,
    offset: int = 0,
    region: Any = None,
    padding_idx: int | None = None,
    sample: float = 1.0,
    sample_seed: int = 0,
    source: str | os.PathLike[str] | None = None,
    **parameters: Any,
) -> Plan:
    """Cut a verification into parts for many machines. `finish` returns the result.

    Args:
        target: as in `verify`, a path or a URL that every machine can access.
        parts: as in `plan`.
        method, recipe, like, variables, seed, name, shape, dtype, raw, offset, region, padding_idx, sample,
            sample_seed, source, **parameters: as in `verify`. With a recipe, the target must have exactly the
            tensors of the recipe.

    Returns:
        The plan.

    Raises:
        InputError: there is no record, method or recipe to compare with, or an argument is invalid.

    Example:
        >>> report = bigin.fill("table.npy", "normal", std=0.02, shape=(40000, 64))
        >>> bigin.plan_verify("table.npy", parts=4).run("processes:2").equal
        True
    """
    what = What.parse(method, parameters, 0 if seed is None else seed, name, shape, region, padding_idx)
    place, chosen = absolute(expand(target)), Sample(sample, sample_seed)
    if recipe is not None or like is not None or variables is not None:
        check_alone(what, raw=raw, repair=False)
        return plan_verify_model(place, by_recipe(recipe, like, seed, variables, dtype, source=source), parts, chosen)
    where = what.where(place, dtype, raw=raw, offset=offset, damaged=True, models=method is None)
    with existing(where, "verify") as (there, retries):
        spec, record = wanted(what, there, retries, source)
        layout = {"raw": where.raw, "offset": where.offset}
        data = plan_reading("verify", spec, there, place, parts, {"layout": layout, "record": record, "sample": chosen})
        begin_reading(data, retries)
    return Plan(data)


def plan_verify_model(place: str, wanting: Wanting, parts: Any, chosen: Sample) -> Plan:
    """Cuts the verification of a model by a recipe or a configuration into parts."""
    with matched(place, wanting) as found:
        wrong = [
            *found.missing,
            *found.extra,
            *(each.partition(":")[0] for each in found.unlike),
            *found.wanted.skipped,
        ]
        if wrong:
            raise InputError(
                f"{found.target.label}: expected the tensors that {found.wanted.by} is for, in their shapes and "
                f"dtypes, got others: {', '.join(wrong[:MENTIONED])}; verify it without --parts (bigin.verify), "
                "which lists each"
            )
        spec = ModelSpec(dict(sorted(found.specs.items())))
        record = spec.record() | {"complete": True}
        given = {"layout": {}, "record": record, "sample": chosen}
        data = plan_reading("verify", spec, found.target, place, parts, given)
        begin_reading(data, found.retries)
    return Plan(data)


def plan_show(
    target: Any,
    method: str | None = None,
    *,
    parts: int,
    seed: int = 0,
    name: str | None = None,
    shape: Any = None,
    dtype: Any = None,
    raw: bool = False,
    offset: int = 0,
    region: Any = None,
    padding_idx: int | None = None,
    sample: float = 1.0,
    sample_seed: int = 0,
    **parameters: Any,
) -> Plan:
    """Cut the statistics of a target into parts for many machines. `finish` returns the same as `show`.

    Args:
        target: as in `show`, a path or a URL that every machine can access. It must not be partly filled.
        parts: as in `plan`.
        method, seed, name, shape, dtype, raw, offset, region, padding_idx, sample, sample_seed, **parameters: as in
            `show`.

    Returns:
        The plan.

    Raises:
        InputError: there is no such target, or an argument is invalid.

    Example:
        >>> report = bigin.fill("table.npy", "normal", std=0.02, shape=(40000, 64))
        >>> shown = bigin.plan_show("table.npy", parts=2).run("processes:2")
        >>> shown.looks_right, shown.statistics.mean == bigin.show("table.npy").statistics.mean
        (True, True)
    """
    what = What.parse(method, parameters, seed, name, shape, region, padding_idx)
    place, chosen = absolute(expand(target)), Sample(sample, sample_seed)
    where = what.where(place, dtype, raw=raw, offset=offset, damaged=True)
    with existing(where, "show") as (there, retries):
        record = record_of(there, retries)
        if record is not None and record.get("complete") is not True:
            raise InputError(
                f"{there.label}: expected a complete target for a plan, got one that is partly filled; finish its fill "
                "first, or show it without --parts (bigin.show)"
            )
        if there.dtype.kind == "c":
            raise InputError(f"{there.label}: expected values that have an order, got {there.dtype.name}")
        shown = Shown.of(what, there, record)
        given = {
            "layout": {"raw": where.raw, "offset": where.offset},
            "sample": chosen,
            "span": span_for(shown.expected(whole=sample == 1)),
            "reason": shown.reason,
        }
        kept = {} if shown.spec is None else shown.spec.record()
        data = plan_measuring(kept, there, place, parts, given, retries)
        begin_reading(data, retries)
    return Plan(data)


def overview_of(plan: WorkPlan, found: Measured, limits: Limits) -> Overview:
    """The overview of what the parts of a plan have measured."""
    retries = Retries(remote=plan.where().remote)
    with default_modes(), opened_plan(plan, retries) as target:
        spec = spec_of(plan.record) if plan.record else None
        shown = Shown(spec, plan.given["reason"], record_of(target, retries))
        grid = target.grid(REGION)
        overview = shown.overview(target, Filled(grid, len(grid)), found.regions, retries)
        return shown.compared(overview, target, found.statistics, found.seconds, limits, retries)


def plan_grow(table: Any, num_embeddings: int, *, parts: int) -> Plan:
    """Cut the growth of a table into parts, so that many machines can add its rows.

    No part changes an old row. Readers see the old table until `finish`, which locks the table, writes the chunks that
    old and new rows share, and then writes the new shape.

    Args:
        table: the path or the URL of a table, as in `EmbeddingTable.open`, that every machine can access.
        num_embeddings: the new number of rows, larger than the present one.
        parts: as in `plan`; only chunks or shards of new rows are counted.

    Returns:
        The plan. The same call gives the same plan, and forgets no part that is done.

    Raises:
        InputError: the method's values depend on the number of rows, or an argument is invalid; nothing was changed.

    Example:
        >>> table = bigin.EmbeddingTable.create("users.npy", 1000, 64, "normal", std=0.01, seed=3)
        >>> bigin.plan_grow("users.npy", 90000, parts=3).run("processes:2").nbytes
        22784000
        >>> bigin.EmbeddingTable.open("users.npy").verify().equal
        True
    """
    number = count("num_embeddings", num_embeddings, 0)
    place = absolute(expand(table))
    with default_modes(), as_fill_error(place):
        held, _ = open_table(place)
        try:
            assert held.target.ledger is not None
            held.target.ledger.lock()
            rows, spec = open_table(place)  # as it is now that no other process grows it
            retries = Retries(remote=rows.target.remote)
            data = plan_growing(rows, spec, number, (place, place_of(place, rows.target.label)), parts)
            begin_growing(data, rows, record_of(rows.target, retries) or {}, retries)
            rows.target.close()
        finally:
            after_stragglers(held.target.close)
    return Plan(data)


__all__ = [
    "Done", "Plan", "Report", "Status", "Verification", "done_text", "plan", "plan_grow", "plan_initialize",
    "plan_show", "plan_verify",
]  # fmt: skip
