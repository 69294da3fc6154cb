"""bigin plan, work, status and finish: one store, filled by many machines."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

import bigin
from bigin.cli.commands import Command
from bigin.cli.options import (
    PATH,
    BlockOptions,
    LayoutOptions,
    RunOptions,
    SpecOptions,
    block_options,
    filled_with,
    gathered,
    json_option,
    layout_options,
    run_options,
    sync_option,
)
from bigin.cli.printing import outcome, pace, progress_bar, summary, verdict
from bigin.core.outputs import check_document
from bigin.core.text import counted, size_text

if TYPE_CHECKING:
    from bigin.api.plans import Plan
    from bigin.jobs.plans.work import Done

PLAN_HELP = """Create TARGET, and cut its fill into parts for many machines.

The plan is a small file. Each machine runs `bigin work` for its parts. Parts may run in any order, and more than once.
`bigin finish` marks TARGET as complete when everything is stored.

\b
bigin plan table.zarr --method normal --std 0.02 --shape 10000000000,256 \\
    --dtype bfloat16 --parts 500 -o plan.json
bigin work plan.json --part 17
bigin status plan.json
bigin finish plan.json
"""
WORK_HELP = """Do parts of PLAN: those of --part, or those that the environment of a scheduler gives.

\b
SLURM_ARRAY_TASK_ID, JOB_COMPLETION_INDEX (Kubernetes),
AWS_BATCH_JOB_ARRAY_INDEX, SGE_TASK_ID, PBS_ARRAY_INDEX:
    the part with that number; with a step, also those up to the next task
RANK with WORLD_SIZE (torchrun), OMPI_COMM_WORLD_RANK with _SIZE:
    every WORLD_SIZE-th part, starting at RANK

Finished parts are skipped. Two attempts at a part write the same bytes, even at the same time.
"""


@dataclass(frozen=True)
class Planning:
    """The options that make a plan of a command."""

    parts: int | None
    output: str | None

    def __post_init__(self) -> None:
        if self.parts is not None:  # before the target is made
            check_document(self.output or "plan.json", "plan")


planning_options = (
    click.option(
        "--parts",
        type=int,
        help="Write a plan with this number of parts for `bigin work`, and do nothing else; see `bigin plan`.",
    ),
    click.option("--output", "-o", type=PATH, help="File to write the plan to.  [default: plan.json]"),
)
planned = gathered("planning", Planning, *planning_options)
cut = gathered(
    "planning",
    Planning,
    click.option("--parts", type=int, required=True, help="Number of parts; each has whole chunks or shards."),
    click.option(
        "--output", "-o", type=PATH, default="plan.json", show_default=True, help="File to write the plan to."
    ),
)


def keep(plan: Plan, output: str | None, *, quiet: bool, as_json: bool = False) -> None:
    """Write a plan to its file, and print what to do with it."""
    path = output or "plan.json"
    plan.write(path)
    if as_json:
        told = {"plan": path, "target": plan.target, "parts": plan.parts, "rounds": plan.rounds}
        click.echo(json.dumps(told | {"fingerprint": plan.fingerprint}, indent=2))
        return
    if quiet:
        return
    click.echo(f"{path}: {counted(plan.parts, 'part')} of {plan.target}, plan {plan.fingerprint}")
    for name, count in plan.rounds.items():
        click.echo(f"first: bigin work {path} --round {name} --part 0-{count - 1}    (on any number of machines)")
    click.echo(f"then:  bigin work {path} --part 0-{plan.parts - 1}, and bigin finish {path}")


@click.command(cls=Command, no_args_is_help=True, help=PLAN_HELP, short_help="Cut a fill into parts for many machines.")
@click.argument("target", type=PATH)
@filled_with
@layout_options
@block_options
@cut
@click.option(
    "--overwrite", is_flag=True, help="Replace a target that is already filled, or that another plan has begun."
)
@json_option
@click.option("--quiet", "-q", is_flag=True, help="Print only errors.")
def plan(
    target: str,
    spec: SpecOptions,
    layout: LayoutOptions,
    blocks: BlockOptions,
    planning: Planning,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Plan a fill."""
    assert spec.method is not None
    assert planning.parts is not None
    made = bigin.plan(
        target,
        spec.method,
        parts=planning.parts,
        **spec.arguments(),
        **layout.arguments(),
        **blocks.arguments(),
        overwrite=overwrite,
    )
    keep(made, planning.output, quiet=quiet, as_json=as_json)


