"""bigin verify."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

import bigin
from bigin.cli.attesting import show_check
from bigin.cli.commands import Command
from bigin.cli.models import configuration
from bigin.cli.options import (
    PATH,
    ByOptions,
    LayoutOptions,
    RunOptions,
    SampleOptions,
    SpecOptions,
    by_choices,
    compared_with,
    gathered,
    json_option,
    layout_options,
    run_options,
    sample_options,
)
from bigin.cli.plans import Planning, keep, planned
from bigin.cli.printing import progress_bar, verdict

if TYPE_CHECKING:
    from bigin.torch.configuration import Configuration

HELP = """Compute the values of TARGET again and compare them with the stored ones, bit for bit.

The provenance record says how to compute them. A checkpoint that was saved again has no record; use --recipe or
--config for it. Then tensors that are missing, unknown or of another shape are listed, too.

The exit code is 0 if everything is equal or was repaired, and 1 otherwise.

\b
bigin verify table.zarr
bigin verify checkpoint/ --recipe recipe.toml --seed 42
bigin verify checkpoint/ --config config.json --seed 42
bigin verify weights.npy --method normal --std 0.02 --seed 42
bigin verify checkpoint/ --manifest manifest.json    # of bigin attest
bigin verify table.zarr --sample 1%
bigin verify table.zarr --parts 500 -o plan.json
"""


@dataclass(frozen=True)
class VerifyOptions:
    """The options of this command alone."""

    repair: bool
    source: str | None
    as_json: bool
    manifest: str | None
    by: ByOptions

    @classmethod
    def of(cls, *, repair: bool, source: str | None, as_json: bool, manifest: str | None, **by: Any) -> VerifyOptions:
        """Gather the values of the options."""
        return cls(repair=repair, source=source, as_json=as_json, manifest=manifest, by=ByOptions.of(**by))


verify_options = gathered(
    "how",
    VerifyOptions.of,
    *by_choices,
    click.option("--manifest", type=PATH, help="Compare with a manifest of bigin attest."),
    click.option("--repair", is_flag=True, help="Fill chunks that differ again."),
    click.option(
        "--from",
        "source",
        type=PATH,
        help="Folder of the checkpoint that tensors were copied from.  [default: from the provenance record]",
    ),
    json_option,
)


@click.command(
    cls=Command, no_args_is_help=True, help=HELP, short_help="Compare stored values with computed ones, bit for bit."
)
@click.argument("target", type=PATH)
@compared_with
@layout_options
@sample_options
@verify_options
@planned
@run_options
@click.pass_context
def verify(
    context: click.Context,
    target: str,
    spec: SpecOptions,
    layout: LayoutOptions,
    sample: SampleOptions,
    how: VerifyOptions,
    planning: Planning,
    run: RunOptions,
) -> None:
    """Verify a target."""
    by = how.by
    by.check()
    if how.manifest is not None:
        others = [
            spec.method,
            spec.seed,
            spec.name,
            *spec.parameters.values(),
            layout.shape,
            layout.dtype,
            planning.parts,
        ]
        if any(other is not None for other in others) or layout.raw or sample.sample != 1:
            raise click.UsageError("expected --manifest alone, which says what TARGET should hold, got more options")
        by_manifest(context, target, how, run)
        return
    given = {**spec.arguments(), "seed": spec.seed, **layout.arguments(), **sample.arguments()}
    made = None if by.config is None else configured(by, spec, layout, repair=how.repair)
    if made is None:
        given |= {"recipe": by.recipe, "like": by.like, "variables": by.variables or None}
    if planning.parts is not None:
        if how.repair:
            raise click.UsageError(
                "expected --parts without --repair; what differs is repaired by `bigin verify --repair`"
            )
        if made is not None:
            plan = made.plan_verify(target, parts=planning.parts, **sample.arguments())
        else:
            plan = bigin.plan_verify(target, spec.method, parts=planning.parts, source=how.source, **given)
        keep(plan, planning.output, quiet=run.quiet, as_json=how.as_json)
        return
    with progress_bar(target, quiet=run.quiet or how.as_json) as progress:
        options = {**run.arguments(), "progress": progress}
        if made is not None:
            result = made.verify(target, **sample.arguments(), **options)
        else:
            result = bigin.verify(target, spec.method, **given, **options, source=how.source, repair=how.repair)
    if how.as_json:
        click.echo(json.dumps(result.as_dict(), indent=2))
    elif not run.quiet:
        click.echo(verdict(result))
    if not result.equal and not result.repaired:
        context.exit(1)


def by_manifest(context: click.Context, target: str, how: VerifyOptions, run: RunOptions) -> None:
    """Compare a target with a manifest; raise UsageError for options that say otherwise what it should hold."""
    if how.by.given or how.repair or how.source is not None:
        raise click.UsageError("expected --manifest alone, which says what TARGET should hold, got more options")
    result = bigin.Attestation.read(how.manifest or "").check(target, threads=run.threads, max_memory=run.max_memory)
    show_check(context, result, how.manifest or "", as_json=how.as_json, quiet=run.quiet)


def configured(by: ByOptions, spec: SpecOptions, layout: LayoutOptions, *, repair: bool = False) -> Configuration:
    """Return the model that --config names, with the values that it should hold; raise UsageError for other options."""
    given = [spec.method, spec.name, layout.shape, layout.raw or None, repair or None, *spec.parameters.values()]
    if any(value is not None for value in given):
        raise click.UsageError("expected --config, of a whole model, without --method, its parameters and --repair")
    assert by.config is not None
    return configuration(
        by.config,
        architecture=by.architecture,
        trust_remote_code=by.trust_remote_code,
        dtype=layout.dtype,
        seed=spec.seed,
        rules=by.recipe,
        variables=by.variables,
        original_names=by.original_names,
    )