plan_argument = click.argument("path", metavar="PLAN", type=PATH)


@click.command(cls=Command, no_args_is_help=True, help=WORK_HELP, short_help="Do parts of a plan.")
@plan_argument
@click.option("--part", help="Parts to do: 17 or 17,40-60.  [default: from the environment]")
@click.option("--one-based", is_flag=True, help="--part, or the scheduler, counts parts from 1.")
@click.option("--round", default="fill", show_default=True, help="Round of preparation: see `bigin status`.")
@click.option("--again", is_flag=True, help="Also do parts that are marked as done.")
@sync_option
@run_options
@json_option
def work(
    path: str,
    part: str | None,
    one_based: bool,
    round: str,
    again: bool,
    sync: bool,
    run: RunOptions,
    as_json: bool,
) -> None:
    """Do parts."""
    held = bigin.Plan.read(path)
    for number in held.parts_of(part, round, one_based=one_based):
        label = f"{held.target}, part {number + one_based}"
        with progress_bar(label, quiet=run.quiet or as_json) as progress:
            (done,) = held.work([number], round=round, again=again, sync=sync, progress=progress, **run.arguments())
        if as_json:
            click.echo(json.dumps(vars(done) | {"host": socket.gethostname()}))
        elif not run.quiet:
            click.echo(f"{label}: {said(done)}")


def said(done: Done) -> str:
    """Return what became of a part."""
    if done.stored:
        return "is done already"
    return pace(done.nbytes, done.seconds) if done.nbytes else f"round {done.round}, {done.seconds:.2f} s"


@click.command(cls=Command, no_args_is_help=True, short_help="Count the parts of a plan that are done.")
@plan_argument
@json_option
@click.pass_context
def status(context: click.Context, path: str, as_json: bool) -> None:
    """Count the parts of PLAN that are done, with bytes, rate and remaining time.

    The exit code is 0 if all parts are done, and 1 otherwise.
    """
    from bigin.api.plans import done_text

    held = bigin.Plan.read(path).status()
    click.echo(json.dumps(held.as_dict(), indent=2) if as_json else done_text(held))
    if not held.complete:
        context.exit(1)


@click.command(cls=Command, no_args_is_help=True, short_help="Complete a plan whose parts are all done.")
@plan_argument
@run_options
@json_option
@click.pass_context
def finish(context: click.Context, path: str, run: RunOptions, as_json: bool) -> None:
    """Complete PLAN: check what is stored, and mark the target as complete if nothing is missing.

    If parts are missing or short, the command lists them and changes nothing. It may be repeated.
    """
    found = bigin.Plan.read(path).finish(**run.arguments())
    if as_json:
        click.echo(json.dumps(as_dict(found), indent=2))
    elif not run.quiet:
        tell(found)
    if getattr(found, "equal", True) is False or getattr(found, "looks_right", True) is False:
        context.exit(1)


def as_dict(found: Any) -> dict[str, Any]:
    """Return what was found or done, for JSON."""
    return found.as_dict()  # type: ignore[no-any-return]


def tell(found: Any) -> None:
    """Print what was found or done."""
    if hasattr(found, "looks_right"):
        from bigin.inspect import terminal

        terminal.print_overview(found)
    else:
        click.echo(told(found))


def told(found: Any) -> str:
    """Return what was found or done, in words."""
    if hasattr(found, "equal"):
        return verdict(found, "`bigin verify --repair` fills it again")
    record = found.record
    if "tensors" in record:
        if found.stored and not found.nbytes:
            return f"{found.target}: already finished, {size_text(found.stored)}"
        return outcome(found, counted(len(record["tensors"]), "tensor"), "filled by a recipe")
    return summary(found)
